"""Pytrees of parameters, gradients and slots: their structures, and what each leaf is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from steprule.errors import StructureError
from steprule.formats import FORMATS, Format

__all__ = [
    "as_array",
    "check_like",
    "flat",
    "flat_like",
    "format_of",
    "is_complex",
    "parts_of",
    "paths_of",
    "type_of",
    "type_of_update",
]

_PARTS = {"complex64": "float32", "complex128": "float64"}
"""The type of the two parts of a complex number."""


def _is_none(x: Any) -> bool:
    return x is None


def paths_of(tree: Any) -> list[str]:
    """Return what each leaf is called in messages."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_none)
    return [jax.tree_util.keystr(path) or "the array" for path, _ in leaves]


def flat(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of a tree, among them None where there is nothing to step, and its structure."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=_is_none)
    return [as_array(leaf) for leaf in leaves], treedef


def flat_like(tree: Any, treedef: Any, what: str, than: str = "gradients") -> list[Any]:
    """Return what stands in ``tree`` at the leaves of another tree: anything where that has None.

    Raises:
        StructureError: when its structure is another.
    """
    try:
        found: list[Any] = treedef.flatten_up_to(tree)
    except (ValueError, TypeError, KeyError) as error:
        difference = str(error).rstrip(".")
        raise StructureError(
            f"{what} have another structure than the {than}: {difference}. A state belongs to the parameters that "
            "it was made for: call init again, and take gradients by those parameters"
        ) from None
    return [as_array(leaf) for leaf in found]


def as_array(leaf: Any) -> Any:
    """Return a number of Python as an array, anything else as it is."""
    return jnp.asarray(leaf * 1.0) if type(leaf) in (int, float, complex) else leaf


def is_complex(leaf: Any) -> bool:
    """Whether a leaf is an array of complex numbers."""
    return str(getattr(leaf, "dtype", "")) in _PARTS


def parts_of(leaf: Any) -> tuple[Any, Any]:
    """Return the real and the imaginary part of a leaf, of None twice None."""
    return (None, None) if leaf is None else (jnp.real(leaf), jnp.imag(leaf))


def type_of(leaf: Any) -> str:
    """Return the type that JAX has an array in: float32 for NumPy's float64, unless it is set to 64 bits."""
    if leaf.dtype == jax.dtypes.float0:  # jax.grad's for integers
        return "float0"
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):  # keys of jax.random
        return str(leaf.dtype)
    return str(jax.dtypes.canonicalize_dtype(leaf.dtype))


def type_of_update(g: Any, theta: Any, numbers: Sequence[Any]) -> str:
    """Return the type of an update, which is optax's: in 16 bits, those of float32 parameters lose small numbers.

    Args:
        g: the gradient.
        theta: the parameter, if the rule has slots or reads it; else, or where it is not given, None.
        numbers: its slots: float64 ones tell that it is float64, float32 ones belong to parameters of 16 bits as well.
    """
    wide = [slot for slot in numbers if type_of(slot) == "float64"]
    like = theta if theta is not None else [*wide, g][0]
    return str(jnp.promote_types(type_of(g), type_of(like)))


def format_of(leaf: Any, path: str, what: str = "parameter") -> Format:
    """Return how an array is computed with; of complex numbers, each of their parts.

    Raises:
        StructureError: for anything but floating-point arrays, with a way to leave them out.
    """
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        raise StructureError(
            f"{what} {path} is {leaf!r} (a {type(leaf).__name__}), not an array. Leave it out: "
            "equinox.filter(model, equinox.is_inexact_array), or None in its place"
        )
    if type(leaf).__module__.partition(".")[0] == "torch":
        raise StructureError(f"{what} {path} is a torch tensor. Pass its numbers: jnp.asarray(tensor.detach().numpy())")
    name = type_of(leaf)
    name = _PARTS.get(name, name)
    if name in FORMATS:
        return FORMATS[name]
    raise StructureError(
        f"{what} {path} has the type {name}; rules step {', '.join([*FORMATS, *_PARTS])}. Leave it out: "
        "optax.masked(..., mask), equinox.filter(model, equinox.is_inexact_array), or nnx.Optimizer(..., "
        "wrt=nnx.Param). Or make real numbers of it: x.astype('float32')"
    )


def check_like(leaf: Any, like: Any, path: str, what: str) -> None:
    """Refuse an array that has not the shape of the gradient, or is complex where that is real.

    Raises:
        StructureError: with both shapes or types.
    """
    remedy = "Both must be of the parameters that init was called with"
    if leaf.shape != like.shape:
        raise StructureError(f"{what} {path} has shape {leaf.shape}, but its gradient {like.shape}. {remedy}")
    if is_complex(leaf) != is_complex(like):
        raise StructureError(f"{what} {path} has the type {type_of(leaf)}, but its gradient {type_of(like)}. {remedy}")
