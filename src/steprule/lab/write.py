"""Writing the page or a film to a file, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from steprule.errors import StepruleError
from steprule.files import write_whole

__all__ = ["write"]


def write(content: str | bytes, path: Path) -> Path:
    """Write ``content`` to ``path`` and return where it is.

    Raises:
        StepruleError: when that cannot be written; a file that was there stays as it was.
    """
    target = Path(os.path.realpath(path))  # what a link points to, not the link
    try:
        if target.is_dir():
            raise OSError(0, "it is a folder")
        if target.exists() and not target.is_file():
            # A device or a pipe is written to, not replaced.
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            return target
        if any(parent.is_file() for parent in target.parents):
            raise OSError(0, "a part of this path is a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StepruleError(f"cannot write {path}: {reason}. Choose another place: --output FILE") from None
    return target
