"""The command line. One file a verb; each verb imports what it needs when it runs."""

from steprule.cli.main import app, main

__all__ = ["app", "main"]
