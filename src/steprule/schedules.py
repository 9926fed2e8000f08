"""Schedules: callables of the step number t (1 at the first step) for any hyperparameter.

Each is ``schedule(t) -> float`` in Python's float64. Schedules of other libraries fit as well,
optax's for instance, which count their own first step as 0.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from steprule.errors import HyperparameterError

__all__ = ["constant", "cosine", "inverse_sqrt", "linear_warmup", "sequence", "step_drop"]

Schedule: TypeAlias = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule that is always ``value``."""
    return lambda t: value


def inverse_sqrt(value: float, *, warmup: int = 1) -> Schedule:
    """Return ``value * sqrt(warmup / t)`` for t >= ``warmup``, and ``value`` before.

    With ``warmup=1`` it is ``value / sqrt(t)``, the schedule of the theory and of section 6.1 of
    Kingma & Ba 2015.
    """
    _at_least("warmup", warmup, 1)
    return lambda t: value * math.sqrt(warmup / max(t, warmup))


def linear_warmup(value: float, steps: int, *, start: float = 0.0) -> Schedule:
    """Return the line from ``start`` (at t = 0) to ``value`` (at t = ``steps``), constant afterwards."""
    _at_least("steps", steps, 1)
    return lambda t: start + (value - start) * min(t / steps, 1.0)


def cosine(value: float, steps: int, *, final: float = 0.0) -> Schedule:
    """Return half a cosine from ``value`` (at t = 0) down to ``final`` (at t = ``steps`` and after).

    ``final + (value - final) * (1 + cos(pi t / steps)) / 2``: Loshchilov & Hutter 2017, eq. 5,
    arXiv:1608.03983, without restarts.
    """
    _at_least("steps", steps, 1)
    return lambda t: final + (value - final) * (1 + math.cos(math.pi * min(t / steps, 1.0))) / 2


def step_drop(value: float, drops: Sequence[int] | Mapping[int, float], *, factor: float = 0.1) -> Schedule:
    """Return ``value``, multiplied by ``factor`` after each of the steps in ``drops``.

    ``drops={30: 0.5, 60: 0.1}`` gives each drop a factor of its own.
    """
    factors = dict(drops) if isinstance(drops, Mapping) else dict.fromkeys(drops, factor)
    steps = sorted(factors)
    products = [value]
    for step in steps:
        products.append(products[-1] * factors[step])
    return lambda t: products[bisect.bisect_left(steps, t)]


def sequence(schedules: Sequence[Schedule | float], boundaries: Sequence[int]) -> Schedule:
    """Return the schedules one after another; each counts its own t from 1.

    The first is used while t <= ``boundaries[0]``, the next while t <= ``boundaries[1]``, and so on.
    ``sequence([linear_warmup(1e-3, 100), cosine(1e-3, 900)], [100])`` is warm-up, then decay.

    Raises:
        HyperparameterError: when there is not one boundary fewer than schedules, in rising order.
    """
    parts = [part if callable(part) else constant(part) for part in schedules]
    ends = list(boundaries)
    if not parts or len(ends) != len(parts) - 1 or ends != sorted(set(ends)):
        raise HyperparameterError(
            f"a sequence of {len(parts)} schedules needs {max(len(parts) - 1, 0)} rising boundaries, got {ends}"
        )

    def schedule(t: int) -> float:
        index = bisect.bisect_left(ends, t)
        return parts[index](t - (ends[index - 1] if index else 0))

    return schedule


def _at_least(name: str, value: float, low: float) -> None:
    if not value >= low:
        raise HyperparameterError(f"{name} must be at least {low}, got {value!r}")
