"""The bits of numbers: what storage formats say beyond the language of rules.

These build nodes only. An integer (kind ``int``) is a word of 32 bits; ``+ - * & | ^ << >>``, ``<``, ``==``,
``maximum``, ``minimum`` and ``where`` work on words, and literals become words beside them.
"""

from __future__ import annotations

from steprule.language.node import Node, apply

__all__ = ["INPUTS", "from_bits", "group_max", "integer_input", "round_to_half", "to_bits", "to_float"]

INPUTS = ("index", "stream", "key0", "key1")
"""Integers that a kernel is given: the place of the element in its tensor, and what random bits depend on besides."""


def to_bits(x: Node) -> Node:
    """Return the bits of a float32 number."""
    return apply("bits", x)


def from_bits(word: Node) -> Node:
    """Return the float32 number of these bits."""
    return apply("real", word)


def to_float(word: Node) -> Node:
    """Return a word as a number, from -2^24 to 2^24, where float32 has all of them."""
    return apply("whole", word)


def round_to_half(x: Node) -> Node:
    """Return ``x`` rounded to float16, to nearest, ties to even."""
    return apply("half", x)


def group_max(word: Node) -> Node:
    """Return the largest of the words of a group, as unsigned integers."""
    return Node("group_max", (word,), stage="group", kind="int")


def integer_input(name: str) -> Node:
    """Return one of ``INPUTS``."""
    return Node(name, stage="element", kind="int")
