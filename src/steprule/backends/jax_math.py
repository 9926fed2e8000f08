"""What the text of JAX kernels calls: operations on elements, words and groups, and the keys of random bits."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from steprule.formats import GROUP, rows_of
from steprule.formats import keys as keys_on_host
from steprule.formats.rounding import mixed
from steprule.language.matrices import Along, View, axes_of, kept_shape

__all__ = ["keys", "negative_zero"]


def negative_zero(t: Any) -> Array:
    """Return -0.0 in float32, made of a step number, of which a compiler does not know that it is never negative."""
    sign = np.int32(-(2**31))
    return lax.bitcast_convert_type((jnp.asarray(t).astype(np.int32) & sign) ^ sign, np.float32)


@jax.custom_jvp
def root(x: Array) -> Array:
    """Return the square root. Its derivative at 0 is taken as 0, as for a moment of which nothing has moved."""
    return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    result = root(*primals)
    return result, jnp.where(result == 0, 0, tangents[0] / (2 * jnp.where(result == 0, 1, result)))


@jax.custom_jvp
def divide(a: Array, b: Array) -> Array:
    """Return the quotient. Its derivative where ``b`` is 0 is some number, for ``where`` to leave it out."""
    return a / b


@divide.defjvp
def _divide_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    a, b = primals
    result = divide(a, b)
    below = jnp.where(b == 0, 1, b)
    return result, (tangents[0] - jnp.where(b == 0, 0, result) * tangents[1]) / below


def divide_by(a: Array, b: Any) -> Array:
    """Return the quotient by one number, as one by an array: else XLA multiplies by the rounded inverse."""
    return a / jnp.where(a == a, b, np.ones((), a.dtype))


def divide_along(a: Any, b: Array) -> Array:
    """Return the quotient by a number of each row or column, as one by an array; else as ``divide_by`` says."""
    return divide(a, jnp.where(a == a, b, np.ones((), b.dtype)))


@jax.custom_jvp
def sloped(value: Array, slope: Array) -> Array:
    """Return ``value``, whose derivative is that of ``slope``, which is computed for nothing else."""
    return value


@sloped.defjvp
def _sloped_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return sloped(*primals), tangents[1]


def total(x: Array) -> tuple[Array, Array]:
    """Return the sum over all elements in float64, whatever JAX is set to, and rounded to the type of ``x``.

    The second is to be differentiated: in a program of 32 bits float64 cannot be transposed.
    """
    with jax.enable_x64(True):
        exact = lax.stop_gradient(x).astype(np.float64).sum()
    return exact, _rounded(exact, x.sum())


def total_of_squares(x: Array) -> tuple[Array, Array]:
    """Return what ``total`` returns, of the squares in float64."""
    with jax.enable_x64(True):
        exact = (lax.stop_gradient(x).astype(np.float64) ** 2).sum()
    return exact, _rounded(exact, (x * x).sum())


def along(word: str, x: Array, over: Along, seen: View) -> Array:
    """Return what a word for a sum over each row or column comes to, from float64 rounded once to the type of ``x``."""
    axes = axes_of(x.ndim, over, seen)
    count = max(1, prod(x.shape[axis] for axis in axes))
    with jax.enable_x64(True):
        exact = _along(word, lax.stop_gradient(x).astype(np.float64), axes, count).astype(x.dtype)
    return sloped(exact, _along(word, x, axes, count))


def _along(word: str, x: Array, axes: tuple[int, ...], count: int) -> Array:
    x = x * x if word in ("norm", "rms") else x
    summed = x.sum(axis=axes, keepdims=True) if axes else x
    averaged = divide_by(summed, x.dtype.type(count)) if word in ("mean", "rms") else summed
    return root(averaged) if word in ("norm", "rms") else averaged


def kept_shapes(shape: tuple[int, ...], seen: View) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of arrays of numbers of each row, and of each column."""
    return kept_shape(shape, "row", seen), kept_shape(shape, "column", seen)


def filled(x: Any, shape: tuple[int, ...]) -> Array:
    """Return numbers of rows, of columns, or one, as an array of this shape."""
    return jnp.broadcast_to(x, shape)


def _rounded(exact: Array, slope: Array) -> Array:
    with jax.enable_x64(True):
        rounded = exact.astype(slope.dtype)
    return sloped(rounded, slope)


def where(condition: Any, a: Any, b: Any) -> Array:
    """Return ``a`` where the condition holds, and ``b`` elsewhere."""
    return jnp.where(condition, a, b)


def load(array: Array, dtype: str, compute: Any) -> Array:
    """Return what a plane holds: a number of the compute type, or a word."""
    if dtype.startswith("float"):
        return array.astype(compute)
    word = lax.bitcast_convert_type(array, np.dtype(dtype))
    return word.astype(np.uint32)  # a sign is extended on the way


def store(value: Array, dtype: str) -> Array:
    """Return what a plane keeps of a number, or the lowest bits of a word."""
    return value.astype(np.dtype(dtype))


def unpacked(items: Array, packing: int, bits: int, shape: tuple[int, ...]) -> Array:
    """Return the numbers of an array of this shape whose items hold several, the first in the lowest bits."""
    rows, length, _ = rows_of(shape)
    fields = [(items >> np.uint32(bits * field)) & np.uint32(2**bits - 1) for field in range(packing)]
    wide = jnp.stack(fields, axis=-1).reshape(rows, packing * items.shape[1])
    return wide[:, :length].reshape(shape)


def packed(numbers: Array, packing: int, bits: int) -> Array:
    """Return the items that hold the lowest bits of numbers, with zeros in what is left of a row's last."""
    rows, length, _ = rows_of(numbers.shape)
    filled = jnp.pad(numbers.reshape(rows, length) & np.uint32(2**bits - 1), ((0, 0), (0, -length % packing)))
    fields = filled.reshape(rows, -(-length // packing), packing)
    items = fields[..., 0]
    for field in range(1, packing):
        items = items | (fields[..., field] << np.uint32(bits * field))
    return items


def bits(x: Array) -> Array:
    """Return the bits of float32 numbers."""
    return lax.bitcast_convert_type(x, np.uint32)


def real(word: Any) -> Array:
    """Return the float32 numbers of these bits."""
    return lax.bitcast_convert_type(word, np.float32)


def _signed(word: Any) -> Array:
    return lax.bitcast_convert_type(word, np.int32)


def whole(word: Array) -> Array:
    """Return words as numbers."""
    return _signed(word).astype(np.float32)


def half(x: Array) -> Array:
    """Return numbers rounded to float16."""
    return x.astype(np.float16).astype(np.float32)


def word_maximum(a: Any, b: Any) -> Array:
    """Return the larger of words as signed integers."""
    return lax.bitcast_convert_type(jnp.maximum(_signed(a), _signed(b)), np.uint32)


def word_minimum(a: Any, b: Any) -> Array:
    """Return the smaller of words as signed integers."""
    return lax.bitcast_convert_type(jnp.minimum(_signed(a), _signed(b)), np.uint32)


def spread(x: Array, shape: tuple[int, ...]) -> Array:
    """Return what there is once a group for every element of an array of this shape."""
    rows, length, groups = rows_of(shape)
    wide = jnp.broadcast_to(x[..., None], (rows, groups, GROUP)).reshape(rows, groups * GROUP)
    return wide[:, :length].reshape(shape)


_SPAN = 32


def group_max(word: Array) -> Array:
    """Return the largest word of each group, in two turns of 32 at most.

    Of more at once XLA's CPU compiler takes maxima by windows, for which it stores every word.
    """
    rows, length, groups = rows_of(word.shape)
    size = min(length, GROUP)
    divisors = (span for span in range(_SPAN, 0, -1) if size % span == 0 and size // span <= _SPAN)
    span = next(divisors, _SPAN)
    spans = -(-size // span)
    filled = jnp.pad(word.reshape(rows, length), ((0, 0), (0, groups * spans * span - length)))
    return filled.reshape(rows, groups, spans, span).max(axis=-1, initial=0).max(axis=-1, initial=0)


def index_of(shape: tuple[int, ...]) -> Array:
    """Return the place of each element in C order, as a word."""
    return lax.iota(np.uint32, prod(shape)).reshape(shape)


def keys(seed: Any, t: Any) -> tuple[Any, Any]:
    """Return the two keys of random bits of a step, as ``formats.keys`` does, for traced numbers as well."""
    if isinstance(seed, int) and isinstance(t, int):
        high, low = keys_on_host(seed, t)
        return np.uint32(high), np.uint32(low)
    step = jnp.asarray(t).astype(np.uint32)
    if isinstance(seed, int):
        seeded = mixed(seed)
        return _mixed((jnp.full_like(step, seeded >> 32), step ^ np.uint32(seeded & _WORD)))
    above, below = _mixed(_pair(jnp.asarray(seed)))
    return _mixed((above, below ^ step))


def _pair(number: Array) -> _Pair:
    """Return an integer that is not negative as a pair of words."""
    low = number.astype(np.uint32)
    return (number >> 32).astype(np.uint32) if number.dtype.itemsize > 4 else jnp.zeros_like(low), low


_WORD = 0xFFFFFFFF
_Pair: TypeAlias = tuple[Array, Array]
"""A number of 64 bits: its upper and its lower word. JAX has words of 64 bits only where it is set to."""


def _mixed(x: _Pair) -> _Pair:
    """Return ``formats.rounding.mixed`` of a pair."""
    x = _plus(x, 0x9E3779B97F4A7C15)
    x = _times(_folded(x, 30), 0xBF58476D1CE4E5B9)
    x = _times(_folded(x, 27), 0x94D049BB133111EB)
    return _folded(x, 31)


def _folded(x: _Pair, places: int) -> _Pair:
    """Return ``x ^ (x >> places)``."""
    high, low = x
    return high ^ (high >> places), low ^ ((low >> places) | (high << (32 - places)))


def _plus(x: _Pair, number: int) -> _Pair:
    low = x[1] + np.uint32(number & _WORD)
    return x[0] + np.uint32(number >> 32) + (low < x[1]).astype(np.uint32), low


def _times(x: _Pair, number: int) -> _Pair:
    high, low = x
    above, below = np.uint32(number >> 32), np.uint32(number & _WORD)
    return high * below + low * above + _upper(low, int(below)), low * below


def _upper(a: Array, b: int) -> Array:
    """Return the upper word of the product of two words, by their halves."""
    a0, a1, b0, b1 = a & 0xFFFF, a >> 16, np.uint32(b & 0xFFFF), np.uint32(b >> 16)
    middle = a1 * b0 + ((a0 * b0) >> 16)
    cross = a0 * b1 + (middle & 0xFFFF)
    return a1 * b1 + (middle >> 16) + (cross >> 16)
