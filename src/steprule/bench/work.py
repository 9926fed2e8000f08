"""What is stepped: arrays of the sizes that optimizers meet."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Work", "gpt2", "works"]

Array = NDArray[np.float32]
_NARROW = 100
"""A width that no memory is too small for."""


@dataclass(frozen=True)
class Work:
    """The parameters of a step.

    Attributes:
        name: how tables call it.
        shapes: of the parameters.
        smaller: what stands in for it where memory would not hold it, the largest first.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    smaller: tuple[Work, ...] = ()

    @property
    def elements(self) -> int:
        """How many numbers the parameters have."""
        return sum(math.prod(shape) for shape in self.shapes)

    def arrays(self, seed: int = 0) -> tuple[list[Array], list[Array]]:
        """Return float32 parameters from 1.25 to 1.75, where a float32 has the same spacing, and normal gradients."""
        rng = np.random.default_rng(seed)
        thetas = [rng.random(shape, np.float32) / np.float32(2) + np.float32(1.25) for shape in self.shapes]
        return thetas, [rng.standard_normal(shape, np.float32) for shape in self.shapes]


def gpt2(width: int = 768) -> Work:
    """Return the 148 tensors of GPT-2 small (124 million elements), or of one less wide.

    Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners: 12 layers, 50,257 tokens, 1,024
    places.
    """
    norm = ((width,), (width,))
    attention = ((width, 3 * width), (3 * width,), (width, width), (width,))
    layers = ((width, 4 * width), (4 * width,), (4 * width, width), (width,))
    shapes = ((50_257, width), (1_024, width), *(norm + attention + norm + layers) * 12, *norm)
    smaller = tuple(gpt2(width // part) for part in (2, 4, 8)) if width > _NARROW else ()
    return Work("GPT-2 small, 148 tensors" if width == 768 else f"GPT-2, {width} wide, 148 tensors", shapes, smaller)


def works(size: str) -> list[Work]:
    """Return what is stepped.

    Args:
        size: ``"quick"``; ``"usual"``, in about a minute; or ``"whole"``, GPT-2 small in full.
    """
    large, many, width = {
        "quick": (1_000_000, 100, 48),
        "usual": (20_000_000, 1_000, 192),
        "whole": (20_000_000, 1_000, 768),
    }[size]
    one, *others = (Work(f"1 x {n:,}", ((n,),)) for n in (large, large // 4, large // 20))
    return [
        replace(one, smaller=tuple(others)),
        gpt2(width),
        Work(f"{many:,} x 1,000", ((1_000,),) * many),
        Work("1 x 10", ((10,),)),
    ]
