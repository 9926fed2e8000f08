"""Random histories: operations drawn from a seed, played on two optimizers side by side, cut down where they differ.

An operation is known by its name, and draws what it needs from a seed of its own: any of them can be left out, and the
others stay what they were.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["DifferenceError", "History", "Play", "check", "drawn", "table_of"]

Run = TypeVar("Run", bound=Callable[..., Any])
History = Sequence[tuple[str, int]]
"""The names of operations and their seeds."""
Play = Callable[[int, History], "Counter[str]"]
"""Plays a history on what a seed makes, and counts what came of its operations; raises a DifferenceError."""
_TRIES = 300
"""How often a history that fails is played again to make it shorter."""


class DifferenceError(AssertionError):
    """What differs between the two sides, after which operation."""


def table_of(operations: dict[str, Run], weights: dict[str, int]) -> Callable[[int], Callable[[Run], Run]]:
    """Return a decorator that enters an operation under its name, as frequent as the weight that it is given."""

    def operation(weight: int) -> Callable[[Run], Run]:
        def enter(run: Run) -> Run:
            name = run.__name__
            operations[name], weights[name] = run, weight
            return run

        return enter

    return operation


def drawn(seed: int, weights: Mapping[str, int], length: int) -> History:
    """Return a history of operations, each as frequent as its weight says."""
    rng = random.Random(seed)
    names = rng.choices(list(weights), list(weights.values()), k=length)
    return [(name, rng.getrandbits(32)) for name in names]


def check(play: Play, seed: int, history: History) -> Counter[str]:
    """Play a history, and return what came of its operations.

    Raises:
        AssertionError: with the shortest history found that still fails, as code.
    """
    try:
        return play(seed, history)
    except DifferenceError as difference:
        short, words = _shortened(play, seed, history, str(difference))
    lines = "".join(f"    {operation!r},\n" for operation in short)
    raise AssertionError(f"{words}\n\n{play.__module__}.{play.__name__}({seed}, [\n{lines}])")


def _shortened(play: Play, seed: int, history: History, words: str) -> tuple[History, str]:
    """Leave out operations, at first many at once, as long as it still fails."""
    tries, size = 0, max(1, len(history) // 2)
    while size:
        start = 0
        while start < len(history) and tries < _TRIES:
            shorter = [*history[:start], *history[start + size :]]
            tries += 1
            try:
                play(seed, shorter)
                start += size
            except DifferenceError as difference:
                history, words = shorter, str(difference)
        size //= 2
    return history, words
