"""Writing a checkpoint: its tensors, then the header that holds their checksums, and the older ones moved on."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from steprule.checkpoint.checksum import Checksums
from steprule.checkpoint.header import Layout
from steprule.checkpoint.plain import Json
from steprule.checkpoint.rotate import prune, rotate
from steprule.checkpoint.stored import Stored, blocks
from steprule.files import replace_whole, write_all

__all__ = ["write"]

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


def write(path: Path, tensors: Mapping[str, Stored], document: Json, keep: int = 0) -> None:
    """Write a checkpoint whole; see ``files.replace_whole``.

    Args:
        path: where to.
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
    fill = partial(_fill, layout=layout, tensors=tensors)
    try:
        replace_whole(path, fill, partial(rotate, keep=keep), partial(prune, keep=keep))
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Look after the disk, or save elsewhere")
        raise OSError(error.errno, f"{error.strerror}. {remedy}", str(path)) from error.__cause__


def _fill(file: int, layout: Layout, tensors: Mapping[str, Stored]) -> None:
    """Write the tensors, and then the header before them, which holds their checksums."""
    os.lseek(file, layout.size, os.SEEK_SET)
    with Checksums() as sums:
        for name, entry in layout.entries.items():
            sums.found[name] = 0
            array = tensors[name].get()
            for block in blocks(array):
                sums.add(name, block, entry.end - entry.start, not array.flags.c_contiguous)
                write_all(file, block)
        if sums.is_beside:
            os.fsync(file)  # the disk is at work while the rest is summed
    os.lseek(file, 0, os.SEEK_SET)
    write_all(file, memoryview(layout.header(sums.found)))
