"""A value and the planes that hold it: their names, and numbers to planes and back, by the referee."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.backends import numpy as referee
from steprule.compile import Plan, Plane, make_plan
from steprule.formats import Codec, RoundToNearest, shape_of
from steprule.language import Node
from steprule.language.node import symbol

__all__ = ["decode", "encode", "plan_of", "plane_name", "planes_of", "symbols_of"]


def plane_name(value: str, suffix: str) -> str:
    """Return the name of one plane of a value."""
    return f"{value}.{suffix}" if suffix else value


def planes_of(name: str, codec: Codec) -> dict[str, Plane]:
    """Return the planes of a value, by suffix."""
    return {p.suffix: Plane(plane_name(name, p.suffix), p.dtype, p.per, p.packing) for p in codec.planes}


def symbols_of(planes: Mapping[str, Plane]) -> dict[str, Node]:
    """Return what stands for an element of each plane, by suffix."""
    return {suffix: symbol(plane.name, plane.per, plane.kind) for suffix, plane in planes.items()}


def plan_of(codec: Codec, encodes: bool) -> Plan:
    """Return the plan that makes planes of numbers, rounded to nearest, or numbers of planes."""
    planes = planes_of("x", codec)
    number = Plane("number", "float32")
    if encodes:
        outputs = {
            planes[k].name: node for k, node in codec.encode(symbol("number", "element"), RoundToNearest()).items()
        }
    else:
        outputs = {"number": codec.decode(symbols_of(planes))}
    return make_plan(codec.id, "float32", (number, *planes.values()), {}, {}, outputs, {}, ())


@functools.cache
def _converter(codec: Codec, encodes: bool) -> Callable[..., None]:
    """Return the referee's ``run(numbers, *planes, scalars)`` that fills the planes, or the numbers."""
    return referee.load(plan_of(codec, encodes))


def encode(codec: Codec, numbers: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return the planes, by suffix, that keep these numbers, rounded to nearest."""
    planes = {spec.suffix: np.zeros(shape_of(spec, numbers.shape), spec.dtype) for spec in codec.planes}
    _convert(codec, True, numbers, planes)
    return planes


def decode(codec: Codec, planes: Mapping[str, NDArray[Any]], shape: Sequence[int]) -> NDArray[np.float32]:
    """Return the numbers that planes, by suffix, hold of an array of this shape."""
    numbers = np.zeros(shape, np.float32)
    _convert(codec, False, numbers, planes)
    return numbers


_BLOCK = 65_536


def _convert(codec: Codec, encodes: bool, numbers: NDArray[np.float32], planes: Mapping[str, NDArray[Any]]) -> None:
    """Convert some rows at a time, so that intermediate values stay small."""
    run, parts = _converter(codec, encodes), [planes[spec.suffix] for spec in codec.planes]
    if not numbers.size:
        return
    if numbers.ndim < 2:
        run(numbers, *parts, ())
        return
    step = max(1, _BLOCK // (numbers.size // len(numbers)))
    for start in range(0, len(numbers), step):
        rows = slice(start, start + step)
        run(numbers[rows], *(spec[rows] for spec in parts), ())
