"""Numbers as people write them: the roundest that is as near as the error allows."""

from __future__ import annotations

import math

__all__ = ["roundest", "written"]


def roundest(value: float, error: float) -> float:
    """Return the number with the fewest digits (at most 6) that is within an error of a value, else the value."""
    if not math.isfinite(value) or not value:
        return value
    for digits in range(1, 7):
        near = float(f"{value:.{digits - 1}e}")
        if abs(near - value) <= error:
            return near
    return value


def written(value: float, error: float, *, decay: bool = False) -> str:
    """Return a value as it is shown: round if that is within its error, of a decay by what it leaves out."""
    if decay:
        rest = roundest(1 - value, 4 * error)
        return f"{1 - rest:.12g}"
    return f"{roundest(value, 4 * error):.6g}"
