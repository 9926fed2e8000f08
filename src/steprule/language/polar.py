"""The orthogonal polar factor of matrices: what a rule says of it, and what that is on arrays.

Iterations (``language.newton_schulz``) find it. How close they get, and how many steps it takes, is a matter of the
coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from steprule.errors import RuleError
from steprule.language.functions import namespace
from steprule.language.matrices import matrix_shape, view
from steprule.language.newton_schulz import EPS, Iteration, Triple, gram_room, iterate, of_library
from steprule.language.node import Node, constant, is_number

__all__ = [
    "COEFFICIENTS",
    "JORDAN",
    "POLAR_EXPRESS",
    "Polar",
    "Setting",
    "polar",
]

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
        return of_library(x.reshape(stack), iteration, module).reshape(shape)
    array = np.asarray(x)
    kind = np.result_type(array.dtype, np.float32) if array.dtype.kind == "f" else np.dtype(np.float64)
    found = np.array(array.reshape(stack), kind)
    iterate(found, iteration, np.empty(gram_room(*stack), kind))
    found = found.reshape(shape).astype(array.dtype if array.dtype.kind == "f" else kind, copy=False)
    return found if isinstance(x, np.ndarray) else found[()] if isinstance(x, np.generic) else float(found)
