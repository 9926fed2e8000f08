"""Arguments of optax as hyperparameters of rules, where another name is not enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steprule.errors import HyperparameterError

__all__ = ["adafactor", "amsgrad", "betas", "is_zero", "none_is_zero", "zero_is_none"]

_BETAS = (0.9, 0.999)
_LARGEST = float(np.finfo(np.float32).max)
"""No RMS of a step is above it: a threshold that clips nothing."""
_FACTORED = (
    "every matrix is factored here, whatever its size, and of more axes the last two (of optax the two largest, from "
    "128 on)"
)


def is_zero(value: Any) -> bool:
    """Whether an argument is known to be 0."""
    return isinstance(value, (int, float)) and value == 0


def zero_is_none(*names: str) -> Callable[[dict[str, Any]], None]:
    """Return what makes a known 0 the None that adds nothing."""

    def adapt(values: dict[str, Any]) -> None:
        values.update({name: None for name in names if is_zero(values[name])})

    return adapt


def none_is_zero(*names: str) -> Callable[[dict[str, Any]], None]:
    """Return what makes a None, for what there is nothing of, the 0 that says so here."""

    def adapt(values: dict[str, Any]) -> None:
        values.update({name: 0.0 for name in names if values[name] is None})

    return adapt


def amsgrad(values: dict[str, Any]) -> None:
    """Say by ``correction`` which moments are corrected.

    Raises:
        HyperparameterError: where it is one of both.
    """
    m, v = (values.pop(f"bias_correction_{moment}", True) for moment in ("mu", "nu"))
    zero_is_none("eps_root")(values)
    if values["correction"] is not None:
        return
    if m != v:
        raise HyperparameterError(
            f"amsgrad corrects both moments or none, got bias_correction_mu={m} and bias_correction_nu={v}; "
            "optax.amsgrad corrects one"
        )
    values["correction"] = "before_max" if m else "none"


def betas(values: dict[str, Any]) -> None:
    """Take the pair that optax.contrib takes for ``beta1`` and ``beta2``.

    Raises:
        HyperparameterError: where it is none, or these are given as well.
    """
    pair, names = values.pop("betas"), ("beta1", "beta2")
    if not (isinstance(pair, list | tuple) and len(pair) == len(names)):
        raise HyperparameterError(f"betas must be a pair, beta1 and beta2, got {pair!r}")
    given = [name for name in names if values[name] is not None]
    if given and tuple(pair) != _BETAS:
        raise HyperparameterError(
            f"betas and {given[0]} are one argument, got {pair!r} and {values[given[0]]!r}; give one of them"
        )
    values |= {name: value for name, value in zip(names, pair, strict=True) if name not in given}


def adafactor(values: dict[str, Any]) -> None:
    """Say optax's arguments by the rule's hyperparameters.

    Raises:
        HyperparameterError: for what the rule does not have, with a remedy.
    """
    smallest, factored, offset = (values.pop(key) for key in ("min_dim_size_to_factor", "factored", "decay_offset"))
    if not (isinstance(smallest, int) and (smallest == 128 or smallest <= 1)):
        raise HyperparameterError(
            f"min_dim_size_to_factor={smallest!r} cannot be had: {_FACTORED}. Leave it out, or give 1, or step small "
            "matrices by another transformation (optax.partition)"
        )
    if factored is not True:
        raise HyperparameterError(
            f"factored={factored!r} cannot be had: {_FACTORED}. Leave it out, or use steprule.jax.rmsprop, which keeps "
            "a second moment of each element"
        )
    if not (isinstance(offset, int) and offset == 0):
        raise HyperparameterError(
            f"decay_offset={offset!r} cannot be had: decays follow from the number of the step. Leave it out, and "
            "begin with what init returns, or give beta2, which is the same in every step"
        )
    if not values.pop("multiply_by_parameter_scale"):
        values["eps2"] = None
    if values["clip_threshold"] is None:
        values["clip_threshold"] = _LARGEST
    if values["lr"] is None and not values["relative_step"]:
        values["lr"] = 1.0
    rate = values.pop("weight_decay_rate")
    if rate is not None:
        if values["weight_decay"] != 0:
            raise HyperparameterError(
                f"weight_decay is multiplied by the rate, and weight_decay_rate is not, got {values['weight_decay']!r} "
                f"and {rate!r}; give one of them"
            )
        values["weight_decay"] = _over(rate, values["lr"])


def _over(decay: Any, lr: Any) -> Any:
    """Return what comes to a decay when it is multiplied by a rate; of schedules a schedule.

    Raises:
        HyperparameterError: where the rate is known to be 0.
    """
    if callable(decay) or callable(lr):

        def schedule(count: Any) -> Any:
            at, rate = (own(count) if callable(own) else own for own in (decay, lr))
            return jnp.where(rate == 0, 0, at / jnp.where(rate == 0, 1, rate))

        return schedule
    if not isinstance(lr, jax.Array) and lr == 0:
        raise HyperparameterError(
            f"weight_decay_rate={decay!r} has no effect with learning_rate=0, by which the rule multiplies its decay. "
            "Give a rate above 0"
        )
    return decay / lr
