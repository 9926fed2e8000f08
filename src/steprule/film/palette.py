"""Pictures in few colours, for a GIF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from steprule.film.ground import Array

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["reduced"]

_COLORS = 255
"""One less than a GIF may have: Pillow takes one for what has not changed since the picture before."""


def reduced(pictures: Sequence[Image]) -> Iterator[Image]:
    """Yield the pictures in the colours that are most frequent, which are exact (Pillow's own are near them)."""
    from PIL import Image
    from scipy.spatial import KDTree

    shown = [_packed(pictures[index]) for index in (0, len(pictures) // 2, -1)]
    colors, counts = np.unique(np.stack(shown), return_counts=True)
    palette = _channels(colors[np.argsort(-counts, kind="stable")[:_COLORS]])
    nearest, unknown = KDTree(palette), len(palette)
    numbers = np.full(1 << 24, unknown, np.uint8)
    for picture in pictures:
        packed = _packed(picture)
        new = np.unique(packed[numbers[packed] == unknown])
        numbers[new] = nearest.query(_channels(new))[1]
        image = Image.fromarray(numbers[packed])
        image.putpalette(palette.astype(np.uint8).tobytes())
        yield image


def _packed(picture: Image) -> Array:
    """Return each pixel's colour as one number."""
    red, green, blue = np.moveaxis(np.asarray(picture, np.int32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _channels(packed: Array) -> Array:
    return np.stack((packed >> 16, packed >> 8 & 255, packed & 255), axis=-1)
