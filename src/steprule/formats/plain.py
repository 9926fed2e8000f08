"""Plain floating-point storage, one plane a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.language import where

__all__ = ["FORMATS", "Format", "flush"]


@dataclass(frozen=True)
class Format:
    """A storage type and the type that steps on it are computed in.

    Attributes:
        name: NumPy's name of the type in memory.
        compute: NumPy's name of the type of the arithmetic.
    """

    name: str
    compute: str


FORMATS: dict[str, Format] = {
    "float16": Format("float16", "float32"),
    "bfloat16": Format("bfloat16", "float32"),
    "float32": Format("float32", "float32"),
    "float64": Format("float64", "float64"),
}


def flush(value: Any, compute: str) -> Any:
    """Return what a slot keeps of ``value``, symbol or array: zero below the smallest normal number of the type.

    Slots of an element whose gradient stays zero decay into subnormal numbers otherwise, on which
    processors compute many times slower. NaN is kept.
    """
    smallest_normal = float(np.finfo(compute).smallest_normal)
    return where(abs(value) < smallest_normal, 0.0, value)
