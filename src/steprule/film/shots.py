"""What a film is of: surfaces, and the paths of rules over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steprule.film.ground import Array, Ground
from steprule.style import Style

__all__ = ["Shot", "Track", "walked"]

_EASE = 2.0
"""The step at a share of the time is that share to this power: the first steps go far, and are shown one by one."""


@dataclass(frozen=True)
class Track:
    """The path of a rule.

    Attributes:
        name: of the rule.
        note: its settings, in short.
        style: how it is drawn.
        points: where it was, as rows; all finite.
        steps: after which steps, rising from 0.
        losses: there.
        lost: the step after which there is no more to draw; None where there is to the end.
        front: what is more to the front is drawn over the others.
        fate: why there is no more to draw, in a word or two.
    """

    name: str
    note: str
    style: Style
    points: Array
    steps: Array
    losses: Array
    lost: int | None = None
    front: int = 0
    fate: str = "diverged"


@dataclass(frozen=True)
class Shot:
    """A surface, and the paths over it.

    Attributes:
        title: what it shows.
        note: how, in short.
        ground: the surface.
        tracks: at least one.
        end: the last step.
        begin: the step that the film begins with; before it paths are there already.
        even: whether each second has as many steps as the others; else the first ones are slower.
        turn: how far the camera goes around and up, in radians, to see it in three dimensions; None: a map.
    """

    title: str
    note: str
    ground: Ground
    tracks: Sequence[Track]
    end: float
    begin: float = 0.0
    even: bool = False
    turn: tuple[float, float] | None = None

    def step(self, moment: float) -> float:
        """Return the step at a share of the time, from 0 to 1."""
        return self.begin + (self.end - self.begin) * (moment if self.even else moment**_EASE)


def walked(path: Array, steps: Array, end: float) -> Array:
    """Return the points of a path up to a moment that is counted in steps, and the one between two of them."""
    before = max(int(np.searchsorted(steps, end, side="right")), 1)
    if before == len(steps) or steps[before - 1] >= end:
        return path[:before]
    share = (end - steps[before - 1]) / (steps[before] - steps[before - 1])
    return np.concatenate(
        (path[:before], path[before - 1 : before] + share * np.diff(path[before - 1 : before + 1], axis=0))
    )
