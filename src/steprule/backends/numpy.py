"""The referee: a plan as NumPy text, run as it stands. Every other backend must give its bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from steprule.compile import Const, Plan, Ref, Store, Value, distinct

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


_BFLOAT = """\
def from_bfloat16(x):
    return (x.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(x):
    bits = x.view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.where(x != x, np.uint32(0x7FC0), (bits + half) >> np.uint32(16)).astype(np.uint16)

"""


def emit(plan: Plan) -> str:
    """Return the text of ``kernel(*planes, scalars)``: one step, in place, on arrays of any layout."""
    writer = _Writer(plan)
    arguments = ", ".join([*writer.arrays, "scalars"])
    header = [
        f"# {plan.title}",
        "import math",
        "",
        "import numpy as np",
        "from math import inf, nan",
        f"from numpy import {plan.compute}",
        "",
        "",
        plan.prelude.text,
        "",
        *([_BFLOAT] if any(plane.dtype == "bfloat16" for plane in plan.planes) else []),
        f"def kernel({arguments}):",
    ]
    return "\n".join([*header, *(f"    {line}" for line in writer.lines())]) + "\n"


class _Writer:
    """Writes the body of a kernel. A rule may give its slots any names, so ours keep out of their way."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        planes = [plane.name for plane in plan.planes]
        ours = [
            "np",
            "math",
            "inf",
            "nan",
            "scalars",
            "kernel",
            "prelude",
            "from_bfloat16",
            "to_bfloat16",
            plan.compute,
        ]
        ours += [f"x{k}" for k in range(len(plan.body))] + [f"s{k}" for k in range(len(plan.prelude.conditions))]
        self._values = list(distinct(planes, ours).values())
        self.arrays = list(distinct([f"{name}_" for name in planes], [*ours, *self._values]).values())

    def lines(self) -> list[str]:
        plan = self._plan
        lines = [f"{self._values[index]} = {self._load(index)}" for index in plan.loads]
        kinds = ["np.bool_" if is_condition else plan.compute for is_condition in plan.prelude.conditions]
        lines += [f"s{index} = {kind}(scalars[{index}])" for index, kind in enumerate(kinds)]
        for index, instruction in enumerate(plan.body):
            args = [self._ref(ref) for ref in instruction.args]
            lines.append(f"x{index} = {_NUMPY[instruction.op].format(*args)}")
        return [*lines, *(self._store(store) for store in plan.stores)]

    def _load(self, index: int) -> str:
        if self._plan.planes[index].dtype == "bfloat16":
            return f"from_bfloat16({self.arrays[index]})"
        return f"{self.arrays[index]}.astype({self._plan.compute})"

    def _store(self, store: Store) -> str:
        if self._plan.planes[store.plane].dtype == "bfloat16":
            return f"{self.arrays[store.plane]}.view(np.uint16)[...] = to_bfloat16({self._ref(store.value)})"
        return f"{self.arrays[store.plane]}[...] = {self._ref(store.value)}"

    def _ref(self, ref: Ref) -> str:
        if isinstance(ref, Const):
            return f"{self._plan.compute}({ref.value!r})"
        if isinstance(ref, Value):
            planes = len(self._plan.planes)
            return self._values[ref.index] if ref.index < planes else f"x{ref.index - planes}"
        return f"s{ref.index}"


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
