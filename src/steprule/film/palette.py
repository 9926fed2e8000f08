"""Pictures in few colours, for a GIF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from steprule.film.ground import Array

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["reduced"]

_FREQUENT, _RARE = 191, 64
"""Together one less than a GIF may have: Pillow takes one for what has not changed since the picture before."""


def reduced(pictures: Sequence[Image]) -> Iterator[Image]:
    """Yield the pictures in the colours that are most frequent, which are exact (Pillow's own are near them), and in
    some that are far from those: a pale head over a ground of many shades is to keep its colour.
    """
    from PIL import Image
    from scipy.spatial import KDTree

    shown = [_packed(pictures[index]) for index in (0, len(pictures) // 2, -1)]
    colors, counts = np.unique(np.stack(shown), return_counts=True)
    palette = _palette(_channels(colors), counts)
    nearest, unknown = KDTree(palette), len(palette)
    numbers = np.full(1 << 24, unknown, np.uint8)
    for picture in pictures:
        packed = _packed(picture)
        new = np.unique(packed[numbers[packed] == unknown])
        numbers[new] = nearest.query(_channels(new))[1]
        image = Image.fromarray(numbers[packed])
        image.putpalette(palette.astype(np.uint8).tobytes())
        yield image


def _palette(colors: Array, counts: Array) -> Array:
    """Return the most frequent colours, and then, one by one, what is farthest from those so far and not too rare."""
    order = np.argsort(-counts, kind="stable")
    chosen = list(order[:_FREQUENT])
    missed = np.full(len(colors), np.inf)
    for index in chosen:
        missed = np.minimum(missed, ((colors - colors[index]) ** 2).sum(axis=1))
    while len(chosen) < min(_FREQUENT + _RARE, len(colors)):
        chosen.append(int(np.argmax(missed * np.sqrt(counts))))
        missed = np.minimum(missed, ((colors - colors[chosen[-1]]) ** 2).sum(axis=1))
    return np.asarray(colors[chosen])


def _packed(picture: Image) -> Array:
    """Return each pixel's colour as one number."""
    red, green, blue = np.moveaxis(np.asarray(picture, np.int32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _channels(packed: Array) -> Array:
    return np.stack((packed >> 16, packed >> 8 & 255, packed & 255), axis=-1)
