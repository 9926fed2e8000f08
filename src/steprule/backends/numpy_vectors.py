"""What a plan computes for rows and columns as NumPy text, for tensors of one shape together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steprule.backends.numpy import NUMPY
from steprule.compile import Const, Plan, Ref, Scalar, Value

__all__ = ["emit", "load"]

_VECTORS = """\
import numpy as np
from math import inf, nan
from numpy import {compute}
from steprule.language.matrices import matrix_numbers, matrix_totals


def vectors(values, scalars, tensors):
"""


def emit(plan: Plan) -> str:
    """Return the text of ``vectors(values, scalars, tensors)``, of what the plan computes for rows and columns.

    It takes the inputs of some tensors of the same shape: arrays of matrices of one column (numbers of rows) or one row
    (of columns), with the scalars of each matrix, or one line for all. It returns what is hoisted, the new slots, and
    the sums over each tensor.
    """
    own = plan.vectors
    if own is None:
        raise ValueError(f"{plan.title} sees no rows and no columns")
    lines = [f"x{index} = values[{index}]" for index in range(len(own.inputs))]
    kinds = ["np.bool_" if is_condition else plan.compute for is_condition in plan.prelude.conditions]
    refs = [ref for instruction in own.body for ref in instruction.args]
    refs += [*own.hoisted, *(ref for _, ref in own.slots)]
    used = sorted({ref.index for ref in refs if isinstance(ref, Scalar)})
    lines += [f"s{index} = scalars[:, {index}, None, None].astype({kinds[index]})" for index in used]

    def spelled(ref: Ref) -> str:
        if isinstance(ref, Const):
            return f"{plan.compute}({ref.value!r})" if ref.kind != "int" else f"np.uint32({int(ref.value)})"
        return f"x{ref.index}" if isinstance(ref, Value) else f"s{ref.index}"

    for index, instruction in enumerate(own.body, len(own.inputs)):
        args = [spelled(ref) for ref in instruction.args]
        word, _, over = instruction.op.partition(".")
        text = f"matrix_numbers({word!r}, {args[0]}, {over!r}).astype({plan.compute})" if over else ""
        lines.append(f"x{index} = {text or NUMPY[word].format(*args)}")
    hoisted = "".join(f"{spelled(ref)}, " for ref in own.hoisted)
    slots = "".join(f"{spelled(ref)}, " for _, ref in own.slots)
    totals = "".join(f"matrix_totals({spelled(ref)}, tensors, {is_squared}), " for ref, is_squared in own.totals)
    lines.append(f"return ({hoisted}), ({slots}), ({totals})")
    return _VECTORS.format(compute=plan.compute) + "\n".join(f"    {line}" for line in lines) + "\n"


def load(plan: Plan) -> Callable[..., tuple[Any, Any, Any]]:
    """Return the function that ``emit`` writes, ready to call."""
    namespace: dict[str, Any] = {}
    exec(compile(emit(plan), f"<numpy vectors of {plan.title}>", "exec"), namespace)
    function: Callable[..., tuple[Any, Any, Any]] = namespace.pop("vectors")  # no cycle: it holds the namespace
    return function
