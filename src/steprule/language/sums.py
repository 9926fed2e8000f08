"""Sums over elements, of a tensor or of all: what a rule says, and the one order in which they are taken.

Sums are float64, and what is squared (in ``norm`` and ``rms``) is squared in float64. Every ``BLOCK`` elements of a
tensor have a partial sum: element i of a block adds to lane ``i % LANES``; at the end the upper half of the lanes is
added to the lower, until one is left. The partial sums of a tensor are added up exactly, and rounded once; for a sum
over all, these numbers of all tensors that take the step, of all groups, are added up exactly, and rounded once more.
So threads, chunks, backends and the order of tensors give the same bits. The order of elements is that of memory,
where a parameter, its gradient and its slots lie without gaps in the same order, else that of the axes (C); in formats
with groups, element i of a group adds to lane i. JAX has an order of its own (docs/jax.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from steprule.errors import RuleError
from steprule.language.adding import BLOCK, LANES, lanes_added, rounded_once
from steprule.language.functions import namespace, sqrt
from steprule.language.matrices import along, axes_of, matrix_shape, tile_partials, view
from steprule.language.node import Node, Stage, is_number

__all__ = [
    "ALL",
    "ALL_COLUMNS",
    "ALL_ROWS",
    "ALL_SIZE",
    "BLOCK",
    "COLUMN",
    "HOISTED",
    "IN_COLUMN",
    "IN_ROW",
    "LANES",
    "NDIM",
    "PRODUCT",
    "ROW",
    "SIZE",
    "SIZES",
    "SUMS",
    "TOTAL",
    "Over",
    "mean",
    "ndim",
    "norm",
    "rms",
    "rounded_once",
    "size",
    "total",
]

SIZE, TOTAL, ALL = "_size", "_total", "_all"
"""What preludes call the number of elements of a tensor (1 where it has none), and, with a number, sums over it; with
``ALL`` before, those over all tensors."""
IN_ROW, IN_COLUMN, ALL_ROWS, ALL_COLUMNS = "_size_row", "_size_column", "_size_rows", "_size_columns"
"""What preludes call the elements of a row and of a column, and the rows and the columns of a tensor; 1 for none."""
NDIM = "_ndim"
"""What they call the number of axes of a tensor; 0 where it is a number."""
SIZES = (SIZE, IN_ROW, IN_COLUMN, ALL_ROWS, ALL_COLUMNS, NDIM)
ALL_SIZE = f"{ALL}{SIZE}"
"""What they call the number of elements of all tensors."""
ROW, COLUMN, HOISTED = "_row", "_column", "_of_"
"""What plans call, with a number, sums over each row and over each column, and how they call what elements take of such
numbers."""
PRODUCT = "_product"
"""What plans call, with a number, the planes in which the host multiplies matrices."""
Over = Literal["tensor", "all", "row", "column"]
"""Over what a sum is taken: the tensor that is stepped, all tensors of the optimizer that have a gradient, each row, or
each column."""


def total(x: Any, over: Over = "tensor") -> Any:
    """Return the sum of ``x`` over the elements, in float64: one number, or one of each row or column.

    On a NumPy array of real numbers it is a Python float, in the order that the module describes; on arrays of other
    libraries it is in their order. An array is all there is: over the tensor and over all are the same. Over rows or
    columns it is an array that is broadcast against ``x`` and has its type: see ``language.matrices``.

    Numbers of rows may be summed over the columns, which gives one number of each matrix, or over the tensor, which
    adds up one number a row; and so may numbers of columns.

    Args:
        x: a number of every element, row or column: an array, or an expression of a rule.
        over: ``"tensor"`` (each has a number of its own), ``"all"`` tensors of an optimizer together, each ``"row"``,
            or each ``"column"``.

    Raises:
        RuleError: for what is no number of every element, row or column, or is complex.
    """
    if isinstance(x, Node):
        return _summed("total", x, over)
    _check(over)
    if over in ("row", "column"):
        return _along("total", x, over)
    if isinstance(x, (np.ndarray, np.generic)):
        return rounded_once(_partial(_real(x)))
    return float(x) if isinstance(x, (bool, int, float)) else namespace(x).sum(x)


def mean(x: Any, over: Over = "tensor") -> Any:
    """Return ``total(x, over)`` divided by the number of elements; 0 where there are none."""
    if isinstance(x, Node):
        return _summed("mean", x, over)
    return _along("mean", x, over) if over in ("row", "column") else total(x, over) / size(x, over)


def norm(x: Any, over: Over = "tensor") -> Any:
    """Return the root of the sum of the squares of ``x``, which are taken in float64: they do not overflow."""
    if isinstance(x, Node):
        return _summed("norm", x, over)
    return _along("norm", x, over) if over in ("row", "column") else sqrt(total(_squares(x), over))


def rms(x: Any, over: Over = "tensor") -> Any:
    """Return the root of the mean of the squares of ``x``, which are taken in float64; 0 where there are none."""
    if isinstance(x, Node):
        return _summed("rms", x, over)
    return _along("rms", x, over) if over in ("row", "column") else sqrt(mean(_squares(x), over))


def size(x: Any, over: Over = "tensor") -> Any:
    """Return of how many elements ``x`` is a number, in all or in each row or column; 1 where there are none.

    So it can be divided by.
    """
    if isinstance(x, Node):
        return _summed("size", x, over)
    _check(over)
    shape = getattr(x, "shape", ())
    if over in ("row", "column"):
        shape = [shape[axis] for axis in axes_of(len(shape), over, view() or "first")]
    return max(1, math.prod(shape))


def ndim(x: Any) -> Any:
    """Return how many axes the tensor has: 0 for a number, 1 for a vector, 2 for a matrix.

    For what a rule does to vectors alone, which are one row as a matrix of one row is. A rule that asks sees its
    tensors as matrices.

    Args:
        x: a number of every element, row or column: an array, or an expression of a rule.

    Raises:
        RuleError: for what is no number of every element, row or column.
    """
    if isinstance(x, Node):
        _check_summed("ndim", x)
        return Node("ndim", (x,), stage="tensor")
    return len(getattr(x, "shape", ()))


SUMS: Mapping[str, Callable[..., Any]] = {word.__name__: word for word in (total, mean, norm, rms, size)}
"""The words of this module; nodes that are called so have in ``name`` over what."""


def _check_summed(op: str, x: Node) -> None:
    if is_number(x) or x.kind != "float":
        what = "is a condition; use where(condition, 1.0, 0.0)" if x.kind == "bool" else "is one number already"
        raise RuleError(f"{op} is of a number of every element, but {x!r} {what}")


def _summed(op: str, x: Node, over: Over) -> Node:
    _check(over)
    _check_summed(op, x)
    if x.stage in ("matrix", over):
        raise RuleError(f"{op} over {over!r} is of more numbers than one, but {x!r} is one of each {x.stage} already")
    if over == "all" and x.stage != "element":
        raise RuleError(
            f"{op} over 'all' is of a number of every element, but {x!r} is one of each {x.stage}; sum it over the "
            "tensor"
        )
    return Node(op, (x,), stage=_stage_of(op, x, over), name=over)


def _stage_of(op: str, x: Node, over: Over) -> Stage:
    """Return what a sum is a number of."""
    if over in ("tensor", "all"):
        return over
    if op == "size":
        return "tensor"
    return over if x.stage == "element" else "matrix"


def _real(x: NDArray[Any] | np.generic) -> NDArray[Any]:
    """Return an array of real numbers; NumPy would drop imaginary parts."""
    array = np.asarray(x)
    if array.dtype.kind == "c":
        parts = f"x.view({array.real.dtype.name!r})"
        raise RuleError(f"sums are of real numbers, got {array.dtype}; sum its parts: {parts}")
    return array


def _along(word: str, x: Any, over: Over) -> Any:
    if isinstance(x, (np.ndarray, np.generic)):
        _real(x)
    return along(word, x, over, np if isinstance(x, (bool, int, float)) else namespace(x))  # type: ignore[arg-type]


def _check(over: object) -> None:
    if over not in get_args(Over):
        raise RuleError(
            f'sums are over="row", "column", "tensor" or over="all" (tensors of the optimizer), got {over!r}'
        )


def _squares(x: Any) -> Any:
    if isinstance(x, (np.ndarray, np.generic)):
        x = _real(x).astype(np.float64)  # as every target has it: their squares neither overflow nor vanish
    with np.errstate(over="ignore", under="ignore"):
        return x * x


def _in_order(x: NDArray[Any]) -> NDArray[Any]:
    """Return the elements in the order of sums: of memory where they lie without gaps, else of the axes."""
    axes = np.argsort([-abs(stride) for stride in x.strides], kind="stable")
    is_dense = all(stride > 0 for stride in x.strides) and x.transpose(axes).flags.c_contiguous
    return np.ravel(x, order="K" if is_dense else "C")


def _partial(x: NDArray[Any]) -> list[float]:
    """Return the partial sums of an array."""
    seen = view()
    if seen is not None:
        partials: list[float] = tile_partials(x.astype(np.float64).reshape(matrix_shape(x.shape, seen))).tolist()
        return partials
    elements = _in_order(x).astype(np.float64)
    lanes = np.zeros((-(-elements.size // BLOCK), BLOCK // LANES, LANES))
    lanes.reshape(-1)[: elements.size] = elements
    sums = np.zeros((len(lanes), LANES))
    with np.errstate(all="ignore"):
        for tile in range(BLOCK // LANES):
            sums = sums + lanes[:, tile]
        found: list[float] = lanes_added(sums).tolist()
    return found
