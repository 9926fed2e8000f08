"""Rounds: everyone has a turn in each, ratios are of the same rounds, and a stop leaves whole rounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from steprule.bench import timing


class Clock:
    """Seconds that pass only when a contestant, or a pause, lets them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def read(self) -> float:
        return self.now

    def wait(self, _: float) -> None:
        self.now += 2.0  # a power of two, so that no time is rounded

    def taking(self, name: str, seconds: Callable[[], float]) -> Callable[[], None]:
        def step() -> None:
            self.calls.append(name)
            self.now += seconds()

        return step


def _run(clock: Clock, steps: dict[str, Callable[[], None]], turns: int, turn: float = 0.06) -> list[dict[str, float]]:
    return list(timing.rounds(steps, turns=turns, turn=turn, clock=clock.read, pause=clock.wait))


def test_a_round_has_the_seconds_of_a_call_and_no_pause() -> None:
    clock = Clock()
    found = _run(clock, {"a": clock.taking("a", lambda: 0.25), "b": clock.taking("b", lambda: 0.5)}, 3, turn=1.0)
    assert found == [{"a": 0.25, "b": 0.5}] * 3
    a_round = ["a"] * 5 + ["b"] * 3  # one call to warm up, and as many as the turn has room for
    assert clock.calls == ["a", "a", "b", "b", *a_round * 3]


def test_what_goes_before_takes_no_part_of_the_time() -> None:
    clock = Clock()
    step, before = clock.taking("a", lambda: 0.25), clock.taking("before", lambda: 9.0)
    found = list(timing.rounds({"a": step}, turns=2, before=before, clock=clock.read, pause=clock.wait))
    assert found == [{"a": 0.25}] * 2


def test_a_ratio_is_of_the_same_rounds() -> None:
    """A machine that is four times as slow in every other round changes no ratio, though it changes the medians."""
    clock = Clock()
    slow = [1.0, 4.0, 4.0, 1.0, 4.0]
    played = iter([1.0] * 4 + [factor for factor in slow for _ in range(4)])  # each contestant warms up, then has one
    now = {"factor": 1.0}

    def by(seconds: float) -> Callable[[], float]:
        def take() -> float:
            now["factor"] = next(played)
            return seconds * now["factor"]

        return take

    found = _run(clock, {"a": clock.taking("a", by(0.5)), "b": clock.taking("b", by(1.0))}, 5, turn=0.1)
    a, b = (timing.Timing(name, [one[name] for one in found]) for name in "ab")
    assert a.seconds == [0.5 * factor for factor in slow]
    assert timing.ratio(b, a) == 2.0
    assert b.median / a.best == 8.0  # what one would have without rounds


def test_a_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() -> None:
    a, b = timing.Timing("a", [1.0, 2.0, 8.0]), timing.Timing("b", [2.0, 1.0, 16.0])
    assert timing.ratio(b, a) == 2.0
    assert b.median / a.median == 1.0


def test_a_stop_leaves_whole_rounds() -> None:
    clock = Clock()
    left = iter(range(9))

    def interrupted() -> float:
        if next(left) == 6:
            raise KeyboardInterrupt
        return 1.0

    found: list[dict[str, float]] = []
    steps = {"a": clock.taking("a", lambda: 1.0), "b": clock.taking("b", interrupted)}
    with pytest.raises(KeyboardInterrupt):
        found.extend(timing.rounds(steps, turns=9, clock=clock.read, pause=clock.wait))
    assert found == [{"a": 1.0, "b": 1.0}] * 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (3.0, 3.0, 3.0)), ([1.0, 3.0], (1.5, 2.0, 2.5)), ([5.0, 1.0, 4.0, 2.0, 3.0], (2.0, 3.0, 4.0))],
)
def test_quartiles(values: list[float], expected: tuple[float, float, float]) -> None:
    assert timing.quartiles(values) == expected
