"""How LLVM IR spells operations, types and numbers."""

from __future__ import annotations

import struct

import numpy as np

from steprule.compile import Const, Plan

__all__ = ["BYTES", "double", "ir_type", "operation", "scalar_lines", "written_out"]

_IR_TYPE = {
    "float16": "half",
    "float32": "float",
    "float64": "double",
    "uint8": "i8",
    "int8": "i8",
    "uint16": "i16",
    "int16": "i16",
}
BYTES = {"half": 2, "float": 4, "double": 8, "i8": 1, "i16": 2}

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
    "bits": "bitcast float {0} to i32",
    "real": "bitcast i32 {0} to float",
    "whole": "sitofp i32 {0} to float",
    "half": "fptrunc float {0} to half\n{x} = fpext half {x}.half to float",
    "word_add": "add i32 {0}, {1}",
    "word_sub": "sub i32 {0}, {1}",
    "word_mul": "mul i32 {0}, {1}",
    "word_and": "and i32 {0}, {1}",
    "word_or": "or i32 {0}, {1}",
    "word_xor": "xor i32 {0}, {1}",
    "shift_left": "shl i32 {0}, {1}",
    "shift_right": "lshr i32 {0}, {1}",
    "word_maximum": "call i32 @llvm.smax.i32(i32 {0}, i32 {1})",
    "word_minimum": "call i32 @llvm.smin.i32(i32 {0}, i32 {1})",
    "word_lt": "icmp ult i32 {0}, {1}",
    "word_eq": "icmp eq i32 {0}, {1}",
    "word_where": "select i1 {0}, i32 {1}, i32 {2}",
}
# The words that a kernel is given. An element's index is cut to 32 bits: beyond, random bits repeat.
_INPUTS = {
    "index": "add i32 %at.low{P}, %first",
    "stream": "add i32 %stream.word, 0",
    "key0": "add i32 %key0.word, 0",
    "key1": "add i32 %key1.word, 0",
}


def ir_type(dtype: str) -> str:
    """Return the type of a plane's items."""
    return _IR_TYPE[dtype]


def operation(op: str, args: list[str], real: str, name: str, phase: int = 0) -> list[str]:
    """Give the result of an operation a name."""
    text = (_LLVM | _INPUTS)[op].format(*args, T=real, I=f"f{8 * BYTES[real]}", x=name, P=phase)
    first, *rest = text.split("\n")
    return [f"{name}{'.half' if rest else ''} = {first}", *rest]


def written_out(number: Const, compute: str) -> str:
    """Return how a number of the rule is written."""
    if number.kind == "int":
        return str(int(number.value))
    # IR writes floats as the bits of a double; the number must be exact in the compute type.
    return f"0x{struct.pack('>d', float(np.dtype(compute).type(number.value))).hex().upper()}"


def scalar_lines(plan: Plan, index: int) -> list[str]:
    """Load a scalar, rounded to the compute type; a condition as such."""
    lines, real = double(index), _IR_TYPE[plan.compute]
    if plan.prelude.conditions[index]:
        return [*lines, f"%s{index} = fcmp une double %d{index}, 0.0"]
    return [*lines, f"%s{index} = {'fptrunc' if real == 'float' else 'bitcast'} double %d{index} to {real}"]


def double(index: int) -> list[str]:
    """Load a scalar as it is given."""
    return [
        f"%q{index} = getelementptr double, ptr %scalars, i64 {index}",
        f"%d{index} = load double, ptr %q{index}, !invariant.load !4",
    ]
