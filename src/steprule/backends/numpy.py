"""The referee: a plan as NumPy text, run as it stands. Every other backend must give its bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from steprule.compile import BLOCK, ENCODED, LANES, Const, Plan, Ref, Store, Sum, Value, distinct
from steprule.formats import GROUP

__all__ = ["NUMPY", "OPERATORS", "emit", "load"]

OPERATORS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "~{0}",
    "word_add": "{0} + {1}",
    "word_sub": "{0} - {1}",
    "word_mul": "{0} * {1}",
    "word_and": "{0} & {1}",
    "word_or": "{0} | {1}",
    "word_xor": "{0} ^ {1}",
    "shift_left": "{0} << {1}",
    "shift_right": "{0} >> {1}",
    "word_lt": "{0} < {1}",
    "word_eq": "{0} == {1}",
}
"""What Python's operators say on arrays, of JAX as well."""
NUMPY = {
    **OPERATORS,
    "abs": "np.abs({0})",
    "sqrt": "np.sqrt({0})",
    "where": "np.where({0}, {1}, {2})",
    "bits": "{0}.view(np.uint32)",
    "real": "{0}.view(np.float32)",
    "whole": "{0}.view(np.int32).astype(np.float32)",
    "half": "{0}.astype(np.float16).astype(np.float32)",
    "word_maximum": "np.maximum({0}.view(np.int32), {1}.view(np.int32)).view(np.uint32)",
    "word_minimum": "np.minimum({0}.view(np.int32), {1}.view(np.int32)).view(np.uint32)",
    "word_where": "np.where({0}, {1}, {2})",
}
_GROUP_MAX = "np.max(np.where(live, {0}, np.uint32(0)), axis=-1, keepdims=True)"
_INPUTS = {
    "index": "index",
    "stream": "np.uint32(stream)",
    "key0": "np.uint32(scalars[{row}])",
    "key1": "np.uint32(scalars[{row} + 1])",
}

_INDEX = """\
first, stream = origin
index = np.arange(first, first + {array}.size, dtype=np.uint64).astype(np.uint32).reshape({array}.shape)"""
_HELPERS = f"""\
def to_groups(x):
    rows = x.reshape(rows_of(x), x.size // max(1, rows_of(x)))
    groups = np.zeros((len(rows), -(-rows.shape[1] // {GROUP}) * {GROUP}), x.dtype)
    groups[:, : rows.shape[1]] = rows
    return groups.reshape(len(rows), groups.shape[1] // {GROUP}, {GROUP})


def from_groups(groups, x):
    rows = np.broadcast_to(groups, (*groups.shape[:2], {GROUP})).reshape(len(groups), {GROUP} * groups.shape[1])
    return rows[:, : x.size // max(1, len(rows))].reshape(x.shape)


def rows_of(x):
    return x.shape[0] if x.ndim > 1 else 1


def over_elements(x, matrices, like):
    return to_groups(np.broadcast_to(x, matrices).reshape(like.shape))


"""
_PACKS = f"""\
def unpacked(items, holds, bits):
    fields = items[..., None] >> np.arange(0, holds * bits, bits, dtype=np.uint32) & np.uint32(2**bits - 1)
    return fields.reshape(len(items), holds * items.shape[1])


def packed(groups, items, holds, bits):
    rows = groups.reshape(len(groups), {GROUP} * groups.shape[1])[:, : holds * items.shape[1]]
    fields = (rows & np.uint32(2**bits - 1)).reshape(*items.shape, holds)
    return np.bitwise_or.reduce(fields << np.arange(0, holds * bits, bits, dtype=np.uint32), axis=-1)


"""
_SUMS = f"""\
def to_lanes(x):
    lanes = np.zeros(-(-x.size // {LANES}) * {LANES})
    lanes[: x.size] = x.ravel()
    return lanes.reshape(len(lanes) // {LANES}, {LANES})


def block_sums(lanes):
    for start in range(0, len(lanes), {BLOCK // LANES}):
        total = np.zeros({LANES})
        for tile in lanes[start : start + {BLOCK // LANES}]:
            total = total + tile
        while len(total) > 1:
            total = total[: len(total) // 2] + total[len(total) // 2 :]
        yield total[0]


"""
_TILES = "from steprule.language.matrices import column_partials, row_partials, tile_partials"
_OURS = (
    *("column_partials", "row_partials", "tile_partials", "row_sums", "column_sums"),
    *("np", "math", "inf", "nan", "scalars", "kernel", "prelude", "to_groups", "from_groups", "rows_of"),
    *("matrices", "over_elements"),
    *("to_lanes", "block_sums", "sums", "packed", "unpacked"),
)


def emit(plan: Plan) -> str:
    """Return the text of ``kernel(*planes, scalars)``: one step, in place, on arrays of any layout.

    Where the plan reads an index, ``kernel`` takes ``origin`` as well: the index of the first element and the number
    of the tensor's stream of random bits. Where it has sums, it takes ``sums`` and fills it, one row per block, over
    the elements in C order: the arrays should be given in the order of their memory. Groups are along rows of the first
    axis, or the whole of an array that has no other.

    Where the plan has a view, arrays of elements are given as arrays of matrices, and those of rows and columns so that
    they are broadcast against them. Then ``sums`` has one row per tile, and sums over each row fill ``row_sums``, an
    array of rows, blocks of columns, and sums; those over each column ``column_sums``, of blocks of rows, sums, and
    columns. If it has groups as well, arrays have the parameter's shape, and ``matrices`` is that of the matrices.
    """
    writer = _Writer(plan)
    lines = writer.lines()
    arguments = ", ".join([*writer.arrays, "scalars", *_named(plan)])
    header = [
        f"# {plan.title}",
        *([f"# {ENCODED}"] if any(line.lstrip().startswith("# encode ") for line in lines) else []),
        "import math",
        "",
        "import numpy as np",
        "from math import inf, nan",
        f"from numpy import {plan.compute}",
        *([_TILES] if plan.view is not None else []),
        "",
        "",
        plan.prelude.text,
        "",
        *([_HELPERS] if plan.has_groups else []),
        *([_PACKS] if plan.packings else []),
        *([_SUMS] if plan.sums and plan.view is None else []),
        f"def kernel({arguments}):",
    ]
    return "\n".join([*header, *(f"    {line}" for line in lines)]) + "\n"


def _named(plan: Plan) -> list[str]:
    """Return what the kernel takes besides arrays and scalars."""
    along = ["row_sums", "column_sums"] if plan.view is not None else []
    along += ["matrices"] if along and plan.has_groups else []
    return [*(["sums"] if plan.sums else []), *along, *(["origin=(0, 0)"] if plan.inputs else [])]


class _Writer:
    """Writes the body of a kernel. A rule may give its slots any names, so ours keep out of their way."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        planes = [plane.name.replace(".", "_") for plane in plan.planes]
        ours = [*_OURS, "origin", "first", "stream", "index", "live", plan.compute]
        ours += [f"x{k}" for k in range(len(plan.body))] + [f"s{k}" for k in range(len(plan.prelude.conditions))]
        self._values = list(distinct(planes, ours).values())
        self.arrays = list(distinct([f"{name}_" for name in planes], [*ours, *self._values]).values())

    def lines(self) -> list[str]:
        plan = self._plan
        lines: list[str] = []
        if plan.inputs:
            lines += _INDEX.format(array=self.arrays[0]).splitlines()
        if plan.has_groups:
            lines.append(f"live = to_groups(np.ones({self.arrays[0]}.shape, bool))")
            lines += ["index = to_groups(index)"] if plan.inputs else []
        lines += [f"{self._values[index]} = {self._load(index)}" for index in plan.loads]
        kinds = ["np.bool_" if is_condition else plan.compute for is_condition in plan.prelude.conditions]
        lines += [f"s{index} = {kind}(scalars[{index}])" for index, kind in enumerate(kinds)]
        section = "the rule"
        for index, instruction in enumerate(plan.body):
            if instruction.section != section:
                section = instruction.section
                lines.append(f"# {section}")
            args = [self._ref(ref) for ref in instruction.args]
            spelt = {**NUMPY, **_INPUTS, "group_max": _GROUP_MAX}[instruction.op]
            lines.append(f"x{index} = {spelt.format(*args, row=len(kinds))}")
        lines += [*self._tile_sums()] if plan.view is not None else [*self._block_sums()]
        return [*lines, *(self._store(store) for store in plan.stores)] or ["pass"]

    def _block_sums(self) -> Iterator[str]:
        for number, result in enumerate(self._plan.sums):
            yield f"sums[:, {number}] = list({self._sum(result)})"

    def _tile_sums(self) -> Iterator[str]:
        plan = self._plan
        for place, sums, function in (
            ("sums[:, {0}]", plan.sums, "tile_partials"),
            ("row_sums[:, :, {0}]", plan.row_sums, "row_partials"),
            ("column_sums[:, {0}]", plan.column_sums, "column_partials"),
        ):
            for number, result in enumerate(sums):
                wide = self._wide(result)
                if plan.has_groups:
                    wide = f"from_groups({wide}, {self.arrays[0]}).reshape(matrices)"
                yield f"{place.format(number)} = {function}({wide}{' ** 2' if result.is_squared else ''})"

    def _load(self, index: int) -> str:
        plane, array = self._plan.planes[index], self.arrays[index]
        if plane.kind == "int":
            # Words are unsigned; a sign is extended on the way.
            seen = f"{array}.view(np.{plane.dtype})"
            text = f"{seen}.astype(np.uint32)" if plane.dtype[0] == "u" else f"{seen}.astype(np.int32).view(np.uint32)"
        else:
            text = f"{array}.astype({self._plan.compute})"
        if plane.per == "group":
            return f"{text}.reshape(live.shape[0], live.shape[1], 1)"
        if self._plan.has_groups and plane.per in ("row", "column"):
            return f"over_elements({text}, matrices, {self.arrays[0]})"
        text = f"unpacked({text}, {plane.packing}, {plane.bits})" if plane.packing > 1 else text
        return f"to_groups({text})" if self._plan.has_groups else text

    def _store(self, store: Store) -> str:
        plane, array, value = self._plan.planes[store.plane], self.arrays[store.plane], self._ref(store.value)
        if plane.per == "group":
            value = f"{value}.reshape({array}.shape)"
        elif plane.packing > 1:
            wide = f"np.where(live, {value}, np.uint32(0))"
            value = f"packed({wide}, {array}, {plane.packing}, {plane.bits})"
        elif self._plan.has_groups:
            value = f"from_groups({value}, {array})"
        if plane.kind == "int":
            return f"{array}.view(np.{plane.dtype})[...] = ({value}).astype(np.{plane.dtype})"
        return f"{array}[...] = {value}"

    def _sum(self, result: Sum) -> str:
        wide = self._wide(result)
        lanes = f"np.where(live, {wide}, 0.0).reshape(-1, {LANES})" if self._plan.has_groups else f"to_lanes({wide})"
        return f"block_sums({lanes}{' ** 2' if result.is_squared else ''})"

    def _wide(self, result: Sum) -> str:
        # A value that does not depend on its element is the same number for all.
        return f"np.broadcast_to({self._ref(result.value)}, {self._shape()}).astype(np.float64)"

    def _shape(self) -> str:
        return "live.shape" if self._plan.has_groups else f"{self.arrays[0]}.shape"

    def _ref(self, ref: Ref) -> str:
        if isinstance(ref, Const):
            return f"np.uint32({int(ref.value)})" if ref.kind == "int" else f"{self._plan.compute}({ref.value!r})"
        if isinstance(ref, Value):
            planes = len(self._plan.planes)
            return self._values[ref.index] if ref.index < planes else f"x{ref.index - planes}"
        return f"s{ref.index}"


@cache
def _helpers() -> dict[str, Any]:
    """Return the functions that emitted text has for groups and sums."""
    namespace: dict[str, Any] = {"np": np}
    exec(compile(_HELPERS + _PACKS + _SUMS, "<numpy kernels>", "exec"), namespace)
    return {name: value for name, value in namespace.items() if isinstance(value, FunctionType)}


def load(plan: Plan) -> Callable[..., None]:
    """Return the kernel that ``emit`` writes, ready to call."""
    namespace: dict[str, Any] = {}
    exec(compile(emit(plan), f"<numpy kernel of {plan.title}>", "exec"), namespace)
    # A function that its own namespace holds is a reference cycle: with the collector off it would never be freed.
    kernel = namespace.pop("kernel")
    del namespace["prelude"]
    namespace.update((name, helper) for name, helper in _helpers().items() if name in namespace)

    def run(*arguments: Any, **named: Any) -> None:
        # Infinities and NaN are values like others here, as they are in machine code.
        with np.errstate(all="ignore"):
            kernel(*arguments, **named)

    return run
