"""The statistics of a step, from the sums that were taken in its pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steprule.launch.readings import Reading

__all__ = ["QUANTISATION", "Row", "Statistics"]

Row: TypeAlias = dict[str, Any]
Column: TypeAlias = NDArray[np.float64]

QUANTISATION = "quantisation_error_"
"""What stands before the name of a slot in the key of its error."""
_POWERS = range(-12, 4)
_MISSING = -1.0  # no sum and no statistic is negative


@dataclass(frozen=True)
class Statistics:
    """What one step did to all parameters: one row per parameter, one column per statistic.

    Attributes:
        names: the parameters.
        steps: the number of the step of each.
        keys: the statistics.
        values: negative where the rule has no such thing.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    keys: tuple[str, ...]
    values: Column

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Statistics:
        """Return the statistics of the readings of a step.

        Args:
            readings: one for each parameter.
        """
        sums = _Sums(readings)
        with np.errstate(all="ignore"):
            columns = _columns(sums)
        names, steps = tuple(r.name for r in readings), tuple(r.t for r in readings)
        return cls(names, steps, tuple(columns), np.stack(list(columns.values()), axis=1))

    def rows(self) -> list[Row]:
        """Return a dict for each parameter; None stands for what its rule does not have."""
        return [
            {"step": step, "name": name, **{key: _told(key, value) for key, value in zip(self.keys, line, strict=True)}}
            for step, name, line in zip(self.steps, self.names, self.values.tolist(), strict=True)
        ]


def _told(key: str, value: float) -> float | int | None:
    if value < 0:
        return None
    return int(value) if key == "nonfinite" else value


class _Sums:
    """The sums of a step by name, a number for each parameter."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings
        sizes = [prod(r.shape) for r in readings]
        self.size = np.array(sizes, np.float64)
        self.lr = np.array([r.hyperparameters.get("lr", 1.0) for r in readings], np.float64)
        self.has_lr = np.array(["lr" in r.hyperparameters for r in readings])
        self.names = {name for r in readings for name in r.sums}

    def __getitem__(self, name: str) -> Column:
        return np.array([r.sums.get(name, _MISSING) for r in self._readings], np.float64)

    def share(self, name: str) -> Column:
        """Return a sum divided by the number of elements."""
        return _ratio(self[name], self.size)


def _ratio(part: Column, whole: Column) -> Column:
    """Return a ratio of sums, missing where either is or where it has no meaning."""
    return np.where((part < 0) | (whole <= 0), _MISSING, part / whole)


def _root(squares: Column) -> Column:
    return np.where(squares < 0, _MISSING, np.sqrt(np.abs(squares)))


def _columns(sums: _Sums) -> dict[str, Column]:
    below = np.stack([sums[f"below 4^{power}"] for power in _POWERS], axis=1)
    quantiles = {f"step_q{percent}": _quantile(sums, below, percent / 100) for percent in (10, 50, 90)}
    slots = sorted(name.removeprefix("error ") for name in sums.names if name.startswith("error "))
    errors = {f"{QUANTISATION}{slot}": _root(_ratio(sums[f"error {slot}"], sums[f"square {slot}"])) for slot in slots}
    return {
        "lr": np.where(sums.has_lr, sums.lr, _MISSING),
        "gradient_norm": _root(sums["gradient"]),
        "weight_norm": _root(sums["weight"]),
        "update_ratio": _root(_ratio(sums["update"], sums["weight"])),
        "update_rms": _root(sums.share("ratio")),
        "signal_to_noise": sums.share("signal"),
        "epsilon_share": sums.share("epsilon"),
        "frozen_share": _ratio(sums["frozen"], sums["moved"]),
        "zero_share": sums.share("zeros"),
        "idle_share": sums.share("idle"),
        "nonfinite": sums["nonfinite"],
        **quantiles,
        **errors,
    }


def _quantile(sums: _Sums, below: Column, q: float) -> Column:
    """Return the step size that a share q of the elements stays below.

    Between two powers of 4 its logarithm is taken to grow linearly with the share. 0 is what lies below the least
    power, infinity what lies above the largest.
    """
    wanted = q * sums.size
    reached = below >= wanted[:, None]
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), len(_POWERS))
    upper, lower = (np.take_along_axis(below, _column(first, -d), axis=1)[:, 0] for d in (0, 1))
    power = _POWERS[0] + first - 1 + (wanted - lower) / (upper - lower)
    size = np.where(first == 0, 0.0, np.where(first == len(_POWERS), np.inf, sums.lr * 4.0**power))
    size = np.where(sums.lr == 0, 0.0, size)  # where no step is below anything
    return np.where((below[:, 0] < 0) | (sums.size == 0), _MISSING, size)


def _column(index: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    return np.clip(index + offset, 0, len(_POWERS) - 1)[:, None]
