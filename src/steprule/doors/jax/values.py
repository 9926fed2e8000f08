"""Hyperparameters under JAX: numbers, schedules of optax, and traced values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from steprule.backends.jax_scalars import exact, traced
from steprule.errors import HyperparameterError
from steprule.rules import Rule

__all__ = ["at_step", "checked", "count_of", "start_of"]


def checked(rule: Rule, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of a rule: those that were given, checked, and defaults.

    Arrays of JAX stay as they are, and so do schedules. Of what is traced nothing but the type can be checked.

    Raises:
        HyperparameterError: naming the hyperparameter, with its value and a remedy.
    """
    arrays = {name: value for name, value in given.items() if isinstance(value, jax.Array)}
    values = rule.resolve({name: value for name, value in given.items() if name not in arrays})
    for name, value in values.items():
        if callable(value):
            _check_schedule(name, value)
    for name, array in arrays.items():
        rule.resolve({name: 0.5} if name not in rule.hyperparameters else {})  # names what is unknown
        _check_array(rule, name, array)
        values[name] = array
    return values


def _check_array(rule: Rule, name: str, array: jax.Array) -> None:
    hyper = rule.hyperparameters[name]
    if hyper.is_static:
        raise HyperparameterError(
            f"{name} is an array of JAX, {array!r}, and must be {hyper.kind}: it chooses what is compiled, so it is "
            f"fixed while tracing. Give a Python value, or with jax.jit make {name} a static argument"
        )
    if array.shape != () or array.dtype not in (jnp.float32, jnp.float64):
        narrow = " (0.999 in bfloat16 is 1)" if array.dtype in (jnp.bfloat16, jnp.float16) else ""
        raise HyperparameterError(
            f"{name} must be one number of float32 or float64, got {array.dtype}{list(array.shape)}{narrow}. For many "
            "runs at once map over it with jax.vmap; optax.inject_hyperparams takes hyperparam_dtype=jnp.float32"
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
        HyperparameterError: when it is no whole number, or below 1.
    """
    if isinstance(t, jax.Array) and jnp.issubdtype(t.dtype, jnp.integer) and t.shape == ():
        return exact(t)
    if isinstance(t, bool) or not hasattr(t, "__index__") or int(t) < 1:
        raise HyperparameterError(f"t must be the number of the step, a whole number that is 1 at the first, got {t!r}")
    return int(t)


def at_step(values: Mapping[str, Any], steps: Any) -> dict[str, Any]:
    """Return the hyperparameters after ``steps`` steps, from 0, as preludes take them."""
    return {name: _at_step(name, value, steps) for name, value in values.items()}


def _at_step(name: str, value: Any, steps: Any) -> Any:
    if callable(value):
        try:
            value = value(steps)
        except jax.errors.JAXTypeError as error:
            raise HyperparameterError(
                f"the schedule of {name} cannot be traced: {str(error).partition(chr(10))[0]} Write it with jax.numpy "
                "in place of math, and jnp.where in place of `if`, as optax's schedules are"
            ) from error
    return traced(value) if isinstance(value, jax.Array) else value


def start_of(rule: Rule, slot: str, values: Mapping[str, Any]) -> Any:
    """Return what a slot holds before the first step."""
    start = rule.init.get(slot, 0.0)
    return _at_step(start, values[start], 0) if isinstance(start, str) else start
