"""The orthogonal polar factor of matrices, by Newton-Schulz iterations: what a rule says, and what it is on arrays.

Of a matrix X = U S V^T, in which S is diagonal, the polar factor is U V^T. X is divided by its Frobenius norm, so that
its singular values are 1 at most. Then every step makes a X + b (X X^T) X + c (X X^T)^2 X of it: the singular values s
become a s + b s^3 + c s^5, closer to 1, and U and V stay. (Of a matrix with more rows than columns the products are
those of its transpose, which are smaller.) How close they get, and how many steps it takes, is a matter of the
coefficients.

A matrix of zeros gives zeros. One with an infinity or a NaN gives NaN, in every element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steprule.errors import RuleError
from steprule.language.functions import namespace
from steprule.language.matrices import matrix_shape, view
from steprule.language.node import Node, constant, is_number

__all__ = [
    "COEFFICIENTS",
    "JORDAN",
    "POLAR_EXPRESS",
    "Iteration",
    "Polar",
    "Setting",
    "gram_room",
    "iterate",
    "polar",
    "scale_of",
]

Triple: TypeAlias = tuple[float, float, float]
Setting: TypeAlias = "float | str"
"""A number, or the name of a hyperparameter."""

JORDAN = "jordan"
"""The quintic of Jordan et al. 2024, the same in every step. It is steep at 0, and does not converge: after five steps
singular values above 0.01 are between 0.68 and 1.14, and smaller ones below 1.21."""
POLAR_EXPRESS = "polar_express"
"""The polynomials of Amsel et al. 2025, arXiv:2505.16932, one for each step, which together are the best there are for
singular values from 0.001 on. From the eighth step on they are the same, and converge."""

_QUINTIC: Triple = (3.4445, -4.7750, 2.0315)
_EXPRESS: Sequence[Triple] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
_SAFETY = 1.01
"""What the authors let singular values be beyond 1, for products in bfloat16: of all polynomials but the last."""
COEFFICIENTS: Mapping[str, Sequence[Triple]] = {
    JORDAN: (_QUINTIC,),
    POLAR_EXPRESS: (*((a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _EXPRESS[:-1]), _EXPRESS[-1]),
}
"""The coefficients (a, b, c) of each step, by name; of those that follow, the last."""
_MARGIN = {POLAR_EXPRESS: _SAFETY}
"""What the norm is multiplied by."""

EPS = 1e-7


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


@dataclass(frozen=True)
class Polar:
    """What a rule says about a polar factor: numbers, or the names of hyperparameters.

    Attributes:
        steps: how many there are.
        coefficients: a name in ``COEFFICIENTS``, or three coefficients.
        parts, eps: see ``Iteration``.
    """

    steps: Setting
    coefficients: str | tuple[Setting, Setting, Setting]
    parts: Setting
    eps: Setting

    def resolved(self, values: Mapping[str, Any]) -> Iteration:
        """Return it in numbers, given the hyperparameters by name."""

        def of(setting: Setting) -> float:
            return float(values[setting] if isinstance(setting, str) else setting)

        count, parts = int(of(self.steps)), int(of(self.parts))
        if isinstance(self.coefficients, str):
            table, margin = COEFFICIENTS[self.coefficients], _MARGIN.get(self.coefficients, 1.0)
        else:
            a, b, c = map(of, self.coefficients)
            table, margin = ((a, b, c),), 1.0
        steps = tuple(table[min(step, len(table) - 1)] for step in range(count))
        return Iteration(steps, parts, of(self.eps), margin)

    @classmethod
    def of(cls, node: Node) -> Polar:
        """Return what the node of a polar factor says."""
        steps, parts, eps, *given = (arg.name if arg.op == "symbol" else arg.value for arg in node.args[1:])
        return cls(steps, node.name or (given[0], given[1], given[2]), parts, eps)


def polar(
    x: Any,
    steps: Any = 5,
    coefficients: Any = JORDAN,
    *,
    parts: Any = 1,
    eps: Any = EPS,
) -> Any:
    """Return the orthogonal polar factor of ``x``, or what so many Newton-Schulz steps make of it.

    Which matrices ``x`` is a stack of is up to the rule, which says ``matrices="first"`` or ``"last"``; see
    ``rule``. On arrays (of NumPy, torch or JAX) it computes with the library's own products, in their type, of float32
    at least. In a rule the products are taken between two passes over the elements.

    Args:
        x: a number of every element: an array, or an expression of a rule.
        steps: how many steps are taken; at least 1.
        coefficients: ``"jordan"``, ``"polar_express"``, or three numbers (a, b, c).
        parts: into how many matrices of equal height a matrix is cut along its rows, each with a polar factor of its
            own: 3 for queries, keys and values in one weight.
        eps: the least that the norm of a matrix counts as.

    In a rule the options are numbers or hyperparameters themselves, nothing that is computed of them: whoever
    multiplies reads them.

    Raises:
        RuleError: for what is no number of every element, or an option that is computed or out of range.
    """
    if isinstance(x, Node):
        return _node(x, steps, coefficients, parts, eps)
    for name, value in (("steps", steps), ("parts", parts), ("eps", eps)):
        _setting(name, float(value))
    named = _name_or_three(coefficients)
    return _on_array(x, Polar(steps, named, parts, eps).resolved({}))


def _name_or_three(coefficients: Any) -> Any:
    """Return coefficients: a name, or three of them. RuleError for anything else."""
    if isinstance(coefficients, str):
        _check_name(coefficients)
        return coefficients
    given = () if isinstance(coefficients, Node) or not hasattr(coefficients, "__iter__") else tuple(coefficients)
    if len(given) != 3:
        raise RuleError(f"the coefficients of polar are a name or three numbers (a, b, c), got {coefficients!r}")
    return given


def _check_name(name: str) -> None:
    if name not in COEFFICIENTS:
        known = ", ".join(map(repr, COEFFICIENTS))
        raise RuleError(f"the coefficients of polar are {known} or three numbers (a, b, c), got {name!r}")


def _node(x: Node, steps: Any, coefficients: Any, parts: Any, eps: Any) -> Node:
    """Return the node of a polar factor: its settings are arguments behind ``x``."""
    if x.kind != "float" or x.stage != "element":
        what = "is a condition" if x.kind == "bool" else "is one number" if is_number(x) else f"is of each {x.stage}"
        raise RuleError(f"polar is of a number of every element, but {x!r} {what}")
    given = [_setting("steps", steps), _setting("parts", parts), _setting("eps", eps)]
    named = _name_or_three(coefficients)
    if isinstance(named, str):
        return Node("polar", (x, *given), stage="element", name=named)
    given += [_setting("coefficients", own) for own in named]
    return Node("polar", (x, *given), stage="element")


def _setting(name: str, value: Any) -> Node:
    """Return a setting as a node: a number, or a hyperparameter itself."""
    if isinstance(value, Node):
        if value.stage == "host" and value.op in ("symbol", "const") and value.name != "t":
            return value
        raise RuleError(
            f"{name} of polar is a number or a hyperparameter itself, which whoever multiplies reads, got {value!r}. "
            "Let a hyperparameter have that value; it may be a schedule of t"
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RuleError(f"{name} of polar is a number or a hyperparameter, got {value!r}")
    if name in ("steps", "parts") and (value < 1 or value != int(value)):
        raise RuleError(f"{name} of polar is a whole number of at least 1, got {value!r}")
    return constant(float(value))


def _on_array(x: Any, iteration: Iteration) -> Any:
    module = np if isinstance(x, (bool, int, float)) else namespace(x)
    shape = tuple(getattr(x, "shape", ()))
    batch, rows, columns = matrix_shape(shape, view() or ("last" if len(shape) > 2 else "first"))
    if rows % iteration.parts:
        raise RuleError(f"polar of {rows} rows in {iteration.parts} parts: the parts are not equally high")
    stack = batch * iteration.parts, rows // iteration.parts, columns
    if module is not np:
        return _of_library(x.reshape(stack), iteration, module).reshape(shape)
    array = np.asarray(x)
    kind = np.result_type(array.dtype, np.float32) if array.dtype.kind == "f" else np.dtype(np.float64)
    found = np.array(array.reshape(stack), kind)
    iterate(found, iteration, np.empty(gram_room(*stack), kind))
    found = found.reshape(shape).astype(array.dtype if array.dtype.kind == "f" else kind, copy=False)
    return found if isinstance(x, np.ndarray) else found[()] if isinstance(x, np.generic) else float(found)


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


def _of_library(stack: Any, iteration: Iteration, module: Any) -> Any:
    """Return the same of a stack of another library, by its products."""
    kind = stack.dtype
    is_short = any(name in str(kind) for name in ("float16", "half"))  # bfloat16 as well
    wide = stack.astype("float32") if is_short and hasattr(stack, "astype") else stack.float() if is_short else stack
    is_wide = wide.shape[1] <= wide.shape[2]
    # As parts of the largest element, whose squares neither overflow nor vanish.
    largest = module.abs(wide).reshape(wide.shape[0], -1).max(1) if wide.size else None
    largest = getattr(largest, "values", largest)
    if largest is None:
        return stack
    largest = module.where(largest > 0, largest, module.ones_like(largest))[:, None, None]
    relative = wide / largest
    norm = module.sqrt((relative * relative).sum(2).sum(1))[:, None, None] * largest * iteration.margin
    x = wide / module.where(norm < iteration.eps, module.full_like(norm, iteration.eps), norm)
    for a, b, c in iteration.steps:
        flipped = x.swapaxes(1, 2)
        gram = module.matmul(x, flipped) if is_wide else module.matmul(flipped, x)
        polynomial = b * gram + c * module.matmul(gram, gram)
        x = a * x + (module.matmul(polynomial, x) if is_wide else module.matmul(x, polynomial))
    return x.astype(kind) if hasattr(x, "astype") else x.to(kind)
