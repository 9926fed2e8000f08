"""Writing a checkpoint: aside, checked, synced, and only then put in place."""

from __future__ import annotations

import errno
import importlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from steprule.checkpoint.checksum import Checksums
from steprule.checkpoint.header import Layout
from steprule.checkpoint.plain import Json
from steprule.checkpoint.rotate import rotate
from steprule.checkpoint.stored import Stored, blocks

__all__ = ["write"]

# Windows has none; an open file cannot be removed there, which serves as well.
fcntl: Any = None if os.name == "nt" else importlib.import_module("fcntl")

_PREFIX, _SUFFIX = ".steprule-", ".tmp"
_REMEDIES = {
    errno.ENOSPC: "Free some space, or save elsewhere",
    errno.EDQUOT: "Free some of the quota, or save elsewhere",
    errno.EFBIG: "Save fewer tensors to a file, or elsewhere: files may not be so large here",
    errno.EACCES: "Save where you may write",
    errno.EPERM: "Save where you may write",
    errno.EROFS: "Save elsewhere",
    errno.ENOENT: "Make the directory first",
    errno.ENOTDIR: "Make the directory first",
    errno.EISDIR: "Give the name of a file in it",
}


def write(path: Path, tensors: Mapping[str, Stored], document: Json, keep: int = 0) -> None:
    """Write a checkpoint, so that at every moment the file at ``path`` is a complete one, the old or the new.

    It is written to a file of its own in the same directory, synced, and renamed; then the directory is synced. What
    was killed while it wrote is removed by the next one that writes to the directory.

    Args:
        path: where to; a symbolic link stays, and what it leads to is replaced.
        tensors: by name. They must not change meanwhile.
        document: what they are.
        keep: how many older checkpoints stay, as ``path.1`` (the newest) to ``path.N``.

    Raises:
        CheckpointError: for names and values that the format cannot hold.
        OSError: when it cannot be written; then what was there stays, and nothing is left behind.
    """
    layout = Layout(tensors, document)
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _remove_stale(target.parent)
        with _aside(target.parent) as (file, place):
            _fill(file, layout, tensors)
            os.fsync(file)
            with _directory(target.parent) as directory:
                rotate(target, keep)
                os.replace(place, target)
                if directory is not None:
                    os.fsync(directory)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Look after the disk, or save elsewhere")
        words = f"{error.strerror or error}; what was there before stays as it was. {remedy}"
        raise OSError(error.errno, words, str(path)) from error


def _fill(file: int, layout: Layout, tensors: Mapping[str, Stored]) -> None:
    """Write the tensors, and then the header before them, which holds their checksums."""
    os.lseek(file, layout.size, os.SEEK_SET)
    with Checksums() as sums:
        for name, entry in layout.entries.items():
            sums.found[name] = 0
            array = tensors[name].get()
            for block in blocks(array):
                sums.add(name, block, entry.end - entry.start, not array.flags.c_contiguous)
                _write(file, block)
        if sums.is_beside:
            os.fsync(file)  # the disk is at work while the rest is summed
    os.lseek(file, 0, os.SEEK_SET)
    _write(file, memoryview(layout.header(sums.found)))


def _write(file: int, block: memoryview) -> None:
    while block:
        block = block[os.write(file, block) :]


@contextmanager
def _aside(directory: Path) -> Iterator[tuple[int, Path]]:
    """Make a file that is removed in the end, if it is still there; locked, so that others leave it alone."""
    place, file = _create(directory)
    try:
        yield file, place
    finally:
        os.close(file)
        with suppress(OSError):
            place.unlink()


def _create(directory: Path) -> tuple[Path, int]:
    while True:
        place = directory / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        _lock(file)
        # Between these two lines another process may have taken it for the file of a dead one.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(place), os.fstat(file)):
                return place, file
        os.close(file)


def _remove_stale(directory: Path) -> None:
    """Remove the files of writers that are dead: those that nobody holds a lock on."""
    for name in os.listdir(directory):
        if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
            continue
        with suppress(OSError):
            file = os.open(directory / name, os.O_RDWR)
            try:
                _lock(file, wait=False)
                if fcntl is not None:
                    (directory / name).unlink()
            finally:
                os.close(file)
            if fcntl is None:
                (directory / name).unlink()


def _lock(file: int, *, wait: bool = True) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def _directory(directory: Path) -> Iterator[int | None]:
    """Hold a directory, so that of several writers one renames at a time; None where that cannot be done."""
    if fcntl is None:
        yield None
        return
    file = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no directories
            _lock(file)
        yield file
    finally:
        os.close(file)
