"""What must be equal on both sides, and how nearly: the only place that knows what is different from torch.optim."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.histories import DifferenceError
from tests.torch_cases import frozen
from tests.torch_histories.case import HALF
from tests.torch_histories.side import Side

# torch computes with the numbers of these states, which it has in the default type.
DEFAULT_TYPED = {"NAdam": ("mu_product",), "ASGD": ("eta", "mu")}
SCALARS = ("step", "mu_product", "eta", "mu")
POSITIVE = (*SCALARS, "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "exp_inf", "acc_delta")
"""States that come about without subtraction: no term is larger than the sum."""

# What docs/torch.md says is different, as far as a history comes to it: the type of a state where it is not torch's.
# (Moments below the smallest normal number, and the variance of a centered RMSprop, do not come about here.)
TYPES: list[tuple[str, Callable[[str, str, Tensor], bool], torch.dtype]] = [
    ("mu_product, eta and mu", lambda name, key, value: key in DEFAULT_TYPED.get(name, ()), torch.float64),
    ("states of float16 and bfloat16 parameters", lambda name, key, value: value.dtype in HALF, torch.float32),
    ("SparseAdam's step", lambda name, key, value: (name, key) == ("SparseAdam", "step"), torch.float64),
]

# A step is a chain of some sixteen operations, and each rounds by half a unit in the last place of its result, on both
# sides: 16 units of the largest number on the way. That is the largest of those that are added up (a parameter, a
# gradient, an old state), or, for a parameter, lr times a quotient of moments, which is of order one.
# Of 16 bits torch rounds after every operation, where we round once: six on the way to a state, and two more units
# where it decays the parameter before it moves it.
UNITS = {torch.float64: 16.0, torch.float32: 16.0, torch.float16: 6.0, torch.bfloat16: 6.0}
OF_PARAMETERS = {torch.float64: 16.0, torch.float32: 16.0, torch.float16: 3.0, torch.bfloat16: 3.0}


def compare(theirs: Side, mine: Side, before: list[Tensor], what: str) -> None:
    """Compare all that can be seen, and then give ours torch's numbers."""
    if mine.log != theirs.log:
        raise DifferenceError(f"{what}: hooks noted {mine.log}, expected {theirs.log}")
    # A step of ours may count up what it did not move: along a sparse gradient without rows.
    if any(b and not a for a, b in zip(mine.counted, theirs.counted, strict=True)):
        raise DifferenceError(f"{what}: the versions of {mine.counted} were counted up, expected {theirs.counted}")
    if [len(g["params"]) for g in mine.groups] != [len(g["params"]) for g in theirs.groups]:
        raise DifferenceError(f"{what}: other groups")
    for index, (own, group) in enumerate(zip(mine.groups, theirs.groups, strict=True)):
        a, b = ({k: v for k, v in g.items() if k != "params"} for g in (own, group))
        if frozen(a) != frozen(b):
            raise DifferenceError(f"{what}: group {index} has {a}, expected {b}")
    pairs = list(zip(mine.params, theirs.params, strict=True))
    starts = before if len(before) == len(pairs) else [p.detach() for p in theirs.params]
    for index, ((p, q), start) in enumerate(zip(pairs, starts, strict=True)):
        _compare_parameter(theirs, mine, p, q, start, f"{what}: parameter {index}, {tuple(q.shape)}")
    if len(mine.optimizer.state) != len([entry for entry in theirs.optimizer.state.values() if entry]):
        raise DifferenceError(f"{what}: {len(mine.optimizer.state)} states, expected {len(theirs.optimizer.state)}")


def _compare_parameter(theirs: Side, mine: Side, p: Tensor, q: Tensor, start: Tensor, what: str) -> None:
    kept = (p.dtype, p.shape, p.stride(), p.requires_grad, p.grad is None)
    if kept != (q.dtype, q.shape, q.stride(), q.requires_grad, q.grad is None):
        raise DifferenceError(f"{what} is {kept}, expected {(q.dtype, q.shape, q.stride(), q.requires_grad)}")
    name = theirs.case.name
    sizes = [x.detach() for x in (q, start) if x.dtype == q.dtype]
    _compare_numbers(p.detach(), q.detach(), [*sizes, q.new_ones(())], _bound(theirs, q, OF_PARAMETERS), what)
    own, entry = mine.optimizer.state.get(p) or {}, theirs.optimizer.state.get(q) or {}
    if set(own) != set(entry):
        raise DifferenceError(f"{what}: the state has {sorted(own)}, expected {sorted(entry)}")
    for key, value in entry.items():
        if not isinstance(value, Tensor):
            same = float(own[key]) == value if isinstance(value, int) else own[key] == value
            if not same:
                raise DifferenceError(f"{what}: {key} is {own[key]!r}, expected {value!r}")
            continue
        kinds = [kind for _, holds, kind in TYPES if holds(name, key, value)] or [value.dtype]
        if own[key].dtype != kinds[0] or own[key].shape != value.shape:
            raise DifferenceError(
                f"{what}: {key} is {own[key].dtype}, {own[key].shape}, expected {kinds[0]}, {value.shape}"
            )
        if key == "step" and float(own[key]) != float(value):
            raise DifferenceError(f"{what}: {own[key]} steps, expected {value}")
        terms = [value, start] if key not in POSITIVE and start.dtype == value.dtype else [value]
        terms += [q.grad] if key not in POSITIVE and q.grad is not None and not q.grad.is_sparse else []
        _compare_numbers(own[key], value, terms, _bound(theirs, q, UNITS), f"{what}: {key}")


def _bound(side: Side, param: Tensor, units: dict[torch.dtype, float]) -> float:
    """Return how large an error a step may make, of the numbers that it computes with."""
    kinds = [param.dtype, *(g["lr"].dtype for g in side.groups if isinstance(g["lr"], Tensor))]
    kinds += [side.case.default] if side.case.name in DEFAULT_TYPED else []
    kind = max(kinds, key=lambda d: torch.finfo(d).eps)
    return units[kind] * torch.finfo(kind).eps


def _compare_numbers(actual: Tensor, expected: Tensor, terms: list[Tensor], bound: float, what: str) -> None:
    """Compare within ``bound`` of the largest of the terms that were added up, and then copy."""
    if not expected.numel():
        return
    scale = max(float(x.detach().abs().max()) for x in terms if x.numel())
    a, b = actual.detach().double(), expected.detach().double()
    far = (a - b).abs() > bound * scale
    far = (far | (a.isnan() != b.isnan()) | (a.isinf() & (a != b))) & ~((a == b) | (a.isnan() & b.isnan()))
    if far.any():
        at = tuple(far.nonzero()[0].tolist())
        raise DifferenceError(
            f"{what}: {a[at]:.17g} at {at}, expected {b[at]:.17g}, {(a - b)[at] / scale / bound:.1f} bounds"
        )
    actual.data.copy_(expected.detach())
