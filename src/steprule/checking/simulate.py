"""A rule run on a probing sequence, with the mistakes in bookkeeping that any rule can be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.checking.probe import Floats
from steprule.rules import Rule

__all__ = ["PLAIN", "Books", "simulate", "simulate_tensors"]


@dataclass(frozen=True)
class Books:
    """What an optimizer does around its formula.

    Attributes:
        ahead: how far the step number is ahead of the paper's, which is 1 at the first step.
        late: whether a step reads the gradient of the step before, and the first one zeros.
        skips: whether the first step only puts its gradient aside, and is not counted.
        per_tensor: whether the step number advances once a tensor.
        shared: whether all tensors have one state.
        uphill: whether steps go up the gradient, and not down.
        slots: the type that slots are kept in, for NumPy; ``""``: that of the parameter.
    """

    ahead: int = 0
    late: bool = False
    skips: bool = False
    per_tensor: bool = False
    shared: bool = False
    uphill: bool = False
    slots: str = ""


PLAIN = Books()


def simulate(rule: Rule, values: Mapping[str, Any], before: Floats, gradients: Floats, books: Books = PLAIN) -> Floats:
    """Return the parameter after each step of a rule that is given the parameter before each.

    Args:
        rule: what is run, in float64, by calling it on arrays.
        values: all hyperparameters; arrays of shape (k, 1) run k settings at once.
        before: the parameter before each step, of shape (steps, elements).
        gradients: of the same shape.
        books: bookkeeping of one tensor.

    Returns:
        an array of shape (steps, elements), or (steps, k, elements).
    """
    return np.asarray(simulate_tensors(rule, values, before[:, None], gradients[:, None], books)[:, 0])


def simulate_tensors(
    rule: Rule, values: Mapping[str, Any], before: Floats, gradients: Floats, books: Books = PLAIN
) -> Floats:
    """Return what ``simulate`` does, of arrays of shape (steps, tensors, elements)."""
    steps, tensors, _ = before.shape
    states = [_slots(rule, values, before[0, 0])] if books.shared else [
        _slots(rule, values, before[0, place]) for place in range(tensors)
    ]  # fmt: skip
    after: list[list[Any]] = []
    with np.errstate(all="ignore"):
        for step in range(steps):
            row: list[Any] = []
            for place in range(tensors):
                t = step * tensors + place + 1 if books.per_tensor else step + 1
                state = states[0 if books.shared else place]
                theta, g = before[step, place], _read(gradients, step, place, late=books.late)
                row.append(_one_step(rule, values, state, theta, g, t + books.ahead, books))
            after.append(row)
    shape = np.broadcast_shapes(*(np.shape(one) for row in after for one in row))
    found: Floats = np.array([[np.broadcast_to(one, shape) for one in row] for row in after], np.float64)
    return found


def _read(gradients: Floats, step: int, place: int, *, late: bool) -> Floats:
    if not late:
        return np.asarray(gradients[step, place])
    return np.asarray(gradients[step - 1, place] if step else np.zeros_like(gradients[0, place]))


def _slots(rule: Rule, values: Mapping[str, Any], theta: Floats) -> list[Any]:
    """Return the slots before the first step."""
    kept = rule.trace(rule.variant(values)).kept
    starts = {name: values.get(start, theta) if isinstance(start, str) else start for name, start in rule.init.items()}
    one_number = rule.scalars | rule.per_tensor
    return [
        None if slot not in kept else starts.get(slot, 0.0) + (0.0 if slot in one_number else np.zeros_like(theta))
        for slot in rule.slots
    ]


def _one_step(
    rule: Rule, values: Mapping[str, Any], state: list[Any], theta: Floats, g: Floats, t: int, books: Books
) -> Any:
    """Step once, write the new slots into ``state`` and return the new parameter."""
    if t < 1 and books.skips:
        return theta
    new, *slots = rule.compute([theta, -g if books.uphill else g, *state], t, values)
    state[:] = slots if not books.slots else [_rounded(slot, books.slots) for slot in slots]
    return new


def _rounded(slot: Any, kind: str) -> Any:
    """Return a slot as another type keeps it."""
    if slot is None or np.ndim(slot) == 0:
        return slot
    if kind != "bfloat16":
        return slot.astype(kind)
    # bfloat16 is the upper half of a float32, rounded to nearest, ties to even.
    bits = slot.astype(np.float32).view(np.uint32)
    bits = bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)
