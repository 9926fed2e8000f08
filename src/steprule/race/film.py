"""An animation of a race for slides: a GIF, and an MP4 where ffmpeg is at hand."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from steprule.errors import HyperparameterError, StepruleError
from steprule.race.folder import write_files
from steprule.race.problem import Array
from steprule.race.runner import Race
from steprule.race.scenes import Scene, curves_scene, paths_scene
from steprule.race.summary import summarize

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["NO_FFMPEG", "PICTURES", "animate"]

PICTURES = 90
_A_SECOND = 25
_FIRST, _LAST = 15, 50
"""How many times as long the first and the last picture are shown: to read the names, and to see who has won."""
_DPI, _SMALL = 150, (1280, 720)
"""The film has 1920 x 1080 pixels, the GIF fewer."""
_COLORS = 255
"""One less than a GIF may have: Pillow takes one for what has not changed since the picture before."""

NO_FFMPEG = (
    "No MP4 was written: ffmpeg was not found. Install it (apt install ffmpeg, brew install ffmpeg, or "
    "pip install imageio-ffmpeg); the same command then writes it."
)


def animate(race: Race, folder: Path, *, pictures: int = PICTURES) -> list[Path]:
    """Write an animation of a race, each rule at its best learning rate, as a GIF and an MP4; return where they are.

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
    if pictures < 2:
        raise HyperparameterError(f"pictures must be at least 2, the first and the last, got {pictures}")
    scene = _scene(race)
    if scene is None:
        return []
    scene.figure.set_dpi(_DPI)
    drawn: list[Image] = []
    frames = _frames(scene, pictures, drawn)
    program = _ffmpeg()
    film, wrong = _film(program, scene, frames) if program else (b"", "")
    # The GIF needs those that ffmpeg has not taken.
    deque(frames, maxlen=0)
    contents = {f"{scene.name}.gif": _gif(drawn), f"{scene.name}.mp4": film}
    written = write_files(folder, {name: content for name, content in contents.items() if content})
    if wrong:
        raise StepruleError(f"no MP4 was written, only {written[0]}: ffmpeg failed: {wrong}")
    return written


def _scene(race: Race) -> Scene | None:
    """Return paths for a problem in the plane, and curves for any other; None where there is neither."""
    rows = [row for row in summarize(race.plan, race.runs) if row.best]
    walkers = [row for row in rows if row.best and row.best.runs[0].path]
    if race.plan.problem.box and walkers:
        return paths_scene(race.plan, walkers)
    return curves_scene(race.plan, rows) if rows else None


def _frames(scene: Scene, count: int, drawn: list[Image]) -> Iterator[bytes]:
    """Yield each picture for the film, and put it into ``drawn`` for the GIF."""
    from PIL import Image

    for picture in _pictures(scene, count):
        data = picture.tobytes()
        image = Image.frombytes("RGB", picture.shape[1::-1], data, "raw", "RGBX")
        drawn.append(image.resize(_SMALL, Image.Resampling.HAMMING))
        yield data


def _pictures(scene: Scene, count: int) -> Iterator[Array]:
    """Yield ``count`` pictures, (rows, columns, 4) bytes, each until the next one. What does not move is drawn once."""
    canvas: Any = scene.figure.canvas
    for artist in scene.moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(scene.figure.bbox)
    for moment in np.linspace(0, 1, count):
        canvas.restore_region(still)
        scene.move(float(moment))
        for artist in scene.moving:
            scene.figure.draw_artist(artist)
        yield np.asarray(canvas.buffer_rgba())


def _gif(pictures: Sequence[Image]) -> bytes:
    """Return a GIF that loops; the same bytes for the same pictures."""
    first, *others = _reduced(pictures)
    times = [1000 // _A_SECOND * held for held in (_FIRST, *[1] * (len(pictures) - 2), _LAST)]
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return stream.getvalue()


def _reduced(pictures: Sequence[Image]) -> Iterator[Image]:
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
        reduced = Image.fromarray(numbers[packed])
        reduced.putpalette(palette.astype(np.uint8).tobytes())
        yield reduced


def _packed(picture: Image) -> Array:
    """Return each pixel's colour as one number."""
    red, green, blue = np.moveaxis(np.asarray(picture, np.int32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def _channels(packed: Array) -> Array:
    return np.stack((packed >> 16, packed >> 8 & 255, packed & 255), axis=-1)


def _ffmpeg() -> str | None:
    """Return where ffmpeg is: on the path, or in the package imageio-ffmpeg."""
    with suppress(ImportError, RuntimeError):
        return shutil.which("ffmpeg") or str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    return None


def _film(program: str, scene: Scene, frames: Iterable[bytes]) -> tuple[bytes, str]:
    """Return an MP4 as browsers and slides play it (H.264, colours at half the resolution, the index at its head).

    Where ffmpeg fails it is empty, and the last line that ffmpeg has said comes with it.
    """
    width, height = scene.figure.canvas.get_width_height()
    source = f"-f rawvideo -pix_fmt rgba -s {width}x{height} -r {_A_SECOND} -i -"
    held = f"tpad=start={_FIRST - 1}:start_mode=clone:stop={_LAST - 1}:stop_mode=clone"
    # Without a word about the colours, players take those of small pictures for those of large ones.
    colors = "-colorspace bt709 -color_primaries bt709 -color_trc bt709"
    middle = f"-vf scale=out_color_matrix=bt709,format=yuv420p,{held} {colors}"
    target = "-c:v libx264 -crf 18 -movflags +faststart"
    command = [program, "-loglevel", "error", *source.split(), *middle.split(), *target.split()]
    try:
        with TemporaryDirectory() as folder, TemporaryFile() as said:
            path = Path(folder, "film.mp4")
            code = _fed([*command, str(path)], frames, said)
            if code == 0:
                return path.read_bytes(), ""
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            return b"", lines[-1] if lines else f"exit status {code}"
    except OSError as error:  # no such program, or no room for what it writes
        return b"", str(error)


def _fed(command: list[str], frames: Iterable[bytes], said: IO[bytes]) -> int:
    """Run a command that reads ``frames`` and writes its complaints to ``said``; return its exit status."""
    # In a group of its own, which a terminal's Ctrl-C does not reach: it is ended here.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
    )
    assert process.stdin is not None
    try:
        # It may end early; its exit status tells.
        with suppress(BrokenPipeError), process.stdin as pipe:
            for frame in frames:
                pipe.write(frame)
        return process.wait()
    finally:
        process.kill()
        process.wait()
