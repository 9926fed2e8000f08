"""Probing sequences: gradients that make rules and mistakes tell themselves apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Probe", "further", "probe"]

Floats = NDArray[np.float64]
_STEPS = 10
_LARGE = 1e6
"""The size of gradients beside which no usual epsilon can be seen."""
_SMALL = 10.0 ** np.arange(-13, 5)
"""Sizes of gradients that an epsilon is read from, whether it is 1e-16 or 1, under the root or beside it."""
_AT_ZERO = (1.0, -30.0, 1000.0)
"""Parameters whose gradient stays zero, so that decay alone moves them."""


@dataclass(frozen=True)
class Probe:
    """One tensor and its gradients in every step, which do not depend on the parameters.

    Attributes:
        start: the parameter before the first step, of shape (elements,).
        gradients: of shape (steps, elements).
        large: the elements whose gradients are too large for an epsilon to matter.
        still: the elements whose gradients are all zero.
        medium: the elements whose gradients and their squares have no trouble in half precision.
    """

    start: Floats
    gradients: Floats
    large: NDArray[np.bool_]
    still: NDArray[np.bool_]
    medium: NDArray[np.bool_]


def probe() -> Probe:
    """Return the sequence that rules are fitted to: noise of many sizes, impulses, gradients that vanish, and zeros.

    Gradients that are large first and small later tell AMSGrad's maxima apart, impulses the decays of the moments, and
    sizes from 1e-13 to 1e4 where epsilon is. Parameters begin at 0 where a step is to be read exactly, and far from it
    where weight decay is.
    """
    random = np.random.default_rng(25)
    noise = random.uniform(0.5, 1.5, (_STEPS, 6)) * random.choice([-1.0, 1.0], (_STEPS, 6))
    shapes = np.ones((_STEPS, 6))
    shapes[1:, 1] = 1e-3  # falls at once
    shapes[:, 2] = 0.5 ** np.arange(_STEPS)  # falls step by step
    shapes[:5, 3] = 0.1  # rises
    shapes[3:, 4] = 0.0  # ends
    large = _LARGE * noise * shapes
    graded = random.uniform(0.5, 1.5, (_STEPS, len(_SMALL))) * _SMALL
    still = np.zeros((_STEPS, len(_AT_ZERO)))
    far = random.uniform(-1.5, 1.5, (_STEPS, 4))
    gradients = np.concatenate([large, noise * shapes, graded, still, far], axis=1)
    start = np.concatenate([np.zeros(12 + len(_SMALL)), _AT_ZERO, [1.0, -2.0, 100.0, -100.0]])
    kinds = np.repeat(np.arange(5), [6, 6, len(_SMALL), len(_AT_ZERO), 4])
    return Probe(start, gradients, kinds == 0, kinds == 3, (kinds == 1) | (kinds == 4))


def further(tensors: int, spread: float, steps: int = 30, size: int = 8) -> tuple[Floats, Floats]:
    """Return starts and gradients of several tensors, for what has been fitted to be tried on.

    Args:
        tensors: how many.
        spread: over how many powers of ten, upwards and downwards, sizes of gradients are spread.
        steps: how many.
        size: elements of each tensor.

    Returns:
        starts of shape (tensors, size) and gradients of shape (steps, tensors, size), of other random numbers.
    """
    random = np.random.default_rng(26)
    sizes = 10.0 ** random.uniform(-spread, spread, (tensors, size))
    return random.normal(size=(tensors, size)), sizes * random.normal(size=(steps, tensors, size))
