"""The numbers of a prelude under JAX, and what stands for the module ``math`` there.

A prelude computes once a step, with numbers of three kinds:

- Python numbers, as on the host;
- ``Exact`` numbers, which follow from a traced step number and Python numbers alone. They are float64 wherever the
  program runs, also where JAX is set to 32 bits: in float32 ``1 - 0.999**t`` has an error of 3 in 10^5 at t = 1.
  Nothing is differentiated by the step number, so no transposition meets float64 in a program of 32 bits;
- traced hyperparameters and scalar slots, which may be differentiated: float32, or float64 where JAX has 64 bits.

Between two kinds the later one wins. Sums over a tensor are ``Exact`` numbers that may be differentiated: beside the
number goes what has its derivative, in the type of the third kind.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from steprule.backends.jax_math import divide, root, sloped

__all__ = [
    *("Exact", "as_scalar", "exact", "to_pair", "negate", "one_minus_exp", "one_minus_power", "from_pair"),
    *("power_left", "traced", "where"),
]

Number: TypeAlias = "float | bool | Exact | Array"


class Exact:
    """A traced number in float64, or a condition on such numbers.

    Attributes:
        value: the number.
        slope: a number whose derivative is this one's; None where it has none.
    """

    __slots__ = ("slope", "value")

    def __init__(self, value: Array, slope: Array | None = None) -> None:
        self.value = value
        self.slope = slope

    def to(self, dtype: Any) -> Array:
        """Return it rounded once; a condition as it is."""
        rounded: Array = self.value if self.value.dtype == bool else _wide(lambda x: x.astype(dtype), self.value)
        return rounded if self.slope is None else sloped(rounded, self.slope.astype(dtype))

    def __hash__(self) -> int:
        return id(self)

    def __add__(self, other: Number) -> Any:
        return _call(operator.add, self, other)

    def __radd__(self, other: Number) -> Any:
        return _call(operator.add, other, self)

    def __sub__(self, other: Number) -> Any:
        return _call(operator.sub, self, other)

    def __rsub__(self, other: Number) -> Any:
        return _call(operator.sub, other, self)

    def __mul__(self, other: Number) -> Any:
        return _call(operator.mul, self, other)

    def __rmul__(self, other: Number) -> Any:
        return _call(operator.mul, other, self)

    def __truediv__(self, other: Number) -> Any:
        return _call(operator.truediv, self, other)

    def __rtruediv__(self, other: Number) -> Any:
        return _call(operator.truediv, other, self)

    def __mod__(self, other: Number) -> Any:
        return _call(operator.mod, self, other)

    def __rmod__(self, other: Number) -> Any:
        return _call(operator.mod, other, self)

    def __floordiv__(self, other: Number) -> Any:
        return _call(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Number) -> Any:
        return _call(operator.floordiv, other, self)

    def __pow__(self, other: Number) -> Any:
        return _call(jnp.power, self, other)

    def __rpow__(self, other: Number) -> Any:
        return _call(jnp.power, other, self)

    def __and__(self, other: Number) -> Any:
        return _call(operator.and_, self, other)

    def __rand__(self, other: Number) -> Any:
        return _call(operator.and_, other, self)

    def __or__(self, other: Number) -> Any:
        return _call(operator.or_, self, other)

    def __ror__(self, other: Number) -> Any:
        return _call(operator.or_, other, self)

    def __lt__(self, other: Number) -> Any:
        return _call(operator.lt, self, other)

    def __le__(self, other: Number) -> Any:
        return _call(operator.le, self, other)

    def __gt__(self, other: Number) -> Any:
        return _call(operator.gt, self, other)

    def __ge__(self, other: Number) -> Any:
        return _call(operator.ge, self, other)

    def __eq__(self, other: object) -> Any:
        return _call(operator.eq, self, other)

    def __ne__(self, other: object) -> Any:
        return _call(operator.ne, self, other)

    def __neg__(self) -> Any:
        return _call(operator.neg, self)

    def __abs__(self) -> Any:
        return _call(abs, self)


def _wide(function: Callable[..., Any], *args: Any) -> Any:
    with jax.enable_x64(True):
        return function(*args)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Return a function of numbers of several kinds, of which one is traced."""
    arrays = [arg.dtype for arg in args if isinstance(arg, Array) and arg.dtype != bool]
    has_slope = any(isinstance(arg, Exact) and arg.slope is not None for arg in args)
    if any(isinstance(arg, Array) for arg in args):
        kind = jnp.result_type(*arrays) if arrays else _default()
        return _narrow(_FINITE.get(function, function) if has_slope else function, args, kind)
    value = _wide(lambda: jnp.asarray(function(*map(_bare, args))))
    if not has_slope or value.dtype == bool:
        return Exact(value)
    slope = _narrow(_FINITE.get(function, function), args, _default())
    return Exact(value, sloped(Exact(value).to(slope.dtype), slope))


_FINITE: dict[Callable[..., Any], Callable[..., Any]] = {operator.truediv: divide, jnp.sqrt: root}
"""What has a finite derivative at 0, in the place of what has none: ``where`` multiplies that of both branches."""


def _narrow(function: Callable[..., Any], args: tuple[Any, ...], kind: Any) -> Any:
    return function(*(_narrowed(arg, kind) for arg in args))


def _bare(x: Any) -> Any:
    if isinstance(x, Exact):
        return x.value
    return x if isinstance(x, bool) else np.float64(x)


def _narrowed(x: Any, kind: Any) -> Any:
    if isinstance(x, Exact):
        return x.to(kind)
    return x if isinstance(x, (Array, bool)) else np.dtype(kind).type(x)


def _is_host(*args: Any) -> bool:
    return not any(isinstance(arg, (Exact, Array)) for arg in args)


def exact(count: Any) -> Exact:
    """Return a traced integer as an exact one."""
    return Exact(_wide(lambda: jnp.asarray(count).astype(np.float64)))


def has_64_bits() -> bool:
    """Return whether JAX is set to 64 bits."""
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def _default() -> Any:
    return np.float64 if has_64_bits() else np.float32


def traced(value: Any) -> Array:
    """Return a traced hyperparameter or scalar slot in the type that preludes compute with it."""
    return jnp.asarray(value).astype(_default())


def to_pair(value: Number) -> Array:
    """Return a number as a state keeps it: two numbers of the widest type there is, whose sum it is.

    Of float32 they have 48 bits together; where JAX has 64 bits, or the number is too large for float32 and therefore
    infinite, the second is 0, and the shape is the same.
    """
    high = jnp.asarray(as_scalar(value, _default()))
    if isinstance(value, Array) or has_64_bits():
        return jnp.stack([high, jnp.zeros_like(high)])
    wide = value.value if isinstance(value, Exact) else np.float64(value)
    kept = jax.lax.stop_gradient(high) if isinstance(value, Exact) and value.slope is not None else high
    rest = _wide(lambda: jnp.where(jnp.isfinite(kept), wide - kept.astype(np.float64), 0).astype(np.float32))
    return jnp.stack([high, rest])


def from_pair(state: Array, is_exact: bool, has_slope: bool = False) -> Number:
    """Return the number that a state keeps: exact, or to be differentiated, or both where it ``has_slope``."""
    state = jnp.asarray(state)
    if not is_exact:
        return traced(state[0])
    constant = jax.lax.stop_gradient(state).reshape(-1)
    value = _wide(lambda: constant.astype(np.float64).sum())
    return Exact(value, traced(state[0]) if has_slope else None)


def as_scalar(value: Number, dtype: Any) -> Any:
    """Return a number of the prelude rounded once to the type of a kernel; a condition as it is."""
    if isinstance(value, Exact):
        return value.to(dtype)
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, Array):
        return value if value.dtype == bool else value.astype(dtype)
    with np.errstate(over="ignore"):
        return np.dtype(dtype).type(value)


def where(condition: Number, a: Number, b: Number) -> Any:
    """Return ``a`` if the condition holds, else ``b``."""
    if isinstance(condition, bool):
        return a if condition else b
    return _call(jnp.where, condition, a, b)


def negate(condition: Number) -> Any:
    """Return whether the condition does not hold."""
    return not condition if _is_host(condition) else _call(jnp.logical_not, condition)


def one_minus_power(base: Number, exponent: Number) -> Any:
    """Return ``1 - base**exponent``, for a base of at least 0, without the cancellation of subtracting."""
    if isinstance(base, Array) or isinstance(exponent, Array):
        return _call(_one_minus_power, base, exponent)
    power: Any = operator.pow(base, exponent)
    return 1 - power


def _one_minus_power(base: Any, exponent: Any) -> Any:
    # The logarithm of 0 is right, and its derivative is not a number.
    positive = jnp.where(base > 0, base, 1)
    return jnp.where(base > 0, -jnp.expm1(exponent * jnp.log(positive)), 1 - base**exponent)


def power_left(base: Number, exponent: Number) -> Any:
    """Return ``1 - (1 - base**exponent)``, where a hyperparameter is traced without the cancellation of subtracting."""
    if isinstance(base, Array) or isinstance(exponent, Array):
        return _call(jnp.power, base, exponent)
    return 1 - one_minus_power(base, exponent)


def one_minus_exp(x: Number) -> Any:
    """Return ``1 - exp(x)`` without cancellation near 0."""
    return -math.expm1(x) if isinstance(x, (int, float)) else -_call(jnp.expm1, x)


_NAMES = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "fabs": "abs",
    "pow": "power",
    "isclose": "isclose",
}


def __getattr__(name: str) -> Callable[..., Any]:
    """Return a function of ``math`` for numbers of all kinds."""
    if name.startswith("__"):
        raise AttributeError(name)
    on_host: Callable[..., Any] = getattr(math, name)
    function: Callable[..., Any]
    if name in ("erf", "erfc", "gamma", "lgamma"):
        function = getattr(jax.scipy.special, "gammaln" if name == "lgamma" else name)
    elif name == "isclose":
        # Python's default tolerances; jnp.isclose is not symmetric.
        def function(a: Any, b: Any) -> Any:
            return jnp.abs(a - b) <= 1e-9 * jnp.maximum(jnp.abs(a), jnp.abs(b))
    else:
        function = getattr(jnp, _NAMES.get(name, name))
    return lambda *args: on_host(*args) if _is_host(*args) else _call(function, *args)
