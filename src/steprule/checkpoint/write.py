"""Writing a checkpoint: aside, checked, synced, and only then put in place."""

from __future__ import annotations

import errno
import importlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from steprule.checkpoint.checksum import Checksums
from steprule.checkpoint.header import Layout
from steprule.checkpoint.plain import Json
from steprule.checkpoint.rotate import prune, rotate
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
    errno.EEXIST: "Save to another name",
}
_STAYS = "what was there before stays as it was"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


def write(path: Path, tensors: Mapping[str, Stored], document: Json, keep: int = 0) -> None:
    """Write a checkpoint, so that at every moment the file at ``path`` is a complete one, the old or the new.

    It is written to a file of its own in the same directory, synced, and renamed; then the directory is synced. What
    was killed while it wrote is removed by the next one that writes to the directory.

    Args:
        path: where to; a symbolic link stays, and what it leads to is replaced. The new file has the permissions of
            the old one.
        tensors: by name. They must not change meanwhile.
        document: what they are.
        keep: how many older checkpoints stay, as ``path.1`` (the newest) to ``path.N``. Those beyond are removed; 0
            touches none.

    Raises:
        CheckpointError: for names and values that the format cannot hold.
        OSError: when it cannot be written; then what was there stays, and nothing is left behind. Or when it has been
            written, and the directory cannot be synced; the message says which.
    """
    layout = Layout(tensors, document)
    target, is_there = Path(os.path.realpath(path)), False
    try:
        mode = _mode(target)
        _remove_stale(target.parent)
        with _aside(target.parent, mode) as (file, place):
            _fill(file, layout, tensors)
            _permit(file, mode)
            os.fsync(file)
            with _directory(target.parent) as directory:
                rotate(target, keep)
                os.replace(place, target)
                is_there = True
                _sync(directory)
                prune(target, keep)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Look after the disk, or save elsewhere")
        state = "the new file is there, but may be lost when power fails" if is_there else _STAYS
        raise OSError(error.errno, f"{error.strerror or error}; {state}. {remedy}", str(path)) from error


def _mode(target: Path) -> int | None:
    """Return the permissions of the file that is to be replaced; None if there is none.

    Raises:
        OSError: when there is something that is no file; a pipe or a device would be gone after the rename.
    """
    try:
        found = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found):
        raise FileExistsError(errno.EEXIST, "it is a pipe, a socket or a device, and no file")
    return found & 0o777


def _permit(file: int, mode: int | None) -> None:
    """Let the new file be read by whom the old one was read by."""
    if mode is not None and hasattr(os, "fchmod"):
        with suppress(OSError):  # file systems without permissions
            os.fchmod(file, mode)


def _sync(directory: int | None) -> None:
    """Let a rename be on the disk."""
    if directory is None:
        return
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # some file systems sync no directories
            raise


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
def _aside(directory: Path, mode: int | None) -> Iterator[tuple[int, Path]]:
    """Make a file that is removed in the end, if it is still there; locked, so that others leave it alone."""
    # Not to be read by others before it has the permissions of the old one.
    place, file = _create(directory, 0o666 if mode is None else 0o600)
    try:
        yield file, place
    finally:
        os.close(file)
        with suppress(OSError):
            place.unlink()


def _create(directory: Path, mode: int) -> tuple[Path, int]:
    while True:
        place = directory / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            _lock(file)
            # Before it was locked another process may have taken it for the file of a dead one.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(place), os.fstat(file)):
                    return place, file
        except BaseException:
            os.close(file)
            with suppress(OSError):
                place.unlink()
            raise
        os.close(file)


def _remove_stale(directory: Path) -> None:
    """Remove the files of writers that are dead: those that nobody holds a lock on."""
    for name in os.listdir(directory):
        if not (name.startswith(_PREFIX) and name.endswith(_SUFFIX)):
            continue
        with suppress(OSError):
            file = os.open(directory / name, os.O_RDWR)
            try:
                if _lock(file, wait=False):
                    (directory / name).unlink()
            finally:
                os.close(file)
            if fcntl is None:
                (directory / name).unlink()


def _lock(file: int, *, wait: bool = True) -> bool:
    """Lock a file; return whether that can be done here. Where it cannot, nobody tells the living from the dead.

    Raises:
        BlockingIOError: when another holds it, and this was not to wait.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


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
