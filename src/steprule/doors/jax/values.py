"""Hyperparameters under JAX: numbers, schedules of optax, and traced values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steprule.backends.jax_scalars import exact, traced
from steprule.errors import HyperparameterError
from steprule.rules import Rule

__all__ = ["OPTIONS", "at_step", "check_names", "checked", "count_of", "start_of"]

OPTIONS = ("mask", "states", "min_elements", "seed")
"""What transformations take beside hyperparameters."""
_OF_OPTAX = {
    "clip_norm": "optax.chain(optax.clip_by_global_norm(...), tx)",
    "clip_value": "optax.chain(optax.clip(...), tx)",
    "nonfinite": "optax.apply_if_finite(tx, max_consecutive_errors=...)",
    "max_skips": "optax.apply_if_finite(tx, max_consecutive_errors=...)",
}


def checked(rule: Rule, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of a rule: those that were given, checked, and defaults.

    Arrays of JAX stay as they are, and so do schedules. Of what is traced nothing but the type can be checked.

    Raises:
        HyperparameterError: naming the hyperparameter, with its value and a remedy.
    """
    check_names(rule, given, OPTIONS)
    arrays = {name: value for name, value in given.items() if isinstance(value, jax.Array)}
    values = rule.resolve({name: value for name, value in given.items() if name not in arrays})
    for name, value in values.items():
        if callable(value):
            _check_schedule(name, value)
    for name, array in arrays.items():
        _check_array(rule, name, array)
        values[name] = array
    return values


def check_names(rule: Rule, given: Iterable[str], options: Iterable[str]) -> None:
    """Refuse a name that is none of the rule's; ``options`` are those that the caller takes beside.

    Raises:
        HyperparameterError: with what was meant, or what optax has for it.
    """
    for name in given:
        if name in rule.hyperparameters:
            continue
        if name in _OF_OPTAX:
            raise HyperparameterError(
                f"rule {rule.name!r} has no hyperparameter {name!r}. optax has that for any transformation: "
                f"{_OF_OPTAX[name]}"
            )
        rule.resolve({name: None}, options=options)


def _check_array(rule: Rule, name: str, array: jax.Array) -> None:
    hyper = rule.hyperparameters[name]
    if hyper.is_static:
        raise HyperparameterError(
            f"{name} is a JAX array, {array!r}, and must be {hyper.kind}: it chooses what is compiled, so it is "
            f"fixed while tracing. Give a Python value, or with jax.jit make {name} a static argument"
        )
    if array.shape != ():
        raise HyperparameterError(
            f"{name} must be one number, got {array.dtype}{list(array.shape)}. For many runs at once map over it with "
            "jax.vmap"
        )
    if array.dtype in (jnp.bfloat16, jnp.float16):
        raise HyperparameterError(
            f"{name} must be in float32 or float64, got {array.dtype}: 0.999 in bfloat16 is 1. "
            "optax.inject_hyperparams takes hyperparam_dtype=jnp.float32"
        )
    if not isinstance(array, jax.core.Tracer):
        hyper.check(float(array))


def _check_schedule(name: str, schedule: Any) -> None:
    if type(schedule).__module__ == "steprule.schedules":
        raise HyperparameterError(
            f"{name} is {schedule!r}, a schedule of steprule.schedules, which count from 1 in Python and cannot be "
            "traced. Give one of optax, such as optax.cosine_decay_schedule(...), which count from 0"
        )


def count_of(t: Any) -> Any:
    """Return a step number as preludes take it: a Python number as it is, a traced one as an exact number.

    Raises:
        HyperparameterError: when it is not an integer, or below 1.
    """
    if isinstance(t, jax.core.Tracer) and jnp.issubdtype(t.dtype, jnp.integer) and t.shape == ():
        return exact(t)
    whole = not isinstance(t, jax.core.Tracer) and np.ndim(t) == 0 and np.asarray(t).dtype.kind in "iu"
    if not whole or not 1 <= int(t) < 2**31:
        raise HyperparameterError(
            f"t must be the number of the step, an integer that is 1 at the first and below 2**31, got {t!r}"
        )
    return exact(t) if isinstance(t, jax.Array) else int(t)


def at_step(rule: Rule, values: Mapping[str, Any], steps: Any) -> dict[str, Any]:
    """Return the hyperparameters after ``steps`` steps, from 0, as preludes take them."""
    return {name: _at_step(rule, name, value, steps) for name, value in values.items()}


def _at_step(rule: Rule, name: str, value: Any, steps: Any) -> Any:
    if callable(value):
        try:
            value = value(steps)
        except jax.errors.JAXTypeError as error:
            raise HyperparameterError(
                f"the schedule of {name} cannot be traced: {str(error).partition(chr(10))[0]} Write it with jax.numpy "
                "in place of math, and jnp.where in place of `if`, as optax's schedules are"
            ) from error
        if not isinstance(value, jax.Array):
            value = rule.hyperparameters[name].check(value, f" from its schedule, after {steps} steps")
        else:
            _check_array(rule, name, value)
    return traced(value) if isinstance(value, jax.Array) else value


def start_of(rule: Rule, slot: str, values: Mapping[str, Any]) -> Any:
    """Return what a slot holds before the first step."""
    start = rule.init.get(slot, 0.0)
    return _at_step(rule, start, values[start], 0) if isinstance(start, str) else start
