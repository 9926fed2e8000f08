"""From a scene to files: a GIF, an MP4 where ffmpeg is at hand, and a PNG of the end."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.errors import HyperparameterError
from steprule.film.draw import WIDTH
from steprule.film.ffmpeg import movie, program
from steprule.film.ground import Array
from steprule.film.palette import reduced
from steprule.film.scene import Scene

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["A_SECOND", "FIRST", "KINDS", "LAST", "NO_FFMPEG", "Encoded", "encode", "pictures_of"]

KINDS = ("gif", "mp4", "png")
A_SECOND = 25
FIRST, LAST = 15, 50
"""How many times as long the first and the last picture are shown: to read the names, and to see who has won."""
_WIDE, _SMALL = 1920, 1280
_NARROWEST, _WIDEST, _STEP = 320, 3840, 32
"""Pixels: multiples of 32 make both sides of 16 : 9 whole and even, as H.264 wants them."""
_MOST = 1500
"""Pictures: a minute."""

NO_FFMPEG = (
    "ffmpeg was not found. Install it (apt install ffmpeg, brew install ffmpeg, or pip install imageio-ffmpeg); the "
    "same command then writes the MP4. A GIF needs none."
)


@dataclass(frozen=True)
class Encoded:
    """What was made.

    Attributes:
        files: contents by kind: gif, mp4, png.
        no_movie: why there is no MP4 although one was asked for; empty where there is one.
    """

    files: dict[str, bytes]
    no_movie: str = ""


def pictures_of(seconds: float) -> int:
    """Return how many pictures a film has that moves for so long.

    Raises:
        HyperparameterError: when that is too short or too long.
    """
    count = round(seconds * A_SECOND) if np.isfinite(seconds) else 0
    if not 2 <= count <= _MOST:
        raise HyperparameterError(
            f"a film moves for 0.1 to {_MOST // A_SECOND} seconds, got {seconds:g}; choose by --seconds (seconds=)"
        )
    return count


def encode(scene: Scene, kinds: Collection[str], *, pictures: int, width: int | None = None) -> Encoded:
    """Draw a scene, and return files of the ``kinds`` that are asked for.

    Without ffmpeg there is no MP4; where only that was asked for, nothing is drawn.

    Args:
        scene: of ``compose``.
        kinds: of ``KINDS``. A PNG shows the end.
        pictures: how many are drawn, a 25th of a second each; the first and the last are shown longer.
        width: pixels, a multiple of 32; the height is 9 / 16 of it. Default: 1280 for a GIF, 1920 else.

    Raises:
        HyperparameterError: when there are too few pictures, or too few or too many pixels.
    """
    if pictures < 2:
        raise HyperparameterError(f"pictures must be at least 2, the first and the last, got {pictures}")
    _check(width)
    ffmpeg = program() if "mp4" in kinds else None
    wanted = set(kinds) - ({"mp4"} if ffmpeg is None else set())
    no_movie = NO_FFMPEG if "mp4" in kinds and ffmpeg is None else ""
    if not wanted:
        return Encoded({}, no_movie)
    wide = width or _WIDE
    scene.figure.set_dpi(wide / WIDTH * (1 + 1e-9))  # not a pixel less by rounding
    moments = np.linspace(0, 1, pictures) if wanted & {"gif", "mp4"} else np.ones(1)
    kept: list[Image] = []
    frames = _frames(scene, moments, kept if "gif" in wanted else None, width or _SMALL)
    files: dict[str, bytes] = {}
    if ffmpeg is not None:
        files["mp4"], no_movie = movie(ffmpeg, frames, (wide, wide * 9 // 16), A_SECOND, (FIRST - 1, LAST - 1))
    deque(frames, maxlen=0)  # the others need those that ffmpeg has not taken
    if "gif" in wanted:
        files["gif"] = _gif(kept)
    if "png" in wanted:
        files["png"] = _png(scene)
    return Encoded({kind: content for kind, content in files.items() if content}, no_movie)


def _check(width: int | None) -> None:
    if width is None or (_NARROWEST <= width <= _WIDEST and width % _STEP == 0):
        return
    near = min(max(round(width / _STEP) * _STEP, _NARROWEST), _WIDEST)
    raise HyperparameterError(
        f"the width of a film is a multiple of {_STEP} from {_NARROWEST} to {_WIDEST} pixels, got {width}; take {near}"
    )


def _frames(scene: Scene, moments: Array, kept: list[Image] | None, small: int) -> Iterator[bytes]:
    """Yield each picture for the movie, and put it into ``kept`` for the GIF."""
    from PIL import Image

    for picture in _pictures(scene, moments):
        data = picture.tobytes()
        if kept is not None:
            image = Image.frombytes("RGB", picture.shape[1::-1], data, "raw", "RGBX")
            is_small = image.width == small
            kept.append(image if is_small else image.resize((small, small * 9 // 16), Image.Resampling.HAMMING))
        yield data


def _pictures(scene: Scene, moments: Array) -> Iterator[Array]:
    """Yield pictures, (rows, columns, 4) bytes, each until the next one. What does not move is drawn once."""
    canvas: Any = scene.figure.canvas
    for artist in scene.moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(scene.figure.bbox)
    for moment in moments:
        canvas.restore_region(still)
        scene.move(float(moment))
        for artist in scene.moving:
            scene.figure.draw_artist(artist)
        yield np.asarray(canvas.buffer_rgba())


def _gif(pictures: list[Image]) -> bytes:
    """Return a GIF that loops; the same bytes for the same pictures."""
    first, *others = reduced(pictures)
    times = [1000 // A_SECOND * held for held in (FIRST, *[1] * (len(pictures) - 2), LAST)]
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return stream.getvalue()


def _png(scene: Scene) -> bytes:
    """Return the picture that was drawn last."""
    from PIL import Image

    picture = np.asarray(scene.figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    stream = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(stream, "PNG", optimize=True)
    return stream.getvalue()
