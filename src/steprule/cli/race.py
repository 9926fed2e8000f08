"""``steprule race``: a fair comparison of optimizers on a real problem."""

from __future__ import annotations

import typer

__all__ = ["race"]


def race() -> None:
    """Race optimizers on a problem."""
    typer.echo("not there yet")
    raise typer.Exit(1)
