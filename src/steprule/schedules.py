"""Schedules: callables of the step number t (1 at the first step) for any hyperparameter.

Each is ``schedule(t) -> float`` in Python's float64; it can be compared, copied and pickled, and shows
how it was made. Schedules of other libraries fit as well; mind that optax's count their first step as 0.
"""

from __future__ import annotations

import bisect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

from steprule.errors import HyperparameterError

__all__ = ["constant", "cosine", "inverse_sqrt", "linear_warmup", "sequence", "step_drop"]

Schedule: TypeAlias = Callable[[int], float]


class _Shown:
    """Shows a schedule as the call that makes it."""

    def __repr__(self) -> str:
        name = type(self).__name__.removeprefix("_")
        values = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return f"{name}({', '.join(map(repr, values))})"


@dataclass(frozen=True, repr=False)
class _constant(_Shown):  # noqa: N801  (named as the function that makes it)
    value: float

    def __call__(self, t: int) -> float:
        return self.value


@dataclass(frozen=True, repr=False)
class _inverse_sqrt(_Shown):  # noqa: N801
    value: float
    warmup: int

    def __call__(self, t: int) -> float:
        return self.value * math.sqrt(self.warmup / max(t, self.warmup))


@dataclass(frozen=True, repr=False)
class _linear_warmup(_Shown):  # noqa: N801
    value: float
    steps: int
    start: float

    def __call__(self, t: int) -> float:
        return self.start + (self.value - self.start) * min(t / self.steps, 1.0)


@dataclass(frozen=True, repr=False)
class _cosine(_Shown):  # noqa: N801
    value: float
    steps: int
    final: float

    def __call__(self, t: int) -> float:
        done = min((t - 1) / self.steps, 1.0)
        return self.final + (self.value - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, repr=False)
class _step_drop(_Shown):  # noqa: N801
    value: float
    drops: tuple[tuple[int, float], ...]

    def __call__(self, t: int) -> float:
        return self.value * math.prod(factor for step, factor in self.drops if step < t)


@dataclass(frozen=True, repr=False)
class _sequence(_Shown):  # noqa: N801
    schedules: tuple[Schedule, ...]
    boundaries: tuple[int, ...]

    def __call__(self, t: int) -> float:
        index = bisect.bisect_left(self.boundaries, t)
        return self.schedules[index](t - (self.boundaries[index - 1] if index else 0))


def constant(value: float) -> Schedule:
    """Return the schedule that is always ``value``.

    Raises:
        HyperparameterError: when ``value`` is not a finite number.
    """
    return _constant(_number("value", value))


def inverse_sqrt(value: float, *, warmup: int = 1) -> Schedule:
    """Return ``value * sqrt(warmup / t)`` for t >= ``warmup``, and ``value`` before.

    With ``warmup=1`` it is ``value / sqrt(t)``, the schedule of the theory and of section 6.1 of
    Kingma & Ba 2015.

    Raises:
        HyperparameterError: when ``value`` is not a finite number or ``warmup`` not an integer from 1.
    """
    return _inverse_sqrt(_number("value", value), _count("warmup", warmup))


def linear_warmup(value: float, steps: int, *, start: float = 0.0) -> Schedule:
    """Return the line from ``start`` (at t = 0) to ``value`` (at t = ``steps``), constant afterwards.

    Raises:
        HyperparameterError: when a value is not a finite number or ``steps`` not an integer from 1.
    """
    return _linear_warmup(_number("value", value), _count("steps", steps), _number("start", start))


def cosine(value: float, steps: int, *, final: float = 0.0) -> Schedule:
    """Return half a cosine from ``value`` (at the first step) down to ``final`` (after ``steps`` steps).

    ``final + (value - final) * (1 + cos(pi (t - 1) / steps)) / 2``: Loshchilov & Hutter 2017, eq. 5,
    arXiv:1608.03983, without restarts.

    Raises:
        HyperparameterError: when a value is not a finite number or ``steps`` not an integer from 1.
    """
    return _cosine(_number("value", value), _count("steps", steps), _number("final", final))


def step_drop(value: float, drops: Sequence[int] | Mapping[int, float], *, factor: float | None = None) -> Schedule:
    """Return ``value``, multiplied by ``factor`` (default 0.1) after each of the steps in ``drops``.

    ``drops={30: 0.5, 60: 0.1}`` gives each drop a factor of its own.

    Raises:
        HyperparameterError: for drops that are not integers from 1, or a ``factor`` beside a mapping,
            where it would do nothing.
    """
    if isinstance(drops, Mapping):
        if factor is not None:
            raise HyperparameterError(f"factor={factor!r} does nothing: drops gives each step a factor of its own")
        factors = dict(drops)
    elif isinstance(drops, (list, tuple, range)):
        factors = dict.fromkeys(drops, 0.1 if factor is None else factor)
    else:
        raise HyperparameterError(f"drops must be a list of steps, or a dict of steps and factors, got {drops!r}")
    pairs = sorted((_count("a step of drops", step), _number("a factor", f)) for step, f in factors.items())
    return _step_drop(_number("value", value), tuple(pairs))


def sequence(schedules: Sequence[Schedule | float], boundaries: Sequence[int]) -> Schedule:
    """Return the schedules one after another; each counts its own t from 1.

    The first is used while t <= ``boundaries[0]``, the next while t <= ``boundaries[1]``, and so on.
    ``sequence([linear_warmup(1e-3, 100), cosine(1e-3, 900)], [100])`` is warm-up, then decay.

    Raises:
        HyperparameterError: when there is not one boundary fewer than schedules, in rising order from 1.
    """
    if not isinstance(schedules, (list, tuple)) or not isinstance(boundaries, (list, tuple, range)):
        raise HyperparameterError(f"a sequence takes two lists, got {schedules!r} and {boundaries!r}")
    parts = tuple(part if callable(part) else constant(part) for part in schedules)
    ends = tuple(_count("a boundary", end) for end in boundaries)
    if not parts or len(ends) != len(parts) - 1 or list(ends) != sorted(set(ends)):
        raise HyperparameterError(
            f"a sequence of {len(parts)} schedules needs {max(len(parts) - 1, 0)} rising boundaries, got {list(ends)}"
        )
    return _sequence(parts, ends)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise HyperparameterError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _count(name: str, value: object) -> int:
    number = _number(name, value)
    if not number.is_integer() or number < 1:
        raise HyperparameterError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(number)
