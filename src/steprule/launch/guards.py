"""Guarded steps: what is asked for, and what is decided about a step before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steprule.errors import HyperparameterError, NonFiniteError, suggest
from steprule.rules import Rule
from steprule.rules.combinators import is_clipped
from steprule.rules.guard import CLIP_FACTOR, CLIP_VALUE, GRAD_SCALE, Guard, update_ratio
from steprule.rules.hyperparameters import Hyperparameter, Range
from steprule.rules.rule import Variant

__all__ = ["GUARDS", "NONFINITE", "SQUARE_SCALE", "Gradients", "Guards", "NonFinite", "scaled_squares"]

GUARDS: Mapping[str, Any] = {
    "clip_norm": None,
    "clip_value": None,
    "nonfinite": "propagate",
    "max_skips": None,
    "update_clip": False,
}
"""The options of optimizers, with what they are when they are not given."""
NONFINITE = ("propagate", "skip", "raise")
_MAX_SKIPS = 10
_TINY = 1e-6
SQUARE_SCALE = 2.0**-600
"""Makes squares of large float64 numbers small enough."""
_NAMED = 5


@dataclass(frozen=True)
class NonFinite:
    """A gradient with elements that are infinite or NaN."""

    name: str
    count: int
    size: int


class Gradients(Protocol):
    """The gradients of a step, to be examined where a sum of squares does not tell."""

    def nonfinite(self) -> list[NonFinite]:
        """Return the gradients that have elements that are not finite."""
        ...

    def squares(self) -> float:
        """Return the sum of squares of all gradients times ``SQUARE_SCALE``, where float64 cannot hold the sum."""
        ...


def _unshared(numbers: Sequence[float]) -> Sequence[float]:
    return numbers


class Guards:
    """The guards of one optimizer, and how often they have refused a step.

    Attributes:
        clip_norm, clip_value, nonfinite, max_skips, update_clip: the options.
        skipped: the steps that were skipped.
        in_a_row: those of them since the last that was taken.
        share: adds up numbers over the processes that hold parts of one model.
    """

    def __init__(
        self,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "propagate",
        max_skips: int | None = None,
        update_clip: bool = False,
    ) -> None:
        self.clip_norm = _size("clip_norm", clip_norm)
        self.clip_value = _size("clip_value", clip_value)
        if nonfinite not in NONFINITE:
            words = " That is minimize's; here 'raise' ends the run, and 'propagate' takes the step."
            hint = words if nonfinite == "stop" else suggest(nonfinite, NONFINITE)
            raise HyperparameterError(f"nonfinite must be one of {', '.join(NONFINITE)}, got {nonfinite!r}.{hint}")
        if not isinstance(update_clip, bool):
            raise HyperparameterError(f"update_clip must be True or False, got {update_clip!r}")
        if max_skips is not None and nonfinite != "skip":
            raise HyperparameterError(f"max_skips={max_skips!r} does nothing without nonfinite='skip'; remove it")
        is_count = isinstance(max_skips, int | np.integer) and not isinstance(max_skips, bool)
        if max_skips is not None and not (is_count and max_skips >= 0):
            raise HyperparameterError(f"max_skips must be an integer of at least 0, got {max_skips!r}")
        self.nonfinite, self.update_clip = nonfinite, update_clip
        self.max_skips = _MAX_SKIPS if max_skips is None else int(max_skips)
        self.skipped = self.in_a_row = 0
        self._clips: list[bool] = []
        self.share: Callable[[Sequence[float]], Sequence[float]] = _unshared

    def __setattr__(self, name: str, value: object) -> None:
        # Kernels are chosen by the options: a new value would be ignored in silence.
        if name in GUARDS and hasattr(self, name):
            raise AttributeError(f"{name} is fixed when the optimizer is made; make a new one with {name}={value!r}")
        super().__setattr__(name, value)

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return {name: getattr(self, name) for name in GUARDS}

    def has(self, name: str, value: Any) -> bool:
        """Whether an option has this value, as it may be given."""
        own = getattr(self, name)
        return bool(value == own) or (name == "max_skips" and value is None and own == _MAX_SKIPS)

    @property
    def measures(self) -> bool:
        """Whether all gradients are read before a step."""
        return self.clip_norm is not None or self.nonfinite != "propagate"

    @property
    def is_local(self) -> bool:
        """Whether this process decides by itself."""
        return self.share is _unshared

    def guard(self, *, unscales: bool = False, update_clip: bool | None = None) -> Guard:
        """Return what kernels do; ``update_clip`` is that of a group, where it has its own."""
        clips = self.update_clip if update_clip is None else update_clip
        return Guard(unscales, self.clip_value is not None, self.clip_norm is not None, clips)

    def note_clips(self, clips: Sequence[bool]) -> None:
        """Note which groups clip their updates, for checkpoints, where they are not alike."""
        self._clips = list(clips) if any(own != self.update_clip for own in clips) else []

    @property
    def told(self) -> dict[str, Any]:
        """The options, as checkpoints have them: ``update_clip`` is a list where the groups have their own."""
        own = getattr(self, "_clips", [])  # older pickles have none
        return {**self.options, "update_clip": own} if own else self.options

    def numbers(self, scale: float = 1.0, factor: float = 1.0) -> dict[str, float]:
        """Return the numbers that kernels take."""
        value = math.inf if self.clip_value is None else self.clip_value
        return {GRAD_SCALE: scale, CLIP_VALUE: value, CLIP_FACTOR: factor}

    def check_rule(self, rule: Rule, variant: Variant, where: str, update_clip: bool | None = None) -> None:
        """Refuse ``update_clip`` for a rule that has no second moment or no learning rate.

        Args:
            rule, variant: what steps.
            where: how messages name the group.
            update_clip: that of the group, where it has its own.

        Raises:
            HyperparameterError: naming the rule.
        """
        if not (self.update_clip if update_clip is None else update_clip):
            return
        if is_clipped(rule):
            raise HyperparameterError(f"rule {rule.name!r} clips its updates itself{where}; remove update_clip")
        if "lr" not in rule.trace(variant).used:
            raise HyperparameterError(f"update_clip lowers lr, which rule {rule.name!r} does not use{where}; remove it")
        if update_ratio(rule, variant) is None:
            raise HyperparameterError(
                f"update_clip compares the gradient to the root of its average square, which rule {rule.name!r} does "
                f"not keep (a slot annotated SecondMoment){where}; remove it, or use clip_norm"
            )

    def decide(self, sums: Sequence[float], gradients: Gradients) -> float | None:
        """Return what the gradients are multiplied by, or None for a step that is skipped.

        Args:
            sums: the squares of the gradient to be clipped, summed; then, where ``clip_value`` changes it, of the
                gradient as it was given.
            gradients: to be examined where sums do not tell.

        Raises:
            NonFiniteError: as ``nonfinite`` says.
        """
        sums = self.share(sums)
        if self.nonfinite != "propagate" and not math.isfinite(sums[-1]):
            found = gradients.nonfinite()
            if self.share([float(len(found))])[0]:
                self._refuse(found)
                return None
        self.in_a_row = 0
        if self.clip_norm is None:
            return 1.0
        factor = self.clip_norm / (math.sqrt(sums[0]) + _TINY)
        if math.isinf(sums[0]):
            factor = self.clip_norm * SQUARE_SCALE / math.sqrt(self.share([gradients.squares()])[0])
        return 1.0 if factor >= 1 else factor  # NaN stays

    def _refuse(self, found: Sequence[NonFinite]) -> None:
        what = _described(found)
        if self.nonfinite == "raise":
            raise NonFiniteError(
                f"{what}; nothing was stepped. Look for what overflowed (a learning rate too high, a loss in float16), "
                "or pass nonfinite='skip'"
            )
        if self.in_a_row >= self.max_skips:
            raise NonFiniteError(
                f"{what}, as in the {self.in_a_row} steps before, which were skipped (max_skips={self.max_skips}); "
                "nothing was stepped. The run does not recover: go back to a checkpoint, with a lower learning rate"
            )
        self.skipped += 1
        self.in_a_row += 1


def scaled_squares(arrays: Sequence[NDArray[Any]]) -> float:
    """Return the sum of squares of arrays times ``SQUARE_SCALE``."""
    with np.errstate(all="ignore"):
        return float(sum(np.sum(np.square(array * np.float64(SQUARE_SCALE))) for array in arrays))


def _size(name: str, value: object) -> float | None:
    hyper = Hyperparameter(name, None, Range(0.0, open_low=True), optional=True)
    return hyper.check(value)  # type: ignore[return-value]  # no choices: a number or None


def _described(found: Sequence[NonFinite]) -> str:
    if not found:
        return "the gradients of another process have elements that are not finite"
    named = [f"{bad.name} ({bad.count:,} of {bad.size:,} elements)" for bad in found[:_NAMED]]
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return f"not finite: the gradient{'s' if len(found) > 1 else ''} of {', '.join(named)}{more}"
