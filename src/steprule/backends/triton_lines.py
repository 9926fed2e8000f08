"""Lines of Triton text, and what several kernels write alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from steprule.compile import LANES, Instruction, Ref, Value

__all__ = ["TYPES", "chunk_pairs", "halves", "indented", "needed"]

TYPES = {
    "float16": "tl.float16",
    "float32": "tl.float32",
    "float64": "tl.float64",
    "uint8": "tl.uint8",
    "int8": "tl.int8",
    "uint16": "tl.uint16",
    "int16": "tl.int16",
}


def indented(depth: int, lines: Iterable[str]) -> str:
    """Return lines as the text of a block."""
    return "\n".join("    " * depth + line if line else line for line in lines)


def needed(body: Sequence[Instruction], first: int, results: Iterable[Ref]) -> set[int]:
    """Return the values that results are computed from: those before ``first`` come from memory."""
    found: set[int] = set()
    stack = [ref.index for ref in results if isinstance(ref, Value)]
    while stack:
        index = stack.pop()
        if index not in found:
            found.add(index)
            args = body[index - first].args if index >= first else ()
            stack += [arg.index for arg in args if isinstance(arg, Value)]
    return found


def halves(lanes: str, lines: int = 1) -> list[str]:
    """Return what adds the upper half of the lanes to the lower until one is left: ``left``, one number a line.

    Args:
        lanes: their name.
        lines: how many lines of them there are.
    """
    before, axis = ("", 0) if lines == 1 else (f"{lines}, ", 1)
    found = [f"left = tl.reshape({lanes}, ({before}{LANES},))"]
    half = LANES // 2
    while half:
        found.append(f"left = tl.sum(tl.reshape(left, ({before}2, {half})), axis={axis})")  # of two: in one order
        half //= 2
    return found


def chunk_pairs(numbers: Sequence[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Return the row and the number of each chunk, given the numbers of each row's."""
    rows = np.repeat(np.arange(len(numbers)), list(map(len, numbers)))
    return np.stack([rows, np.concatenate([np.zeros(0, np.int64), *numbers])], axis=1).astype(np.int32)
