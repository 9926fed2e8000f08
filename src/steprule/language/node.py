"""The expression node: what a rule computes with when it is traced instead of run.

A node has a stage. ``host`` nodes depend on hyperparameters and the step number alone and are computed once a step in
Python's float64, ``all`` nodes also on sums over all tensors; ``tensor`` nodes depend on sums over a tensor as well,
and are computed alike, once a tensor. ``row`` and ``column`` nodes are computed for each row or column of a tensor seen
as matrices, in the type of its elements, and ``matrix`` nodes are the same for all of a matrix; what depends on numbers
of rows and of columns has a value for every element, as ``element`` nodes have. ``group`` nodes, of storage formats,
are computed for neighbouring elements.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from steprule.errors import RuleError
from steprule.language.no_value import NoValue
from steprule.language.ops import OF_WORDS, OPS, Kind

__all__ = ["VECTOR", "Node", "Operand", "Stage", "apply", "constant", "host_call", "is_number", "symbol"]

Stage = Literal["host", "all", "tensor", "matrix", "row", "column", "group", "element"]
_STAGES = get_args(Stage)
VECTOR: tuple[Stage, ...] = ("matrix", "row", "column")
"""The stages of what is computed for rows and columns."""
Operand: TypeAlias = "Node | float"
_CONDITIONS = ("and", "or", "not")


class Node(NoValue):
    """One value of an expression. Made by operators on other nodes, never by hand.

    ``op`` is ``"symbol"`` (then ``name`` says which), ``"const"`` (then ``value``), a name in
    ``OPS``, one of the derived ``maximum``, ``minimum`` and ``sign``, and on the host also
    ``pow``, ``mod``, ``floordiv`` and ``math.NAME``; or ``ndim``, or one of ``sums.SUMS`` (then ``name``
    says over what). ``serial`` grows in the order in which a rule computes.
    """

    __slots__ = ("args", "kind", "name", "op", "serial", "stage", "value")
    _serials = itertools.count()

    def __init__(
        self,
        op: str,
        args: tuple[Node, ...] = (),
        *,
        stage: Stage,
        kind: Kind = "float",
        name: str = "",
        value: float = 0.0,
    ) -> None:
        self.op = op
        self.args = args
        self.stage = stage
        self.kind = kind
        self.name = name
        self.value = value
        self.serial = next(self._serials)

    def __repr__(self) -> str:
        return self._text(depth=4)

    def _text(self, depth: int) -> str:
        # Shared parts would be written out again and again: a text of exponential length.
        if self.op == "symbol":
            return self.name
        if self.op == "const":
            return repr(self.value)
        over = f", over={self.name!r}" if self.name not in ("", "tensor") else ""
        return f"{self.op}({', '.join(arg._text(depth - 1) for arg in self.args) if depth else '...'}{over})"

    # Arithmetic.
    def __add__(self, other: Operand) -> Node:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Node:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Node:
        return apply("div", other, self)

    def __pow__(self, exponent: Operand) -> Node:
        return _power(self, exponent)

    def __rpow__(self, base: Operand) -> Node:
        return _power(base, self)

    def __mod__(self, other: Operand) -> Node:
        return _host_only("mod", "%", self, other)

    def __rmod__(self, other: Operand) -> Node:
        return _host_only("mod", "%", other, self)

    def __floordiv__(self, other: Operand) -> Node:
        return _host_only("floordiv", "//", self, other)

    def __rfloordiv__(self, other: Operand) -> Node:
        return _host_only("floordiv", "//", other, self)

    def __xor__(self, other: object) -> Node:
        if self.kind != "int":
            raise RuleError("`^` is not an operation of rules; a power is written x**2")
        return apply("xor", self, other)

    __rxor__ = __xor__

    def __lshift__(self, other: int) -> Node:
        return apply("shift_left", self, other)

    def __rshift__(self, other: int) -> Node:
        return apply("shift_right", self, other)

    def __neg__(self) -> Node:
        return apply("neg", self)

    def __pos__(self) -> Node:
        return self

    def __abs__(self) -> Node:
        return apply("abs", self)

    # Comparisons and conditions. Equality builds a node, so the hash is the identity.
    def __lt__(self, other: Operand) -> Node:
        return apply("lt", self, other)

    def __le__(self, other: Operand) -> Node:
        return apply("le", self, other)

    def __gt__(self, other: Operand) -> Node:
        return apply("gt", self, other)

    def __ge__(self, other: Operand) -> Node:
        return apply("ge", self, other)

    def __eq__(self, other: object) -> Node:  # type: ignore[override]
        return apply("eq", self, other)

    def __ne__(self, other: object) -> Node:  # type: ignore[override]
        return apply("ne", self, other)

    __hash__ = object.__hash__

    def __and__(self, other: Operand) -> Node:
        return apply("and", self, other)

    def __rand__(self, other: Operand) -> Node:
        return apply("and", other, self)

    def __or__(self, other: Operand) -> Node:
        return apply("or", self, other)

    def __ror__(self, other: Operand) -> Node:
        return apply("or", other, self)

    def __invert__(self) -> Node:
        return apply("not", self)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: object, **kwargs: object) -> Node:
        nodes = [_node(arg) for arg in args]  # refuses arrays: array * symbol arrives here as np.multiply
        op = next((op.name for op in OPS.values() if op.numpy is ufunc and method == "__call__"), None)
        if op is not None and not kwargs and any(isinstance(arg, np.generic) for arg in args):
            return apply(op, *nodes)  # a NumPy number times a symbol
        raise RuleError(
            f"np.{ufunc.__name__} is not an operation of rules. Use steprule.sqrt, maximum, "
            "minimum, where, sign, and Python's operators and abs"
        )


def symbol(name: str, stage: Stage, kind: Kind = "float") -> Node:
    """Return the node that stands for an input of the rule."""
    return Node("symbol", stage=stage, kind=kind, name=name)


def constant(value: float) -> Node:
    """Return the node of a number written in the rule."""
    return Node("const", stage="host", kind="bool" if isinstance(value, bool) else "float", value=value)


def _plain_number(number: Any) -> float:
    """Return a number of any Python or NumPy type as a plain bool, int or float."""
    if isinstance(number, np.generic):
        number = number.item()
    if isinstance(number, (bool, float)):
        return bool(number) if isinstance(number, bool) else float(number)
    if abs(number) > sys.float_info.max:
        raise RuleError(f"an integer of {len(str(abs(number)))} digits is too large for a rule")
    return int(number)


def _node(operand: object) -> Node:
    if isinstance(operand, Node):
        return operand
    if isinstance(operand, (bool, int, float, np.floating, np.integer, np.bool_)):
        return constant(_plain_number(operand))
    if operand is None:
        raise RuleError(
            "None cannot take part in a rule. A hyperparameter that may be None is so in a variant of its own: ask for "
            "it first, as in `x if eps is None else x + eps`"
        )
    raise RuleError(
        f"{operand!r} (a {type(operand).__name__}) cannot take part in a rule: "
        "a rule computes with its own arguments and Python numbers"
    )


def apply(op: str, *operands: object, takes: tuple[Kind, ...] | None = None, gives: Kind | None = None) -> Node:
    """Return the node of ``op`` on the operands, checking kinds."""
    args = tuple(map(_node, operands))
    if op in OF_WORDS and any(arg.kind == "int" for arg in args):
        op, takes, gives = OF_WORDS[op], None, None
    takes = takes or OPS[op].takes
    args = tuple(_as_word(arg) if kind == "int" else arg for arg, kind in zip(args, takes, strict=True))
    for arg, kind in zip(args, takes, strict=True):
        if arg.kind != kind:
            raise RuleError(_kind_message(op, arg, kind))
    return Node(op, args, stage=_latest(args), kind=gives or OPS[op].gives)


def _latest(args: tuple[Node, ...]) -> Stage:
    stages = {arg.stage for arg in args}
    return "element" if {"row", "column"} <= stages else max(stages, key=_STAGES.index)


def is_number(node: Node) -> bool:
    """Whether a value is one number of a step or a tensor, in float64."""
    return node.stage in ("host", "all", "tensor")


def _as_word(node: Node) -> Node:
    """Return an integer that is written out as a word."""
    if node.op == "const" and node.kind == "float" and node.value == int(node.value):
        return Node("const", stage="host", kind="int", value=int(node.value) % 2**32)
    return node


def _kind_message(op: str, arg: Node, kind: Kind) -> str:
    if op in _CONDITIONS:
        return (
            f"`& | ~` combine conditions, but {arg!r} is a number; compare it first, in parentheses: (x > 0) & (y < 1)"
        )
    if kind == "int":
        return f"{op} takes the bits of numbers, but {arg!r} is a number or a condition"
    if kind == "bool":
        return f"the first argument of where must be a condition (a comparison), not the number {arg!r}"
    return f"{op} takes numbers, but {arg!r} is a condition; use where(condition, 1.0, 0.0)"


def _power(base: Operand, exponent: Operand) -> Node:
    left, right = _node(base), _node(exponent)
    if is_number(left) and is_number(right):
        return Node("pow", (left, right), stage=_latest((left, right)))
    if not is_number(left) and right.op == "const" and right.value == 2:
        return apply("mul", left, left)
    raise RuleError(
        f"{left!r} ** {right!r} on elements is not exact in every library. Only **2 is an operation "
        "of rules; write x*x*x for a cube and sqrt(x) for a root"
    )


def _host_only(op: str, spelling: str, *operands: Operand) -> Node:
    args = tuple(map(_node, operands))
    if not all(map(is_number, args)):
        raise RuleError(f"`{spelling}` is not an operation on elements, only on hyperparameters and t")
    return Node(op, args, stage=_latest(args))


def host_call(function: str, *operands: object) -> Node:
    """Return the node of ``math.FUNCTION`` on hyperparameters and ``t``."""
    args = tuple(map(_node, operands))
    if not all(map(is_number, args)):
        remedy = " Use steprule.sqrt." if function == "sqrt" else ""
        raise RuleError(
            f"math.{function} was called on an element; its last bit differs between libraries, so "
            f"rules may use math on hyperparameters and t only.{remedy}"
        )
    if function in ("modf", "frexp"):
        raise RuleError(f"math.{function} returns two values, which a rule cannot take apart; use x % 1 and math.floor")
    gives: Kind = "bool" if function in ("isnan", "isinf", "isfinite", "isclose") else "float"
    return Node(f"math.{function}", args, stage=_latest(args), kind=gives)
