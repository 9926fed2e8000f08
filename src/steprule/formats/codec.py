"""How one value of every element is stored between steps: its planes, and how they are encoded and decoded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from steprule.formats.plain import flush
from steprule.formats.rounding import Rounding
from steprule.language.bits import round_to_half
from steprule.language.matrices import View, kept_shape

__all__ = ["CODING", "EARLIER_CODING", "GROUP", "Codec", "PlaneSpec", "Planes", "plain", "rows_of", "shape_of"]

GROUP = 128
"""Elements that share a scale, at most: neighbours in a row of dimension 0."""

CODING, EARLIER_CODING = f"groups of {GROUP}, 2", f"groups of {GROUP}, 1"
"""What says how saved codes and scales are to be read, and how before tensors of one dimension had any."""

Planes = Mapping[str, Any]
"""The planes of a value, or what stands for them, by their suffix."""


@dataclass(frozen=True)
class PlaneSpec:
    """One plane of a value.

    Attributes:
        suffix: what its name adds to the value's.
        dtype: NumPy's name of its items' type.
        per: what it has a number for.
        packing: how many numbers an item has: of neighbours in a row, the first in the lowest bits. 1, 2, 4 or 8.
        view: how the value's tensor is seen, where the numbers are those of rows or columns of matrices.
    """

    suffix: str
    dtype: str
    per: Literal["element", "group", "row", "column"] = "element"
    packing: int = 1
    view: View = "first"

    @property
    def kind(self) -> str:
        """What the type is called where there are bfloat16: upper halves of float32, which NumPy has as integers."""
        return "bfloat16" if self.dtype == "uint16" else self.dtype

    @property
    def bits(self) -> int:
        """The bits of a number."""
        return 8 * np.dtype(self.dtype).itemsize // self.packing


@dataclass(frozen=True)
class Codec:
    """How a value is stored.

    Attributes:
        name: what it is called in options, tables and checkpoints.
        planes: its planes.
        decode: from the planes to the number.
        encode: from the number to the planes. What is rounded is rounded as the rounding says.
        coding: how the planes are to be read, where the name does not tell.
    """

    name: str
    planes: tuple[PlaneSpec, ...]
    decode: Callable[[Planes], Any]
    encode: Callable[[Any, Rounding], dict[str, Any]]
    coding: str = ""

    @property
    def id(self) -> str:
        """What a checkpoint says of it: planes of another ``id`` mean something else."""
        return self.coding or self.name

    @property
    def is_plain(self) -> bool:
        """Whether its one plane holds the numbers as they are."""
        return len(self.planes) == 1 and self.planes[0].dtype.startswith("float")

    @property
    def is_elementwise(self) -> bool:
        """Whether it has numbers for every element, or for groups of them, and not for rows or columns."""
        return self.planes[0].per in ("element", "group")

    @property
    def is_coded(self) -> bool:
        """Whether its first plane holds codes, which whoever does not know the format would take for numbers."""
        return "float" not in self.planes[0].kind

    def reloaded(self, encoded: Planes) -> Any:
        """Return the number that the planes hold once they are stored, truncated or rounded to float16."""
        return self.decode({spec.suffix: _loaded(encoded[spec.suffix], spec) for spec in self.planes})


def _loaded(value: Any, spec: PlaneSpec) -> Any:
    if spec.dtype.startswith("float"):
        return round_to_half(value) if spec.dtype == "float16" else value
    low = value & (2**spec.bits - 1)
    return low if spec.dtype.startswith("u") else (low ^ 2 ** (spec.bits - 1)) - 2 ** (spec.bits - 1)


def rows_of(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the rows of an array, the elements of a row, and the groups of a row.

    Rows are those of the first axis, so that parts of an array along it keep their groups; an array of fewer than two
    dimensions is one row. A part without rows has rows of the same length.
    """
    rows, length = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
    return rows, length, -(-length // GROUP)


def shape_of(spec: PlaneSpec, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a plane for an array of this shape. No item, and no group, has elements of two rows."""
    rows, length, groups = rows_of(shape)
    if spec.per == "row" or spec.per == "column":
        return kept_shape(shape, spec.per, spec.view)
    if spec.per == "group":
        return rows, groups
    return tuple(shape) if spec.packing == 1 else (rows, -(-length // spec.packing))


@functools.cache
def plain(
    dtype: str, flushes: bool, per: Literal["element", "row", "column"] = "element", view: View = "first"
) -> Codec:
    """Return one plane of a floating-point type, rounded to nearest.

    Args:
        dtype: ``float16``, ``float32`` or ``float64``.
        flushes: whether numbers below the smallest normal one become zero, as in slots.
        per: what it has a number for.
        view: how the tensor is seen where that is a row or a column.
    """

    def encode(value: Any, rounding: Rounding) -> dict[str, Any]:
        return {"": flush(value, dtype) if flushes else value}

    return Codec(dtype, (PlaneSpec("", dtype, per, view=view),), lambda planes: planes[""], encode)
