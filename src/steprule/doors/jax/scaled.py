"""optax's transformations of updates that rules say: their arguments, in their order, with their defaults."""

from __future__ import annotations

from typing import Any

import optax

from steprule.doors.jax.transformation import transformation
from steprule.errors import HyperparameterError
from steprule.rules import CATALOGUE, centralized, maximize

__all__ = ["centralize", "scale_by_trust_ratio"]


def centralize() -> optax.GradientTransformationExtraArgs:
    """Return ``optax.centralize``, with means that are summed in float64: what has one index along the first axis.

    ``steprule.centralized(rule)`` is a rule for such gradients, in as many passes as it needs anyway.
    """
    return transformation(maximize(centralized("sgd")), lr=1.0)


def scale_by_trust_ratio(
    min_norm: Any = 0.0, trust_coefficient: Any = 1.0, eps: Any = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Return ``optax.scale_by_trust_ratio``, with norms that are summed in float64.

    An update is multiplied by ``trust_coefficient`` times the norm of its parameter over its own plus ``eps``; where
    one of both norms is 0 or not a number, by 1. ``steprule.trust_ratio(rule)`` is a rule with such steps.

    Args:
        min_norm: 0: the ratio has no least norm.
        trust_coefficient, eps: numbers, schedules or arrays, as those of ``transformation``.

    Raises:
        HyperparameterError: for another ``min_norm``, and for what is out of its range.
    """
    if not (isinstance(min_norm, int | float) and min_norm == 0):
        raise HyperparameterError(
            f"min_norm={min_norm!r} cannot be had: the ratio has no least norm. Leave it out, or use "
            "optax.scale_by_trust_ratio"
        )
    return transformation(
        maximize(CATALOGUE["lars"]),
        lr=1.0,
        momentum=None,
        norm_of_sum=True,
        trust_coefficient=trust_coefficient,
        eps=eps,
    )
