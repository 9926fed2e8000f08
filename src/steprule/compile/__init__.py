"""From a rule's trace to a frozen plan. Knows no rule and no format by name."""

from steprule.compile.ir import (
    BLOCK,
    ENCODED,
    LANES,
    SIZE,
    Const,
    Instruction,
    Per,
    Plan,
    Plane,
    Product,
    Ref,
    Scalar,
    Store,
    Sum,
    Value,
    Vectors,
)
from steprule.compile.plan import make_plan
from steprule.compile.prelude import Prelude, assignments, distinct

__all__ = [
    "BLOCK",
    "ENCODED",
    "LANES",
    "SIZE",
    "Const",
    "Instruction",
    "Per",
    "Plan",
    "Plane",
    "Prelude",
    "Product",
    "Ref",
    "Scalar",
    "Store",
    "Sum",
    "Value",
    "Vectors",
    "assignments",
    "distinct",
    "make_plan",
]
