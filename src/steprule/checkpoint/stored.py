"""One array as a file holds it: its type in the format's words, its shape, and its bytes in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.errors import CheckpointError

__all__ = ["BLOCK", "DTYPES", "SIZES", "Stored", "blocks", "bytes_of", "snapshot", "stored", "type_of"]

BLOCK = 4 << 20
"""Bytes that are copied, checked and written at once: no array is copied as a whole."""

DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    # NumPy has no such types: arrays hold their bits.
    "BF16": "<u2",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
    "F8_E4M3FNUZ": "|u1",
    "F8_E5M2FNUZ": "|u1",
}
"""What arrays of each type of the format are in NumPy, little-endian."""
SIZES = {name: np.dtype(kind).itemsize for name, kind in DTYPES.items()}
"""Bytes of an element of each type."""

_AXES = 64
"""Axes of an array at most, as NumPy has it."""
_PLAIN = {np.dtype(kind): name for name, kind in reversed(DTYPES.items()) if name != "BF16" and name[:2] != "F8"}


@dataclass(frozen=True)
class Stored:
    """An array of a file.

    Attributes:
        dtype: its type in the format's words; see ``DTYPES``.
        shape: its shape; of complex numbers with a last axis of 2, the real and the imaginary part.
        get: returns the array, of the type that ``DTYPES`` tells. Called when its turn comes, so that no more than one
            tensor of another device is in this machine's memory.
        is_complex: whether the last axis holds the parts of complex numbers.
    """

    dtype: str
    shape: tuple[int, ...]
    get: Callable[[], NDArray[Any]]
    is_complex: bool = False

    @property
    def nbytes(self) -> int:
        """The bytes of the array."""
        return prod(self.shape) * SIZES[self.dtype]

    def array(self) -> NDArray[Any]:
        """Return the array, complex where it is one."""
        found = self.get()
        if not self.is_complex:
            return found
        return np.ascontiguousarray(found).view(f"<c{2 * found.itemsize}")[..., 0]


def stored(array: NDArray[Any], what: str, dtype: str | None = None) -> Stored:
    """Return how a file holds an array. Nothing is copied.

    Args:
        array: numbers, or bits of a type that NumPy has not.
        what: how messages name it.
        dtype: the type in the format's words, where the array's own does not tell.

    Raises:
        CheckpointError: for arrays of objects, texts and other types that the format has not.
    """
    plain = array.view(np.ndarray)
    name = dtype or type_of(plain.dtype)
    if name is None or isinstance(array, np.ma.MaskedArray):
        kind = "a masked array" if np.ma.isMaskedArray(array) else f"of type {plain.dtype}"
        raise CheckpointError(
            f"{what} is {kind}, which a checkpoint cannot hold; nothing was written. Convert it to numbers: "
            "np.asarray(..., dtype)"
        )
    if plain.dtype.kind == "c" and plain.ndim == _AXES:
        raise CheckpointError(f"{what} is complex, of {_AXES} axes: its parts would take one more; nothing was written")
    if plain.dtype.kind == "c":
        parts = plain[..., None].view(f"{plain.dtype.str[0]}f{plain.dtype.itemsize // 2}")
        return Stored(name, parts.shape, lambda: _little(parts), is_complex=True)
    if name == "BF16":
        words = plain.view(np.uint16)
        return Stored(name, words.shape, lambda: words)
    return Stored(name, plain.shape, lambda: _little(plain))


def type_of(dtype: np.dtype[Any]) -> str | None:
    """Return the type of arrays in the format's words, of complex ones that of the parts; None if it has none."""
    if dtype.kind == "c":
        return {8: "F32", 16: "F64"}.get(dtype.itemsize)
    name = _PLAIN.get(dtype) or _PLAIN.get(dtype.newbyteorder("<"))
    return "BF16" if name is None and dtype.name == "bfloat16" else name


def snapshot(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return copies, which stay as they are while the arrays go on."""
    taken: dict[str, Stored] = {}
    for name, one in tensors.items():
        copy = np.array(one.get(), order="C")
        taken[name] = Stored(one.dtype, one.shape, copy.view, one.is_complex)
    return taken


def blocks(array: NDArray[Any]) -> Iterator[memoryview]:
    """Yield the bytes of an array in C order, where they lie if they lie so, else by copies of at most a block."""
    if array.flags.c_contiguous:
        view = bytes_of(array)
        for start in range(0, len(view), BLOCK):
            yield view[start : start + BLOCK]
    elif array.nbytes <= BLOCK:
        yield from blocks(np.ascontiguousarray(array))
    else:
        step = BLOCK * len(array) // array.nbytes
        for start in range(0, len(array), max(1, step)):
            yield from blocks(array[start : start + step] if step else array[start])


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array that lies in C order, where they lie."""
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _little(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
