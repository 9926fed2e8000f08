"""From a rule's trace to a frozen plan. Knows no rule and no format by name."""

from steprule.compile.parts import Const, Instruction, Plan, Plane, Ref, Scalar, Store, Value
from steprule.compile.plan import make_plan
from steprule.compile.prelude import Prelude, distinct

__all__ = [
    "Const",
    "Instruction",
    "Plan",
    "Plane",
    "Prelude",
    "Ref",
    "Scalar",
    "Store",
    "Value",
    "distinct",
    "make_plan",
]
