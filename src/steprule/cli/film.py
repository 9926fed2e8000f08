"""``steprule lab --film``: situations of the lab as files for slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from steprule.errors import HyperparameterError, StepruleError
from steprule.install import how_to_install

if TYPE_CHECKING:
    from rich.status import Status

    from steprule.film import Encoded
    from steprule.lab import Situation, View

__all__ = ["FilmOptions", "write_film"]

_BOTH = ("gif", "mp4")


@dataclass(frozen=True)
class FilmOptions:
    """What is asked of a film.

    Attributes:
        of: stories and links, one or two.
        solid: whether it is seen in three dimensions, whatever the links say.
        dark: whether its colours are dark, whatever the links say.
        seconds: for how long paths move.
        width: pixels.
    """

    of: Sequence[str]
    solid: bool
    dark: bool
    seconds: float | None
    width: int | None

    def check(self, *others: tuple[str, object]) -> None:
        """Check that each option has an effect.

        Args:
            others: options of the page, and their values.

        Raises:
            HyperparameterError: for an option of a film without one, or of the page beside one.
        """
        mine = {"--3d": self.solid, "--dark": self.dark, "--seconds": self.seconds, "--width": self.width}
        if not self.of:
            idle = [name for name, value in mine.items() if value is not None and value is not False]
            if idle:
                raise HyperparameterError(f"{idle[0]} belongs to a film; name its story or link by --film")
            return
        for name, value in others:
            if value is not None and value is not False:
                raise HyperparameterError(f"{name} has no effect with --film, which writes a film and no page; drop it")


def write_film(view: View, options: FilmOptions, output: Path | None) -> None:
    """Write the film, and say where it is.

    Raises:
        StepruleError: when a link cannot be read, matplotlib or ffmpeg is missing, or a file cannot be written.
    """
    if find_spec("matplotlib") is None:
        raise StepruleError(f"a film needs matplotlib. Install: {how_to_install('matplotlib')}")
    from steprule.lab import situation
    from steprule.lab.link import FIRST

    with _busy("Looking for learning rates" if FIRST in options.of else "Reading the link"):
        found = [situation(text, view) for text in options.of]
    _check_use(view, found, options.of)
    shown = [_as_asked(one, options) for one in found]
    targets = _targets(shown, output)
    made = _drawn(shown, tuple(targets), options)
    for kind, content in made.files.items():
        _write(content, targets[kind])
    if any(one.view == "thousand" for one in shown):
        typer.echo("A film does not show a thousand starts; it shows the paths from one, on a map.")
    _tell(made)


def _check_use(view: View, shown: Sequence[Situation], of: Sequence[str]) -> None:
    """Refuse rules and a surface of which nothing is seen. Links to a page with both need not show both."""
    from steprule.lab.presets import is_story

    given = [*["rules"] * bool(view.rules), *["--surface"] * (view.surface is not None)]
    asked = {entry.rule.name for entry in view.asked}

    def shows(text: str, one: Situation) -> bool:
        own = one.surface == view.surface or any(entry.rule.name in asked for entry in one.entries)
        return own and not is_story(text)

    if given and not any(map(shows, of, shown)):
        belong = "belong" if view.rules else "belongs"
        name = f"{'story' if is_story(of[0]) else 'link'} {of[0]!r}"
        raise HyperparameterError(
            f"{' and '.join(given)} {belong} to --film page or a link that shows them; the {name} has its own"
        )


def _as_asked(situation: Situation, options: FilmOptions) -> Situation:
    from steprule.lab.films import turned

    if options.dark:
        situation = replace(situation, theme="dark")
    return turned(situation) if options.solid else situation


def _targets(shown: Sequence[Situation], output: Path | None) -> dict[str, Path]:
    """Return where each kind of file is written: of the kind that ``output`` ends with, or a GIF and an MP4."""
    from steprule.film import KINDS

    if output is None:
        output = Path("-".join(one.key for one in shown))
    elif output.is_dir():
        raise HyperparameterError(f"--output {output} is a folder; name a file in it, as {output / shown[0].key}.gif")
    kind = output.suffix.removeprefix(".").lower()
    if kind in KINDS:
        return {kind: output}
    if kind:
        raise HyperparameterError(
            f"a film is a .gif, an .mp4 or a .png (its last picture), got --output {output}; without an ending a GIF "
            "and an MP4 are written"
        )
    return {kind: output.with_name(f"{output.name}.{kind}") for kind in _BOTH}


def _drawn(shown: Sequence[Situation], kinds: Sequence[str], options: FilmOptions) -> Encoded:
    from steprule.lab import film

    with _busy("Drawing the film"):
        return film(shown, kinds, seconds=options.seconds, width=options.width)


def _busy(words: str) -> Status:
    from rich.console import Console

    return Console(stderr=True).status(words)


def _write(content: bytes, path: Path) -> None:
    from steprule.lab import write

    write(content, path)
    typer.echo(f"Wrote {path} ({len(content) / 1e6:.2g} MB).")


def _tell(made: Encoded) -> None:
    """Say why there is no MP4. That ffmpeg is missing is an error only where nothing else was asked for."""
    from steprule.film import NO_FFMPEG

    if made.no_movie == NO_FFMPEG and made.files:
        typer.echo(f"No MP4 was written: {NO_FFMPEG}")
    elif made.no_movie:
        raise StepruleError(f"no MP4 was written: {made.no_movie}")
