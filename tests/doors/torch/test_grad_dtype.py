"""Gradients of another type than their parameter's: steps have the bits of those along the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import steprule as sr
import steprule.torch as door
from steprule.errors import StructureError
from tests.doors.torch.cases import DENSE_ALL, case_id, everything, one_thread, ours

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

HALF, BRAIN, FLOAT, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64
SHAPES = [(3, 4), (0,), (), (300,), (2, 3, 2, 5), (70, 130)]
LOW: dict[str, Any] = {"states": "8bit", "min_elements": 0}


def numbers(shape: tuple[int, ...], seed: int, dtype: torch.dtype = FLOAT) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def parameters(dtype: torch.dtype) -> list[Tensor]:
    """Return parameters that take gradients of any type."""
    params = [numbers(shape, i, dtype).requires_grad_() for i, shape in enumerate(SHAPES)]
    for param in params:
        param.grad_dtype = None
    return params


def is_kept(optimizer: Any) -> bool:
    """Whether the next step needs no new layout, so gradients are not copied either."""
    return optimizer._launch is not None


FEW = [case for case in DENSE_ALL if case[0] in ("SGD", "Adagrad", "Lion")]


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [*((*case, BRAIN) for case in DENSE_ALL), *((*case, HALF) for case in FEW)],
    ids=case_id,
)
def test_gradients_of_16_bits_move_float32_parameters(name: str, options: dict[str, Any], kind: torch.dtype) -> None:
    params, others = parameters(FLOAT), parameters(FLOAT)
    mine, other = ours(name, params, **options), ours(name, others, **options)
    for t in range(4):
        for i, (param, wide) in enumerate(zip(params, others, strict=True)):
            param.grad = numbers(SHAPES[i], 10 * t + i, kind)
            wide.grad = param.grad.float()
        grads = [param.grad.clone() for param in params if param.grad is not None]
        mine.step()
        other.step()
        assert is_kept(mine)
        assert all(grad.equal(param.grad) for param, grad in zip(params, grads, strict=True) if param.grad is not None)
    assert all(map(torch.equal, params, others))
    assert everything(mine) == everything(other)


@pytest.mark.parametrize(
    ("name", "options", "kinds"),
    [
        *((*case, (BRAIN, FLOAT)) for case in DENSE_ALL),
        *((*case, kinds) for case in FEW for kinds in ((HALF, FLOAT), (BRAIN, HALF), (HALF, BRAIN))),
    ],
    ids=str,
)
def test_parameters_of_16_bits_are_rounded_once(
    name: str, options: dict[str, Any], kinds: tuple[torch.dtype, torch.dtype]
) -> None:
    """The step is that of the float32 parameter of the same numbers, rounded."""
    kind, of_grads = kinds
    params = parameters(kind)
    wide = [param.detach().float().requires_grad_() for param in params]
    mine, other = ours(name, params, **options), ours(name, wide, **options)
    for t in range(4):
        for i, (param, twin) in enumerate(zip(params, wide, strict=True)):
            param.grad = numbers(SHAPES[i], 10 * t + i, of_grads)
            twin.grad = param.grad.float()
            twin.data.copy_(param.detach())
        mine.step()
        other.step()
        assert is_kept(mine)
        for param, twin in zip(params, wide, strict=True):
            assert param.equal(twin.to(kind))
            for key, value in mine.state[param].items():
                assert value.equal(other.state[twin][key]), key


CONVERTED = [(FLOAT, DOUBLE), (BRAIN, DOUBLE), (DOUBLE, FLOAT), (DOUBLE, BRAIN), (FLOAT, torch.float8_e4m3fn)]


@pytest.mark.parametrize("kinds", [*CONVERTED, (torch.complex64, torch.complex128)], ids=str)
def test_other_types_are_read_as_a_copy(kinds: tuple[torch.dtype, torch.dtype]) -> None:
    kind, of_grads = kinds
    arithmetic = {DOUBLE: DOUBLE, torch.complex64: torch.complex64}.get(kind, FLOAT)
    params, others = parameters(kind), parameters(kind)
    mine, other = ours("AdamW", params), ours("AdamW", others)
    for t in range(3):
        for i, (param, twin) in enumerate(zip(params, others, strict=True)):
            param.grad = numbers(SHAPES[i], 10 * t + i).to(of_grads)
            twin.grad = param.grad.to(arithmetic)
        mine.step()
        other.step()
    assert all(map(torch.equal, params, others))


@pytest.mark.parametrize("kinds", [(FLOAT, torch.complex64), (torch.complex64, FLOAT), (FLOAT, torch.int32)], ids=str)
def test_what_is_no_gradient_is_refused(kinds: tuple[torch.dtype, torch.dtype]) -> None:
    p = torch.ones(3, dtype=kinds[0])
    p.grad_dtype = None
    p.grad = torch.ones(3, dtype=kinds[1])
    with pytest.raises(StructureError, match=f"type {kinds[0]} has a gradient .* type {kinds[1]}; nothing was stepped"):
        ours("Adam", [p]).step()
    assert p.equal(torch.ones(3, dtype=kinds[0]))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FLOAT, LOW),
        (FLOAT, {"states": "bfloat16", "min_elements": 0, "clip_value": 0.5}),
        (FLOAT, {"clip_norm": 0.5}),
        (FLOAT, {"clip_norm": 0.5, "clip_value": 0.3, "nonfinite": "skip"}),
        (FLOAT, {"update_clip": True}),
        (FLOAT, {**LOW, "update_clip": True, "clip_norm": 2.0}),
    ],
    ids=case_id,
)
def test_formats_and_guards_read_them(kind: torch.dtype, options: dict[str, Any]) -> None:
    params, others = parameters(kind), parameters(kind)
    mine: Any = ours("AdamW", params, lr=0.1, **options)
    other: Any = ours("AdamW", others, lr=0.1, **options)
    monitors = [sr.Monitor(optimizer, every=2) for optimizer in (mine, other)]
    for t in range(6):
        for i, (param, wide) in enumerate(zip(params, others, strict=True)):
            param.grad = numbers(SHAPES[i], 10 * t + i, BRAIN)
            if t == 2 and "nonfinite" in options and param.numel():
                param.grad.view(-1)[0] = torch.inf
            wide.grad = param.grad.float()
        mine.step()
        other.step()
        assert is_kept(mine)
    assert mine.skipped == other.skipped == ("nonfinite" in options)
    assert all(map(torch.equal, params, others))
    assert everything(mine) == everything(other)
    assert monitors[0].rows == monitors[1].rows
    assert len(monitors[0].rows) >= 2 * len(SHAPES) - 2


@pytest.mark.parametrize("options", [{"clip_norm": 1e-5}, {"clip_norm": 1e-5, "clip_value": 3e-7}], ids=str)
@pytest.mark.parametrize("kinds", [(FLOAT, HALF), (HALF, HALF), (BRAIN, BRAIN), (FLOAT, BRAIN)], ids=case_id)
def test_where_no_kernel_looks_gradients_without_their_scale_are_not_rounded(
    kinds: tuple[torch.dtype, torch.dtype], options: dict[str, Any]
) -> None:
    """2 ** -20 and less: float16 has some bits left of such numbers, or none."""
    of_params, of_grads = kinds
    (param,), (wide,) = ([numbers((70, 130), 1, of_params).requires_grad_()] for _ in range(2))
    for own, kind in ((param, of_grads), (wide, FLOAT)):
        own.grad_dtype = None
        own.grad = (numbers((70, 130), 2) / 16).to(of_grads).to(kind)
        optimizer: Any = ours("SGD", [own], lr=1000.0, **options)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(65536.0), torch.tensor(0.0)
        with FlopCounterMode(display=False):
            optimizer.step()
    assert param.equal(wide)
    assert not param.equal(numbers((70, 130), 1, of_params))


def test_split_parameters_take_float32_gradients() -> None:
    """With all of float32's bits kept beside it, a bfloat16 parameter is stepped as a float32 one."""
    p, wide = numbers((70, 130), 0, BRAIN), numbers((70, 130), 0, BRAIN).float()
    p.grad_dtype = None
    mine, other = ours("AdamW", [p], weights="split32", lr=0.1), ours("AdamW", [wide], lr=0.1)
    for t in range(5):
        p.grad = wide.grad = numbers((70, 130), 1 + t)
        mine.step()
        other.step()
    whole = (p.view(torch.int16).int() << 16) + mine.state[p]["param_low"].int()
    assert whole.view(FLOAT).equal(wide)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "expanded": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("options", [{}, LOW, {"clip_norm": 0.5}], ids=case_id)
@pytest.mark.parametrize("of_grads", LAYOUTS)
@pytest.mark.parametrize("of_params", ["dense", "channels last", "strided"])
def test_layouts(of_params: str, of_grads: str, options: dict[str, Any]) -> None:
    shape = (4, 5, 6, 7)
    params = []
    for _ in range(2):
        start = numbers(shape, 0)
        params.append(start if of_params == "dense" else LAYOUTS[of_params](start))
        params[-1].grad_dtype = None
    optimizers = [ours("AdamW", [param], lr=0.1, **options) for param in params]
    for t in range(3):
        g = LAYOUTS[of_grads](numbers(shape, 1 + t, BRAIN))
        params[0].grad, params[1].grad = g, g.float()
        for optimizer in optimizers:
            optimizer.step()
    assert params[0].equal(params[1])
    assert everything(optimizers[0]) == everything(optimizers[1])


@pytest.mark.parametrize("steps_before", [0, 2], ids=["new", "kept"])
def test_gradients_in_the_memory_of_their_parameter(steps_before: int) -> None:
    """Element i of one type is not element i of the other: what is still to be read must not be overwritten."""
    kept, twin = numbers((5000,), 0), numbers((5000,), 0)
    kept.grad_dtype = twin.grad_dtype = None
    optimizers = [ours("SGD", [param], lr=0.5) for param in (kept, twin)]
    for t in range(steps_before):
        for param, optimizer in zip((kept, twin), optimizers, strict=True):
            param.grad = numbers((5000,), 1 + t, BRAIN)
            optimizer.step()
    kept.grad = kept.detach().view(BRAIN)[:5000]
    twin.grad = kept.grad.clone()
    for optimizer in optimizers:
        optimizer.step()
    assert kept.view(torch.int32).equal(twin.view(torch.int32))  # halves of numbers may be NaN


def test_a_launch_serves_for_gradients_that_lie_at_any_place() -> None:
    p, wide = numbers((33,), 0), numbers((33,), 0)
    p.grad_dtype = None
    mine, other = ours("Adam", [p]), ours("Adam", [wide])
    launches = []
    for t in range(4):
        p.grad = torch.empty(40, dtype=BRAIN)[t : t + 33].copy_(numbers((33,), 1 + t))
        wide.grad = p.grad.float()
        mine.step()
        other.step()
        launches.append(mine._launch)  # type: ignore[attr-defined]
    assert launches[0] is not None
    assert len(set(map(id, launches))) == 1
    assert p.equal(wide)


def test_the_type_may_change_between_steps() -> None:
    p, wide = numbers((9, 9), 0), numbers((9, 9), 0)
    p.grad_dtype = None
    mine, other = ours("Adam", [p], lr=0.1), ours("Adam", [wide], lr=0.1)
    for t, kind in enumerate((FLOAT, BRAIN, BRAIN, HALF, FLOAT, DOUBLE, BRAIN)):
        p.grad = numbers((9, 9), 1 + t, kind)
        wide.grad = p.grad.float()
        mine.step()
        other.step()
        assert p.equal(wide)


def test_a_model_whose_gradients_are_of_16_bits_trains_as_by_torch() -> None:
    ends = []
    for lib in (torch.optim, door):
        model = nn.Linear(6, 3)
        with torch.no_grad():
            for i, param in enumerate(model.parameters()):
                param.copy_(numbers(tuple(param.shape), i))
                param.grad_dtype = BRAIN
        optimizer = lib.SGD(model.parameters(), lr=0.1)
        for t in range(5):
            optimizer.zero_grad()
            model(numbers((8, 6), 10 + t)).square().mean().backward()
            assert all(param.grad is not None and param.grad.dtype == BRAIN for param in model.parameters())
            optimizer.step()
        ends.append([param.detach() for param in model.parameters()])
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two)


def test_sparse_gradients_and_steps_in_the_backward_pass() -> None:
    ends = []
    for kind in (BRAIN, FLOAT):
        p = numbers((9, 4), 0)
        p.grad_dtype = None
        optimizer = ours("SparseAdam", [p], lr=0.1)
        for t in range(3):
            values = numbers((3, 4), 1 + t, BRAIN).to(kind)
            p.grad = torch.sparse_coo_tensor(torch.tensor([[t, 4, 6]]), values, (9, 4))
            optimizer.step()
        ends.append(p)
    assert ends[0].equal(ends[1])

    w = numbers((4, 4), 0).requires_grad_()
    plain = w.detach().clone()
    w.grad_dtype = BRAIN
    handle = door.step_in_backward(door.SGD([w], lr=0.5))
    (w * numbers((4, 4), 5)).sum().backward()
    handle.remove()
    assert w.equal(plain - 0.5 * numbers((4, 4), 5).to(BRAIN).float())


def test_differentiable_steps_take_them() -> None:
    g = numbers((5,), 1, BRAIN).requires_grad_()
    p = numbers((5,), 0)
    p.grad_dtype = None
    q = p.clone()
    q.grad_dtype = None
    q.grad = g
    ours("SGD", [q], lr=0.5, differentiable=True).step()
    assert q.equal(p - 0.5 * g.float())
    q.sum().backward()
    assert g.grad is not None
    assert g.grad.equal(torch.full((5,), -0.5, dtype=BRAIN))
