"""An MP4 by ffmpeg, which runs beside and is fed picture by picture."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

__all__ = ["movie", "program"]


def program() -> str | None:
    """Return where ffmpeg is: on the path, or in the package imageio-ffmpeg."""
    with suppress(ImportError, RuntimeError):
        return shutil.which("ffmpeg") or str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    return None


def movie(
    program: str, frames: Iterable[bytes], size: tuple[int, int], a_second: int, held: tuple[int, int]
) -> tuple[bytes, str]:
    """Return an MP4 as browsers and slides play it (H.264, colours at half the resolution, the index at its head).

    Where ffmpeg fails it is empty, and the last line that ffmpeg has said comes with it.

    Args:
        program: where ffmpeg is.
        frames: pictures of four bytes a pixel.
        size: width and height in pixels.
        a_second: pictures a second.
        held: how many times more the first and the last are shown.
    """
    source = f"-f rawvideo -pix_fmt rgba -s {size[0]}x{size[1]} -r {a_second} -i -"
    hold = f"tpad=start={held[0]}:start_mode=clone:stop={held[1]}:stop_mode=clone"
    # Without a word about the colours, players take those of small pictures for those of large ones.
    colors = "-colorspace bt709 -color_primaries bt709 -color_trc bt709"
    middle = f"-vf scale=out_color_matrix=bt709,format=yuv420p,{hold} {colors}"
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
            return b"", f"ffmpeg failed: {lines[-1] if lines else f'exit status {code}'}"
    except OSError as error:  # no such program, or no room for what it writes
        return b"", f"ffmpeg failed: {error}"


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
