"""Rounding, to nearest or stochastic: random bits are a function of seed, step, tensor and element, and nothing else.

So they do not depend on threads, chunks or the order of elements, and a run can be repeated.
"""

from __future__ import annotations

from steprule.language import Node
from steprule.language.bits import integer_input

__all__ = ["RoundToNearest", "Rounding", "StochasticRounding", "keys", "mixed", "stream"]

_MASK = 2**64 - 1


def keys(seed: int, t: int) -> tuple[int, int]:
    """Return the two 32-bit keys of a step."""
    word = mixed(mixed(seed & _MASK) ^ (t & _MASK))
    return word >> 32, word & 0xFFFFFFFF


def stream(number: int) -> int:
    """Return the 32-bit word that keeps the random bits of a tensor, given its number, apart from those of others."""
    return mixed(number) & 0xFFFFFFFF


def mixed(x: int) -> int:
    """Return the next number of SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


class Rounding:
    """How a number is rounded, in the language of rules."""

    def addend(self, places: int) -> Node | int:
        """Return an integer of so many bits, to be added to a number before these bits are truncated."""
        raise NotImplementedError


class RoundToNearest(Rounding):
    """Rounds to nearest, halves away from zero."""

    def addend(self, places: int) -> Node | int:
        """Return one half."""
        return 1 << (places - 1)


class StochasticRounding(Rounding):
    """Rounds up with the probability of what is truncated, so that the mean of what is stored is the number.

    Every value of an element has half a word of random bits; 8 bits or fewer come from the lowest of the first word,
    which hardly count in the half that they are part of.
    """

    def __init__(self) -> None:
        self._words: list[Node] = []
        self._halves = 0

    def addend(self, places: int) -> Node | int:
        """Return random bits, at most 16."""
        if places <= 8:
            shared: Node = self._word(0) & (2**places - 1)
            return shared
        word = self._word(self._halves // 2)
        self._halves += 1
        low: Node = word & (2**places - 1)
        return low if self._halves % 2 else word >> (32 - places)

    def _word(self, number: int) -> Node:
        while len(self._words) <= number:
            self._words.append(_random_word(len(self._words)))
        return self._words[number]


def _random_word(number: int) -> Node:
    """Return a word of an element: its index times the golden ratio, keyed and mixed by one multiplication.

    The keys make the bits of one element at different steps independent; the mixing those of neighbours at one step.
    """
    index, tensor, key0, key1 = map(integer_input, ("index", "stream", "key0", "key1"))
    x = index * 0x9E3779B1 + (key0 + number * 0x85EBCA77)
    x = (x ^ (x >> 16) ^ (key1 ^ tensor)) * 0x7FEB352D
    return x ^ (x >> 16)
