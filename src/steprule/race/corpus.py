"""A text corpus that every machine has: the docstrings of Python's standard library."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steprule.errors import ProblemError
from steprule.race.problem import Array

__all__ = ["FEATURES", "LETTERS", "bag_of_words", "docstrings", "letters_of"]

FEATURES = 10_000
_FEWEST = 30
"""Docstrings that a module must have to be a class."""
_SHORTEST = 5
"""Words that a docstring must have to be a sample."""
LETTERS = "abcdefghijklmnopqrstuvwxyz .,()'_-=:0123456789"
_HARDLY_ANY = (
    "{problem} reads the sources of Python's standard library, and there are hardly any in {folder}. "
    "Use a Python with its .py files, or race digits-mlp"
)
_WORD = re.compile(r"[a-z]{2,}")
_LEFT_OUT = frozenset({"test", "tests", "idlelib", "turtledemo", "lib2to3", "site-packages", "__pycache__"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(folder: Path | None = None, wanted: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Return docstrings and, for each, the top-level module it comes from. Sources are parsed, not imported.

    Args:
        folder: of the library. Default: that of the running Python.
        wanted: top-level modules. Default: all.

    Raises:
        ProblemError: when fewer than two modules have enough docstrings.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    texts: list[str] = []
    modules: list[str] = []
    public = (name for name in sys.stdlib_module_names if not name.startswith("_"))
    for module in sorted(public if wanted is None else wanted):
        found = dict.fromkeys(text for path in _sources(folder, module) for text in _docstrings_of(path))
        if len(found) >= _FEWEST:
            texts += found
            modules += [module] * len(found)
    if len(set(modules)) < 2:
        raise ProblemError(_HARDLY_ANY.format(problem="docs-bow", folder=folder))
    return texts, modules


def bag_of_words(texts: Sequence[str], labels: Sequence[str]) -> tuple[Any, Array]:
    """Return the words' counts (texts, 10,000), CSR float32 with rows of length 1, and the labels' numbers.

    Words are hashed to columns, so a rare pair of words may share one.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=FEATURES, alternate_sign=False, norm="l2", dtype=np.float32, token_pattern=_WORD.pattern
    )
    numbers = {name: number for number, name in enumerate(sorted(set(labels)))}
    return vectorizer.transform(texts), np.array([numbers[label] for label in labels], np.int64)


def letters_of(modules: Sequence[str], folder: Path | None = None) -> tuple[Array, int]:
    """Return the docstrings of some modules as numbers of letters, in order, and how many letters there are.

    In lower case; what is not in ``LETTERS`` is left out, and every run of blanks is one.

    Raises:
        ProblemError: when there are fewer than 10,000 letters.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    texts = dict.fromkeys(
        text for module in modules for path in _sources(folder, module) for text in _docstrings_of(path)
    )
    text = " ".join("\n".join(texts).lower().split())
    numbers = {letter: number for number, letter in enumerate(LETTERS)}
    found = np.array([numbers[letter] for letter in text if letter in numbers], np.int64)
    if len(found) < 10_000:
        raise ProblemError(_HARDLY_ANY.format(problem="char-transformer", folder=folder))
    return found, len(LETTERS)


def _sources(folder: Path, module: str) -> list[Path]:
    """Return the .py files of a module or package, without its tests."""
    if module in _LEFT_OUT:
        return []
    files = sorted((folder / module).rglob("*.py")) or [folder / f"{module}.py"]
    return [path for path in files if path.is_file() and not _LEFT_OUT & set(path.relative_to(folder).parts)]


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        # A file that is broken on purpose, or written for another Python.
        return
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            text = ast.get_docstring(node)
            if text and len(_WORD.findall(text.lower())) >= _SHORTEST:
                yield text
