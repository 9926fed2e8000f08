"""The referee: a plan as NumPy text, run as it stands. Every other backend must give its bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from steprule.compile import Const, Plan, Ref, Value

__all__ = ["emit", "load"]

_NUMPY = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "abs": "np.abs({0})",
    "sqrt": "np.sqrt({0})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "~{0}",
    "where": "np.where({0}, {1}, {2})",
}


def emit(plan: Plan) -> str:
    """Return the text of ``kernel(*planes, scalars)``: one step, in place, on arrays of any layout."""
    names = [_plane(plan, index) for index in range(len(plan.planes))]
    lines = [f"{names[index]} = {names[index]}_.astype({plan.compute})" for index in plan.loads]
    kinds = ["np.bool_" if is_condition else plan.compute for is_condition in plan.prelude.conditions]
    lines += [f"s{index} = {kind}(scalars[{index}])" for index, kind in enumerate(kinds)]
    for index, instruction in enumerate(plan.body):
        args = [_ref(plan, ref) for ref in instruction.args]
        lines.append(f"x{index} = {_NUMPY[instruction.op].format(*args)}")
    for store in plan.stores:
        lines.append(f"{names[store.plane]}_[...] = {_ref(plan, store.value)}")
    arguments = ", ".join([*(f"{name}_" for name in names), "scalars"])
    header = [
        f"# {plan.title}",
        "import numpy as np",
        f"from numpy import {plan.compute}",
        "",
        "",
        plan.prelude.text,
        "",
        f"def kernel({arguments}):",
    ]
    return "\n".join([*header, *(f"    {line}" for line in lines)]) + "\n"


@cache
def load(plan: Plan) -> Callable[..., None]:
    """Return the kernel that ``emit`` writes, ready to call."""
    namespace: dict[str, Any] = {}
    exec(compile(emit(plan), f"<numpy kernel of {plan.title}>", "exec"), namespace)
    kernel = namespace["kernel"]

    def run(*arguments: Any) -> None:
        # Infinities and NaN are values like others here, as they are in machine code.
        with np.errstate(all="ignore"):
            kernel(*arguments)

    return run


def _plane(plan: Plan, index: int) -> str:
    return plan.planes[index].name


def _ref(plan: Plan, ref: Ref) -> str:
    if isinstance(ref, Const):
        return f"{plan.compute}({ref.value!r})"
    if isinstance(ref, Value):
        planes = len(plan.planes)
        return _plane(plan, ref.index) if ref.index < planes else f"x{ref.index - planes}"
    return f"s{ref.index}"
