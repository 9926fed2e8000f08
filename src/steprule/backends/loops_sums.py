"""Sums over elements in targets of statements and loops: lanes that elements add to, folded at the end of each block.

The order is that of every backend: ``LANES`` lanes, which are added up in pairs, and a partial sum for every ``BLOCK``.
"""

from __future__ import annotations

from collections.abc import Sequence

from steprule.compile import BLOCK, LANES

__all__ = ["SUMS", "added", "declared", "folded", "names"]

SUMS = "sums"
"""What the argument is called that takes partial sums, one line per block."""


def declared(count: int) -> list[str]:
    """Return statements that make the lanes of each sum."""
    return [f"double lanes{number}[{LANES}] = {{0}};" for number in range(count)]


def added(number: int, text: str, *, is_squared: bool, lane: str) -> list[str]:
    """Return statements that add a value to the lane of its element."""
    wide = f"(double)({text})"
    if not is_squared:
        return [f"lanes{number}[{lane}] += {wide};"]
    return [f"const double wide{number} = {wide};", f"lanes{number}[{lane}] += wide{number} * wide{number};"]


def folded(count: int, place: str, end: str, *, has_groups: bool) -> list[str]:
    """Return statements that end a block: after the element, or the group, at ``place`` of ``end``."""
    block = BLOCK // LANES if has_groups else BLOCK
    halves = f"for (size_t half = {LANES // 2}; half > 0; half /= 2)"
    lines: list[str] = []
    for number in range(count):
        lanes = f"lanes{number}"
        lines += [halves, f"    for (size_t lane = 0; lane < half; ++lane) {lanes}[lane] += {lanes}[lane + half];"]
        lines += [f"*{SUMS}++ = {lanes}[0];", f"memset({lanes}, 0, sizeof {lanes});"]
    return [f"if (({place} + 1) % {block} == 0 || {place} + 1 == {end}) {{", *(f"    {line}" for line in lines), "}"]


def names(count: int) -> Sequence[str]:
    """Return the names that these statements use."""
    own = [f"{name}{number}" for number in range(count) for name in ("lanes", "wide")]
    return [SUMS, "half", "lane", *own] if count else []
