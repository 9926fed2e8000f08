"""The command line within the tests' own process: to start one for each of many wrong words takes a second each."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from steprule.cli import main

__all__ = ["refused"]


@contextlib.contextmanager
def _within(folder: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(before if folder is None else folder)
    try:
        yield
    finally:
        os.chdir(before)


def refused(words: Sequence[str], folder: Path | None = None) -> str:
    """Return what the command says of words that it ends with code 2 for, in lines of 160 characters."""
    said = io.StringIO()
    environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
    with (
        _within(folder),
        mock.patch.object(sys, "argv", ["steprule", *words]),
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert ended.value.code == 2, said.getvalue()
    return said.getvalue()
