"""Pytrees of parameters, gradients and slots: their structures, and what each leaf is."""

from __future__ import annotations

from typing import Any

import jax

from steprule.errors import StructureError
from steprule.formats import FORMATS, Format

__all__ = ["check_like", "flat", "flat_like", "format_of", "paths_of", "type_of"]


def paths_of(tree: Any) -> list[str]:
    """Return what each leaf is called in messages."""
    return [jax.tree_util.keystr(path) or "the array" for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def flat(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree, and its structure."""
    return jax.tree.flatten(tree)


def flat_like(tree: Any, treedef: Any, what: str) -> list[Any]:
    """Return what stands in ``tree`` at the leaves of another tree.

    Raises:
        StructureError: when its structure is another.
    """
    try:
        found: list[Any] = treedef.flatten_up_to(tree)
    except (ValueError, TypeError, KeyError) as error:
        raise StructureError(
            f"{what} have another structure than the gradients: {error}. A state belongs to the parameters that it was "
            "made for: call init again, and take gradients by those parameters"
        ) from None
    return found


def type_of(leaf: Any) -> str:
    """Return the type that JAX has an array in: float32 for NumPy's float64, unless it is set to 64 bits."""
    if leaf.dtype == jax.dtypes.float0:  # jax.grad's for integers
        return "float0"
    return str(jax.dtypes.canonicalize_dtype(leaf.dtype))


def format_of(leaf: Any, path: str, what: str = "parameter") -> Format:
    """Return how an array is computed with.

    Raises:
        StructureError: for anything but real floating-point arrays, with a way to leave them out.
    """
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        raise StructureError(
            f"{what} {path} is {leaf!r} (a {type(leaf).__name__}), not an array; make it one with jnp.asarray"
        )
    name = type_of(leaf)
    if name in FORMATS:
        return FORMATS[name]
    if name.startswith("complex"):
        remedy = "optax.contrib.split_real_and_imaginary(...) steps its two parts"
    else:
        remedy = (
            "Leave it out: optax.masked(..., mask), equinox.filter(model, equinox.is_inexact_array), or "
            "nnx.Optimizer(..., wrt=nnx.Param)"
        )
    raise StructureError(f"{what} {path} has the type {name}; rules step {', '.join(FORMATS)}. {remedy}")


def check_like(leaf: Any, like: Any, path: str, what: str) -> None:
    """Refuse an array that has not the shape of the gradient.

    Raises:
        StructureError: with both shapes.
    """
    if leaf.shape != like.shape:
        raise StructureError(
            f"{what} {path} has shape {leaf.shape}, but its gradient {like.shape}. Both must be of the parameters that "
            "init was called with"
        )
