"""The errors of steprule: one base, few kinds, each message with cause, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckError",
    "CheckpointError",
    "HyperparameterError",
    "NonFiniteError",
    "ProblemError",
    "RuleError",
    "StateError",
    "StepruleError",
    "StructureError",
    "TargetError",
    "is_slip",
    "suggest",
]

_SHORT = 4
"""Names of so many letters are one letter away from too much that is another word."""


class StepruleError(Exception):
    """Base of every error that steprule raises on purpose."""


class RuleError(StepruleError, ValueError):
    """A rule is wrong, or no rule has the name that was asked for."""


class HyperparameterError(StepruleError, ValueError):
    """A hyperparameter is unknown, out of its range, or does nothing."""


class StructureError(StepruleError, ValueError):
    """Parameters or gradients have a wrong structure, shape, type or layout."""


class StateError(StepruleError, ValueError):
    """A state dict does not belong to this optimizer."""


class CheckpointError(StepruleError, ValueError):
    """A checkpoint is damaged, is not a checkpoint, or cannot hold what it was given."""


class TargetError(StepruleError, ValueError):
    """No backend has that name, or no compiler serves that machine."""


class NonFiniteError(StepruleError, ArithmeticError):
    """A gradient has elements that are infinite or NaN, and the optimizer was told not to step along it."""


class CheckError(StepruleError, ValueError):
    """An optimizer that is to be checked is not there, or cannot be run."""


class ProblemError(StepruleError, ValueError):
    """A problem of the race cannot be loaded or breaks its protocol."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x' or 'y'?`` for the nearest of the ``known`` names, or the list of them."""
    names = list(dict.fromkeys(known))
    same = [own for own in names if own.lower() == str(name).lower()]
    near = same or difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    if near:
        return f" Did you mean {' or '.join(map(repr, near))}?"
    return f" Known: {', '.join(sorted(names))}." if names else ""


def is_slip(name: str, meant: str) -> bool:
    """Whether a name is another one with two letters exchanged or one doubled; or, if that has more than four letters,
    with one more, less or other.

    Not the first one, by which ``used`` differs from ``fused``; and no digit, by which ``momentum2`` differs from
    ``momentum``.
    """
    same = next((i for i, (own, other) in enumerate(zip(name, meant, strict=False)) if own != other), None)
    same = min(len(name), len(meant)) if same is None else same
    left, right = name[same:], meant[same:]
    if left[:2] == right[:2][::-1] and left[2:] == right[2:]:
        return len(right) > 1
    if not same or left[:1].isdigit() or right[:1].isdigit():
        return False
    if len(meant) <= _SHORT:
        return left[1:] == right and left[:1] == name[same - 1]
    return left[1:] == right[1:] or left[1:] == right or left == right[1:]
