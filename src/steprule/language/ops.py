"""The closed vocabulary of element operations, each with its executable NumPy meaning.

Every operation is either exact or correctly rounded by IEEE 754, so a backend that spells it
faithfully gives the same bits. ``exp``, ``log`` and ``pow`` are absent on purpose: their last bit
differs between libraries.

Rules compute with numbers (``float``) and conditions (``bool``). Storage formats also take numbers apart: ``int`` is
the 32 bits of a word, on which arithmetic wraps around. NumPy holds it as uint32; ``<`` compares words as such, while
``maximum``, ``minimum`` and ``whole`` take them as signed integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["OF_WORDS", "OPS", "Kind", "Op"]

Kind = Literal["float", "int", "bool"]


@dataclass(frozen=True)
class Op:
    """One operation on elements: its name, the kinds it takes and gives, and what NumPy computes."""

    name: str
    takes: tuple[Kind, ...]
    gives: Kind
    numpy: Callable[..., Any]


def _arithmetic(name: str, arity: int, numpy: Callable[..., Any]) -> Op:
    takes: tuple[Kind, ...] = ("float", "float") if arity == 2 else ("float",)
    return Op(name, takes, "float", numpy)


def _comparison(name: str, numpy: Callable[..., Any]) -> Op:
    return Op(name, ("float", "float"), "bool", numpy)


def _word(name: str, numpy: Callable[..., Any], gives: Kind = "int") -> Op:
    return Op(name, ("int", "int"), gives, numpy)


def _bits(x: Any) -> Any:
    return x.view(np.uint32)


def _real(x: Any) -> Any:
    return x.view(np.float32)


def _half(x: Any) -> Any:
    return x.astype(np.float16).astype(x.dtype)


def _signed(x: Any) -> Any:
    return x.view(np.int32)


def _word_maximum(a: Any, b: Any) -> Any:
    return np.maximum(_signed(a), _signed(b)).view(np.uint32)


def _word_minimum(a: Any, b: Any) -> Any:
    return np.minimum(_signed(a), _signed(b)).view(np.uint32)


def _whole(x: Any) -> Any:
    return _signed(x).astype(np.float32)


_ALL = (
    _arithmetic("add", 2, np.add),
    _arithmetic("sub", 2, np.subtract),
    _arithmetic("mul", 2, np.multiply),
    _arithmetic("div", 2, np.divide),
    _arithmetic("neg", 1, np.negative),
    _arithmetic("abs", 1, np.abs),
    _arithmetic("sqrt", 1, np.sqrt),
    _comparison("lt", np.less),
    _comparison("le", np.less_equal),
    _comparison("gt", np.greater),
    _comparison("ge", np.greater_equal),
    _comparison("eq", np.equal),
    _comparison("ne", np.not_equal),
    Op("and", ("bool", "bool"), "bool", np.logical_and),
    Op("or", ("bool", "bool"), "bool", np.logical_or),
    Op("not", ("bool",), "bool", np.logical_not),
    Op("where", ("bool", "float", "float"), "float", np.where),
    Op("bits", ("float",), "int", _bits),
    Op("real", ("int",), "float", _real),
    Op("whole", ("int",), "float", _whole),
    Op("half", ("float",), "float", _half),
    _word("word_add", np.add),
    _word("word_sub", np.subtract),
    _word("word_mul", np.multiply),
    _word("word_and", np.bitwise_and),
    _word("word_or", np.bitwise_or),
    _word("word_xor", np.bitwise_xor),
    _word("shift_left", np.left_shift),
    _word("shift_right", np.right_shift),
    _word("word_maximum", _word_maximum),
    _word("word_minimum", _word_minimum),
    _word("word_lt", np.less, "bool"),
    _word("word_eq", np.equal, "bool"),
    Op("word_where", ("bool", "int", "int"), "int", np.where),
)

OPS: dict[str, Op] = {op.name: op for op in _ALL}

OF_WORDS = {
    "add": "word_add",
    "sub": "word_sub",
    "mul": "word_mul",
    "and": "word_and",
    "or": "word_or",
    "xor": "word_xor",
    "maximum": "word_maximum",
    "minimum": "word_minimum",
    "lt": "word_lt",
    "eq": "word_eq",
    "where": "word_where",
}
"""What the operators of Python mean where an operand is a word."""
