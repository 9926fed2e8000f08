"""A plan as LLVM IR text: one function over a contiguous run of elements.

The calling convention of every kernel is ``void kernel(ptr addresses, i64 start, i64 n, ptr scalars)``:
``addresses`` points to one pointer a plane, ``scalars`` to the row of float64 scalars. No fast-math
flag appears, so LLVM keeps every rounding as written and vectorises only what gives the same bits.
"""

from __future__ import annotations

import struct

import numpy as np

from steprule.compile import Const, Plan, Ref, Value

__all__ = ["emit"]

_IR_TYPE = {"float16": "half", "bfloat16": "i16", "float32": "float", "float64": "double"}
_BYTES = {"half": 2, "i16": 2, "float": 4, "double": 8}

_LLVM = {
    "add": "fadd {T} {0}, {1}",
    "sub": "fsub {T} {0}, {1}",
    "mul": "fmul {T} {0}, {1}",
    "div": "fdiv {T} {0}, {1}",
    "neg": "fneg {T} {0}",
    "abs": "call {T} @llvm.fabs.{I}({T} {0})",
    "sqrt": "call {T} @llvm.sqrt.{I}({T} {0})",
    "lt": "fcmp olt {T} {0}, {1}",
    "le": "fcmp ole {T} {0}, {1}",
    "gt": "fcmp ogt {T} {0}, {1}",
    "ge": "fcmp oge {T} {0}, {1}",
    "eq": "fcmp oeq {T} {0}, {1}",
    "ne": "fcmp une {T} {0}, {1}",
    "and": "and i1 {0}, {1}",
    "or": "or i1 {0}, {1}",
    "not": "xor i1 {0}, true",
    "where": "select i1 {0}, {T} {1}, {T} {2}",
}

# bfloat16 is the upper half of a float32. In integers, since processors' own conversion takes subnormals for zero.
_FROM_BFLOAT = (
    "%l{x} = {access}",
    "%l{x}.wide = zext i16 %l{x} to i32",
    "%l{x}.high = shl i32 %l{x}.wide, 16",
    "%v{x} = bitcast i32 %l{x}.high to float",
)
# To nearest, ties to even: add half of the last place kept, less one where that place is even. NaN would carry into
# infinity, so it is chosen apart.
_TO_BFLOAT = (
    "%r{x}.bits = bitcast float {value} to i32",
    "%r{x}.shifted = lshr i32 %r{x}.bits, 16",
    "%r{x}.odd = and i32 %r{x}.shifted, 1",
    "%r{x}.half = add i32 %r{x}.odd, 32767",
    "%r{x}.sum = add i32 %r{x}.bits, %r{x}.half",
    "%r{x}.high = lshr i32 %r{x}.sum, 16",
    "%r{x}.nan = fcmp uno float {value}, {value}",
    "%r{x}.kept = select i1 %r{x}.nan, i32 32704, i32 %r{x}.high",
    "%r{x} = trunc i32 %r{x}.kept to i16",
)

_SHELL = """\
; {title}
; Once a step, on the host, in float64:
{prelude}

declare {T} @llvm.fabs.{I}({T})
declare {T} @llvm.sqrt.{I}({T})

define void @kernel(ptr readonly %addresses, i64 %start, i64 %n, ptr readonly %scalars) #0 {{
entry:
{entry}
  %end = add i64 %start, %n
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %done

loop:
  %i = phi i64 [ %start, %entry ], [ %next, %loop ]
{loop}
  %next = add nsw i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done, !llvm.loop !1

done:
  ret void
}}

attributes #0 = {{ nounwind "prefer-vector-width"="512" }}
; Elements do not depend on one another, so the vectoriser needs no check for overlapping arrays.
!0 = distinct !{{}}
!1 = distinct !{{!1, !2, !3}}
!2 = !{{!"llvm.loop.parallel_accesses", !0}}
!3 = !{{!"llvm.loop.vectorize.enable", i1 true}}
"""


def emit(plan: Plan) -> str:
    """Return the IR of the module that defines the function ``kernel``."""
    real = _IR_TYPE[plan.compute]
    return _SHELL.format(
        title=plan.title,
        prelude="\n".join(f";   {line}" for line in plan.prelude.text.splitlines()),
        T=real,
        I=f"f{8 * _BYTES[real]}",
        entry="\n".join(f"  {line}" for line in _entry(plan, real)),
        loop="\n".join(f"  {line}" for line in _loop(plan, real)),
    )


def _entry(plan: Plan, real: str) -> list[str]:
    """Load addresses and scalars, and round the scalars to the compute type."""
    lines: list[str] = []
    for index in _touched(plan):
        lines += [
            f"%a{index} = getelementptr ptr, ptr %addresses, i64 {index}",
            f"%p{index} = load ptr, ptr %a{index}",
        ]
    for index, is_condition in enumerate(plan.prelude.conditions):
        lines += [
            f"%q{index} = getelementptr double, ptr %scalars, i64 {index}",
            f"%d{index} = load double, ptr %q{index}",
        ]
        if is_condition:
            lines.append(f"%s{index} = fcmp une double %d{index}, 0.0")
        elif real == "float":
            lines.append(f"%s{index} = fptrunc double %d{index} to float")
        else:
            lines.append(f"%s{index} = bitcast double %d{index} to double")
    return lines


def _loop(plan: Plan, real: str) -> list[str]:
    """One element: loads, body, stores."""
    lines: list[str] = []
    for index in _touched(plan):
        stored = _IR_TYPE[plan.planes[index].dtype]
        lines.append(f"%e{index} = getelementptr {stored}, ptr %p{index}, i64 %i")
    for index in plan.loads:
        lines += _load(index, _IR_TYPE[plan.planes[index].dtype], real)
    for index, instruction in enumerate(plan.body):
        args = [_ref(plan, ref) for ref in instruction.args]
        text = _LLVM[instruction.op].format(*args, T=real, I=f"f{8 * _BYTES[real]}")
        lines.append(f"%v{len(plan.planes) + index} = {text}")
    for store in plan.stores:
        lines += _store(store.plane, _ref(plan, store.value), _IR_TYPE[plan.planes[store.plane].dtype], real)
    return lines


def _load(index: int, stored: str, real: str) -> list[str]:
    access = f"load {stored}, ptr %e{index}, align {_BYTES[stored]}, !llvm.access.group !0"
    if stored == real:
        return [f"%v{index} = {access}"]
    if stored == "i16":
        return [line.format(x=index, access=access) for line in _FROM_BFLOAT]
    return [f"%l{index} = {access}", f"%v{index} = fpext {stored} %l{index} to {real}"]


def _store(index: int, value: str, stored: str, real: str) -> list[str]:
    narrow = [] if stored == real else [f"%r{index} = fptrunc {real} {value} to {stored}"]
    if stored == "i16":
        narrow = [line.format(x=index, value=value) for line in _TO_BFLOAT]
    value = value if stored == real else f"%r{index}"
    return [*narrow, f"store {stored} {value}, ptr %e{index}, align {_BYTES[stored]}, !llvm.access.group !0"]


def _touched(plan: Plan) -> list[int]:
    return sorted({*plan.loads, *(store.plane for store in plan.stores)})


def _ref(plan: Plan, ref: Ref) -> str:
    if isinstance(ref, Const):
        # IR writes floats as the bits of a double; the number must be exact in the compute type.
        return f"0x{struct.pack('>d', float(np.dtype(plan.compute).type(ref.value))).hex().upper()}"
    return f"%v{ref.index}" if isinstance(ref, Value) else f"%s{ref.index}"
