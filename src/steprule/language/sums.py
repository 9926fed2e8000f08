"""Sums over the elements of a tensor: what a rule says, and the one order in which they are taken.

Sums are float64. Every ``BLOCK`` elements have a partial sum: element i of a block adds to lane ``i % LANES``; at the
end the upper half of the lanes is added to the lower, until one is left. Partial sums are added up without rounding but
at the end. So threads, chunks and backends give the same bits. The order of elements is that of memory, where a
parameter, its gradient and its slots lie without gaps in the same order, else that of the axes (C); in formats with
groups, element i of a group adds to lane i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.errors import RuleError
from steprule.language.functions import namespace
from steprule.language.node import Node

__all__ = ["BLOCK", "LANES", "SIZE", "TOTAL", "mean", "rounded_once", "total"]

LANES, BLOCK = 128, 16_384
SIZE, TOTAL = "_size", "_total"
"""What preludes call the number of elements of a tensor (1 where it has none), and, with a number, sums over it."""


def total(x: Any) -> Any:
    """Return the sum of ``x`` over all elements of the tensor, in float64: one number of the tensor.

    On a NumPy array of real numbers it is a Python float, in the order that the module describes; on arrays of other
    libraries it is in their order.
    """
    if isinstance(x, Node):
        return _summed("total", x)
    if isinstance(x, (np.ndarray, np.generic)):
        return rounded_once(_partial(_in_order(np.asarray(x)).astype(np.float64)))
    return float(x) if isinstance(x, (bool, int, float)) else namespace(x).sum(x)


def mean(x: Any) -> Any:
    """Return ``total(x)`` divided by the number of elements of the tensor; 0 where there are none."""
    if isinstance(x, Node):
        return _summed("mean", x)
    return total(x) / max(1, math.prod(getattr(x, "shape", ())))


def _summed(op: str, x: Node) -> Node:
    if x.stage != "element" or x.kind != "float":
        raise RuleError(f"total and mean are of a number of every element, got {x!r}")
    return Node(op, (x,), stage="tensor")


def rounded_once(numbers: Sequence[float]) -> float:
    """Return the sum of numbers, rounded once; infinite or NaN where theirs is, or where it is too large."""
    try:
        return math.fsum(numbers)
    except ValueError:  # infinities of both signs
        return math.nan
    except OverflowError:  # too large, if only on the way
        exact = sum(map(Fraction, numbers), Fraction(0))
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _in_order(x: NDArray[Any]) -> NDArray[Any]:
    """Return the elements in the order of sums: of memory where they lie without gaps, else of the axes."""
    axes = np.argsort([-abs(stride) for stride in x.strides], kind="stable")
    is_dense = all(stride > 0 for stride in x.strides) and x.transpose(axes).flags.c_contiguous
    return np.ravel(x, order="K" if is_dense else "C")


def _partial(elements: NDArray[np.float64]) -> list[float]:
    """Return the sums of blocks."""
    lanes = np.zeros((-(-elements.size // BLOCK), BLOCK // LANES, LANES))
    lanes.reshape(-1)[: elements.size] = elements
    sums = np.zeros((len(lanes), LANES))
    with np.errstate(all="ignore"):
        for tile in range(BLOCK // LANES):
            sums = sums + lanes[:, tile]
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
    found: list[float] = sums[:, 0].tolist()
    return found
