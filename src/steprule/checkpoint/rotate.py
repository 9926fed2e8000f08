"""Older checkpoints beside the newest: ``path.1`` is the newest of them, ``path.N`` the oldest, and no more stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from steprule.checkpoint.header import is_begun
from steprule.files import name_aside

__all__ = ["older", "olders", "prune", "rotate"]


def older(path: Path, number: int) -> Path:
    """Return where the older checkpoint of that number lies."""
    return path.with_name(f"{path.name}.{number}")


def olders(path: Path) -> Iterator[Path]:
    """Yield the older checkpoints that are there, the newest first."""
    number = 1
    while (place := older(path, number)).exists():
        yield place
        number += 1


def prune(path: Path, keep: int) -> None:
    """Remove the older ones beyond ``keep``, which an earlier save was told to keep; with 0 none.

    What lies there and is not a checkpoint is somebody else's, and stays.
    """
    number = keep + 1
    while keep and (place := older(path, number)).exists():
        number += 1
        # The new checkpoint is in place: that an old one cannot be removed is no reason to fail.
        with suppress(OSError):
            if place.is_file() and _is_ours(place):
                place.unlink()


def _is_ours(place: Path) -> bool:
    with open(place, "rb") as file:
        return is_begun(file.read(64))


def rotate(path: Path, keep: int) -> None:
    """Make the file at ``path`` the first of ``keep`` older ones; it stays at ``path``, too, until it is replaced.

    The caller holds the directory: one process at a time rotates in it.

    Args:
        path: the newest checkpoint; there need not be one.
        keep: how many older ones stay.
    """
    if not keep or not path.exists():
        return
    first = older(path, 1)
    if first.exists() and first.samefile(path):
        return  # an earlier save was stopped here
    # Where one is missing, those before it move up, and none is lost.
    vacant = next((n for n in range(1, keep + 1) if not older(path, n).exists()), keep)
    for number in range(vacant, 1, -1):
        os.replace(older(path, number - 1), older(path, number))
    spare = name_aside(path.parent)
    try:
        os.link(path, spare)
    except OSError:  # a file system without hard links: for a moment only path.1 is there
        os.replace(path, first)
        return
    try:
        os.replace(spare, first)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise
