"""Writing files whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file aside and rename it, so that nobody finds half of it."""
    aside = path.with_name(f"{path.name}.part")
    data = content.encode() if isinstance(content, str) else content
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
