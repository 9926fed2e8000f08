"""Where a minimization stands, for another call to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.doors.box import Vector
from steprule.errors import HyperparameterError, StateError

__all__ = ["State", "check_state"]

_KINDS = {"best": "neither data= nor noisy", "data": "data=", "noisy": "noisy=True"}


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """Where a run of ``minimize`` ended: the ``state`` of its result, and of the call that goes on.

    ``steprule.save`` and pickle store it: it holds numbers, texts, arrays, and tuples, lists and dicts of these. It can
    be used any number of times; a run that goes on from it does not change it.

    Attributes:
        rule: the rule's name.
        kind: "best", "data" or "noisy": what is known of the loss.
        average: which average was taken.
        x: the last iterate.
        answer: the ``x`` of the result.
        optimizer: the rule's slots, step number and hyperparameters, as ``Optimizer.state_dict()``.
        progress: what convergence tests and averages remember.
    """

    rule: str
    kind: str
    average: str | float | None
    x: Vector
    answer: Vector
    optimizer: Mapping[str, Any]
    progress: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<state of {self.rule} after {self.optimizer['t']} steps on {self.x.size} variables>"


def check_state(state: Any, x0: Any, rule: str, kind: str, average: str | float | None) -> Vector:
    """Return where a run from ``state`` starts.

    Raises:
        StateError: when it is of another rule or another kind of run.
        HyperparameterError: for a start that is somewhere else.
    """
    if not isinstance(state, State):
        raise StateError(f"state must be result.state of a result of minimize, got a {type(state).__name__}")
    for saved, here in (
        (f"rule={state.rule!r}", f"rule={rule!r}"),
        (_KINDS[state.kind], _KINDS[kind]),
        (f"average={state.average!r}", f"average={average!r}"),
    ):
        if saved != here:
            raise StateError(f"the state is of a run with {saved}, and this one has {here}; give the same")
    if x0 is not None and not any(np.array_equal(np.ravel(x0), known) for known in (state.x, state.answer)):
        raise HyperparameterError(
            "x0 does nothing with state, which holds the point to go on from; give x0=None, or the x of the result"
        )
    return state.x.copy()
