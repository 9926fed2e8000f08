"""Reading a checkpoint: in one pass, checked whole, and never more memory than the file has bytes."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.checkpoint.checksum import Checksums
from steprule.checkpoint.header import LARGEST, Header, parse_header
from steprule.checkpoint.plain import short
from steprule.checkpoint.rotate import olders
from steprule.checkpoint.stored import BLOCK, DTYPES, Stored, bytes_of
from steprule.errors import CheckpointError

__all__ = ["File", "read", "verify"]


@dataclass(frozen=True)
class File:
    """What a checkpoint holds."""

    document: dict[str, Any]
    tensors: dict[str, Stored]


def read(path: Path) -> File:
    """Return what a checkpoint holds, in new arrays.

    Raises:
        CheckpointError: for a file that is damaged or no checkpoint; with the newest older one that is complete.
        OSError: when there is none, or it cannot be read.
    """
    try:
        return _read(path)
    except (CheckpointError, FileNotFoundError) as error:
        found = _complete(Path(os.path.realpath(path)))
        words = f" {found} is complete: load that" if found else ""
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{path}: {error}; nothing was loaded.{words}") from None
        raise FileNotFoundError(error.errno, f"there is no checkpoint{words and ';'}{words}", str(path)) from None


def verify(path: Path) -> None:
    """Read a checkpoint through, and keep nothing of it.

    Raises:
        CheckpointError: for a file that is damaged or no checkpoint.
        OSError: when there is none, or it cannot be read.
    """
    with _opened(path) as (file, header), Checksums() as sums:
        for name, entry in header.entries.items():
            sums.found[name] = 0
            for start in range(entry.start, entry.end, BLOCK):
                block = memoryview(bytearray(min(BLOCK, entry.end - start)))
                _fill(file, block, name)
                sums.add(name, block, entry.end - entry.start, True)
    _check(sums, header)


def _read(path: Path) -> File:
    arrays: dict[str, NDArray[Any]] = {}
    with _opened(path) as (file, header), Checksums() as sums:
        for name, entry in sorted(header.entries.items(), key=lambda item: item[1].start):
            arrays[name] = array = np.empty(entry.shape, DTYPES[entry.dtype])
            sums.found[name] = 0
            whole = bytes_of(array)
            for start in range(0, len(whole), BLOCK):
                block = whole[start : start + BLOCK]
                _fill(file, block, name)
                sums.add(name, block, len(whole), False)
    _check(sums, header)
    return File(header.document, {name: _held(array, header.entries[name].dtype) for name, array in arrays.items()})


def _held(array: NDArray[Any], dtype: str) -> Stored:
    return Stored(dtype, array.shape, lambda: array)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.FileIO, Header]]:
    """Open a file behind its header."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise CheckpointError("it is a directory, and no file in it was named")
    if not stat.S_ISREG(mode):
        raise CheckpointError("it is a pipe, a socket or a device, and no file")
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        if len(first) < 8:
            raise CheckpointError(f"it has {size} bytes, too few for a checkpoint: it is truncated, or none")
        (length,) = struct.unpack("<Q", first)
        if length > min(size - 8, LARGEST):
            _refuse_others(first)
        if length > size - 8:
            raise CheckpointError(
                f"it has {size} bytes, and its header should have {length}: it is truncated, or no checkpoint"
            )
        if length > LARGEST:
            raise CheckpointError(f"its header has {length:,} bytes, more than the {LARGEST:,} that the format allows")
        words = bytearray(length)
        _fill(file, memoryview(words), "the header")
        yield file, parse_header(first + bytes(words), size - 8 - length)


def _refuse_others(first: bytes) -> None:
    for begin, what in _OTHERS.items():
        if first.startswith(begin):
            raise CheckpointError(f"it is {what}, no checkpoint of steprule")


_OTHERS = {
    b"PK\x03\x04": "a zip archive, such as torch.save and np.savez write",
    b"\x93NUMPY": "an array of np.save",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}


def _fill(file: io.FileIO, block: memoryview, name: str) -> None:
    while block:
        count = file.readinto(block)
        if not count:
            raise CheckpointError(f"it ended within {short(name)}: it is truncated")
        block = block[count:]


def _check(sums: Checksums, header: Header) -> None:
    wrong = [name for name, told in header.checksums.items() if sums.found[name] != told]
    if wrong:
        raise CheckpointError(f"it is damaged: {short(wrong[0])} does not have the checksum that it was written with")


def _complete(path: Path) -> Path | None:
    """Return the newest of the older checkpoints that is complete."""
    for place in olders(path):
        try:
            verify(place)
        except (CheckpointError, OSError):
            continue
        return place
    return None
