"""Sums over elements in targets of statements and loops: lanes that elements add to, folded at the end of each block.

The order is that of every backend: ``LANES`` lanes, which are added up in pairs, and a partial sum for every ``BLOCK``.
Partial sums are added up without rounding, and each sum of a pass is rounded once, when all elements have been read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steprule.compile import BLOCK, LANES

__all__ = ["SUMS", "Phrases", "added", "declared", "ended", "folded", "names", "results"]

SUMS = "sums"
"""What the sums of a step are called, in the order of ``Plan.totals``."""


@dataclass(frozen=True)
class Phrases:
    """How a target writes sums; ``{0}`` is the number of a sum in its pass.

    Attributes:
        lanes: makes the lanes, which are zero.
        partial: makes what partial sums are put in.
        wide: a number in float64.
        value: names a number in float64, with ``{name}`` and ``{text}``.
        running: makes a number in float64 that is added to, with ``{name}``; it is zero.
        halves, lane: the heads of the loops that fold lanes.
        put: puts a partial sum, ``{1}``, among the others.
        clear: makes the lanes zero again.
        rounded: what all partial sums come to.
    """

    lanes: str
    partial: str
    wide: str
    value: str
    running: str
    halves: str
    lane: str
    put: str
    clear: str
    rounded: str


def declared(phrases: Phrases, count: int) -> list[str]:
    """Return statements that make the lanes of each sum, and what its partial sums are put in."""
    return [text.format(number) for number in range(count) for text in (phrases.lanes, phrases.partial)]


def added(phrases: Phrases, to: str, number: int, text: str, *, is_squared: bool) -> list[str]:
    """Return statements that add a value to what a sum is added up in: a lane, for one."""
    wide = phrases.wide.format(text)
    if not is_squared:
        return [f"{to} += {wide};"]
    named = phrases.value.format(name=f"wide{number}", text=wide)
    return [named, f"{to} += wide{number} * wide{number};"]


def folded(phrases: Phrases, count: int, place: str, end: str, *, has_groups: bool) -> list[str]:
    """Return statements that end a block: after the element, or the group, at ``place`` of ``end``."""
    block = BLOCK // LANES if has_groups else BLOCK
    lines: list[str] = []
    for number in range(count):
        lines += ended(phrases, number, phrases.put.format(number, f"lanes{number}[0]"))
    return [f"if (({place} + 1) % {block} == 0 || {place} + 1 == {end}) {{", *(f"    {line}" for line in lines), "}"]


def ended(phrases: Phrases, number: int, taken: str) -> list[str]:
    """Return statements that fold the lanes of a sum into the first, which is ``taken``, and clear them."""
    lanes = f"lanes{number}"
    folds = [phrases.halves, f"    {phrases.lane} {lanes}[lane] += {lanes}[lane + half];"]
    return [*folds, taken, phrases.clear.format(number)]


def results(phrases: Phrases, count: int, first: int) -> list[str]:
    """Return statements that give the sums of a pass, of which there are ``first`` from the passes before."""
    return [f"{SUMS}[{first + number}] = {phrases.rounded.format(number)};" for number in range(count)]


def names(count: int) -> Sequence[str]:
    """Return the names that these statements use, of which the sums themselves may come from passes before."""
    own = [f"{name}{number}" for number in range(count) for name in ("lanes", "partial", "wide")]
    return [SUMS, "half", "lane", *own]
