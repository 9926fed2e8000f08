"""Contestants take turns in one run, and ratios are taken turn by turn.

Machines are shared and noisy: a figure in milliseconds says little, the ratio of two loops that ran within the same
tenth of a second says much more.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "measure", "quartiles", "ratio", "rounds"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds a call, turn by turn."""

    name: str
    seconds: list[float]

    @property
    def best(self) -> float:
        """The least."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.seconds)


def measure(
    contestants: Mapping[str, Step], *, turns: int = 15, turn: float = 0.06, before: Step | None = None
) -> dict[str, Timing]:
    """Time the contestants in so many rounds; see ``rounds``."""
    found = list(rounds(contestants, turns=turns, turn=turn, before=before))
    return {name: Timing(name, [one[name] for one in found]) for name in contestants}


def rounds(
    contestants: Mapping[str, Step],
    *,
    turns: int,
    turn: float = 0.06,
    before: Step | None = None,
    clock: Callable[[], float] = time.perf_counter,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[dict[str, float]]:
    """Yield the mean seconds of a call of each contestant, round by round: whole rounds only, whenever it is stopped.

    Args:
        contestants: calls by name; each is called once to warm up.
        turns: how many rounds.
        turn: about how many seconds each contestant has in a round, by the time of its second call; one call at least.
        before: runs before every call, and takes no part of its time: a backward pass, whose threads still spin when
            the call begins, or a pause, in which all fall asleep.
        clock: seconds.
        pause: lets so many seconds pass.
    """
    calls: dict[str, int] = {}
    for name, function in contestants.items():
        function()
        start = clock()
        if before:
            before()
        function()
        calls[name] = max(1, int(turn / max(clock() - start, 1e-7)))
    for _ in range(turns):
        found: dict[str, float] = {}
        for name, function in contestants.items():
            # OpenMP's threads still spin for some milliseconds after a loop, on the processors that the
            # next contestant needs; without the pause sgd showed 0.80 of the limit instead of 0.95.
            pause(0.02)
            function()
            found[name] = _mean(function, calls[name], before, clock)
        yield found


def _mean(function: Step, calls: int, before: Step | None, clock: Callable[[], float]) -> float:
    """Return the mean seconds of a call."""
    start = clock()
    if before is None:
        for _ in range(calls):
            function()
        return (clock() - start) / calls
    spent = 0.0
    for _ in range(calls):
        before()
        start = clock()
        function()
        spent += clock() - start
    return spent / calls


def ratio(numerator: Timing, denominator: Timing) -> float:
    """Return the median, over turns, of the ratio of two contestants."""
    pairs = zip(numerator.seconds, denominator.seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile; of one value, that value."""
    if len(values) == 1:
        return (values[0],) * 3
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, middle, upper
