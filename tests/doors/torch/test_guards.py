"""Guarded steps of the PyTorch door: torch's clipping, scalers, closures, copies, sparse and sharded gradients."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.errors import HyperparameterError, NonFiniteError, StateError
from steprule.torch import step_in_backward
from tests.cases import SECOND_MOMENT
from tests.doors.torch.cases import (
    ALL,
    DENSE_ALL,
    OWN,
    Problem,
    case_id,
    everything,
    frozen,
    one_thread,
    ours,
    random_gradients,
    train,
)
from tests.papers import guards as paper

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

# So small that its square is zero: its step shows the factor, every bit of it, and leaves the norm alone.
WITNESS = 2.0**-600
STABLE = ["RMSprop", "Adam", "AdamW", "NAdam", "RAdam", *(n for n, rule in OWN.items() if rule.name in SECOND_MOMENT)]
BAD = (math.inf, -math.inf, math.nan)
FORMATS: list[tuple[torch.dtype, dict[str, Any]]] = [
    (torch.float32, {}),
    (torch.bfloat16, {"states": "8bit", "weights": "split24", "min_elements": 0}),
    (torch.bfloat16, {"weights": "stochastic", "seed": 5}),
    (torch.float16, {"states": "bfloat16", "weights": "split32", "min_elements": 0}),
    (torch.complex64, {}),
]


def tensor_of(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    """Return numbers of several sizes, whose sum of squares depends on the order in which they are added."""
    rng = np.random.default_rng(seed)
    real, imaginary = (
        torch.from_numpy(np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 2, shape))) for _ in range(2)
    )
    return (torch.complex(real, imaginary) if dtype.is_complex else real).to(dtype)


def numbers(tensor: Tensor, axes: tuple[int, ...] | None = None) -> list[float]:
    """Return the elements in C order of the axes, parts of complex ones one after the other."""
    tensor = tensor.detach() if axes is None else tensor.detach().permute(axes)
    tensor = tensor.coalesce().values() if tensor.is_sparse else tensor
    flat = tensor.resolve_conj().contiguous().reshape(-1)
    found = [part for x in flat.tolist() for part in (x.real, x.imag)] if flat.is_complex() else flat.tolist()
    return [float(x) for x in found]


def factor_of(params: list[Tensor], grads: list[Tensor | None], clip_norm: float, **options: Any) -> float:
    """Return the factor by which a step of plain gradient descent has multiplied the gradients."""
    witness = torch.zeros((), dtype=torch.float64)
    optimizer = door.SGD([*params, witness], lr=1.0, clip_norm=clip_norm, **options)
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    witness.grad = torch.tensor(WITNESS, dtype=torch.float64)
    optimizer.step()
    return -float(witness) / WITNESS


def poison(params: list[Tensor], t: int) -> None:
    """Make one element of one gradient infinite or NaN."""
    grads = [p.grad for p in params if p.grad is not None]
    grad = grads[t % len(grads)]
    values = grad._values() if grad.is_sparse else grad
    values.view(-1)[t % values.numel()] = BAD[t % 3]


# The norm.


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str
)
def test_the_norm_is_summed_in_its_order(dtype: torch.dtype, threads: int) -> None:
    torch.set_num_threads(threads)
    shapes: list[tuple[int, ...]] = [(40_001,), (3, 50, 70), (5,), (), (0, 3)]
    grads = [tensor_of(seed, shape, dtype) for seed, shape in enumerate(shapes)]
    expected = paper.norm_factor([paper.sum_of_squares(numbers(g)) for g in grads], 1e-3)
    assert factor_of([torch.zeros_like(g) for g in grads], list(grads), 1e-3) == expected


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "C": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "columns": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "unaligned": lambda x: torch.cat([torch.zeros(1, dtype=x.dtype), x.reshape(-1)])[1:].reshape(x.shape),
}
AXES = {"channels last": (0, 2, 3, 1), "transposed": (3, 1, 2, 0)}


@pytest.mark.parametrize("along", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_norm_follows_memory_order(layout: str, along: str) -> None:
    for seed in range(4):
        values = tensor_of(seed, (4, 9, 11, 7))
        grad = LAYOUTS[along](values)
        axes = AXES.get(layout) if layout == along else None
        expected = paper.norm_factor([paper.sum_of_squares(numbers(values, axes))], 0.01)
        param = LAYOUTS[layout](torch.zeros_like(values))
        assert factor_of([param], [grad], 0.01) == expected
        assert torch.equal(grad, values), "the gradient is only read"


def test_expanded_conjugate_and_absent_gradients_count_as_they_are() -> None:
    wide, narrow = torch.zeros(3, 40, dtype=torch.float64), torch.zeros(6, dtype=torch.complex128)
    grads = [tensor_of(1, (1, 40)).expand(3, 40), tensor_of(2, (6,), torch.complex128).conj(), None]
    sums = [paper.sum_of_squares(numbers(g)) for g in grads if g is not None]
    assert factor_of([wide, narrow, torch.zeros(9)], grads, 0.01) == paper.norm_factor(sums, 0.01)


@pytest.mark.parametrize("repeated", [False, True])
def test_sparse_gradients_count_with_their_rows_added_up(repeated: bool) -> None:
    rows = torch.tensor([[4, 1, 4]] if repeated else [[1, 4, 6]])
    grad = torch.sparse_coo_tensor(rows, tensor_of(3, (3, 50)), (8, 50))
    param, dense = torch.zeros(8, 50, dtype=torch.float64), tensor_of(4, (7,))
    sums = [paper.sum_of_squares(numbers(g)) for g in (grad, dense)]
    assert factor_of([param, torch.zeros_like(dense)], [grad, dense], 0.01) == paper.norm_factor(sums, 0.01)
    step = -(grad.to_dense() * paper.norm_factor(sums, 0.01))
    torch.testing.assert_close(param, step, rtol=1e-15, atol=0)


def test_a_norm_of_nothing() -> None:
    for params in ([torch.zeros(3)], [torch.zeros(0, 3)]):
        optimizer = door.Adam(params, clip_norm=1.0, nonfinite="skip", update_clip=True)
        optimizer.step()
        params[0].grad = torch.zeros_like(params[0])
        optimizer.step()
        assert torch.equal(params[0], torch.zeros_like(params[0]))
        assert optimizer.skipped == 0


def units_apart(a: Tensor, b: Tensor) -> float:
    """Return the largest difference, in units in the last place of the largest element."""
    largest = float(b.abs().max())
    unit = torch.finfo(b.dtype).eps * 2.0 ** math.floor(math.log2(largest))
    return float((a - b).abs().max()) / unit


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_are_those_of_torch_after_clip_grad_norm(dtype: torch.dtype) -> None:
    # In units in the last place after 20 steps: torch takes its norm, and the factor, in the type of the gradients.
    problems, ratios = [Problem(dtype), Problem(dtype)], []
    for p in problems[0].trained():
        p.data *= 3
    problems[1].load_state_dict(problems[0].state_dict())
    theirs = torch.optim.AdamW(problems[0].trained(), lr=0.01, weight_decay=0.1, foreach=False)
    mine = door.AdamW(problems[1].trained(), lr=0.01, weight_decay=0.1, clip_norm=0.5)
    for t in range(20):
        theirs.zero_grad()
        problems[0](t).backward()
        ratios.append(float(nn.utils.clip_grad_norm_(problems[0].parameters(), 0.5)))
        theirs.step()
        train(problems[1], mine, 1, t)
    assert max(ratios) > 1.0
    for p, q in zip(problems[1].trained(), problems[0].trained(), strict=True):
        assert units_apart(p.detach(), q.detach()) <= 8


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_clip_value_is_that_of_torch(name: str, options: dict[str, Any]) -> None:
    problems = [Problem(torch.float32), Problem(torch.float32)]
    by_torch = ours(name, problems[0].trained(), **options)
    mine = ours(name, problems[1].trained(), **options, clip_value=0.03)
    for t in range(4):
        train(problems[1], mine, 1, t)
        by_torch.zero_grad()
        problems[0](t).backward()
        nn.utils.clip_grad_value_(problems[0].parameters(), 0.03)
        by_torch.step()
    assert everything(mine) == everything(by_torch)


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_limits_that_nothing_reaches_change_no_bit(name: str, options: dict[str, Any]) -> None:
    problems = [Problem(torch.float32), Problem(torch.float32)]
    free = ours(name, problems[0].trained(), **options)
    bound = ours(name, problems[1].trained(), **options, clip_norm=1e300, clip_value=1e30, nonfinite="raise")
    for problem, optimizer in zip(problems, (free, bound), strict=True):
        train(problem, optimizer, 4)
    assert everything(free) == everything(bound)


@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 3e38), (torch.float64, 1e200), (torch.complex64, 3e38)])
def test_huge_gradients_are_clipped_and_not_refused(dtype: torch.dtype, size: float, nonfinite: str) -> None:
    param = torch.zeros(3, dtype=dtype)
    param.grad = torch.tensor([size, -size, 0.0], dtype=dtype)
    optimizer = door.SGD([param], lr=1.0, clip_norm=3.0, nonfinite=nonfinite)
    optimizer.step()
    one = 3 / math.sqrt(2)
    torch.testing.assert_close(param, torch.tensor([-one, one, 0.0], dtype=dtype), rtol=1e-6, atol=0)
    assert optimizer.skipped == 0


# Both doors.


@pytest.mark.parametrize("name", SECOND_MOMENT)
@pytest.mark.parametrize("guards", [{"clip_norm": 0.5, "clip_value": 0.4, "update_clip": True}, {"update_clip": True}])
def test_both_doors_give_the_same_bits(name: str, guards: dict[str, Any]) -> None:
    shapes: list[tuple[int, ...]] = [(3, 129), (5,), ()]
    tensors = [tensor_of(seed, shape, torch.float32) for seed, shape in enumerate(shapes)]
    arrays = [tensor.numpy().copy() for tensor in tensors]
    by_tensors = door.Optimizer(tensors, rule=name, **guards)
    by_arrays = sr.Optimizer(arrays, name, **guards)
    for t in range(4):
        grads = [tensor_of(10 * t + seed, shape, torch.float32) * 4.0**t for seed, shape in enumerate(shapes)]
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = grad
        by_tensors.step()
        by_arrays.step([grad.numpy() for grad in grads])
    assert [tensor.numpy().tobytes() for tensor in tensors] == [array.tobytes() for array in arrays]


def test_both_doors_give_the_same_bits_in_formats() -> None:
    formats: dict[str, Any] = {"states": "8bit", "weights": "stochastic", "min_elements": 0, "seed": 3}
    guards: dict[str, Any] = {"clip_norm": 0.5, "clip_value": 0.4, "update_clip": True}
    tensor = tensor_of(1, (5, 300), torch.float16)
    array = tensor.numpy().copy()
    by_tensors = door.AdamW([tensor], betas=(0.9, 0.9), **formats, **guards)
    by_arrays = sr.Optimizer([array], "adamw", beta2=0.9, **formats, **guards)
    for t in range(4):
        tensor.grad = tensor_of(t, (5, 300), torch.float16) * 4.0**t
        by_tensors.step()
        by_arrays.step([tensor.grad.numpy()])
        assert tensor.numpy().tobytes() == array.tobytes()


@pytest.mark.parametrize("cls", STABLE)
def test_each_tensor_has_a_learning_rate_of_its_own(cls: str) -> None:
    shapes: list[tuple[int, ...]] = [(6,), (2, 5)]
    together = [tensor_of(seed, shape) for seed, shape in enumerate(shapes)]
    alone, free = ([p.clone() for p in together] for _ in range(2))
    optimizers = [
        ours(cls, together, lr=0.01, update_clip=True),
        *(ours(cls, [p], lr=0.01, update_clip=True) for p in alone),
        ours(cls, free, lr=0.01),
    ]
    for t in range(6):
        for params in (together, alone, free):
            params[0].grad = tensor_of(3, (6,)) * 5.0**t
            params[1].grad = tensor_of(4, (2, 5)) / (t + 1) ** 3
        for optimizer in optimizers:
            optimizer.step()
    assert frozen(together) == frozen(alone)
    assert not torch.equal(together[0], free[0])


def test_stable_adamw_equals_its_paper() -> None:
    gradients = [[x * (50.0 if t == 6 else 1.0) for x in numbers(tensor_of(t, (7,)))] for t in range(12)]
    param = torch.linspace(-2, 3, 7, dtype=torch.float64)
    options: dict[str, Any] = {"lr": 0.02, "eps": 0.05, "weight_decay": 0.3}
    path = paper.run_stable_adamw(param.tolist(), gradients, beta1=0.9, beta2=0.9, **options)
    optimizer = door.AdamW([param], betas=(0.9, 0.9), update_clip=True, **options)
    for g, expected in zip(gradients, path, strict=True):
        param.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        np.testing.assert_allclose(param.numpy(), expected, rtol=1e-11)


# Steps that are refused.


def future(name: str, options: dict[str, Any], kind: tuple[torch.dtype, dict[str, Any]], bad: bool) -> Any:
    """Return all that a run of six steps ends with, with others to be skipped between them where bad."""
    dtype, formats = kind
    first = tensor_of(1, (8, 60), dtype)
    params = [first] if name == "SparseAdam" else [first, tensor_of(2, (9,), dtype)]
    guards: dict[str, Any] = {"nonfinite": "skip", "clip_norm": 5.0, "clip_value": 2.0}
    guards |= {"update_clip": True} if name in STABLE else {}
    optimizer: Any = ours(name, params, **copy.deepcopy(options), **formats, **guards)
    for t in range(6):
        for again in range(t % 2 + 1 if bad else 0):
            random_gradients(params, t, name)
            poison(params, t + again)
            optimizer.step()
        random_gradients(params, t, name)
        optimizer.step()
        assert optimizer.guards.in_a_row == 0
    assert optimizer.skipped == (9 if bad else 0)
    return everything(optimizer)


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_skipped_steps_leave_the_future_as_it_was(name: str, options: dict[str, Any]) -> None:
    assert future(name, options, FORMATS[0], True) == future(name, options, FORMATS[0], False)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "NAdam"])
@pytest.mark.parametrize("kind", FORMATS[1:], ids=lambda kind: "-".join(map(str, (kind[0], *kind[1].values()))))
def test_skipped_steps_leave_formats_as_they_were(name: str, kind: tuple[torch.dtype, dict[str, Any]]) -> None:
    formats = {key: value for key, value in kind[1].items() if name != "SGD" or key not in ("states", "min_elements")}
    assert future(name, {}, (kind[0], formats), True) == future(name, {}, (kind[0], formats), False)


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_first_step_that_is_refused_leaves_no_state(nonfinite: str) -> None:
    problem = Problem()
    optimizer = door.NAdam(problem.trained(), nonfinite=nonfinite)
    before = everything(optimizer)
    problem(0).backward()
    poison(problem.trained(), 2)
    grads = frozen([p.grad for p in problem.trained()])
    if nonfinite == "raise":
        with pytest.raises(NonFiniteError):
            optimizer.step()
    else:
        optimizer.step()
    assert everything(optimizer) == before
    assert len(optimizer.state) == 0
    assert frozen([p.grad for p in problem.trained()]) == grads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64], ids=str)
def test_errors_name_every_parameter(dtype: torch.dtype) -> None:
    params = {name: torch.zeros(2, n, dtype=dtype) for name, n in (("a", 3), ("layer.weight", 40), ("c", 5))}
    optimizer = door.SGD(
        [{"params": list(params.items())[:1]}, {"params": list(params.items())[1:]}], nonfinite="raise"
    )
    unnamed = door.SGD(
        [{"params": [params["a"]]}, {"params": [params["layer.weight"], params["c"]]}], nonfinite="raise"
    )
    for p in params.values():
        p.grad = torch.ones_like(p)
    params["layer.weight"].grad[1] = math.nan  # type: ignore[index]
    params["c"].grad[:] = -math.inf  # type: ignore[index]
    for one, words in (
        (optimizer, ("layer.weight (40 of 80 elements)", "c (10 of 10 elements)")),
        (unnamed, ("group 1, 0 (40 of 80 elements)", "group 1, 1 (10 of 10 elements)")),
    ):
        with pytest.raises(NonFiniteError, match="nothing was stepped") as caught:
            one.step()
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert "a (" not in str(caught.value)
        assert "group 0" not in str(caught.value)
    assert all((p == 0).all() for p in params.values())


@pytest.mark.parametrize("moves", [False, True])
def test_skips_in_a_row_end_in_an_error(moves: bool) -> None:
    # Gradients that stay where they are let the same launch serve again.
    param = torch.ones(5)
    optimizer = door.Adam([param], nonfinite="skip", max_skips=3)
    param.grad = torch.ones(5)
    optimizer.step()

    def give(value: float) -> None:
        if moves:
            param.grad = torch.full((5,), value)
        elif param.grad is not None:
            param.grad[:] = value

    for value in (math.nan, math.inf, math.nan, 1.0, math.inf, math.inf, math.inf):
        give(value)
        optimizer.step()
    before = everything(optimizer)
    for _ in range(2):
        with pytest.raises(NonFiniteError, match="group 0, 0"):
            optimizer.step()
    assert everything(optimizer) == before
    give(1.0)
    optimizer.step()
    assert (optimizer.skipped, optimizer.guards.in_a_row) == (6, 0)
    assert float(optimizer.state[param]["step"]) == 3


def test_elements_that_clip_value_would_bring_back_count() -> None:
    param = torch.zeros(3)
    optimizer = door.SGD([param], lr=1.0, clip_value=1.0, nonfinite="skip")
    param.grad = torch.tensor([1.0, math.inf, 0.0])
    optimizer.step()
    assert (optimizer.skipped, param.tolist()) == (1, [0.0, 0.0, 0.0])
    free = door.SGD([param], lr=1.0, clip_value=1.0)
    free.step()
    assert param.tolist() == [-1.0, -1.0, 0.0]


def test_the_loss_of_a_skipped_step_is_returned() -> None:
    problem = Problem()
    optimizer = door.AdamW(problem.trained(), nonfinite="skip")
    before = everything(optimizer)
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = problem(0)
        loss.backward()
        poison(problem.trained(), 1)
        losses.append(loss)
        return loss

    assert optimizer.step(closure) is losses[0]
    assert everything(optimizer) == before
    assert optimizer.skipped == 1


# Scalers.


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize(
    "guards",
    [{"clip_norm": 0.3}, {"clip_norm": 0.3, "clip_value": 0.05, "nonfinite": "raise"}, {"update_clip": True}],
    ids=str,
)
def test_clipping_is_of_gradients_without_their_scale(guards: dict[str, Any], moves: bool) -> None:
    ends = []
    for scale in (1.0, 1024.0):
        problem, norms = Problem(), []
        optimizer = door.AdamW(problem.trained(), lr=0.01, betas=(0.9, 0.8), **guards)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1)
        for t in range(6):
            optimizer.zero_grad(set_to_none=moves)
            scaler.scale(problem(t)).backward()
            norms.append(sum(float(p.grad.norm()) ** 2 for p in problem.trained() if p.grad is not None) ** 0.5)
            scaler.step(optimizer)
            scaler.update()
        assert max(norms) > 0.3 * scale
        ends.append(everything(optimizer))
    assert ends[0] == ends[1]


def test_steps_that_a_scaler_skips_are_not_counted() -> None:
    problem = Problem()
    optimizer = door.AdamW(problem.trained(), clip_norm=1.0, nonfinite="skip", max_skips=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for t in range(5):
        before = everything(optimizer)
        optimizer.zero_grad()
        scaler.scale(problem(t)).backward()
        if t:
            poison(problem.trained(), t)
        scaler.step(optimizer)
        scaler.update()
        assert (everything(optimizer) == before) == bool(t)
    assert (optimizer.skipped, optimizer.guards.in_a_row) == (0, 0)
    assert scaler.get_scale() == 4.0


# Gradient release.


@pytest.mark.parametrize("guards", [{"clip_norm": 1.0}, {"nonfinite": "skip"}, {"nonfinite": "raise"}], ids=str)
def test_gradient_release_refuses_guards_that_need_all_gradients(guards: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match=r"clip_norm.*nonfinite"):
        step_in_backward(door.AdamW([nn.Parameter(torch.zeros(3))], **guards))


@pytest.mark.parametrize("cls", ["AdamW", "RMSprop"])
def test_gradient_release_clips_values_and_updates(cls: str) -> None:
    ends = []
    for release in (False, True):
        problem = Problem()
        optimizer = ours(cls, problem.trained(), lr=0.01, clip_value=0.02, update_clip=True)
        handle = step_in_backward(optimizer) if release else None  # type: ignore[arg-type]
        train(problem, optimizer, 6)
        if handle is not None:
            handle.remove()
        ends.append(everything(optimizer))
    assert ends[0] == ends[1]


# Copies, groups and options.


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_keep_the_guards(copied: Callable[[Any], Any]) -> None:
    params = [tensor_of(1, (6, 50), torch.float32)]
    options: dict[str, Any] = {"clip_norm": 0.5, "clip_value": 1.0, "max_skips": 2, "update_clip": True}
    optimizer = door.AdamW(params, nonfinite="skip", **options)
    for t in range(3):
        random_gradients(params, t)
        optimizer.step()
    poison(params, 2)
    optimizer.step()
    twin = copied(optimizer)
    others = twin.param_groups[0]["params"]
    for one, own in ((optimizer, params), (twin, others)):
        random_gradients(own, 3)
        poison(own, 2)
        one.step()
        with pytest.raises(NonFiniteError):
            one.step()
        assert (one.skipped, one.guards.in_a_row) == (2, 2)
        random_gradients(own, 4)
        one.step()
    assert everything(optimizer) == everything(twin)


def test_a_loaded_state_dict_leaves_the_guards() -> None:
    problem = Problem()
    guards: dict[str, Any] = {"clip_norm": 0.1, "nonfinite": "skip", "update_clip": True}
    first = door.AdamW(problem.trained(), **guards)
    train(problem, first, 3)
    twin = copy.deepcopy(problem)
    second = door.AdamW(twin.trained(), **guards)
    second.load_state_dict(first.state_dict())
    for one, own in ((first, problem), (second, twin)):
        train(own, one, 3, 3)
        poison(own.trained(), 1)
        one.step()
        assert one.skipped == 1
    assert everything(first) == everything(second)


def test_guards_are_no_part_of_state_dicts_and_groups() -> None:
    plain = door.AdamW([torch.ones(3)])
    guarded = door.AdamW([torch.ones(3)], clip_norm=1.0, clip_value=1.0, nonfinite="skip", update_clip=True)
    assert plain.state_dict() == guarded.state_dict()
    torch.optim.AdamW([torch.ones(3)]).load_state_dict(guarded.state_dict())


GUARDS: dict[str, Any] = {
    "clip_norm": 1.0,
    "clip_value": 1.0,
    "nonfinite": "skip",
    "max_skips": 2,
    "update_clip": True,
}


OTHERS: dict[str, Any] = {
    "clip_norm": 2.0,
    "clip_value": None,
    "nonfinite": "raise",
    "max_skips": 3,
    "update_clip": False,
    "process_group": object(),
}


def guarded(name: str) -> Any:
    given: dict[str, Any] = {"nonfinite": "skip"} if name == "max_skips" else {}
    return door.Adam([torch.ones(3)], **given, **({name: GUARDS[name]} if name in GUARDS else {}))


@pytest.mark.parametrize("name", OTHERS)
def test_guards_of_a_group_alone_are_an_error(name: str) -> None:
    group = {"params": [torch.ones(3)], name: GUARDS.get(name, OTHERS[name])}
    with pytest.raises(HyperparameterError, match=f"{name} is for all groups together"):
        door.Adam([group])
    optimizer = guarded(name)
    before = len(optimizer.param_groups)
    with pytest.raises(HyperparameterError, match=f"{name} is for all groups together"):
        optimizer.add_param_group({"params": [torch.ones(3)], name: OTHERS[name]})
    assert len(optimizer.param_groups) == before


@pytest.mark.parametrize("name", GUARDS)
def test_a_group_may_say_what_the_optimizer_has(name: str) -> None:
    """Wrappers (``ZeroRedundancyOptimizer``, those of SAM's pattern) put an optimizer's defaults into its groups."""
    given = {name: GUARDS[name], **({"nonfinite": "skip"} if name == "max_skips" else {})}
    param, other, plain = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    optimizer: Any = door.Adam([{"params": [param], "lr": 0.5, **given}], **given)
    optimizer.add_param_group({"params": [other], "lr": 0.5, **given})
    twin: Any = door.Adam([plain], lr=0.5, **given)
    for _ in range(2):
        for p in (param, plain):
            p.grad = torch.full((4,), 3.0)
        optimizer.step()
        twin.step()
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(param, plain)
    assert param.any()
    optimizer.param_groups[0][name] = OTHERS[name]
    before = param.detach().clone()
    with pytest.raises(HyperparameterError, match=f"{name} is for all groups together"):
        optimizer.step()
    assert torch.equal(param, before)


def test_a_group_may_say_that_nothing_is_guarded() -> None:
    none = {"clip_norm": None, "clip_value": None, "nonfinite": "propagate", "max_skips": None, "update_clip": False}
    param = nn.Parameter(torch.zeros(4))
    optimizer = door.SGD([{"params": [param], **none, "process_group": None}], lr=1.0)
    param.grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(param.detach(), -torch.ones(4))
    with pytest.raises(StateError, match="clip_norm is for all groups together"):
        optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0], "lr": 1.0, "clip_norm": 1.0}]})


class Perturbed(torch.optim.Optimizer):
    """SAM's pattern: a wrapper whose groups, with its own options and the optimizer's, are the optimizer's groups."""

    def __init__(self, params: Any, kind: Any, rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, "adaptive": False, **options})
        self.base = kind(self.param_groups, **options)
        self.param_groups = self.base.param_groups
        self.defaults.update(self.base.defaults)
        self.base.defaults = self.defaults

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)


@pytest.mark.parametrize("cls", ["SGD", "AdamW", "Lion"])
def test_a_wrapper_that_shares_its_groups_has_guards(cls: str) -> None:
    param, plain = (nn.Parameter(torch.zeros(4)) for _ in range(2))
    given: dict[str, Any] = {"lr": 0.5, "clip_norm": 1.0, "nonfinite": "skip", "max_skips": 2, "states": "float32"}
    wrapper, optimizer = Perturbed([param], getattr(door, cls), **given), ours(cls, [plain], **given)
    for size in (3.0, math.inf, 1.0):
        for p in (param, plain):
            p.grad = torch.full((4,), size)
        wrapper.step()
        optimizer.step()
    assert torch.equal(param, plain)
    assert wrapper.base.skipped == 1
    assert wrapper.param_groups[0]["rho"] == 0.05


@pytest.mark.parametrize("cls", [name for name in door.__all__ if name not in ("Optimizer", "step_in_backward")])
def test_every_class_takes_the_options(cls: str) -> None:
    optimizer: Any = ours(cls, [torch.ones(2, 3)], clip_norm=1.0, clip_value=2.0, nonfinite="skip", max_skips=3)
    guards = optimizer.guards
    found = (guards.clip_norm, guards.clip_value, guards.nonfinite, guards.max_skips)
    assert found == (1.0, 2.0, "skip", 3)
    if cls not in (*STABLE, "SparseAdam"):
        with pytest.raises(HyperparameterError, match="update_clip"):
            ours(cls, [torch.ones(2, 3)], update_clip=True)


@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for name in ("clip_norm", "clip_value") for value in (0, -1.0, math.inf, math.nan, "x", True)),
        *({"nonfinite": value} for value in ("ignore", None, True)),
        *({"max_skips": value, "nonfinite": "skip"} for value in (-1, 1.5, "3", True)),
        *({"update_clip": value} for value in (1, None, "yes")),
        {"max_skips": 3},
    ],
    ids=str,
)
def test_options_out_of_range_or_without_effect(options: dict[str, Any]) -> None:
    with pytest.raises(HyperparameterError, match=next(iter(options))):
        door.Adam([torch.ones(3)], **options)


def test_a_group_added_later_is_guarded() -> None:
    first, second = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    optimizer = door.SGD([first], lr=1.0, clip_norm=1.0)
    optimizer.add_param_group({"params": [second], "lr": 0.5})
    first.grad, second.grad = (torch.tensor(x, dtype=torch.float64) for x in ([2.0, 0.0], [0.0, -2.0]))
    optimizer.step()
    factor = paper.norm_factor([4.0, 4.0], 1.0)
    assert first.tolist() == [-2.0 * factor, 0.0]
    assert second.tolist() == [0.0, 0.5 * (2.0 * factor)]


class Tagged(Tensor):
    """A subclass that tells what is done with it, so that no kernel walks it."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with torch._C._DisableTorchDispatch():
            return func(*args, **(kwargs or {}))


def test_tensors_that_no_kernel_walks_are_guarded_alike() -> None:
    ends = []
    for kind in (Tensor, Tagged):
        params = [tensor_of(1, (4, 5)).as_subclass(kind), tensor_of(2, (3,))]
        optimizer = door.AdamW(params, lr=0.1, clip_norm=0.5, clip_value=3.0, nonfinite="skip")
        for t in range(5):
            params[0].grad, params[1].grad = tensor_of(3 + t, (4, 5)).as_subclass(kind), tensor_of(9 + t, (3,))
            if t in (0, 3):
                params[0].grad.as_subclass(Tensor)[1, 1] = math.nan
            before = frozen([p.as_subclass(Tensor) for p in params])
            optimizer.step()
            assert (frozen([p.as_subclass(Tensor) for p in params]) == before) == (t in (0, 3))
        assert optimizer.skipped == 2
        ends.append([p.as_subclass(Tensor) for p in params])
    for p, q in zip(*ends, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=0)


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_gradient_that_overflows_without_its_scale_is_not_finite(nonfinite: str) -> None:
    param = torch.zeros(2)
    optimizer = door.SGD([param], lr=1.0, clip_value=1.0, nonfinite=nonfinite)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-10)
    scaler.scale(torch.ones(()))
    param.grad = torch.tensor([3e38, 1.0])
    if nonfinite == "skip":
        scaler.step(optimizer)
    else:
        with pytest.raises(NonFiniteError, match=r"1 of 2 elements"):
            scaler.step(optimizer)
    assert not param.any()
    assert optimizer.skipped == (nonfinite == "skip")


def test_a_parameter_that_stands_twice_has_one_gradient() -> None:
    param = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = door.SGD([param, param], lr=1.0, clip_norm=1.0)
    param.grad = torch.full((4,), 1e200, dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(param.detach(), torch.full((4,), -1.0, dtype=torch.float64), rtol=1e-14, atol=0)


def test_an_option_put_into_a_group_later_is_refused() -> None:
    param = nn.Parameter(torch.zeros(4))
    optimizer = door.SGD([param], lr=1.0)
    optimizer.param_groups[0]["clip_norm"] = 1e-9
    param.grad = torch.ones(4)
    with pytest.raises(HyperparameterError, match="clip_norm is for all groups together"):
        optimizer.step()
    assert not param.any()


def test_a_process_group_is_one() -> None:
    with pytest.raises(HyperparameterError, match=r"process_group is what torch\.distributed\.new_group returns"):
        door.SGD([nn.Parameter(torch.zeros(4))], lr=1.0, clip_norm=1.0, process_group="world")


@pytest.mark.parametrize("guards", [{"clip_norm": 1.0}, {"nonfinite": "skip", "max_skips": 2}], ids=str)
def test_the_optimizer_of_zero_has_guards(guards: dict[str, Any], tmp_path: Path) -> None:
    """``ZeroRedundancyOptimizer`` gives what it was given to the optimizer, and to each of its groups."""
    with warnings.catch_warnings(action="ignore"):  # it compiles a script, which torch is to do without
        from torch.distributed.optim import ZeroRedundancyOptimizer
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        param, plain = (nn.Parameter(torch.zeros(4)) for _ in range(2))
        sharded = ZeroRedundancyOptimizer([param], optimizer_class=door.AdamW, lr=0.5, **guards)
        optimizer = door.AdamW([plain], lr=0.5, **guards)
        for size in (3.0, 5.0, math.inf if "nonfinite" in guards else 7.0):
            for p in (param, plain):
                p.grad = torch.full((4,), size)
            sharded.step()
            optimizer.step()
        assert torch.equal(param, plain)
        assert sharded.optim.guards.options == optimizer.guards.options
        assert sharded.optim.guards.is_local
        # Its own argument ``process_group`` hides ours, which then comes by another way.
        group = distributed.group.WORLD
        own: Any = functools.partial(door.AdamW, process_group=group)
        sharded = ZeroRedundancyOptimizer([param], optimizer_class=own, process_group=group, lr=0.5, **guards)
        assert sharded.optim.guards.share.over is group
        sharded.step()
    finally:
        distributed.destroy_process_group()
