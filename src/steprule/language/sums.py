"""Sums over elements, of a tensor or of all: what a rule says, and the one order in which they are taken.

Sums are float64, and what is squared (in ``norm`` and ``rms``) is squared in float64. Every ``BLOCK`` elements of a
tensor have a partial sum: element i of a block adds to lane ``i % LANES``; at the end the upper half of the lanes is
added to the lower, until one is left. Partial sums are added up without rounding but at the end; for a sum over all
tensors, so are the sums of the tensors. So threads, chunks and backends give the same bits. The order of elements is
that of memory, where a parameter, its gradient and its slots lie without gaps in the same order, else that of the axes
(C); in formats with groups, element i of a group adds to lane i. JAX has an order of its own (docs/jax.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from steprule.errors import RuleError
from steprule.language.functions import namespace, sqrt
from steprule.language.node import Node

__all__ = [
    "ALL",
    "ALL_SIZE",
    "BLOCK",
    "LANES",
    "SIZE",
    "SUMS",
    "TOTAL",
    "Over",
    "mean",
    "norm",
    "rms",
    "rounded_once",
    "size",
    "total",
]

LANES, BLOCK = 128, 16_384
SIZE, TOTAL, ALL = "_size", "_total", "_all"
"""What preludes call the number of elements of a tensor (1 where it has none), and, with a number, sums over it; with
``ALL`` before, those over all tensors."""
ALL_SIZE = f"{ALL}{SIZE}"
"""What they call the number of elements of all tensors."""
Over = Literal["tensor", "all"]
"""Over what a sum is taken: the tensor that is stepped, or all tensors of the optimizer that have a gradient."""


def total(x: Any, over: Over = "tensor") -> Any:
    """Return the sum of ``x`` over the elements, in float64: one number.

    On a NumPy array of real numbers it is a Python float, in the order that the module describes; on arrays of other
    libraries it is in their order. An array is all there is: over the tensor and over all are the same.

    Args:
        x: a number of every element: an array, or an expression of a rule.
        over: ``"tensor"`` (each has a number of its own), or ``"all"`` tensors of an optimizer together.

    Raises:
        RuleError: for what is no number of every element.
    """
    if isinstance(x, Node):
        return _summed("total", x, over)
    _check(over)
    if isinstance(x, (np.ndarray, np.generic)):
        return rounded_once(_partial(_in_order(np.asarray(x)).astype(np.float64)))
    return float(x) if isinstance(x, (bool, int, float)) else namespace(x).sum(x)


def mean(x: Any, over: Over = "tensor") -> Any:
    """Return ``total(x, over)`` divided by the number of elements; 0 where there are none."""
    return _summed("mean", x, over) if isinstance(x, Node) else total(x, over) / size(x, over)


def norm(x: Any, over: Over = "tensor") -> Any:
    """Return the root of the sum of the squares of ``x``, which are taken in float64: they do not overflow."""
    return _summed("norm", x, over) if isinstance(x, Node) else sqrt(total(_squares(x), over))


def rms(x: Any, over: Over = "tensor") -> Any:
    """Return the root of the mean of the squares of ``x``, which are taken in float64; 0 where there are none."""
    return _summed("rms", x, over) if isinstance(x, Node) else sqrt(mean(_squares(x), over))


def size(x: Any, over: Over = "tensor") -> Any:
    """Return of how many elements ``x`` is a number; 1 where there are none, so that it can be divided by."""
    if isinstance(x, Node):
        return _summed("size", x, over)
    _check(over)
    return max(1, math.prod(getattr(x, "shape", ())))


SUMS: Mapping[str, Callable[..., Any]] = {word.__name__: word for word in (total, mean, norm, rms, size)}
"""The words of this module; nodes that are called so have in ``name`` over what."""


def _summed(op: str, x: Node, over: Over) -> Node:
    _check(over)
    if x.stage != "element" or x.kind != "float":
        what = "is a condition; use where(condition, 1.0, 0.0)" if x.kind == "bool" else "is one number already"
        raise RuleError(f"{op} is of a number of every element, but {x!r} {what}")
    return Node(op, (x,), stage=over, name=over)


def _check(over: object) -> None:
    if over not in get_args(Over):
        raise RuleError(f'sums are over="tensor" or over="all" (tensors of the optimizer), got {over!r}')


def _squares(x: Any) -> Any:
    if isinstance(x, (np.ndarray, np.generic)):
        x = np.asarray(x).astype(np.float64)  # as every target has it: their squares neither overflow nor vanish
    with np.errstate(over="ignore", under="ignore"):
        return x * x


def rounded_once(numbers: Sequence[float]) -> float:
    """Return the sum of numbers, rounded once; infinite or NaN where theirs is, or where it is too large."""
    try:
        return math.fsum(numbers)
    except ValueError:  # infinities of both signs
        return math.nan
    except OverflowError:  # too large, if only on the way
        beyond = sum(number for number in numbers if not math.isfinite(number))
    if beyond:  # infinite, or NaN
        return beyond
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
