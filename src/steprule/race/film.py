"""An animation of a race for slides: a GIF, and an MP4 where ffmpeg is at hand."""

from __future__ import annotations

from pathlib import Path

from steprule.errors import StepruleError
from steprule.film import NO_FFMPEG, Scene, encode
from steprule.race.runner import Race
from steprule.race.scenes import curves_scene, paths_scene
from steprule.race.summary import summarize
from steprule.report.folder import write_files

__all__ = ["PICTURES", "animate"]

PICTURES = 90


def animate(race: Race, folder: Path, *, pictures: int = PICTURES) -> list[Path]:
    """Write an animation of a race, each rule at its best setting, as a GIF and an MP4; return where they are.

    They are ``paths.gif`` and ``paths.mp4`` for a problem in the plane, ``curves.gif`` and ``curves.mp4`` for any
    other. Without ffmpeg there is no MP4. Where every finished run has diverged there is nothing to draw, and the
    list is empty.

    Args:
        race: of ``run_plan``.
        folder: where they are written.
        pictures: how many are drawn, a 25th of a second each; the first and the last are shown longer.

    Raises:
        HyperparameterError: when ``pictures`` is less than 2.
        StepruleError: quoting ffmpeg when it fails; the GIF is written then. Or when a file cannot be written.
    """
    name, scene = _scene(race)
    if scene is None:
        return []
    made = encode(scene, ("gif", "mp4"), pictures=pictures)
    written = write_files(folder, {f"{name}.{kind}": made.files[kind] for kind in sorted(made.files)})
    if made.no_movie and made.no_movie != NO_FFMPEG:
        raise StepruleError(f"no MP4 was written, only {written[0]}: {made.no_movie}")
    return written


def _scene(race: Race) -> tuple[str, Scene | None]:
    """Return paths for a problem in the plane, and curves for any other; None where there is neither."""
    rows = [row for row in summarize(race.plan, race.runs) if row.best]
    walkers = [row for row in rows if row.best and row.best.runs[0].path]
    if race.plan.problem.box and walkers:
        return "paths", paths_scene(race.plan, walkers)
    return "curves", curves_scene(race.plan, rows) if rows else None
