"""Writing into the output folder, with plain words for what is in the way."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steprule.errors import StepruleError
from steprule.files import write_whole

__all__ = ["cannot_write", "check_own", "to_csv", "to_json", "write_files"]


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write files by name, each whole or not at all, and return where they are.

    Raises:
        StepruleError: when one cannot be written; one that was there stays as it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    paths = [folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        try:
            write_whole(path, content)
        except OSError as error:
            raise cannot_write(path, error) from None
    return paths


def check_own(folder: Path, mark: str, kind: str) -> None:
    """Check that a folder is empty, is not there yet, or is one that the same command has written.

    Args:
        folder: where a report is to go.
        mark: a JSON file of the report's, which says what it is by the key ``kind``.
        kind: what it must say.

    Raises:
        StepruleError: when other files lie there, which a report would mix with.
    """
    try:
        if not any(folder.iterdir()):
            return
        saved = json.loads((folder / mark).read_text(encoding="utf-8"))
        if isinstance(saved, dict) and saved.get("kind") == kind:
            return
    except FileNotFoundError:
        if not folder.exists():
            return
    except ValueError:
        pass
    except OSError as error:
        raise cannot_write(folder, error) from None
    raise StepruleError(
        f"{str(folder)!r} has other files in it, among which a report would be hard to find and to send. Choose an "
        "empty folder, or a new one, by --output"
    )


def cannot_write(path: Path, error: OSError) -> StepruleError:
    """Return what to raise where the system refuses to make a folder or a file."""
    what = error.strerror or str(error)
    if isinstance(error, IsADirectoryError):
        what = "a folder of that name is in the way"
    elif in_the_way := next((part for part in (path, *path.parents) if os.path.isfile(part)), None):
        what = "it is a file" if in_the_way == path else f"{str(in_the_way)!r} is a file"
    return StepruleError(f"cannot write to {str(path)!r}: {what}. Choose another folder by --output")


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV (RFC 4180), with all digits; what is None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON that every reader takes: no NaN, no Infinity."""
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, indent=indent) + "\n"


def _finite(value: Any) -> Any:
    """Return ``value`` with None for what JSON has no number for."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
