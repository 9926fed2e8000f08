"""Gradients through steps, and sparse gradients, in the PyTorch door."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steprule.torch as door
from steprule.errors import StructureError
from steprule.rules import lookahead
from tests.doors.torch.cases import (
    DENSE_RICH,
    DIFFERENTIABLE,
    TOGETHER,
    assert_agree,
    case_id,
    default_dtype,
    frozen,
    one_thread,
    ours,
    random_gradients,
    reference,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

MakeOn = Callable[..., torch.optim.Optimizer]  # takes parameters and, if any, other options


def unrolled(make: MakeOn, x: Tensor, lr: Any) -> Tensor:
    """Return a number that depends on x and lr through three steps."""
    p = x.clone()
    optimizer = make([p], lr=lr, differentiable=True)
    weights = torch.linspace(0.5, 1.5, 5, dtype=x.dtype)
    for t in range(3):
        q = p.clone()
        p.grad = weights * q.sin() + 0.3 * (t + 1) * q
        optimizer.step()
        for state in optimizer.state.values():  # torch changes in place what its own graph needs
            state.update({k: v.clone() for k, v in state.items() if v.dim()})
    return (p * weights).sum()


X = torch.linspace(-1, 1.27, 5, dtype=torch.float64).requires_grad_()
LR = torch.tensor(0.05, dtype=torch.float64).requires_grad_()
DIFFERENTIABLE_LR = ("SGD", "Adam", "AdamW", "NAdam", "RAdam")  # of torch; its others want a number


def without(options: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in keys}


# torch detaches SGD's first momentum buffer, so it loses that gradient: only plain SGD is compared.
UNROLLED = [
    (name, without(options, "lr", "momentum", "dampening", "nesterov"))
    for name, options in DENSE_RICH
    if (name, options) in DIFFERENTIABLE
]


@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize(("name", "options"), UNROLLED, ids=case_id)
def test_gradients_through_steps_are_those_of_torch(name: str, options: dict[str, Any], tensor_lr: bool) -> None:
    if tensor_lr and name not in DIFFERENTIABLE_LR:
        with pytest.raises((TypeError, RuntimeError)):
            torch.autograd.grad(unrolled(partial(reference, name, **options), X, LR), [X, LR])
        return
    wanted = [X, LR] if tensor_lr else [X]
    with default_dtype(torch.float64):
        expected, actual = (
            torch.autograd.grad(unrolled(partial(make, name, **options), X, LR if tensor_lr else 0.05), wanted)
            for make in (reference, ours)
        )
    assert_agree(actual, expected, name)


@pytest.mark.parametrize(("name", "options"), DIFFERENTIABLE, ids=case_id)
def test_gradients_through_steps_are_right(name: str, options: dict[str, Any]) -> None:
    make = partial(ours, name, **without(options, "lr"))
    if name in TOGETHER:
        with pytest.raises(StructureError, match="sums over all tensors"):
            unrolled(make, X, 0.05)
        return
    assert torch.autograd.gradcheck(lambda x: unrolled(make, x, 0.05), (X,))
    if name not in ("Rprop", "ASGD"):  # there lr is but the start of a step size
        assert torch.autograd.gradcheck(lambda x, lr: unrolled(make, x, lr), (X, LR))


def step_of(
    name: str, options: dict[str, Any], step: float, keys: list[str], p: Tensor, g: Tensor, *kept: Tensor
) -> Any:
    """Return what one step makes of a parameter and of all that its state keeps, each an argument."""
    q = p.clone()
    q.grad = g
    optimizer = ours(name, [q], **options, differentiable=True)
    state = {key: value.clone() for key, value in zip(keys, kept, strict=True)}
    optimizer.state[q].update({"step": torch.tensor(step), **state})
    optimizer.step()
    return q, *(optimizer.state[q][key] for key in keys)


@pytest.mark.parametrize(("name", "options"), [case for case in DIFFERENTIABLE if case[0] not in TOGETHER], ids=case_id)
def test_gradients_go_through_all_that_a_state_keeps(name: str, options: dict[str, Any]) -> None:
    started = nn.Parameter(X.detach().clone())
    optimizer = ours(name, [started], **options)
    for t in range(7):
        random_gradients([started], t)
        optimizer.step()
    kept = {key: value.detach().double() for key, value in optimizer.state[started].items() if key != "step"}
    # Away from where sign, maximum and the like have no derivative.
    inputs = [
        value + 0.013 if value.dim() else value * 1.07 for value in (X.detach(), X.detach().cos(), *kept.values())
    ]
    inputs = [value.clone().requires_grad_() for value in inputs]
    step = float(optimizer.state[started].get("step", 0))
    assert torch.autograd.gradcheck(partial(step_of, name, options, step, list(kept)), inputs)


def test_a_slot_that_begins_as_the_parameter_is_part_of_the_graph() -> None:
    make = partial(door.Optimizer, rule=lookahead("sgd"), sync_period=2)
    assert torch.autograd.gradcheck(lambda x: unrolled(make, x, 0.05), (X,))


def test_a_scalar_slot_is_part_of_the_graph_of_several_steps() -> None:
    def moved(beta1: Tensor) -> Tensor:
        p = X.detach().clone()
        optimizer = ours("NAdam", [p], lr=0.1, betas=(beta1, 0.99), differentiable=True)
        for t in range(3):
            random_gradients([p], t)
            optimizer.step()
        return p

    assert torch.autograd.gradcheck(moved, torch.tensor(0.8, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
def test_a_scalar_slot_of_another_type_keeps_its_graph(dtype: torch.dtype) -> None:
    mu_product = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    p = X.detach().clone()
    optimizer = ours("NAdam", [p], differentiable=True)
    optimizer.state[p].update(step=torch.tensor(3.0), mu_product=mu_product)
    random_gradients([p], 0)
    optimizer.step()
    assert torch.autograd.grad(p.sum(), mu_product, retain_graph=True)[0] != 0
    assert torch.autograd.grad(optimizer.state[p]["mu_product"], mu_product)[0] > 0


SPARSE: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "maximize": True}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.2, "maximize": True}),
    ("SparseAdam", {"lr": 0.02, "betas": (0.8, 0.99)}),
    ("SparseAdam", {"lr": 0.02, "maximize": True}),
]
# The indices of the stored values, then how many dimensions are dense.
INDICES: dict[str, tuple[list[list[int]], int]] = {
    "rows": ([[0, 3, 7]], 1),
    "rows twice, out of order": ([[7, 3, 7, 0, 3, 7]], 1),
    "elements": ([[0, 3, 7, 3], [1, 0, 2, 0]], 0),
    "no row": ([[]], 1),
    "no element": ([[], []], 0),
    "every row": ([list(range(9))], 1),
}


def sparse_gradient(shape: tuple[int, ...], indices: list[list[int]], dtype: torch.dtype, t: int) -> Tensor:
    random = torch.Generator().manual_seed(t)
    values = torch.randn(len(indices[0]), *shape[len(indices) :], generator=random, dtype=torch.float64)
    return torch.sparse_coo_tensor(torch.tensor(indices, dtype=torch.int64), values.to(dtype), shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
@pytest.mark.parametrize("which", INDICES)
@pytest.mark.parametrize(("name", "options"), SPARSE, ids=case_id)
def test_sparse_gradients_agree_and_move_only_their_rows(
    name: str, options: dict[str, Any], which: str, dtype: torch.dtype
) -> None:
    indices, dense = INDICES[which]
    shape = (9, 4) if dense == 1 else (9, 3)
    results, counts = [], []
    for make in (reference, ours):
        p = nn.Parameter(torch.linspace(-1, 1, shape[0] * shape[1], dtype=dtype).reshape(shape))
        with torch.no_grad():
            p[4] = -0.0  # adding zero would change it
        start = p.detach().clone()
        optimizer = make(name, [p], **options)
        for t in range(4):
            p.grad = sparse_gradient(shape, indices, dtype, t)
            given = p.grad, frozen((p.grad._indices(), p.grad._values()))
            optimizer.step()
            assert p.grad is given[0]
            assert frozen((p.grad._indices(), p.grad._values())) == given[1]
        state = dict(optimizer.state[p])
        counts.append(float(state.pop("step", -1)))
        results.append([p, *(value for _, value in sorted(state.items()))])
    untouched = sorted(set(range(9)) - set(indices[0]))
    assert frozen(results[1][0][untouched]) == frozen(start[untouched])
    assert counts[0] == counts[1]
    assert_agree(results[1], results[0], name)


@pytest.mark.parametrize(("name", "options"), SPARSE, ids=case_id)
def test_states_of_untouched_rows_keep_every_bit(name: str, options: dict[str, Any]) -> None:
    p = nn.Parameter(torch.ones(9, 4))
    optimizer = ours(name, [p], **options)
    p.grad = sparse_gradient((9, 4), [list(range(9))], torch.float32, 0)
    optimizer.step()
    before = {k: v.clone() for k, v in {"p": p, **optimizer.state[p]}.items() if isinstance(v, Tensor) and v.dim()}
    rows, others = [2, 5], [0, 1, 3, 4, 6, 7, 8]
    p.grad = sparse_gradient((9, 4), [rows], torch.float32, 1)
    optimizer.step()
    after = {"p": p, **optimizer.state[p]}
    for key, value in before.items():
        assert frozen(after[key][others]) == frozen(value[others]), key
        assert (after[key][rows] != value[rows]).any(), key


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_sparse_and_dense_gradients_in_one_step_agree_with_torch(name: str) -> None:
    results = []
    for make in (reference, ours):
        params = [nn.Parameter(torch.linspace(-1, 1, 36, dtype=torch.float64).reshape(9, 4)) for _ in range(3)]
        optimizer = make(name, params, lr=0.1)
        for t in range(4):
            random_gradients(params, t)
            params[t % 3].grad = sparse_gradient((9, 4), [[1, 4, 1]], torch.float64, t)
            optimizer.step()
        results.append(params)
    assert_agree(results[1], results[0], name)
