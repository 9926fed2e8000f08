"""How targets of statements and loops spell a plan: what C and JavaScript say alike, and what each says its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steprule.backends.loops_sums import Phrases
from steprule.backends.numpy import OPERATORS

__all__ = ["COMMON", "Dialect"]

COMMON = {
    **OPERATORS,
    "and": "{0} && {1}",
    "or": "{0} || {1}",
    "not": "!{0}",
    "where": "{0} ? {1} : {2}",
    "bits": "bits_of({0})",
    "real": "real_of({0})",
    "word_where": "{0} ? {1} : {2}",
}
"""What both languages say alike."""


@dataclass(frozen=True)
class Dialect:
    """How a target spells a plan.

    Attributes:
        name: for messages.
        operations: the text of each operation and each input, by type of arithmetic, with ``{0}``, ``{1}``, ... for
            what it takes.
        larger: the statement that takes ``{word}`` into the maximum ``{name}``.
        groups: the groups of a row of ``length`` elements.
        value: how a value of each kind is named, with ``{type}``, ``{name}`` and ``{text}``; then it does not change.
        maximum: how a maximum over a group begins, with ``{name}``.
        tile: how an array of one group is made, with ``{name}``.
        count: how a loop is opened, with ``{name}`` and ``{end}``.
        size: how an integer is named, with ``{name}`` and ``{text}``.
        types: the name of each kind, and of ``float32`` and ``float64``.
        infinity, nan: how these are written.
        word: how a word is written, with ``{0}``.
        suffix: what follows a number of each type of arithmetic.
        condition: how a scalar of the row is taken as a condition, with ``{0}``.
        number: how a scalar of the row is rounded to the type of arithmetic, with ``{0}``, by type.
        load: how a stored element becomes a value, by NumPy's name of its type, with ``{0}``.
        store: how a value becomes a stored element, by that name, with ``{0}``.
        reserved: names that no value may have, beside those of the loops.
        sums: how sums are written.
        vector, kept_vector: how an array of numbers of rows or columns is named where a pass fills it, and in later
            passes: with ``{type}`` of its numbers, ``{name}``, ``{key}`` (its name in all passes), its ``{place}`` and
            its ``{length}``.
        doubles: how an array of numbers in float64 is named, with ``{name}``, ``{place}`` and ``{length}``.
        lines: how an array of such numbers for each of a few rows is made, of zeros, with ``{name}``.
    """

    name: str
    operations: Mapping[str, Mapping[str, str]]
    larger: str
    groups: str
    value: str
    maximum: str
    tile: str
    count: str
    size: str
    types: Mapping[str, str]
    infinity: str
    nan: str
    word: str
    suffix: Mapping[str, str]
    condition: str
    number: Mapping[str, str]
    load: Mapping[str, str]
    store: Mapping[str, str]
    reserved: tuple[str, ...]
    sums: Phrases
    vector: str
    kept_vector: str
    doubles: str
    lines: str
