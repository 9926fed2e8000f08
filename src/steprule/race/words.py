"""How numbers and rows are written, the same in the terminal and in the report."""

from __future__ import annotations

import math

from steprule.race.summary import EQUAL, Row

__all__ = ["HEADINGS", "cells", "loss", "rate"]

HEADINGS = ("rule", "best lr", "training loss", "over the seeds", "test accuracy", "forgiving", "µs a step")


def loss(value: float) -> str:
    """Return a loss in two or three digits; what is left below 1e-12 is rounding."""
    if not math.isfinite(value):
        return "diverged"
    if 0 <= value < EQUAL:
        return f"<{EQUAL:.0e}"
    return f"{value:.3g}" if 1e-2 <= abs(value) < 1e4 else f"{value:.1e}"


def rate(lr: float | None) -> str:
    """Return a learning rate as one would type it."""
    return "none" if lr is None else f"{lr:.3g}"


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table, a text for each of ``HEADINGS``."""
    if row.best is None:
        state = "diverged" if row.finished == row.expected else "not finished"
        return (row.entrant.label, "–", state, "–", "–", "–", "–")
    return (
        row.entrant.label,
        rate(row.best.lr) + ("*" if row.at_edge else ""),
        loss(row.best.median),
        f"{loss(row.low)} to {loss(row.high)}" if len(row.best.runs) > 1 else "–",
        "–" if row.accuracy is None else f"{row.accuracy:.1%}",
        "–" if row.best.lr is None else f"{row.forgiving:.0%}",
        "–" if row.step_us is None else f"{row.step_us:.3g}" if row.step_us < 100 else f"{row.step_us:.0f}",
    )
