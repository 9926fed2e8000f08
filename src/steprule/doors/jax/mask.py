"""Which parameters decay: masks as optax takes them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from steprule.errors import HyperparameterError, StructureError

__all__ = ["decays"]


def decays(mask: Any, tree: Any) -> list[bool]:
    """Return whether weight decay is for each leaf of a tree, None among them.

    Args:
        mask: None for all; a tree of booleans, each for the leaves below its place; or a callable that returns one.
        tree: the gradients.

    Raises:
        HyperparameterError: for what is not a boolean.
        StructureError: when the mask has another structure.
    """

    def is_none(x: Any) -> bool:
        return x is None

    if mask is None:
        return [True] * len(jax.tree.leaves(tree, is_leaf=is_none))
    found = jax.tree.leaves(mask)
    chosen = mask(tree) if callable(mask) and not (found and isinstance(found[0], bool)) else mask
    leaves, structure = jax.tree.flatten(chosen, is_leaf=is_none)
    treedef: Any = structure  # whose methods have no types
    try:
        below = treedef.flatten_up_to(tree)
    except (ValueError, TypeError, KeyError) as error:
        difference = str(error).rstrip(".")
        raise StructureError(
            f"the mask of weight decay has another structure than the gradients: {difference}. Make it of the "
            "parameters: jax.tree.map(lambda p: p.ndim > 1, params)"
        ) from None
    counts = [len(jax.tree.leaves(subtree, is_leaf=is_none)) for subtree in below]
    return [_known(leaf) for leaf, count in zip(leaves, counts, strict=True) for _ in range(count)]


def _known(leaf: Any) -> bool:
    if leaf is None:
        return False
    is_known = not isinstance(leaf, jax.core.Tracer) and np.ndim(leaf) == 0 and np.asarray(leaf).dtype == bool
    if not is_known:
        raise HyperparameterError(
            f"the mask of weight decay has {leaf!r} where True or False is meant: it is fixed while tracing, as "
            "jax.tree.map(lambda p: p.ndim > 1, params)"
        )
    return bool(leaf)
