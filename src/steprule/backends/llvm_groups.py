"""The shell of kernels whose plans have groups: a group's numbers, a loop over its elements, and so on by turns.

What one loop leaves to the next lies in tiles of one group on the stack, in the processor's first cache. A full group
has loops of its own with a constant number of turns; the last group of a row may be shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steprule.backends import llvm_packs
from steprule.backends.llvm_code import Code, indented
from steprule.compile import Plan, Ref, Value
from steprule.formats import GROUP

__all__ = ["loops", "parts", "shell"]

_SHELL = """\
define internal void @step(i64 %group, i64 %offset, i64 %count{given}) alwaysinline #0 {{
entry:
{tiles}
  %offset.low = trunc i64 %offset to i32
{phases}
  ret void
}}

define {name}(ptr readonly %addresses, i64 %start, i64 %n, ptr readonly %scalars{sums}) #0 {{
entry:
{entry}
  %w.length = getelementptr i64, ptr %addresses, i64 {planes}
  %length = load i64, ptr %w.length, !invariant.load !4
  %w.groups = getelementptr i64, ptr %addresses, i64 {next}
  %groups = load i64, ptr %w.groups, !invariant.load !4
  %row.start = udiv i64 %start, %groups
  %place.start = urem i64 %start, %groups
  %end = add i64 %start, %n
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %done

loop:
  %group = phi i64 [ %start, %entry ], [ %group.next, %stepped ]
  %row = phi i64 [ %row.start, %entry ], [ %row.next, %stepped ]
  %place = phi i64 [ %place.start, %entry ], [ %place.next, %stepped ]
  %above = mul i64 %row, %length
  %before = mul i64 %place, {GROUP}
  %offset = add i64 %above, %before
  %left = sub i64 %length, %before{offsets}
  %full = icmp sge i64 %left, {GROUP}
  br i1 %full, label %whole, label %part

whole:
  call void @step(i64 %group, i64 %offset, i64 {GROUP}{given})
  br label %stepped

part:
  call void @step(i64 %group, i64 %offset, i64 %left{given})
  br label %stepped

stepped:
  %place.one = add i64 %place, 1
  %wraps = icmp eq i64 %place.one, %groups
  %place.next = select i1 %wraps, i64 0, i64 %place.one
  %row.one = add i64 %row, 1
  %row.next = select i1 %wraps, i64 %row.one, i64 %row
  %group.next = add i64 %group, 1
  %more = icmp slt i64 %group.next, %end
  br i1 %more, label %loop, label %done

done:
  ret void
}}
"""
_ELEMENTS = """\
{first}
  br label %loop{p}

loop{p}:
  %i{p} = phi i64 [ 0, %{before} ], [ %next{p}, %loop{p} ]
{starts}
  %at{p} = add i64 %offset, %i{p}
  %i.low{p} = trunc i64 %i{p} to i32
  %at.low{p} = add i32 %offset.low, %i.low{p}
{body}
{last}
  %next{p} = add nsw i64 %i{p}, 1
  %more{p} = icmp slt i64 %next{p}, %count
  br i1 %more{p}, label %loop{p}, label %after{p}, !llvm.loop !{loop}

after{p}:"""


_LOOPS = 6
"""The number of the metadata of the first phase's loop; those of items that are taken apart follow the phases."""


def loops(plan: Plan) -> list[str]:
    """Return the metadata of the loops."""
    phases = [f"!{n} = distinct !{{!{n}, !2, !3, !5}}\n" for n in range(_LOOPS, _LOOPS + len(plan.phases))]
    start = _LOOPS + len(phases)
    return phases + [f"!{n} = distinct !{{!{n}, !2, !3}}\n" for n in range(start, start + llvm_packs.count(plan))]


Lines = Callable[[int], Sequence[str]]
"""Lines of the loop over elements in one phase, by its number."""


def _none(phase: int) -> Sequence[str]:
    return ()


def parts(plan: Plan, code: Code, first: Lines = _none, last: Lines = _none) -> tuple[str, str]:
    """Return the lines of ``@step`` that make its tiles, and those of its phases.

    Args:
        plan, code: those of the kernel.
        first, last: what elements begin and end with, besides what the plan says.
    """
    left = _left(plan)
    loop = _LOOPS + len(plan.phases)
    found, before = llvm_packs.open_(code, "entry", loop)
    for phase, per in enumerate(plan.phases):
        if per == "group":
            found.append(indented(code.group(phase)))
        else:
            found.append(_elements(plan, code, phase, before, left, (first(phase), last(phase))))
            before = f"after{phase}"
    found += llvm_packs.close(code, before, loop + len(found) - len(plan.phases))
    tiles = [f"%tile{index} = alloca [{GROUP} x {code.type_of(index)}], align 64" for index in left]
    return indented([*tiles, *llvm_packs.start(plan)]), "\n".join(found)


def shell(plan: Plan, code: Code) -> str:
    """Return the functions of a kernel over groups."""
    tiles, phases = parts(plan, code)
    # Loads and conversions that stood in the loop over groups would be repeated for each: LLVM moves nothing out of a
    # loop that may not come to it.
    given = "".join(f", {name}" for name in code.loaded())
    given += llvm_packs.arguments(plan) + (", ptr %sums" if plan.sums else "")
    return _SHELL.format(
        tiles=tiles,
        entry=indented(code.entry()),
        given=given,
        offsets="".join(f"\n  {line}" for line in llvm_packs.offsets(plan)),
        phases=phases,
        planes=len(plan.planes),
        next=len(plan.planes) + 1,
        GROUP=GROUP,
        name="internal void @run" if plan.sums else "void @kernel",
        sums=", ptr %sums" if plan.sums else "",
    )


def _elements(
    plan: Plan, code: Code, phase: int, before: str, left: list[int], around: tuple[Sequence[str], Sequence[str]]
) -> str:
    """Return the loop over the elements of a group in one phase."""
    maxima = [
        (len(plan.planes) + number, code.ref(instruction.args[0], phase))
        for number, instruction in enumerate(plan.body)
        if instruction.op == "group_max" and instruction.phase == phase
    ]
    body = [*around[0]]
    body += [line for index in left if _reads_again(plan, index, phase) for line in _load(code, index, phase)]
    body += [*code.elements(phase), *code.sums(phase), *around[1]]
    body += [line for index in left if plan.phase_of(index) == phase for line in _store(code, index, phase)]
    body += [f"%v{v} = call i32 @llvm.umax.i32(i32 %m{v}, i32 {word})" for v, word in maxima]
    first, head, last = code.counters(phase, "%offset.low", before)
    starts = [f"%m{v} = phi i32 [ 0, %{before} ], [ %v{v}, %loop{phase} ]" for v, _ in maxima]
    return _ELEMENTS.format(
        p=phase,
        before=before,
        first=indented(first),
        starts=indented([*starts, *head]),
        body=indented(body),
        last=indented(last),
        loop=_LOOPS + phase,
    )


def _left(plan: Plan) -> list[int]:
    """Return the values that one loop over the elements leaves to a later one."""
    values = range(len(plan.planes) + len(plan.body))
    return [i for i in values if any(_reads_again(plan, i, phase) for phase in range(len(plan.phases)))]


def _reads_again(plan: Plan, index: int, phase: int) -> bool:
    """Whether a phase needs a value of the elements that an earlier one has computed."""
    made, body = plan.phase_of(index), index - len(plan.planes)
    if made >= phase or plan.phases[made] != "element" or (body >= 0 and plan.body[body].op == "group_max"):
        return False
    if body < 0 and plan.planes[index].per == "row":
        return False  # the same for all elements
    refs: list[Ref] = [ref for instruction in plan.body if instruction.phase == phase for ref in instruction.args]
    refs += [store.value for store in plan.stores if store.phase == phase]
    refs += [s.value for s in (*plan.sums, *plan.row_sums, *plan.column_sums) if s.phase == phase]
    return any(isinstance(ref, Value) and ref.index == index for ref in refs)


def _store(code: Code, index: int, phase: int) -> list[str]:
    store = f"store {code.type_of(index)} %v{index}, ptr %t{index}.{phase}, !llvm.access.group !0"
    return [_in_tile(code, index, phase), store]


def _load(code: Code, index: int, phase: int) -> list[str]:
    load = f"%v{index}.{phase} = load {code.type_of(index)}, ptr %t{index}.{phase}, !llvm.access.group !0"
    return [_in_tile(code, index, phase), load]


def _in_tile(code: Code, index: int, phase: int) -> str:
    return f"%t{index}.{phase} = getelementptr {code.type_of(index)}, ptr %tile{index}, i64 %i{phase}"
