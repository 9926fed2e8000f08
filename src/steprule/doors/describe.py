"""What an optimizer really keeps, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from steprule.doors.leaf import Leaf
from steprule.formats import Storage

__all__ = ["Line", "describe", "table"]


@dataclass(frozen=True)
class Line:
    """One parameter in the table.

    Attributes:
        kept: what is kept beside the parameter, and how.
        elements: of the parameter.
        nbytes: of the parameter and what is kept.
        grad: bytes of its gradient.
    """

    place: str
    shape: tuple[int, ...]
    dtype: str
    kept: str
    elements: int
    nbytes: int
    grad: int


def describe(title: str, leaves: Iterable[Leaf]) -> str:
    """Return the table of an optimizer's parameters."""
    return table(title, [_line(leaf) for leaf in leaves])


def _line(leaf: Leaf) -> Line:
    array = leaf.array
    nbytes = array.nbytes + sum(plane.nbytes for plane in leaf.kept)
    slots = {name: way.name for name, way in leaf.kernel.slots.items()}
    kept = words(slots, leaf.storage)
    return Line(leaf.place, array.shape, array.dtype.name, kept, array.size, nbytes, array.nbytes)


def words(slots: Mapping[str, str], storage: Storage) -> str:
    """Return the formats of a parameter's values in words."""
    parts = [] if storage.weights == "nearest" else [f"weights: {storage.weights}"]
    text = ", ".join([*parts, *(f"{name}: {way}" for name, way in slots.items())]) or "none"
    return f"{text} (small)" if storage.is_small else text


def table(title: str, lines: Iterable[Line]) -> str:
    """Return a summary, and a row for every parameter."""
    lines = list(lines)
    total, grads = sum(line.nbytes for line in lines), sum(line.grad for line in lines)
    elements = sum(line.elements for line in lines)
    means = (
        f", {total / elements:.2f} bytes a parameter ({(total + grads) / elements:.2f} with gradients)"
        if elements
        else ""
    )
    rows: list[tuple[Any, ...]] = [("parameter", "shape", "type", "kept", "bytes a parameter")]
    for line in lines:
        mean = f"{line.nbytes / line.elements:.2f}".rstrip("0").rstrip(".") if line.elements else "0"
        rows.append((line.place, str(line.shape), line.dtype, line.kept, mean))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{title}: {elements:,} parameters, {total:,} bytes with what is kept{means}", *text])
