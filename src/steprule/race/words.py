"""How numbers and rows are written, the same in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from steprule.race.summary import EQUAL, Row

__all__ = ["ACCURACY", "FORGIVING", "HEADINGS", "LOSS", "RANGE", "cells", "columns", "loss", "loss_format", "rate"]

HEADINGS = ("rule", "best lr", "training loss", "over the seeds", "test accuracy", "forgiving", "µs a step", "runs")
LOSS, RANGE, ACCURACY, FORGIVING, _RUNS = 2, 3, 4, 5, 7
_SMALL, _LARGE = 1e-3, 1e4
_MORE = 5
"""Digits that are added at most, to tell losses apart."""


def loss(value: float, scientific: bool = False, more: int = 0) -> str:
    """Return a loss in two or three digits, or ``more``; what is left below 1e-12 is rounding."""
    if not math.isfinite(value):
        return "diverged"
    if 0 <= value < EQUAL:
        return f"<{EQUAL:.0e}"
    if scientific or abs(value) >= _LARGE:
        return f"{value:.{1 + more}e}"
    whole = len(f"{abs(value):.0f}")
    return f"{value:#.{3 + more}g}".rstrip(".") if whole < 3 + more else f"{value:.0f}"


def loss_format(rows: Iterable[Row]) -> Callable[[float], str]:
    """Return how the losses of a table are written: all with a power of ten, or none, so that a column compares.

    With as many digits as tell the rules' losses apart, up to a point.
    """
    ranked = [row for row in rows if row.best]
    shown = [value for row in ranked if row.best for value in (row.best.median, row.low, row.high)]
    finite = [abs(value) for value in shown if math.isfinite(value) and abs(value) >= EQUAL]
    written = partial(loss, scientific=any(not _SMALL <= value < _LARGE for value in finite))
    medians = [row.best.median for row in ranked if row.best]
    # The fewest digits of those that leave the fewest losses alike.
    more = max(range(_MORE + 1), key=lambda more: len({written(value, more=more) for value in medians}))
    return partial(written, more=more)


def rate(lr: float | None) -> str:
    """Return a learning rate as one would type it."""
    return "none" if lr is None else f"{lr:.3g}"


def columns(rows: Sequence[Row], texts: Sequence[Sequence[str]]) -> list[int]:
    """Return which of ``HEADINGS`` have something to tell: the runs only where some are missing."""
    shown = [i for i in range(len(HEADINGS)) if i <= LOSS or any(text[i] != "–" for text in texts)]
    return [i for i in shown if i != _RUNS or any(row.finished < row.expected for row in rows)]


def cells(row: Row, written: Callable[[float], str] = loss) -> tuple[str, ...]:
    """Return a row of the table, a text for each of ``HEADINGS``; ``written`` formats its losses."""
    runs = f"{row.finished}/{row.expected}"
    if row.best is None:
        return (row.entrant.label, "–", _state(row), "–", "–", "–", "–", runs)
    return (
        row.entrant.label,
        rate(row.best.lr) + ("*" if row.at_edge else ""),
        written(row.best.median),
        f"{written(row.low)} to {written(row.high)}" if len(row.best.runs) > 1 else "–",
        "–" if row.accuracy is None else f"{row.accuracy:.1%}",
        "–" if row.forgiving is None else f"{row.forgiving:.0%}",
        "–" if row.step_us is None else f"{row.step_us:.3g}" if row.step_us < 100 else f"{row.step_us:.0f}",
        runs,
    )


def _state(row: Row) -> str:
    if row.finished == row.expected:
        return "diverged"
    return "diverged so far" if row.finished else "no run yet"
