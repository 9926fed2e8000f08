"""The command line. One file per verb; each verb imports what it needs when it runs."""

from steprule.cli.main import app, main

__all__ = ["app", "main"]
