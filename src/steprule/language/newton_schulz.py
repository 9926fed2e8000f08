"""Newton-Schulz iterations, which make of a matrix its orthogonal polar factor, by matrix products alone.

Of a matrix X = U S V^T, in which S is diagonal, the polar factor is U V^T. X is divided by its Frobenius norm, so that
its singular values are 1 at most. Then every step makes a X + b (X X^T) X + c (X X^T)^2 X of it: the singular values s
become a s + b s^3 + c s^5, closer to 1, and U and V stay. (Of a matrix with more rows than columns the products are
those of its transpose, which are smaller.)

A matrix of zeros gives zeros. One with an infinity or a NaN gives NaN, in every element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPS", "Iteration", "Triple", "gram_room", "iterate", "of_library", "scale_of", "stepped"]

Triple: TypeAlias = tuple[float, float, float]
EPS = 1e-7
"""The least that a norm counts as, where nothing else is said."""


@dataclass(frozen=True)
class Iteration:
    """What is done to matrices, in numbers.

    Attributes:
        steps: the coefficients (a, b, c) of each step.
        parts: into how many matrices of equal height each is cut, along its rows.
        eps: the least that a norm counts as.
        margin: what norms are multiplied by.
    """

    steps: tuple[Triple, ...]
    parts: int = 1
    eps: float = EPS
    margin: float = 1.0


def gram_room(count: int, rows: int, columns: int) -> int:
    """Return how many numbers ``iterate`` needs room for, beside a stack of this shape."""
    short = min(rows, columns)
    return count * (rows * columns + 3 * short * short)


def scale_of(stack: NDArray[Any], iteration: Iteration, room: NDArray[Any]) -> NDArray[Any]:
    """Return what each matrix of a stack is divided by: its norm, NaN where it has an element that is not finite.

    Squares are added up in float64, and again as parts of the largest element where they overflow or vanish; ``room``
    holds a matrix of these.
    """
    with np.errstate(all="ignore"):
        flat = stack.reshape(len(stack), stack.shape[1] * stack.shape[2])
        squares = np.einsum("ni,ni->n", flat, flat, dtype=np.float64)
        norms = np.sqrt(squares)
        for index in np.flatnonzero(~((squares > 1e-290) & (squares < 1e290))).tolist():
            largest = float(np.max(np.abs(flat[index]), initial=0.0))
            if not math.isfinite(largest):
                norms[index] = np.nan
            elif largest:
                parts = np.divide(flat[index], largest, out=room[: flat.shape[1]])
                norms[index] = largest * np.sqrt(np.einsum("i,i->", parts, parts, dtype=np.float64))
        found: NDArray[Any] = np.maximum(norms * iteration.margin, iteration.eps).astype(stack.dtype)
    return found[:, None, None]


def iterate(stack: NDArray[Any], iteration: Iteration, room: NDArray[Any]) -> None:
    """Let each matrix of a stack be its polar factor, or what the steps make of it, by NumPy's products.

    With G = X X^T a step is (c G G + b G + a) X: the multiple of X is added where a product is, to a diagonal.

    Args:
        stack: an array of matrices, in C order, of float32 or float64.
        iteration: what is done; its parts are matrices of the stack already.
        room: as many numbers of the same type as ``gram_room`` says, at least.
    """
    count, rows, columns = stack.shape
    if not stack.size:
        return
    is_wide, short, kind = rows <= columns, min(rows, columns), stack.dtype.type
    grams, polynomials, powers = (
        room[number * count * short * short :][: count * short * short].reshape(count, short, short)
        for number in range(3)
    )
    now: NDArray[Any] = stack
    other: NDArray[Any] = room[3 * count * short * short :][: stack.size].reshape(stack.shape)
    with np.errstate(all="ignore"):
        np.divide(stack, scale_of(stack, iteration, room), out=stack)
        for a, b, c in iteration.steps:
            flipped = now.swapaxes(1, 2)
            left, right = (now, flipped) if is_wide else (flipped, now)
            np.matmul(left, right, out=grams)
            # NumPy takes a product with its own transpose for half the price, and G is symmetric.
            np.matmul(grams, grams.swapaxes(1, 2), out=polynomials)
            np.multiply(polynomials, kind(c), out=polynomials)
            np.add(polynomials, np.multiply(grams, kind(b), out=powers), out=polynomials)
            _diagonal(polynomials)[...] += kind(a)
            left, right = (polynomials, now) if is_wide else (now, polynomials)
            np.matmul(left, right, out=other)
            now, other = other, now
        if now is not stack:
            stack[...] = now


def _diagonal(matrices: NDArray[Any]) -> NDArray[Any]:
    """Return the diagonals of square matrices, to be written."""
    count, short, _ = matrices.shape
    return matrices.reshape(count, short * short)[:, :: short + 1]


def of_library(stack: Any, iteration: Iteration, module: Any) -> Any:
    """Return the same of a stack of another library, by its products."""
    kind = stack.dtype
    is_short = any(name in str(kind) for name in ("float16", "half"))  # bfloat16 as well
    wide = stack.astype("float32") if is_short and hasattr(stack, "astype") else stack.float() if is_short else stack
    # As parts of the largest element, whose squares neither overflow nor vanish.
    largest = module.abs(wide).reshape(wide.shape[0], -1).max(1) if wide.size else None
    largest = getattr(largest, "values", largest)
    if largest is None:
        return stack
    largest = module.where(largest > 0, largest, module.ones_like(largest))[:, None, None]
    relative = wide / largest
    norm = module.sqrt((relative * relative).sum(2).sum(1))[:, None, None] * largest * iteration.margin
    x = wide / module.where(norm < iteration.eps, module.full_like(norm, iteration.eps), norm)
    x = stepped(x, iteration.steps, module.matmul)
    return x.astype(kind) if hasattr(x, "astype") else x.to(kind)


def stepped(x: Any, steps: Iterable[Sequence[Any]], product: Callable[[Any, Any], Any]) -> Any:
    """Return what steps make of a stack of matrices, divided by their norms, as expressions of a library's arrays.

    Args:
        x: the stack.
        steps: the coefficients (a, b, c) of each step.
        product: returns the products of two stacks.
    """
    is_wide = x.shape[1] <= x.shape[2]
    for a, b, c in steps:
        flipped = x.swapaxes(1, 2)
        gram = product(x, flipped) if is_wide else product(flipped, x)
        polynomial = b * gram + c * product(gram, gram)
        x = a * x + (product(polynomial, x) if is_wide else product(x, polynomial))
    return x
