"""One of the two optimizers of a history, and the table of what may happen to it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import steprule.torch as door
from tests.doors.histories import DifferenceError, table_of
from tests.doors.torch.cases import frozen
from tests.doors.torch.histories.case import Case, numbers


class Side:
    """One of the two optimizers, and what belongs to it.

    Attributes:
        spare: parameters that were taken out of their groups.
        saved: state dicts.
        loaded: state dicts that were taken over, and what was in them.
        log: what hooks noted.
        counted: which parameters' versions the last step has counted up, for autograd.
    """

    def __init__(self, library: Any, case: Case) -> None:
        self.library, self.case, self.is_ours = library, case, library is door
        groups = copy.deepcopy(case.groups)
        self.optimizer: torch.optim.Optimizer = getattr(library, case.name)(groups, **copy.deepcopy(case.options))
        self.spare: list[Tensor] = []
        self.saved: list[dict[str, Any]] = []
        self.loaded: list[tuple[dict[str, Any], Any]] = []
        self.log: list[str] = []
        self.hooks: list[Any] = []
        self.schedulers: list[Any] = []
        self.counted: list[bool] = []

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.groups for p in group["params"]]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step, and note which parameters' versions it has counted up."""
        grads = [(p.grad, frozen(p.grad)) for p in self.params if p.grad is not None and not p.grad.is_sparse]
        versions = [p._version for p in self.params]
        loss = self.call(self.optimizer.step, *([] if closure is None else [closure]))
        if self.is_ours and closure is None and not self.hooks:
            assert all(frozen(grad) == before for grad, before in grads), "the step wrote to a gradient"
        self.counted = [p._version > before for p, before in zip(self.params, versions, strict=True)]
        return loss

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the optimizer; where ours raises, it has changed nothing, and torch's is put back."""
        before, restore, noted = self.everything() if self.is_ours else None, self.remember(), len(self.log)
        try:
            return method(*arguments)
        except Exception as error:
            if self.is_ours and self.everything() != before:
                raise DifferenceError(f"it raised {error!r}, and changed something") from error
            if not self.is_ours:
                restore()
            del self.log[noted:]
            raise

    def remember(self) -> Callable[[], None]:
        """Return what puts all numbers back."""
        params = [(p, p.detach().clone()) for p in self.params]
        state = {p: {k: (v, copy.deepcopy(v)) for k, v in entry.items()} for p, entry in self.optimizer.state.items()}

        def restore() -> None:
            for p, value in params:
                p.data.copy_(value)
            for p in [p for p in self.optimizer.state if p not in state]:
                del self.optimizer.state[p]
            for p, entry in state.items():
                own = self.optimizer.state[p]
                own.clear()
                for key, (value, before) in entry.items():
                    own[key] = value.detach().copy_(before) if isinstance(value, Tensor) else value

        return restore

    def everything(self) -> Any:
        """Return every bit of parameters and states, to compare with ==."""
        state = {id(p): dict(entry) for p, entry in self.optimizer.state.items() if entry}
        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        return frozen([p.detach() for p in self.params]), frozen(state), frozen(groups)


Operation = Callable[[Side, random.Random, Side], Any]
"""Does something to a side; the last argument is the other side, whose state dicts are there to be read."""


OPERATIONS: dict[str, Operation] = {}
WEIGHTS: dict[str, int] = {}
operation = table_of(OPERATIONS, WEIGHTS)


def some(r: random.Random, params: list[Tensor]) -> list[Tensor]:
    """Return some of the parameters."""
    return [p for p in params if r.random() < 0.5]


def kept_by(side: Side, p: Tensor) -> list[bool]:
    """Return what the options of a parameter's group ask a state for."""
    group = next(group for group in side.groups if any(p is q for q in group["params"]))
    return [bool(group.get(key)) for key in ("amsgrad", "centered", "momentum")]


def one(r: random.Random, things: list[Any]) -> list[Any]:
    """Return one of the things in a list: none, where there is none."""
    return [r.choice(things)] if things else []


def gradient(side: Side, r: random.Random, p: Tensor) -> Tensor:
    """Return a gradient as the class takes it."""
    g = numbers(r, p.shape, p.dtype)
    return sparse(r, g) if side.case.name == "SparseAdam" else g


def sparse(r: random.Random, g: Tensor) -> Tensor:
    """Return some rows of a gradient, perhaps one of them twice."""
    rows = torch.tensor([[r.randrange(g.shape[0]) for _ in range(r.choice([1, 2, 3]))]])
    return torch.sparse_coo_tensor(rows, g[rows[0]], g.shape)


# Steps


def with_gradient(side: Side) -> list[Tensor]:
    """Return the parameters that have a dense gradient."""
    return [p for p in side.params if p.grad is not None and not p.grad.is_sparse]


def started(side: Side) -> list[Tensor]:
    """Return the parameters that have a state."""
    return [p for p in side.params if side.optimizer.state.get(p)]
