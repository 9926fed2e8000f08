"""The search space of a race: what is tuned of a rule, in which ranges, and the settings that are drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from steprule.race.entrant import Entrant

__all__ = [
    "LR",
    "USUAL_WARMUP",
    "WARMUP",
    "Dimension",
    "Setting",
    "defaults",
    "dimensions",
    "draw",
    "value_of",
    "widened",
]

Setting: TypeAlias = tuple[tuple[str, float], ...]
"""What a trial tries, by name: ``lr``, hyperparameters, and ``warmup``, a share of the run's steps."""
LR, WARMUP = "lr", "warmup"
USUAL_WARMUP = 0.05
"""Share of a run that the learning rate rises for, where it is not tuned, and in the trial of the defaults."""
_WIDER = 10.0
"""By which factor the range of learning rates is widened."""
_SPACE = 2
"""What a random stream is for; ``run`` has 0 and 1."""


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter that is tuned, and its range.

    Args:
        name: of the hyperparameter.
        low: the lowest value.
        high: the highest value.
        scale: how draws are spread: evenly, evenly in the logarithm, or evenly in the logarithm of 1 - value.
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log", "log(1 - x)"]

    def at(self, share: float) -> float:
        """Return the value that far through the range, ``share`` in [0, 1]; three digits, which can be typed again."""
        if self.scale == "linear":
            return float(f"{self.low + share * (self.high - self.low):.3g}")
        if self.scale == "log":
            return float(f"{self.low * (self.high / self.low) ** share:.3g}")
        rest = (1 - self.low) * ((1 - self.high) / (1 - self.low)) ** share
        return round(1 - float(f"{rest:.3g}"), 9)


_OWN = (
    Dimension("beta2", 0.9, 0.999, "log(1 - x)"),
    # RMSprop's and Adadelta's name for the same decay.
    Dimension("rho", 0.9, 0.999, "log(1 - x)"),
    Dimension("weight_decay", 1e-4, 1.0, "log"),
)
_WARMUP = Dimension(WARMUP, 0.0, 0.2, "linear")


def dimensions(entrant: Entrant, rates: tuple[float, float], *, has_schedule: bool) -> tuple[Dimension, ...]:
    """Return what is tuned of an entrant: of the four, what it has, and what the user has not set.

    Args:
        entrant: whose.
        rates: the lowest and the highest learning rate.
        has_schedule: whether rates rise and fall in this race, so that there is a warm-up.
    """
    if not entrant.has_lr:
        rate: tuple[Dimension, ...] = ()
    else:
        rate = (Dimension(LR, *rates, "log"), *([_WARMUP] if has_schedule and entrant.warms_up else []))
    return rate + tuple(one for one in _OWN if one.name in entrant.free)


def defaults(entrant: Entrant, dimensions: Sequence[Dimension]) -> Setting:
    """Return the first trial: the rule's own defaults, which are its paper's; the middle of what has none."""
    own = {**entrant.free, WARMUP: USUAL_WARMUP}
    return tuple((one.name, own.get(one.name, one.at(0.5))) for one in dimensions)


def draw(dimensions: Sequence[Dimension], seed: int, begin: int, end: int) -> list[Setting]:
    """Return the settings ``begin`` to ``end`` of an endless sequence that fills the space evenly.

    It is Halton's, with digits permuted at random (Owen 2017, arXiv:1706.02808), since with the plain ones the first
    draws of two hyperparameters rise together. The first dimension, the learning rate, is the same for every rule,
    and the first 2^n draws have one in each 2^n-th of its range.
    """
    from scipy.stats import qmc

    points = qmc.Halton(len(dimensions), seed=np.random.default_rng([seed, _SPACE])).random(end)[begin:]
    return [tuple((one.name, one.at(float(u))) for one, u in zip(dimensions, point, strict=True)) for point in points]


def widened(dimensions: Sequence[Dimension], tried: Sequence[Setting], best: Setting) -> tuple[Dimension, ...]:
    """Return the space beyond the edge where the best learning rate lies; the same space when it lies inside."""
    rate, rates = value_of(best, LR), [lr for one in tried if (lr := value_of(one, LR)) is not None]
    if not rate or len(set(rates)) < 2 or min(rates) < rate < max(rates):
        return tuple(dimensions)
    low, high = (rate / _WIDER, rate) if rate == min(rates) else (rate, rate * _WIDER)
    return tuple(replace(one, low=low, high=high) if one.name == LR else one for one in dimensions)


def value_of(setting: Setting, name: str) -> float | None:
    """Return what a setting has of that name; None where it has none."""
    return dict(setting).get(name)
