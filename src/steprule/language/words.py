"""Taking numbers apart: what storage formats say beyond the words of rules.

These build nodes only. A word (kind ``int``) is 32 bits; ``+ - * & | ^ << >>``, ``<``, ``==``, ``maximum``, ``minimum``
and ``where`` work on words, and numbers that are written out become words beside them.
"""

from __future__ import annotations

from steprule.language.node import Node, apply

__all__ = ["INPUTS", "bits", "group_max", "half", "real", "whole", "word_input"]

INPUTS = ("index", "stream", "key0", "key1")
"""Words that a kernel is given: the place of the element in its tensor, and what random bits depend on besides."""


def bits(x: Node) -> Node:
    """Return the bits of a float32 number."""
    return apply("bits", x)


def real(word: Node) -> Node:
    """Return the float32 number of these bits."""
    return apply("real", word)


def whole(word: Node) -> Node:
    """Return a word as a number, from -2^24 to 2^24, where float32 has all of them."""
    return apply("whole", word)


def half(x: Node) -> Node:
    """Return ``x`` rounded to float16, to nearest, ties to even."""
    return apply("half", x)


def group_max(word: Node) -> Node:
    """Return the largest of the words of a group; they are not negative as integers."""
    return Node("group_max", (word,), stage="group", kind="int")


def word_input(name: str) -> Node:
    """Return one of ``INPUTS``."""
    return Node(name, stage="element", kind="int")
