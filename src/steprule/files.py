"""Writing files whole: the old one is there or the new one, and nothing else of the user is touched."""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["name_aside", "remove_stale", "replace_whole", "write_all", "write_whole"]

# Windows has none; an open file cannot be removed there, which serves as well.
fcntl: Any = None if os.name == "nt" else importlib.import_module("fcntl")

_ASIDE = re.compile(r"\.steprule-[0-9a-f]{16}\.tmp")
_STAYS = "what was there before stays as it was"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, so that nobody ever finds half of it; see ``replace_whole``.

    Raises:
        OSError: when it cannot be written.
    """
    # The name of a file, which a report quotes, need not be Unicode.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    replace_whole(path, lambda file: write_all(file, memoryview(data)))


def write_all(file: int, block: memoryview) -> None:
    """Write all bytes of a block, in as many parts as the system takes."""
    while block:
        block = block[os.write(file, block) :]


def _nothing(target: Path) -> None:
    """Do nothing before or after a file is put in place."""


def replace_whole(
    path: Path,
    fill: Callable[[int], None],
    before: Callable[[Path], None] = _nothing,
    after: Callable[[Path], None] = _nothing,
) -> None:
    """Write a file, so that at every moment the one at ``path`` is complete, the old or the new.

    It is written to a file of its own in the same directory, which nobody else has and which is not a link, synced, and
    renamed; then the directory is synced. What was killed while it wrote is removed by the next that writes there.

    Args:
        path: where to; a symbolic link stays, and what it leads to is replaced. The new file has the permissions of
            the old one.
        fill: writes to the open file.
        before, after: what is done just before and after the rename, while no other process does the same in the
            directory; they are given the path without links.

    Raises:
        OSError: when it cannot be written; then what was there stays, and nothing is left behind. Or when it has been
            written, and the directory cannot be synced; the message says which.
    """
    target, is_there = Path(os.path.realpath(path)), False
    try:
        mode = _mode(target)
        remove_stale(target.parent)
        with _aside(target.parent, mode) as (file, place):
            fill(file)
            _permit(file, mode)
            os.fsync(file)
            with _directory(target.parent) as directory:
                before(target)
                os.replace(place, target)
                is_there = True
                _sync(directory)
                after(target)
    except OSError as error:
        state = "the new file is there, but may be lost when power fails" if is_there else _STAYS
        raise OSError(error.errno, f"{error.strerror or error}; {state}", str(path)) from error


def name_aside(directory: Path) -> Path:
    """Return a name that nobody can foresee, of a file that is removed if its writer is killed."""
    return directory / f".steprule-{os.urandom(8).hex()}.tmp"


def _mode(target: Path) -> int | None:
    """Return the permissions of the file that is to be replaced; None if there is none.

    Raises:
        OSError: when there is something that is not a file; a pipe or a device would be gone after the rename.
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
        place = name_aside(directory)
        # Exclusively: no file that is there already, and no link to one, is ever written to.
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


def remove_stale(directory: Path) -> None:
    """Remove the files of writers that are dead: those that nobody holds a lock on.

    Raises:
        OSError: when the directory cannot be read.
    """
    if threading.get_ident() in _renaming:
        return  # a signal handler that writes while its thread renames: what lies aside is not stale
    with _directory(directory):
        for name in os.listdir(directory):
            if _ASIDE.fullmatch(name):
                with suppress(OSError):
                    _remove_if_stale(directory / name)


def _remove_if_stale(place: Path) -> None:
    """Remove a file that nobody holds a lock on.

    Raises:
        OSError: when somebody does, or it is not a file.
    """
    file = os.open(place, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        is_ours = stat.S_ISREG(os.fstat(file).st_mode)
        if is_ours and _lock(file, wait=False):
            place.unlink()
    finally:
        os.close(file)
    if is_ours and fcntl is None:
        place.unlink()


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


_renaming: list[int] = []
"""The threads that hold a directory, or wait for one."""


@contextmanager
def _directory(directory: Path) -> Iterator[int | None]:
    """Hold a directory, so that of several writers one renames at a time; None where that cannot be done.

    A signal handler that writes while its own thread holds one does not wait for it, which would be for ever.
    """
    if fcntl is None:
        yield None
        return
    me = threading.get_ident()
    is_nested = me in _renaming
    _renaming.append(me)
    try:
        file = os.open(directory, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems lock no directories
                _lock(file, wait=not is_nested)
            yield file
        finally:
            # By name: a child that was forked meanwhile has the open file, too, and would keep the lock by it.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)
    finally:
        _renaming.remove(me)
