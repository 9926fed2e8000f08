"""How numbers and rows are written, the same in the terminal and in the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from steprule.race.evidence import Evidence, Judged
from steprule.race.space import LR, WARMUP, Setting
from steprule.race.summary import Row
from steprule.race.trial import EQUAL

__all__ = [
    *("ACCURACY", "FORGIVING", "INTERVAL", "LOSS", "cells", "columns", "headings"),
    *("counted", "listed", "loss", "loss_format", "loss_name", "place_words", "rate", "setting_words"),
]

LOSS, INTERVAL, ACCURACY, FORGIVING, _RUNS = 3, 4, 5, 7, 9
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


def loss_name(metric: str) -> str:
    """Return what the compared loss is called."""
    return {"validation_loss": "validation loss", "train_loss": "training loss"}[metric]


def headings(metric: str) -> tuple[str, ...]:
    """Return the headings of the table, whose cells are ``cells``."""
    return (
        *("rule", "rank", "best lr", loss_name(metric), "95 % interval", "test accuracy"),
        *("steps to target", "forgiving", "µs a step", "runs"),
    )  # fmt: skip


def setting_words(setting: Setting) -> str:
    """Return a setting in a line, as ``lr 0.01, warm-up 5 %, beta2 0.99``."""
    return (
        ", ".join(
            f"warm-up {value:.2g} of the steps" if name == WARMUP else f"{name} {value:.5g}" for name, value in setting
        )
        or "nothing to tune"
    )


def counted(count: int, what: str) -> str:
    """Return a number of things in words."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def columns(rows: Sequence[Row], texts: Sequence[Sequence[str]]) -> list[int]:
    """Return which columns have something to tell: the runs only where some are missing."""
    shown = [i for i in range(_RUNS + 1) if i in (0, LOSS) or any(text[i] != "–" for text in texts)]
    return [i for i in shown if i != _RUNS or any(row.finished < row.expected for row in rows)]


def cells(row: Row, evidence: Evidence | None = None, written: Callable[[float], str] = loss) -> tuple[str, ...]:
    """Return a row of the table, a text for each of ``headings``; ``written`` formats its losses."""
    runs = f"{row.finished}/{row.expected}"
    judged = evidence.judged.get(row.entrant.label) if evidence else None
    place = "–" if judged is None else place_words(judged.rank)
    if row.best is None:
        return (row.entrant.label, place, "–", _state(row), "–", "–", "–", "–", "–", runs)
    return (
        row.entrant.label,
        place,
        rate(dict(row.best.setting).get(LR)) + ("*" if row.at_edge else ""),
        written(row.best.median) + ("" if row.is_fresh else "†"),
        _interval(judged, written) if judged and row.is_fresh and len(row.best.runs) > 1 else "–",
        "–" if row.accuracy is None else f"{row.accuracy:.1%}",
        _reach(judged),
        "–" if row.forgiving is None else f"{row.forgiving:.0%}",
        "–" if row.step_us is None else f"{row.step_us:.3g}" if row.step_us < 100 else f"{row.step_us:.0f}",
        runs,
    )


def place_words(rank: tuple[int, int]) -> str:
    """Return the ranks that a rule may have, as 2–4."""
    first, last = rank
    return str(first) if first == last else f"{first}–{last}"


def _interval(judged: Judged, written: Callable[[float], str]) -> str:
    low, high = judged.interval
    return f"{written(low)} to {written(high)}"


def _reach(judged: Judged | None) -> str:
    """Return the median steps to the target; how many of the runs reach it, where not all do."""
    if judged is None or judged.reach is None:
        return "–"
    reach = judged.reach
    share = "" if reach.runs == reach.of else f" ({reach.runs}/{reach.of})"
    return f"{reach.steps:.0f}{share}" if math.isfinite(reach.steps) else f"not{share}"


def _state(row: Row) -> str:
    if row.finished == row.expected:
        return "diverged"
    return "diverged so far" if row.finished else "no run yet"
