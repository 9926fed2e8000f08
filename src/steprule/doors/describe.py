"""What an optimizer really keeps, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from steprule.doors.leaf import Leaf
from steprule.formats import Codec, Storage, shape_of
from steprule.launch.sums import crosses_rows
from steprule.rules import Rule

__all__ = ["Line", "describe", "line", "table"]


@dataclass(frozen=True)
class Line:
    """One parameter in the table.

    Attributes:
        state: the planes beside the parameter, by format.
        elements: of the parameter.
        nbytes: of the parameter and its state.
        grad: bytes of its gradient.
        rule: the name of what steps it.
    """

    place: str
    shape: tuple[int, ...]
    dtype: str
    state: str
    elements: int
    nbytes: int
    grad: int
    rule: str = ""


def describe(title: str, leaves: Iterable[Leaf]) -> str:
    """Return the table of an optimizer's parameters."""
    lines = [
        line(
            leaf.place,
            leaf.array.shape,
            leaf.array.dtype.name,
            leaf.array.nbytes,
            leaf.kernel.codecs,
            leaf.group.rule,
            leaf.storage,
            tuple(leaf.numbers),
        )
        for leaf in leaves
    ]
    return table(title, lines)


def line(
    place: str,
    shape: Sequence[int],
    dtype: str,
    nbytes: int,
    codecs: Mapping[str, Codec],
    rule: Rule,
    storage: Storage,
    numbers: Sequence[str] = (),
    *,
    is_complex: bool = False,
    is_elsewhere: bool = False,
) -> Line:
    """Return a parameter in the table.

    A vector is ``(one row)`` to a rule that sees rows and columns.

    Args:
        place, shape, dtype, nbytes: what it is called, and what it is.
        codecs: how its values are kept.
        rule: what steps it.
        storage: its formats.
        numbers: the slots that are one number of it.
        is_complex: whether its numbers, and those of its slots, are complex.
        is_elsewhere: whether it is on another device than this machine's processors.
    """
    state = [part for value, codec in codecs.items() for part in codec.planes if value != rule.parameter or part.suffix]
    beside = sum(prod(shape_of(part, shape)) * np.dtype(part.dtype).itemsize for part in state)
    weights = [] if storage.weights == "nearest" else [f"weights: {storage.weights}"]
    of = {name: "" if codec.is_elementwise else f" a {codec.planes[0].per}" for name, codec in codecs.items()}
    slots = [f"{name}: {codec.name}{of[name]}" for name, codec in codecs.items() if name != rule.parameter]
    slots += [f"{name}: one float64" for name in numbers]
    notes = " (small)" if storage.is_small else " (a vector in shards)" if storage.is_cut else ""
    notes += " (one row)" if rule.view and len(shape) < 2 else ""
    if any(part.per == "group" for part in state) and crosses_rows(rule.view, shape) and not is_elsewhere:
        notes += " (stepped by NumPy: groups cross rows)"
    text = f"{', '.join([*weights, *slots]) or 'none'}{notes}"
    kept = beside * (2 if is_complex else 1) + 8 * len(numbers)
    return Line(place, tuple(shape), dtype, text, prod(shape), nbytes + kept, nbytes, rule.name)


def table(title: str, lines: Iterable[Line]) -> str:
    """Return a summary, and a row for every parameter; with the rule of each, where there are several."""
    lines = list(lines)
    total, grads = sum(one.nbytes for one in lines), sum(one.grad for one in lines)
    elements = sum(one.elements for one in lines)
    means = (
        f", {total / elements:.2f} bytes per parameter ({(total + grads) / elements:.2f} with gradients)"
        if elements
        else ""
    )
    rows: list[tuple[Any, ...]] = [("parameter", "shape", "type", "state", "bytes per parameter")]
    for one in lines:
        mean = f"{one.nbytes / one.elements:.2f}".rstrip("0").rstrip(".") if one.elements else "0"
        rows.append((one.place, str(one.shape), one.dtype, one.state, mean))
    if len({one.rule for one in lines}) > 1:
        words = ["rule", *(one.rule for one in lines)]
        rows = [(*row[:3], word, *row[3:]) for row, word in zip(rows, words, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{title}: {elements:,} parameters, {total:,} bytes with optimizer state{means}", *text])
