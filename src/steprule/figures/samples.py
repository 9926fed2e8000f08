"""The samples that figures are made of, by name: those that ship, and real sets from a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from steprule.figures.datasets import WORDS, read
from steprule.race.classifier import Split, split
from steprule.race.corpus import bag_of_words, docstrings
from steprule.race.data import digits

__all__ = ["SHIPPED", "samples", "words_for"]

_MODULES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
"""Those of the standard library with the most docstrings that no distribution leaves out."""


_FEW = 300
"""Images on which a network overfits, so that decay counts."""


def _docs() -> Split:
    return split(*bag_of_words(*docstrings(wanted=_MODULES)))


def _few() -> Split:
    whole = digits()
    return replace(whole, train_x=whole.train_x[:_FEW], train_y=whole.train_y[:_FEW])


SHIPPED: dict[str, tuple[Callable[[], Any], str]] = {
    "digits": (digits, "scikit-learn's 1,797 digits of 8 x 8 pixels, 64 % of them for training"),
    "digits-300": (
        _few,
        f"{_FEW} of scikit-learn's digits of 8 x 8 pixels for training and 360 for the test",
    ),
    "docs": (
        _docs,
        f"a bag of 10,000 words of the docstrings of {len(_MODULES)} modules of Python's standard library (which of "
        "them is one from?), 64 % for training",
    ),
}
"""What needs no download: how it is made, and in words."""


def samples(data: str) -> Split:
    """Return the samples of a name: of what ships, or of a set and the folder that it is in, ``NAME:FOLDER``."""
    name, _, folder = data.partition(":")
    if folder:
        return read(name, Path(folder))
    make, _ = SHIPPED[data]
    found: Split = make()
    return found


def words_for(data: str) -> str:
    """Return what samples are, for a sentence."""
    name, _, folder = data.partition(":")
    return WORDS[name] if folder else SHIPPED[data][1]
