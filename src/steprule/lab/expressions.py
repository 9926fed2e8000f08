"""From a SymPy expression to one program for NumPy and JavaScript, with the same bits in both.

Both texts come from one tree of operations that IEEE 754 rounds correctly. So sin, cos, exp, log and tanh are written
out here as sums and products: libraries differ in their last place, and a path over a surface would drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from steprule.backends.javascript import function
from steprule.compile import assignments
from steprule.compile.lower import Lowering
from steprule.compile.prelude import PYTHON
from steprule.errors import ProblemError
from steprule.language import maximum, minimum, sign, sqrt, where
from steprule.language.node import Node, constant, symbol

if TYPE_CHECKING:
    import sympy

__all__ = ["SYMBOLS", "as_javascript", "as_python", "nodes"]

SYMBOLS = ("x", "y", "t", "u")
"""The coordinates, the number of the step, and a number from 0 to 1 that is drawn anew in each step."""
_NUMPY = {
    **PYTHON,
    "abs": "np.abs({0})",
    "sqrt": "np.sqrt({0})",
    "and": "({0} & {1})",
    "or": "({0} | {1})",
    "not": "(~{0})",
    "where": "np.where({0}, {1}, {2})",
}
_ROUND = 1.5 * 2.0**52
"""Added and taken away again, it rounds to an integer."""
_TURN = (6.283185307179586, 2.4492935982947064e-16)
"""2 pi in two parts."""
_DOUBLING = (0.6931471803691238, 1.9082149292705877e-10)
"""log 2 in two parts, the first one short: its multiples by integers are exact."""
_ROOTS = (0.7071067811865476, 1.4142135623730951)
_LARGEST = 1.7976931348623157e308


def nodes(expressions: Sequence[sympy.Expr]) -> list[Node]:
    """Return the programs of expressions in ``SYMBOLS``; what they share is computed once.

    Raises:
        ProblemError: for a function that is not written out here.
    """
    lower = Lowering()
    made: dict[Any, Any] = {}
    return [lower(_node_of(_built(expression, made))) for expression in expressions]


def as_python(name: str, programs: Sequence[Node]) -> str:
    """Return a function of ``SYMBOLS`` for NumPy's float64, numbers or arrays."""

    def spell(node: Node, args: list[str]) -> str:
        if node.op == "symbol":
            return node.name
        if node.op == "const":
            return f"({node.value!r})" if node.value < 0 else repr(node.value)
        return _NUMPY[node.op].format(*args)

    lines, texts = assignments(programs, (*SYMBOLS, "np", name), spell)
    body = "\n".join(f"    {line}" for line in [*lines, f"return ({', '.join(texts[node] for node in programs)},)"])
    return f"def {name}({', '.join(SYMBOLS)}):\n{body}\n"


def as_javascript(name: str, programs: Sequence[Node]) -> str:
    """Return the same function of numbers in JavaScript; it returns an array."""
    return function(name, programs, dict(zip(SYMBOLS, SYMBOLS, strict=True)))


def _built(expression: Any, made: dict[Any, Any]) -> Any:
    """Return an expression as a node, a number, or a condition."""
    if expression not in made:
        made[expression] = _build(expression, made)
    return made[expression]


def _build(expression: Any, made: dict[Any, Any]) -> Any:
    import sympy

    if expression.is_Symbol:
        return _symbol(expression)
    if expression in (sympy.true, sympy.false):
        return bool(expression)
    if expression.is_number:
        return _number(expression)
    if expression.is_Pow:
        return _power(_built(expression.base, made), expression.exp)
    if isinstance(expression, sympy.exp):
        return _exp(_built(expression.args[0], made))
    if isinstance(expression, sympy.Piecewise):
        if expression.args[-1][1] != sympy.true:
            raise ProblemError(
                "a Piecewise needs a last piece for all other points, as in Piecewise((x, x > 0), (0, True))"
            )
        return _cases([(_built(value, made), _built(condition, made)) for value, condition in expression.args])
    spelled = _FUNCTIONS.get(type(expression).__name__)
    if spelled is None:
        raise ProblemError(
            f"{type(expression).__name__} is not a function of surfaces; there are + - * /, whole powers, sqrt, sin, "
            "cos, exp, log, tanh, abs, sign, max, min and Piecewise"
        )
    return spelled(*(_built(arg, made) for arg in expression.args))


def _number(given: Any) -> float:
    """Return a constant in float64.

    Raises:
        ProblemError: when it is not a finite real number.
    """
    try:
        value = float(given)
    except (TypeError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ProblemError(f"a surface is made of finite real numbers, got {str(given)[:40]}")
    return value


def _symbol(given: Any) -> Node:
    if given.name not in SYMBOLS:
        raise ProblemError(f"a surface is a function of x and y, got {given.name!r} as well")
    return symbol(given.name, "host")


def _power(base: Any, exponent: Any) -> Any:
    """Return products of squares for whole exponents, and roots: a library's power need not round correctly."""
    import sympy

    if exponent.is_Float and float(exponent).is_integer():
        exponent = sympy.Integer(int(exponent))
    if exponent.is_Rational and exponent.q == 2:
        root = sqrt(_node_of(base))
        return _power(root, exponent * 2) if exponent.p != 1 else root
    if not exponent.is_Integer or abs(int(exponent)) > 64:
        raise ProblemError(
            f"a surface has whole powers up to 64 and roots, got the exponent {exponent}; 2**x is written exp(0.693*x)"
        )
    n, square = abs(int(exponent)), base
    product: Any = None
    while n:
        if n % 2:
            product = square if product is None else product * square
        n //= 2
        square = square * square if n else square
    return 1.0 / product if int(exponent) < 0 else product


def _cases(pieces: list[tuple[Any, Any]]) -> Any:
    *first, (last, _) = pieces
    for value, condition in reversed(first):
        last = where(condition, value, last)
    return last


def _turned(u: Any) -> Any:
    """Return an angle less whole turns."""
    turns = (u * (1 / _TURN[0]) + _ROUND) - _ROUND
    return (u - turns * _TURN[0]) - turns * _TURN[1]


def _series(square: Any, first: int) -> Any:
    """Return 1 - s / ((f+1)(f+2)) (1 - s / ((f+3)(f+4)) (...)), the series of cos (f = 0) and of sin (f = 1)."""
    result: Any = 1.0
    for k in range(28 + first, first, -2):
        result = 1.0 - square * (1.0 / (k * (k - 1))) * result
    return result


def _sin(u: Any) -> Any:
    angle = _turned(u)
    return angle * _series(angle * angle, 1)


def _cos(u: Any) -> Any:
    angle = _turned(u)
    return _series(angle * angle, 0)


def _exp(u: Any) -> Any:
    """Return e to the u as the 1024th power of a series, to 13 digits; beyond 700 it stays there."""
    z = maximum(minimum(u, 700.0), -700.0) * 2.0**-10
    result: Any = 1.0
    for k in range(20, 0, -1):
        result = 1.0 + z * (1.0 / k) * result
    for _ in range(10):
        result = result * result
    return result


def _log(u: Any) -> Any:
    """Return the natural logarithm: what is left near 1 without powers of two, by the series of atanh."""
    part, doublings = _node_of(u), _node_of(0.0)
    for power in (512, 256, 128, 64, 64, 32, 16, 8, 4, 2, 1):  # 64 twice, for subnormal numbers
        is_small, is_large = part < _ROOTS[0] * 2.0 ** (1 - power), part > _ROOTS[1] * 2.0 ** (power - 1)
        doublings = doublings + where(is_large, float(power), where(is_small, -float(power), 0.0))
        part = part * where(is_large, 2.0**-power, where(is_small, 2.0**power, 1.0))
    z = (part - 1.0) / (part + 1.0)
    square, series = z * z, _node_of(0.0)
    for k in range(25, 0, -2):
        series = series * square + 1.0 / k
    value = doublings * _DOUBLING[0] + (doublings * _DOUBLING[1] + 2.0 * z * series)
    # The logarithm of 0 is minus infinity, that of a negative number none.
    outside = where(_node_of(u) < 0.0, sqrt(_node_of(u)), -1.0 / abs(_node_of(u)))
    return where(_node_of(u) > _LARGEST, _node_of(u), where(_node_of(u) > 0.0, value, outside))


def _tanh(u: Any) -> Any:
    """Return the hyperbolic tangent: near zero by its continued fraction, which keeps small numbers exact."""
    size, square = abs(_node_of(u)), u * u
    fraction: Any = 25.0
    for k in range(23, 0, -2):
        fraction = k + square / fraction
    decayed = _exp(-2.0 * size)
    return where(size < 1.0, u / fraction, sign(_node_of(u)) * ((1.0 - decayed) / (1.0 + decayed)))


def _joined(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda *args: reduce(operation, args)


def _mod(a: Any, b: Any) -> Any:
    return _node_of(a) % b


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "Add": _joined(lambda a, b: a + b),
    "Mul": _joined(lambda a, b: a * b),
    "sin": _sin,
    "cos": _cos,
    "exp": _exp,
    "log": _log,
    "tanh": _tanh,
    "Abs": abs,
    "Heaviside": lambda a, half=0.5: where(_node_of(a) > 0.0, 1.0, where(_node_of(a) < 0.0, 0.0, half)),
    "DiracDelta": lambda a: 0.0 * a,
    "sign": lambda a: sign(_node_of(a)),
    "Max": _joined(lambda a, b: maximum(_node_of(a), b)),
    "Min": _joined(lambda a, b: minimum(_node_of(a), b)),
    "Mod": _mod,
    "StrictLessThan": lambda a, b: _node_of(a) < b,
    "LessThan": lambda a, b: _node_of(a) <= b,
    "StrictGreaterThan": lambda a, b: _node_of(a) > b,
    "GreaterThan": lambda a, b: _node_of(a) >= b,
    "Equality": lambda a, b: _node_of(a) == b,
    "Unequality": lambda a, b: _node_of(a) != b,
    "And": _joined(lambda a, b: a & b),
    "Or": _joined(lambda a, b: a | b),
}


def _node_of(value: Any) -> Node:
    return value if isinstance(value, Node) else constant(value)
