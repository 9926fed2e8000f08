"""What must be equal on both sides, and how nearly: the only place that knows what is different from torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.doors.histories import DifferenceError
from tests.doors.torch.cases import frozen
from tests.doors.torch.histories.case import HALF
from tests.doors.torch.histories.side import Side

# torch computes with the numbers of these states, which it has in the default type.
DEFAULT_TYPED = {"NAdam": ("mu_product",), "ASGD": ("eta", "mu")}
SCALARS = ("step", "mu_product", "eta", "mu")
NOTES = ("origin", "ema", "label")
"""What wrappers keep in a state."""
POSITIVE = (
    *SCALARS,
    "exp_avg_sq",
    "max_exp_avg_sq",
    "square_avg",
    "sum",
    "exp_inf",
    "acc_delta",
    "row_var",
    "col_var",
    "variance",
)
"""States that come about without subtraction: no term is larger than the sum."""


@dataclass(frozen=True)
class Documented:
    """What docs/torch.md says is different from torch.optim.

    Attributes:
        row: its row in the table there.
        dtype: the type that a state has instead of torch's.
        holds: of which state that is so: given its class, its key, and torch's value.
        how: how histories come by it, where it is no type.
    """

    row: str
    dtype: torch.dtype | None = None
    holds: Callable[[str, str, Tensor], bool] = lambda name, key, value: False
    how: str = ""


DIFFERENCES = [
    Documented(
        "`NAdam`'s `mu_product`, `ASGD`'s `eta` and `mu`", torch.float64, lambda n, k, v: k in DEFAULT_TYPED.get(n, ())
    ),
    Documented(
        "states of float16 and bfloat16 parameters", torch.float32, lambda n, k, v: k not in NOTES and v.dtype in HALF
    ),
    Documented("`SparseAdam`'s `step`", torch.float64, lambda n, k, v: (n, k) == ("SparseAdam", "step")),
    Documented("loading a state dict", how="load: torch is not asked to take what does not fit"),
    Documented("a misspelt option in a group", how="refused_options: torch is not asked"),
    Documented("a hyperparameter set out of range between steps", how="refused_options: torch is not asked"),
    Documented(
        "a state needed by an option that is switched on later (`amsgrad`, say)",
        how="option_set, group_added, parameter_moved and state_of_another_parameter avoid it",
    ),
    Documented("hooks of a step that `GradScaler` skips", how="scaled_step: none is skipped where there are hooks"),
    Documented("gradients under `SGD(nesterov=True, foreach=True)`", how="Case: SGD is not made with foreach=True"),
    Documented("`RMSprop(centered=True)` if rounding makes a variance negative", how="slots_of: set to nothing else"),
    Documented("`Rprop` where a gradient is NaN", how="gradient_not_finite: not for Rprop"),
    Documented(
        "a sparse gradient of a strided tensor of one element", how="Case, gradients_of_the_other_kind: larger ones"
    ),
    Documented("`Adafactor` of 16-bit parameters", how="Case: float32 and float64"),
    Documented("`Adafactor` of a vector where a gradient is not finite", how="gradient_not_finite: not for Adafactor"),
    Documented("`Adafactor` of parameters that share memory", how="parameters_share_memory: not for Adafactor"),
    Documented("`Adafactor` of a parameter without elements", how="Case: some elements"),
    Documented(
        "`Adafactor(eps=(None, ...))` of a group with parameters of several types", how="Case: a number is given"
    ),
    Documented("`SGD` with momentum and sparse gradients", how="gradients_of_the_other_kind: without momentum"),
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
        kinds = [d.dtype for d in DIFFERENCES if d.holds(name, key, value)] or [value.dtype]
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
