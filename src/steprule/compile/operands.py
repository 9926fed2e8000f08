"""What the operations of a plan take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from steprule.language.ops import Kind

__all__ = ["Const", "Ref", "Scalar", "Value"]


@dataclass(frozen=True)
class Value:
    """An operand that differs from element to element: a loaded plane, then results of the body."""

    index: int


@dataclass(frozen=True)
class Scalar:
    """An operand from the row of hoisted scalars, rounded once to the compute type."""

    index: int


@dataclass(frozen=True)
class Const:
    """A number written in the rule, rounded once to the compute type; or a word (kind ``int``)."""

    value: float
    kind: Kind = "float"


Ref: TypeAlias = Value | Scalar | Const
