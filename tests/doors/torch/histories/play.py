"""A history on both sides, compared after every operation.

After an operation that both have done, ours is given torch's numbers. So each comparison is of one step, and its bound
that of a step's arithmetic, however long the history is.
"""

from __future__ import annotations

import random
import traceback
import warnings
from collections import Counter
from typing import Any

import torch
from torch import Tensor

import steprule.torch as door
from tests.doors.histories import DifferenceError, History
from tests.doors.torch.cases import default_dtype, frozen
from tests.doors.torch.histories.case import HALF, Case
from tests.doors.torch.histories.compare import compare
from tests.doors.torch.histories.side import OPERATIONS, Operation, Side


def play(seed: int, history: History) -> Counter[str]:
    """Play a history on both sides of a case."""
    case = Case(seed)
    came: Counter[str] = Counter()
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), default_dtype(case.default):
        warnings.simplefilter("ignore")
        theirs, mine = Side(torch.optim, case), Side(door, case)
        try:
            for place, (operation, number) in enumerate(history):
                what = f"{case}: operation {place}, {operation}"
                came[f"{operation}: {_both(OPERATIONS[operation], number, theirs, mine, what)}"] += 1
            if any(frozen(state) != before for state, before in mine.loaded):
                raise DifferenceError(f"{case}: a state dict has changed after it was loaded")
        finally:
            torch.set_num_threads(threads)
    return came


def _both(operation: Operation, number: int, theirs: Side, mine: Side, what: str) -> str:
    """Do an operation on both sides, and compare them."""
    before = [p.detach().clone() for p in theirs.params]
    expected, error = _attempt(operation, number, theirs, mine, what)
    actual, own_error = _attempt(operation, number, mine, theirs, what)
    if (error is None) != (own_error is None):
        at = "torch.optim" if own_error is None else "ours"
        words = "".join(traceback.format_exception(error or own_error, limit=-4, chain=False))
        raise DifferenceError(f"{what}: {at} alone raised\n{words}")
    if error is not None:
        compare(theirs, mine, before, what)
        return "raised"
    if not _alike(actual, expected):
        raise DifferenceError(f"{what}: it returned {actual}, expected {expected}")
    compare(theirs, mine, before, what)
    return "done"


def _attempt(operation: Operation, number: int, side: Side, other: Side, what: str) -> tuple[Any, Exception | None]:
    try:
        return operation(side, random.Random(number), other), None
    except NameError:
        raise
    except DifferenceError as difference:
        raise DifferenceError(f"{what}: {difference}") from difference
    except Exception as error:
        return None, error


def _alike(actual: Any, expected: Any) -> bool:
    """Whether two results are equal; of losses the last places may differ."""
    if isinstance(expected, (tuple, list)):
        return len(actual) == len(expected) and all(map(_alike, actual, expected))
    if isinstance(expected, Tensor):
        return torch.allclose(actual, expected, rtol=1e-2 if expected.dtype in HALF else 1e-4, atol=1e-3)
    return bool(actual == expected)
