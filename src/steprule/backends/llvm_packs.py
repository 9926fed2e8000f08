"""Planes whose items hold the numbers of several elements: loops around those over the elements of a group.

The first takes the items of a group apart, a byte a number, into a tile on the stack, where the elements find and leave
theirs; the last puts them together again. Both are loops over bytes, which vectorise.
"""

from __future__ import annotations

from steprule.backends.llvm_code import Code, indented
from steprule.compile import Plan
from steprule.formats import GROUP

__all__ = ["arguments", "close", "count", "offsets", "open_", "start"]

_LOOP = """\
  br label %{name}{i}

{name}{i}:
  %{name}{i}.j = phi i64 [ 0, %{before} ], [ %{name}{i}.next, %{name}{i} ]
  %{name}{i}.at = add i64 %packed{packing}, %{name}{i}.j
  %{name}{i}.p = getelementptr i8, ptr %p{i}, i64 %{name}{i}.at
  %{name}{i}.k = mul nuw nsw i64 %{name}{i}.j, {packing}
{body}
  %{name}{i}.next = add nuw nsw i64 %{name}{i}.j, 1
  %{name}{i}.more = icmp slt i64 %{name}{i}.next, %items{packing}
  br i1 %{name}{i}.more, label %{name}{i}, label %{name}{i}.done, !llvm.loop !{loop}

{name}{i}.done:"""
_IN = ", !llvm.access.group !0"


def count(plan: Plan) -> int:
    """Return how many such loops a kernel has."""
    return len(_read(plan)) + len(_written(plan))


def arguments(plan: Plan) -> str:
    """Return what ``@step`` takes besides, and is given: where the group's items begin."""
    return "".join(f", i64 %packed{packing}" for packing in plan.packings)


def offsets(plan: Plan) -> list[str]:
    """Return the lines that compute where the items of the group at ``%row`` and ``%place`` begin."""
    lines: list[str] = []
    for packing in plan.packings:
        lines += [
            f"%length{packing}.up = add i64 %length, {packing - 1}",
            f"%length{packing} = lshr i64 %length{packing}.up, {packing.bit_length() - 1}",
            f"%above{packing} = mul i64 %row, %length{packing}",
            f"%before{packing} = mul i64 %place, {GROUP // packing}",
            f"%packed{packing} = add i64 %above{packing}, %before{packing}",
        ]
    return lines


def start(plan: Plan) -> list[str]:
    """Return the lines that come first in ``@step``: the tiles, and how many items the group has."""
    # Beyond the elements there is room for what fills the last item up.
    tiles = {index: plan.planes[index].packing for index in {*_read(plan), *_written(plan)}}
    lines = [f"%pack{i} = alloca [{GROUP + packing} x i8], align 64" for i, packing in sorted(tiles.items())]
    for packing in plan.packings:
        lines += [
            f"%items{packing}.up = add i64 %count, {packing - 1}",
            f"%items{packing} = lshr i64 %items{packing}.up, {packing.bit_length() - 1}",
        ]
    return lines


def open_(code: Code, before: str, loop: int) -> tuple[list[str], str]:
    """Return the loops that take items apart, and the block that they end in; ``loop`` numbers the first."""
    parts: list[str] = []
    for number, index in enumerate(_read(code.plan)):
        plane = code.plan.planes[index]
        body = [f"%open{index}.item = load i8, ptr %open{index}.p, align 1{_IN}"]
        for field in range(plane.packing):
            name = f"%open{index}.{field}"
            body += [
                f"{name}.low = lshr i8 %open{index}.item, {field * plane.bits}",
                f"{name} = and i8 {name}.low, {2**plane.bits - 1}",
                *_place(f"open{index}", index, field),
                f"store i8 {name}, ptr {name}.p, align 1{_IN}",
            ]
        parts.append(_loop("open", index, plane.packing, before, body, loop + number))
        before = f"open{index}.done"
    return parts, before


def close(code: Code, before: str, loop: int) -> list[str]:
    """Return the loops that put items together, with zeros in what is left of the last."""
    parts: list[str] = []
    for number, index in enumerate(_written(code.plan)):
        plane = code.plan.planes[index]
        ends: list[str] = []
        for field in range(plane.packing - 1):
            ends += [
                f"%end{index}.{field} = add i64 %count, {field}",
                f"%end{index}.{field}.p = getelementptr i8, ptr %pack{index}, i64 %end{index}.{field}",
                f"store i8 0, ptr %end{index}.{field}.p, align 1",
            ]
        body, item = [], "0"
        for field in range(plane.packing):
            name = f"%close{index}.{field}"
            body += [
                *_place(f"close{index}", index, field),
                f"{name}.whole = load i8, ptr {name}.p, align 1{_IN}",
                f"{name}.cut = and i8 {name}.whole, {2**plane.bits - 1}",
                f"{name}.up = shl i8 {name}.cut, {field * plane.bits}",
                f"{name} = or i8 {name}.up, {item}",
            ]
            item = name
        body.append(f"store i8 {item}, ptr %close{index}.p, align 1{_IN}")
        parts += [indented(ends), _loop("close", index, plane.packing, before, body, loop + number)]
        before = f"close{index}.done"
    return parts


def _place(name: str, index: int, field: int) -> list[str]:
    return [
        f"%{name}.{field}.k = add i64 %{name}.k, {field}",
        f"%{name}.{field}.p = getelementptr i8, ptr %pack{index}, i64 %{name}.{field}.k",
    ]


def _loop(name: str, index: int, packing: int, before: str, body: list[str], loop: int) -> str:
    return _LOOP.format(name=name, i=index, packing=packing, before=before, body=indented(body), loop=loop)


def _read(plan: Plan) -> list[int]:
    return [index for index in plan.loads if plan.planes[index].packing > 1]


def _written(plan: Plan) -> list[int]:
    return [store.plane for store in plan.stores if plan.planes[store.plane].packing > 1]
