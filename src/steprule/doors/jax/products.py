"""Polar factors of JAX's arrays: matrices of one shape together, by ``jnp.matmul``, in float32 or in bfloat16."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from steprule.errors import HyperparameterError
from steprule.language.matrices import View, matrix_shape
from steprule.language.newton_schulz import Iteration, gram_room, stepped
from steprule.language.polar import Polar
from steprule.launch.products import LIMIT

__all__ = ["PRODUCTS", "Wanted", "multiplied"]

PRODUCTS = ("bfloat16", "float32")
"""What matrices may be multiplied in, where they are not in the type of the arithmetic."""


@dataclass(frozen=True)
class Wanted:
    """A polar factor that is wanted of a leaf.

    Attributes:
        path: what messages call the leaf.
        array: what it is of, of the leaf's shape.
        polar: what the rule says about it.
        view: how the leaf is seen as matrices.
    """

    path: str
    array: Any
    polar: Polar
    view: View | None

    def stack(self, iteration: Iteration) -> tuple[int, int, int]:
        """Return how many matrices there are, and their rows and columns.

        Raises:
            HyperparameterError: when its rows cannot be cut into equal parts.
        """
        count, rows, columns = matrix_shape(self.array.shape, self.view or "first")
        parts = iteration.parts
        if rows % parts:
            raise HyperparameterError(
                f"{self.path} has {rows} rows, which parts={parts} does not cut into equally high matrices"
            )
        return count * parts, rows // parts, columns


def multiplied(wanted: Sequence[Wanted], values: Mapping[str, Any], dtype: str | None) -> list[Any]:
    """Return polar factors, those of matrices of one shape computed together, in batches of ``LIMIT`` bytes.

    Args:
        wanted: what is wanted.
        values: the hyperparameters in this step.
        dtype: what is multiplied in; None: the type of each array.

    Raises:
        HyperparameterError: for a number of steps or parts that is traced, and parts that are not equally high.
    """
    found: list[Any] = [None] * len(wanted)
    alike: dict[Any, list[int]] = {}
    iterations: dict[Polar, Iteration] = {}
    for place, one in enumerate(wanted):
        iteration = iterations.setdefault(one.polar, _iteration(one.polar, values))
        alike.setdefault((one.polar, one.stack(iteration), str(one.array.dtype)), []).append(place)
    for (polar, shape, kind), places in alike.items():
        if not all(shape):
            for place in places:
                found[place] = wanted[place].array
            continue
        each = max(1, LIMIT // (gram_room(*shape) * jnp.dtype(kind).itemsize))
        iteration = iterations[polar]
        for start in range(0, len(places), each):
            batch = places[start : start + each]
            arrays = tuple(wanted[place].array for place in batch)
            new = _factors(arrays, iteration.steps, iteration.eps, shape=shape, margin=iteration.margin, dtype=dtype)
            for place, array in zip(batch, new, strict=True):
                found[place] = array
    return found


def _iteration(polar: Polar, values: Mapping[str, Any]) -> Iteration:
    """Return what is done in this step. How often is fixed while tracing; by which numbers may be traced."""
    fixed = {name: values[name] for name in (polar.steps, polar.parts) if isinstance(name, str)}
    for name, value in fixed.items():
        if isinstance(value, jax.core.Tracer):
            raise HyperparameterError(
                f"{name} says what is computed and is fixed while tracing, and is traced; give a number. With "
                f"optax.inject_hyperparams give static_args=({name!r},)"
            )
    known = polar.resolved({**values, **dict.fromkeys(_others(polar), 1.0)})
    if isinstance(polar.coefficients, str):
        steps: Any = known.steps
    else:
        steps = (tuple(values[own] if isinstance(own, str) else own for own in polar.coefficients),) * len(known.steps)
    eps = values[polar.eps] if isinstance(polar.eps, str) else polar.eps
    return Iteration(steps, known.parts, eps, known.margin)


def _others(polar: Polar) -> list[str]:
    """Return the hyperparameters that do not say how much is computed."""
    named = (*(polar.coefficients if isinstance(polar.coefficients, tuple) else ()), polar.eps)
    return [name for name in named if isinstance(name, str)]


@functools.partial(jax.jit, static_argnames=("shape", "margin", "dtype"))
def _factors(
    arrays: tuple[Any, ...], steps: Any, eps: Any, *, shape: tuple[int, int, int], margin: float, dtype: str | None
) -> tuple[Any, ...]:
    """Return the polar factors of arrays that are ``shape`` matrices each."""
    kind, count = arrays[0].dtype, shape[0]
    x = _scaled(jnp.concatenate([array.reshape(shape) for array in arrays]), jnp.asarray(eps, kind), margin)

    def product(left: Any, right: Any) -> Any:
        # In 16 bits numbers are rounded before they are multiplied; sums and coefficients are not.
        left, right = (one.astype(dtype or kind) for one in (left, right))
        return jnp.matmul(left, right, preferred_element_type=kind)

    x = stepped(x, [[jnp.asarray(number, kind) for number in triple] for triple in steps], product)
    return tuple(x[n * count : (n + 1) * count].reshape(array.shape) for n, array in enumerate(arrays))


def _scaled(stack: Any, eps: Any, margin: float) -> Any:
    """Return matrices divided by their norms, first by their largest elements: so neither norm nor squares overflow."""
    largest = jnp.max(jnp.abs(stack), axis=(1, 2), keepdims=True)
    largest = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    relative = stack / largest
    norms = jnp.sqrt(jnp.sum(jnp.square(relative), axis=(1, 2), keepdims=True)) * margin
    return relative / jnp.where(largest * norms < eps, eps / largest, norms)  # NaN stays
