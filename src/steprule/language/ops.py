"""The closed vocabulary of element operations, each with its executable NumPy meaning.

Every operation is either exact or correctly rounded by IEEE 754, so a backend that spells it
faithfully gives the same bits. ``exp``, ``log`` and ``pow`` are absent on purpose: their last bit
differs between libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["OPS", "Kind", "Op"]

Kind = Literal["float", "bool"]


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
)

OPS: dict[str, Op] = {op.name: op for op in _ALL}
