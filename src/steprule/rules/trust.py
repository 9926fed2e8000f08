"""Trust ratios: the size of a tensor over that of its step."""

from __future__ import annotations

from typing import Any

from steprule.language import where

__all__ = ["quotient_or_one"]


def quotient_or_one(size: Any, length: Any) -> Any:
    """Return ``size / length``, and 1 where one of both is not above 0: a tensor of zeros must be able to move.

    A norm that is NaN is not above 0 either, so that a NaN in one element does not reach the others.
    """
    return where((size > 0) & (length > 0), size / where(length > 0, length, 1.0), 1.0)
