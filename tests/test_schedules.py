"""Schedules: their formulas at the ends and in the middle, and their errors."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import pytest

from steprule import schedules
from steprule.errors import HyperparameterError


def test_constant() -> None:
    assert [schedules.constant(0.3)(t) for t in (1, 1000)] == [0.3, 0.3]


def test_inverse_sqrt() -> None:
    assert schedules.inverse_sqrt(2.0)(4) == 1.0
    warm = schedules.inverse_sqrt(2.0, warmup=100)
    assert warm(1) == warm(100) == 2.0
    assert warm(400) == 1.0


def test_linear_warmup() -> None:
    ramp = schedules.linear_warmup(1.0, 10, start=0.5)
    assert [ramp(t) for t in (1, 5, 10, 99)] == [0.55, 0.75, 1.0, 1.0]


def test_cosine() -> None:
    wave = schedules.cosine(1.0, 100, final=0.2)
    assert wave(1) == 1.0
    assert wave(51) == pytest.approx(0.6)
    assert 0.2 < wave(100) < 0.21
    assert wave(101) == wave(500) == pytest.approx(0.2)


def test_step_drop() -> None:
    drop = schedules.step_drop(1.0, [10, 20])
    assert [drop(t) for t in (1, 10, 11, 20, 21)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    own = schedules.step_drop(8.0, {5: 0.5, 2: 0.25})
    assert [own(t) for t in (2, 3, 5, 6)] == [8.0, 2.0, 2.0, 1.0]


def test_sequence_counts_each_part_from_one() -> None:
    seen: list[int] = []

    def note(t: int) -> float:
        seen.append(t)
        return 1.0

    both = schedules.sequence([note, 0.5, note], [2, 3])
    assert [both(t) for t in range(1, 6)] == [1.0, 1.0, 0.5, 1.0, 1.0]
    assert seen == [1, 2, 1, 2]


@hypothesis.given(value=st.floats(1e-6, 10), steps=st.integers(1, 1000), t=st.integers(1, 3000))
def test_ranges(value: float, steps: int, t: int) -> None:
    assert 0 <= schedules.cosine(value, steps)(t) <= value
    assert 0 <= schedules.linear_warmup(value, steps)(t) <= value
    assert math.isclose(schedules.inverse_sqrt(value)(t) ** 2 * t, value**2)


def test_wrong_schedules() -> None:
    with pytest.raises(HyperparameterError, match="steps must be an integer of at least 1, got 0"):
        schedules.cosine(1.0, 0)
    with pytest.raises(HyperparameterError, match="warmup must be an integer of at least 1"):
        schedules.inverse_sqrt(1.0, warmup=0)
    wrong: list[tuple[list[float], list[int]]] = [
        ([], []),
        ([1.0, 2.0], []),
        ([1.0, 2.0, 3.0], [5, 5]),
        ([1.0, 2.0, 3.0], [6, 5]),
    ]
    for parts, ends in wrong:
        with pytest.raises(HyperparameterError, match="rising boundaries"):
            schedules.sequence(parts, ends)
    calls: list[Callable[[], object]] = [
        lambda: schedules.constant(math.nan),
        lambda: schedules.cosine("a", 10),  # type: ignore[arg-type]
        lambda: schedules.cosine(1.0, 10.5),  # type: ignore[arg-type]
        lambda: schedules.step_drop(1.0, 5),  # type: ignore[arg-type]
        lambda: schedules.step_drop(1.0, {5: 0.1}, factor=0.5),
        lambda: schedules.step_drop(1.0, [-5]),
        lambda: schedules.sequence([1.0, 2.0], [-10]),
    ]
    for make in calls:
        with pytest.raises(HyperparameterError):
            make()


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.constant(0.5),
        schedules.inverse_sqrt(0.5, warmup=3),
        schedules.linear_warmup(0.5, 10, start=0.1),
        schedules.cosine(0.5, 10, final=0.1),
        schedules.step_drop(0.5, [3, 7]),
        schedules.sequence([schedules.linear_warmup(0.5, 5), 0.25], [5]),
    ],
    ids=repr,
)
def test_schedules_can_be_pickled_and_compared(schedule: schedules.Schedule) -> None:
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert [copy(t) for t in range(1, 20)] == [schedule(t) for t in range(1, 20)]


def test_schedules_show_how_they_were_made() -> None:
    assert repr(schedules.cosine(0.003, 450)) == "cosine(0.003, 450, 0.0)"
