"""How Triton spells the operations of a prelude, on one number in float64."""

from __future__ import annotations

import math

from steprule.errors import TargetError
from steprule.language.node import Node

__all__ = ["HELPERS", "LIBRARY", "spelled"]

_ONE = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1"),
    *("lgamma", "log", "log10", "log1p", "log2", "sin", "sinh", "tan", "tanh"),
)
_TWO = ("atan2", "copysign", "fmod", "hypot", "nextafter", "pow")
LIBRARY = (*_ONE, *_TWO)
"""Functions of ``math`` that the libraries of all vendors have under the same name; and ldexp."""

_ZERO = "tl.full((), 0.0, tl.float64)"
_INFINITY = 'float("inf")'
_SIGN = "0x8000000000000000"
_TRITON = {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "mod": "floor_mod({0}, {1})",
    "floordiv": "floor_divide({0}, {1})",
    "pow": "libdevice.pow({0}, {1})",
    # Triton's own minus takes from +0, and loses the sign of a zero.
    "neg": f"(({{0}}).to(tl.uint64, bitcast=True) ^ {_SIGN}).to(tl.float64, bitcast=True)",
    "abs": "tl.abs({0})",
    "sqrt": "tl.sqrt({0})",
    "lt": "({0} < {1})",
    "le": "({0} <= {1})",
    "gt": "({0} > {1})",
    "ge": "({0} >= {1})",
    "eq": "({0} == {1})",
    "ne": "({0} != {1})",
    "and": "({0} & {1})",
    "or": "({0} | {1})",
    "not": "({0} == 0)",
    "where": "tl.where({0}, {1}, {2})",
    "math.fabs": "tl.abs({0})",
    "math.floor": "tl.floor({0})",
    "math.ceil": "tl.ceil({0})",
    "math.trunc": "tl.where({0} < 0.0, tl.ceil({0}), tl.floor({0}))",
    "math.ldexp": "libdevice.ldexp({0}, ({1}).to(tl.int32))",
    "math.degrees": f"({{0}} * tl.full((), {180 / math.pi!r}, tl.float64))",
    "math.radians": f"({{0}} * tl.full((), {math.pi / 180!r}, tl.float64))",
    "math.isnan": "({0} != {0})",
    "math.isinf": f"(tl.abs({{0}}) == {_INFINITY})",
    "math.isfinite": f"(tl.abs({{0}}) < {_INFINITY})",
    "math.isclose": "is_close({0}, {1})",
    **{f"math.{name}": f"libdevice.{name}({{0}})" for name in _ONE},
    **{f"math.{name}": f"libdevice.{name}({{0}}, {{1}})" for name in _TWO},
}
_OF_WHOLE = ("mul", "mod", "floordiv", "math.floor", "math.ceil", "math.trunc")
"""Whole numbers have no negative zero, which these give."""

HELPERS = {
    "two_product": '''\

@triton.jit
def two_product(a, b):
    """Return a * b, and what was lost in rounding it (Dekker 1971): a fused multiply-add is not needed."""
    high = a * b
    scaled_a, scaled_b = a * tl.full((), 134217729.0, tl.float64), b * tl.full((), 134217729.0, tl.float64)
    a0, b0 = scaled_a - (scaled_a - a), scaled_b - (scaled_b - b)
    a1, b1 = a - a0, b - b0
    return high, (((a0 * b0 - high) + a0 * b1) + a1 * b0) + a1 * b1

''',
    "normalized": '''\

@triton.jit
def normalized(high, low):
    """Return the sum of a number and a smaller one, rounded, and what was lost. What is not known is not added."""
    both = tl.where(tl.abs(low) > 0.0, high + low, high)
    return both, low - (both - high)

''',
    "product": '''\

@triton.jit
def product(a, a_low, b, b_low):
    """Multiply numbers of two parts."""
    high, low = two_product(a, b)
    return normalized(high, low + (a * b_low + a_low * b))

''',
    "power": '''\

@triton.jit
def power(x, exponent):
    """Return x to an integer, rounded once: squares of squares, in two parts."""
    one = tl.full((), 1.0, tl.float64)
    inverse = one / x
    there, lost = two_product(inverse, x)
    error = (one - there) - lost
    inverse, inverse_low = normalized(inverse, inverse * (error + error * error))
    base = tl.where(exponent < 0.0, inverse, x)
    base_low = tl.where(exponent < 0.0, inverse_low, 0.0)
    high, low = one, one - one
    # From 2**64 on, every power is 0, 1 or infinite.
    left = tl.where(tl.abs(exponent) < 18446744073709551616.0, tl.abs(exponent), 18446744073709551616.0)
    while left >= 1.0:
        half = tl.floor(left * 0.5)
        is_odd = left != half * 2.0
        more, more_low = product(high, low, base, base_low)
        high, low = tl.where(is_odd, more, high), tl.where(is_odd, more_low, low)
        base, base_low = product(base, base_low, base, base_low)
        left = half
    return high

''',
    "floor_mod": '''\

@triton.jit
def floor_mod(x, y):
    """Return x % y as Python does."""
    rest = libdevice.fmod(x, y)
    zero = libdevice.copysign(tl.full((), 0.0, tl.float64), y)
    return tl.where(rest == 0.0, zero, tl.where((rest < 0.0) != (y < 0.0), rest + y, rest))

''',
    "floor_divide": '''\

@triton.jit
def floor_divide(x, y):
    """Return x // y as Python does."""
    rest = libdevice.fmod(x, y)
    plain = (x - rest) / y
    plain = tl.where((rest != 0.0) & ((rest < 0.0) != (y < 0.0)), plain - 1.0, plain)
    floor = tl.floor(plain)
    floor = tl.where(plain - floor > 0.5, floor + 1.0, floor)
    return tl.where(plain == 0.0, libdevice.copysign(tl.full((), 0.0, tl.float64), x / y), floor)

''',
    "is_close": '''\

@triton.jit
def is_close(x, y):
    """Return math.isclose(x, y)."""
    apart, large = tl.abs(x - y), tl.maximum(tl.abs(x), tl.abs(y))
    return (x == y) | ((apart <= large * tl.full((), 1e-9, tl.float64)) & (large < float("inf")))

''',
}
"""Functions by name, each after those that it calls."""


def spelled(node: Node, args: list[str], names: dict[str, str]) -> str:
    """Return the text of a node, given those of its arguments.

    Args:
        node: of the host.
        args: texts of its arguments.
        names: how symbols are called.

    Raises:
        TargetError: for a function that devices do not have.
    """
    if node.op == "symbol":
        return names[node.name]
    if node.op == "const":
        return _constant(node)
    if node.op not in ("and", "or", "not", "where"):
        args = [_number(arg, text) for arg, text in zip(node.args, args, strict=True)]
    if node.op in ("pow", "math.pow") and _is_whole(node.args[1]):
        return f"power({args[0]}, {args[1]})"
    if node.op == "math.log" and len(args) == 2:
        return "(" + " / ".join(_TRITON["math.log"].format(arg) for arg in args) + ")"
    text = _TRITON.get(node.op, "")
    if len(args) != sum(f"{{{k}}}" in text for k in range(3)):
        raise TargetError(
            f"{node.op} with {len(args)} argument{'s' * (len(args) != 1)} is not computed on devices; write the rule "
            "without it, or step without capturable=True and without guards, so that the host computes it"
        )
    if node.op == "neg" and _is_int(node.args[0]):
        return f"({_ZERO} - {args[0]})"
    text = text.format(*args)
    return f"({text} + 0.0)" if node.op in _OF_WHOLE and _is_int(node) else text


def _constant(node: Node) -> str:
    if node.kind == "bool":
        return f"tl.full((), {bool(node.value)}, tl.int1)"
    value = float(node.value)
    if value == 0 and math.copysign(1, value) < 0:  # tl.full makes it +0
        return f"tl.full((), {_SIGN}, tl.uint64).to(tl.float64, bitcast=True)"
    text = repr(value) if math.isfinite(value) else f'float("{value}")'
    return f"tl.full((), {text}, tl.float64)"


def _number(node: Node, text: str) -> str:
    """Return a condition as 1 or 0, as Python takes it."""
    return f"({text}).to(tl.float64)" if node.kind == "bool" else text


def _is_whole(node: Node) -> bool:
    """Whether an exponent is an integer, whatever the values are."""
    return _is_int(node) or (node.op == "const" and float(node.value).is_integer())


def _is_int(node: Node) -> bool:
    """Whether Python has an int here: t, and what follows from it."""
    if node.op == "symbol":
        return node.name == "t"
    if node.op == "const":
        return type(node.value) is int
    if node.op in ("add", "sub", "mul", "mod", "floordiv", "neg", "abs"):
        return all(map(_is_int, node.args))
    if node.op == "where":
        return all(map(_is_int, node.args[1:]))
    return node.op in ("math.floor", "math.ceil", "math.trunc")
