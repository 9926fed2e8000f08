"""Tensors seen as matrices: which their rows and columns are, and the order in which sums over these are taken.

A tensor is a stack of matrices. Seen ``"first"``, it is one matrix, whose rows are along the first axis and whose
columns are along all others; seen ``"last"``, its last two axes are the rows and columns, and those before count the
matrices. A vector is one row, a number one row of one column. Arrays of row and column numbers have the axes of the
tensor, with length 1 along those that were summed, so that they are broadcast against it.

Sums are in float64, and rounded once to the type of the elements. Every ``BLOCK`` columns of a row have a partial sum:
element i of a block adds to lane ``i % LANES``, and the lanes are added up half to half. Every ``ROWS`` rows of a
column have a partial sum, to which they are added one after the other. Partial sums of a row or a column are added one
after the other. Where a rule sees rows or columns, the partial sums of its sums over the tensor are of tiles of
``ROWS`` rows and ``BLOCK`` columns of a matrix: in each, row by row, element j of a row adds to lane ``j % LANES``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steprule.language.adding import BLOCK, in_lanes, lanes_added, rounded_once

__all__ = [
    "ROWS",
    "Along",
    "View",
    "along",
    "axes_of",
    "column_partials",
    "columns_added",
    "finished",
    "kept_shape",
    "matrix_numbers",
    "matrix_shape",
    "matrix_sizes",
    "matrix_totals",
    "row_partials",
    "rows_added",
    "seen_as",
    "tile_partials",
    "tiles_of",
    "view",
]

ROWS = 128
_NARROW = 8
View = Literal["first", "last"]
Along = Literal["row", "column"]
_view: ContextVar[View | None] = ContextVar("view", default=None)


@contextlib.contextmanager
def seen_as(matrices: View | None) -> Iterator[None]:
    """While active, arrays are seen as matrices so; None: as they are where no rule asks for matrices."""
    before = _view.set(matrices)
    try:
        yield
    finally:
        _view.reset(before)


def view() -> View | None:
    """Return how arrays are seen now."""
    return _view.get()


def matrix_shape(shape: Sequence[int], seen: View) -> tuple[int, int, int]:
    """Return the matrices of a tensor, the rows of each, and its columns."""
    if len(shape) < 2:
        return 1, 1, prod(shape)
    return (1, shape[0], prod(shape[1:])) if seen == "first" else (prod(shape[:-2]), shape[-2], shape[-1])


def matrix_sizes(shape: Sequence[int], seen: View) -> tuple[int, ...]:
    """Return what ``sums.SIZES`` names after the first.

    These are the elements of a row, and of a column, the rows and the columns of a tensor, 1 where there are none, and
    the number of its axes.
    """
    batch, rows, columns = matrix_shape(shape, seen)
    return max(1, columns), max(1, rows), max(1, batch * rows), max(1, batch * columns), len(shape)


def axes_of(dimensions: int, over: Along, seen: View) -> tuple[int, ...]:
    """Return the axes over which a sum over each row, or over each column, goes."""
    if dimensions < 2:
        return tuple(range(dimensions)) if over == "row" else ()
    if seen == "last":
        return (dimensions - (1 if over == "row" else 2),)
    return tuple(range(1, dimensions)) if over == "row" else (0,)


def kept_shape(shape: Sequence[int], over: Along, seen: View) -> tuple[int, ...]:
    """Return the shape of an array of numbers of each row, or of each column."""
    summed = axes_of(len(shape), over, seen)
    return tuple(1 if axis in summed else n for axis, n in enumerate(shape))


def tiles_of(shape: Sequence[int], seen: View) -> tuple[int, int, int]:
    """Return the tiles of a tensor: how many there are, along the rows of all matrices, and along the columns."""
    batch, rows, columns = matrix_shape(shape, seen)
    down, across = batch * -(-rows // ROWS), -(-columns // BLOCK)
    return down * across, down, across


def row_partials(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return the partial sums of rows, of an array of matrices, as an array of rows and blocks."""
    batch, rows, columns = x.shape
    blocks = [in_lanes(x[:, :, start : start + BLOCK]) for start in range(0, columns, BLOCK)]
    found = np.zeros((batch * rows, len(blocks)))
    with np.errstate(all="ignore"):
        for number, block in enumerate(blocks):
            lanes = np.zeros((batch, rows, block.shape[-1]))
            for tile in range(block.shape[2]):
                lanes = lanes + block[:, :, tile]
            found[:, number] = lanes_added(lanes).reshape(-1)
    return found


def rows_added(partials: NDArray[np.float64], batch: int, rows: int) -> NDArray[np.float64]:
    """Return the sums of rows, as an array of matrices of one column, from partial sums."""
    sums = np.zeros(len(partials))
    with np.errstate(all="ignore"):
        for block in partials.T:
            sums += block
    return sums.reshape(batch, rows, 1)


def column_partials(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return the partial sums of columns, of an array of matrices, as an array of blocks of rows and columns."""
    batch, rows, columns = x.shape
    blocks = -(-rows // ROWS)
    found = np.zeros((batch, blocks, columns))
    with np.errstate(all="ignore"):
        if columns < _NARROW:  # sums of numbers of rows are: one call, which adds one after the other
            height = max(1, min(rows, ROWS))
            filled = np.zeros((batch, blocks * height, columns))
            filled[:, :rows] = x
            found += np.add.accumulate(filled.reshape(batch, blocks, height, columns), axis=2)[:, :, -1]
        else:
            for row in range(rows):
                found[:, row // ROWS] += x[:, row]
    return found.reshape(batch * blocks, columns)


def columns_added(partials: NDArray[np.float64], batch: int) -> NDArray[np.float64]:
    """Return the sums of columns, as an array of matrices of one row, from partial sums."""
    blocks, columns = len(partials) // max(1, batch), partials.shape[1]
    parts = partials.reshape(batch, blocks, columns)
    sums = np.zeros((batch, columns))
    with np.errstate(all="ignore"):
        for block in range(blocks):
            sums += parts[:, block]
    return sums.reshape(batch, 1, columns)


def tile_partials(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return the partial sums of the tiles of an array of matrices, in their order."""
    batch, rows, columns = x.shape
    down, across = -(-rows // ROWS), -(-columns // BLOCK)
    found = np.zeros((batch, down, across))
    with np.errstate(all="ignore"):
        for number in range(across):
            block = in_lanes(x[:, :, number * BLOCK : (number + 1) * BLOCK])
            lanes = np.zeros((batch, down, block.shape[-1]))
            for row in range(rows):
                for tile in range(block.shape[2]):
                    lanes[:, row // ROWS] += block[:, row, tile]
            found[:, :, number] = lanes_added(lanes)
    return found.reshape(-1)


def finished(word: str, sums: Any, count: int) -> Any:
    """Return what a word for a sum comes to, given the sums of as many numbers each."""
    with np.errstate(all="ignore"):
        averaged = sums / max(1, count) if word in ("mean", "rms") else sums
        return np.sqrt(averaged) if word in ("norm", "rms") else averaged


def along(word: str, x: Any, over: Along, namespace: Any) -> Any:
    """Return what a word for a sum over each row, or each column, comes to on an array: numbers of its type.

    Args:
        word: one of ``sums.SUMS``.
        x: an array, or a number.
        over: which.
        namespace: the array module; that of NumPy for numbers.
    """
    seen = view() or "first"
    if namespace is not np:
        return _along_of(word, x, over, namespace, seen)
    array = np.asarray(x)
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    matrices = array.astype(np.float64).reshape(matrix_shape(array.shape, seen))
    numbers = matrix_numbers(word, matrices, over).astype(kind).reshape(kept_shape(array.shape, over, seen))
    return numbers if isinstance(x, np.ndarray) else numbers[()] if isinstance(x, np.generic) else float(numbers)


def matrix_numbers(word: str, x: NDArray[Any], over: Along) -> NDArray[np.float64]:
    """Return what a word for a sum over each row, or each column, comes to on an array of matrices."""
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        wide = wide * wide if word in ("norm", "rms") else wide
    if over == "row":
        sums, count = rows_added(row_partials(wide), *wide.shape[:2]), wide.shape[2]
    else:
        sums, count = columns_added(column_partials(wide), len(wide)), wide.shape[1]
    found: NDArray[np.float64] = finished(word, sums, count)
    return found


def matrix_totals(x: NDArray[Any], tensors: int, is_squared: bool) -> list[float]:
    """Return the sums over arrays of matrices of as many tensors, or over the squares."""
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        partials = tile_partials(wide * wide if is_squared else wide)
    return [rounded_once(own) for own in partials.reshape(tensors, len(partials) // tensors).tolist()]


def _along_of(word: str, x: Any, over: Along, namespace: Any, seen: View) -> Any:
    """Return the same of an array of another library, in its order."""
    axes = axes_of(len(x.shape), over, seen)
    summed = x * x if word in ("norm", "rms") else x
    summed = namespace.sum(summed, axis=axes, keepdims=True) if axes else summed
    averaged = summed / max(1, prod(x.shape[axis] for axis in axes)) if word in ("mean", "rms") else summed
    return namespace.sqrt(averaged) if word in ("norm", "rms") else averaged
