"""A film of a situation of the lab, by NumPy's numbers: those that the page shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from steprule.errors import HyperparameterError
from steprule.lab.link import Entry, Situation
from steprule.lab.surface import Array, Surface, ground_of
from steprule.lab.trajectory import finite, trajectory
from steprule.style import LIGHT, THEMES, Theme

if TYPE_CHECKING:
    from steprule.film import Encoded, Scene, Shot, Track

__all__ = ["SECONDS", "film", "lasts", "scene", "shot", "turned"]

SECONDS = 4.0
"""How long paths move, where the link does not say how many steps a second has."""

_LONGEST = 85
"""Letters of a line."""


def film(
    situations: Situation | Sequence[Situation],
    kinds: Collection[str] = ("gif", "mp4"),
    *,
    seconds: float | None = None,
    width: int | None = None,
) -> Encoded:
    """Return a film of a situation, or of two side by side, whose colours are those of the first.

    Its ``files`` are contents by kind. Paths move as the link says, or for four seconds, the first steps more slowly
    than the last ones; the first picture is held for half a second more, the last one for two.

    Args:
        situations: of ``situation(...)``. That of a thousand starts is shown as a map from its own start.
        kinds: ``gif``, ``mp4`` (by ffmpeg; without it ``no_movie`` says so) and ``png``, which shows the end.
        seconds: for how long paths move.
        width: pixels, a multiple of 32; the height is 9 / 16 of it. Default: 1280 for a GIF, 1920 else.

    Raises:
        HyperparameterError: when there are too many situations, or seconds and width are out of their ranges.
    """
    from steprule.film import encode, pictures_of

    shown = [situations] if isinstance(situations, Situation) else list(situations)
    pictures = pictures_of(max(map(lasts, shown), default=SECONDS) if seconds is None else seconds)
    return encode(scene(shown), kinds, pictures=pictures, width=width)


def lasts(situation: Situation) -> float:
    """Return for how many seconds the paths of a situation move."""
    begin = _begin(situation)
    return (situation.steps - begin) / float(situation.speed) if situation.speed else SECONDS


def turned(situation: Situation) -> Situation:
    """Return the situation seen in three dimensions.

    Raises:
        HyperparameterError: when its surface has one.
    """
    if situation.surface.dimensions == 1:
        raise HyperparameterError(
            f"{situation.surface.title} is a line, and has no view in three dimensions; drop --3d"
        )
    return replace(situation, view="solid")


def scene(situations: Sequence[Situation]) -> Scene:
    """Return the scene of a situation, or of two side by side; its colours are those of the first.

    Raises:
        HyperparameterError: when there are more.
    """
    from steprule.film import compose

    theme = THEMES.get(situations[0].theme, LIGHT) if situations else LIGHT
    return compose([shot(one, theme) for one in situations], theme)


def shot(situation: Situation, theme: Theme) -> Shot:
    """Return the paths of a situation over its surface."""
    from steprule.film import Shot

    is_solid = situation.view == "solid"
    return Shot(
        title=situation.title or situation.surface.title,
        note=_note(situation),
        ground=ground_of(situation.surface),
        tracks=[_track(situation, entry, theme) for entry in situation.entries],
        end=situation.steps,
        begin=_begin(situation),
        even=bool(situation.speed),
        turn=situation.turn if is_solid else None,
    )


def _begin(situation: Situation) -> int:
    """Return the step that playing begins with: as on the page, the one that is shown, unless it is the last."""
    return situation.t if situation.t < situation.steps else 0


def _note(situation: Situation) -> str:
    """Return what is to be known of the situation beside its title."""
    ground = situation.surface
    parts = [ground.title if situation.title else _in_short(ground.about)]
    parts += [f"noise {situation.noise:g}"] * bool(situation.noise)
    parts += [f"loss × {situation.scale:g}"] * (situation.scale != 1)
    return " · ".join(parts)


def _in_short(about: str) -> str:
    """Return the first sentence, or as many of its clauses as can be read on a slide."""
    sentence = about.split(". ")[0].removesuffix(".")
    while len(sentence) > _LONGEST and (cut := max(sentence.rfind(mark) for mark in ",;:")) > 0:
        sentence = sentence[:cut]
    return sentence


def _track(situation: Situation, entry: Entry, theme: Theme) -> Track:
    from steprule.film import Track

    path = trajectory(
        entry.rule, situation.surface, situation.steps, start=situation.start, noise=situation.noise,
        scale=situation.scale, seed=situation.seed, evaluated=True, **entry.values,
    )  # fmt: skip
    points = path.astype(np.float64)
    count = finite(situation.surface, points)
    return Track(
        name=entry.name,
        note=_settings(entry),
        style=theme.style(entry.slot),
        points=points[:count],
        steps=np.arange(count),
        losses=np.broadcast_to(situation.surface.loss(points[:count].T), (count,)),
        lost=None if count == len(points) else count,
        fate=_fate(situation.surface, points[count:][:1]),
        front=int(entry.name == situation.look),
    )


def _fate(surface: Surface, lost: Array) -> str:
    """Return what befell a run, by the first point that is not drawn: as ``fate`` of the page."""
    return "no loss" if np.isfinite(lost).all() and np.isnan(surface.loss(lost.T)).any() else "diverged"


def _settings(entry: Entry) -> str:
    """Return the learning rate, and what else the rule is given that is not its default."""
    known = entry.rule.hyperparameters
    given = {name: value for name, value in entry.values.items() if value != known[name].default}
    rate = {"lr": entry.values.get("lr", known["lr"].default)} if "lr" in known else {}
    return ", ".join(f"{name} {value:g}" for name, value in {**rate, **given}.items())
