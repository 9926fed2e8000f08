"""Sums over the elements of a tensor: what a rule says, and the one order in which they are taken.

Sums are float64. Every ``BLOCK`` elements, in the order of memory, have a partial sum: element i of a block adds to
lane ``i % LANES``; at the end the upper half of the lanes is added to the lower, until one is left. Partial sums are
added up without rounding but at the end. So threads, chunks and backends give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.errors import RuleError
from steprule.language.functions import namespace
from steprule.language.node import Node

__all__ = ["BLOCK", "LANES", "mean", "rounded_once", "total"]

LANES, BLOCK = 128, 16_384


def total(x: Any) -> Any:
    """Return the sum of ``x`` over all elements of the tensor, in float64: one number of the tensor.

    On a NumPy array it is a Python float, in the order that the module describes; on arrays of other libraries it is
    in their order.
    """
    if isinstance(x, Node):
        if x.stage != "element" or x.kind != "float":
            raise RuleError(f"total and mean are of a number of every element, got {x!r}")
        return Node("total", (x,), stage="tensor")
    if isinstance(x, (np.ndarray, np.generic)):
        return rounded_once(_partial(np.ravel(np.asarray(x), order="K").astype(np.float64)))
    return float(x) if isinstance(x, (bool, int, float)) else namespace(x).sum(x)


def mean(x: Any) -> Any:
    """Return ``total(x)`` divided by the number of elements of the tensor; 0 where there are none."""
    size = Node("size", stage="tensor") if isinstance(x, Node) else max(1, math.prod(getattr(x, "shape", ())))
    return total(x) / size


def rounded_once(numbers: Sequence[float]) -> float:
    """Return the sum of numbers, rounded once; infinite or NaN where theirs is, or where it is too large."""
    try:
        return math.fsum(numbers)
    except OverflowError:  # too large, if only on the way
        return math.fsum(number * 2.0**-64 for number in numbers) * 2.0**64
    except ValueError:  # infinities of both signs
        return math.nan


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
