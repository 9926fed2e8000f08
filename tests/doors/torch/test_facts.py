"""Single facts about optimizers of the PyTorch door that training code relies on."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steprule.torch
from tests.backends.random_rules import gradients, random_rule, told
from tests.doors.torch.cases import (
    ALL,
    DENSE_ALL,
    DENSE_RICH,
    Problem,
    assert_agree,
    assert_moved,
    backward,
    case_id,
    default_dtype,
    everything,
    frozen,
    one_thread,
    ours,
    problem_for,
    random_gradients,
    reference,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

MakeOn = Callable[..., torch.optim.Optimizer]  # takes parameters and, if any, other options


def scaled(make: MakeOn, clip: bool) -> tuple[list[Tensor], list[Any], bool]:
    """Train with a GradScaler; the third step's gradient is infinite. Return whether gradients were left alone."""
    problem = Problem(torch.float32)
    optimizer, seen, alone = make(problem.trained()), [], True
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    for t in range(9):
        optimizer.zero_grad()
        scaler.scale(problem(t)).backward()
        if t == 2:
            problem.last.grad.view(-1)[-1] = torch.inf  # type: ignore[union-attr]
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(problem.parameters(), 0.5)
        before = frozen([p.grad for p in problem.trained()])
        scaler.step(optimizer)
        scaler.update()
        alone &= frozen([p.grad for p in problem.trained()]) == before
        counts = [float(state["step"]) for state in optimizer.state.values() if "step" in state]
        seen.append((scaler.get_scale(), counts))
    return problem.trained(), seen, alone


@pytest.mark.parametrize("clip", [False, True], ids=["", "unscaled and clipped"])
@pytest.mark.parametrize(("name", "options"), DENSE_RICH, ids=case_id)
def test_a_grad_scaler_works_and_gradients_stay(name: str, options: dict[str, Any], clip: bool) -> None:
    expected, wanted, _ = scaled(partial(reference, name, **options), clip)
    actual, seen, alone = scaled(partial(ours, name, **options), clip)
    assert seen == wanted
    assert len({scale for scale, _ in seen}) > 2
    assert_agree(actual, expected, name)
    assert alone


@pytest.mark.parametrize("crosswise", [False, True])
@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_gradients_that_are_parameters_are_read_before_anything_moves(
    name: str, options: dict[str, Any], crosswise: bool
) -> None:
    results = []
    for copied in (False, True):
        params = [nn.Parameter(torch.linspace(-1, 1, 40_000) + i) for i in range(2)]
        optimizer = ours(name, params, **options)
        for _ in range(3):
            grads = [p.detach().clone() if copied else p.detach() for p in params]
            for p, g in zip(params, reversed(grads) if crosswise else grads, strict=True):
                p.grad = g
            optimizer.step()
        results.append(everything(optimizer))
    assert results[0] == results[1]


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_an_optimizer_lets_go_of_its_parameters(name: str, options: dict[str, Any]) -> None:
    params = problem_for(name).trained()
    optimizer = ours(name, params, **options)
    random_gradients(params, 0, name)
    optimizer.step()
    tensors = [*params, *(v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor))]
    alive = [weakref.ref(x) for x in tensors]
    del params, optimizer, tensors
    gc.collect()
    assert not any(ref() is not None for ref in alive)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_conjugate_bit_that_appears_between_steps_is_seen_or_refused(name: str) -> None:
    """torch.optim steps such a parameter by SGD and refuses it in other classes."""
    results = []
    for lazy in (False, True):
        p = nn.Parameter(torch.complex(torch.linspace(-1, 1, 5), torch.linspace(2, 3, 5)))
        optimizer = ours(name, [p], lr=0.1)
        random_gradients([p], 0)
        optimizer.step()
        p.data = p.data.conj() if lazy else p.data.conj().resolve_conj()
        before = frozen(p.resolve_conj())
        random_gradients([p], 1)
        try:
            optimizer.step()
        except RuntimeError:
            assert lazy
            assert frozen(p.resolve_conj()) == before
        else:
            results.append(frozen(p.resolve_conj()))
    assert len(set(results)) == 1


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_gradients_are_let_go(name: str, options: dict[str, Any]) -> None:
    """Between backward passes an optimizer that held them would double the memory of gradients."""
    p = nn.Parameter(torch.ones(6, 4))
    optimizer = ours(name, [p], **options)
    for _ in range(3):
        memory = np.ones((6, 4), np.float32)
        alive, p.grad = weakref.ref(memory), torch.from_numpy(memory)
        del memory
        optimizer.step()
        optimizer.zero_grad()
        assert alive() is None


def test_duplicates_in_a_group_warn_as_torch_does() -> None:
    p = nn.Parameter(torch.ones(3))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        ours("SGD", [p, p])


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_flags_that_mean_nothing_change_no_bit(name: str, options: dict[str, Any]) -> None:
    flags: list[dict[str, Any]] = [{}]
    if name != "SparseAdam":
        flags += [{"foreach": True}, {"foreach": False}]
        flags += [{"capturable": True}] if name not in ("SGD", "Adagrad", "Adafactor") else []
        flags += [{"fused": True}, {"fused": False}] if name in ("SGD", "Adagrad", "Adam", "AdamW", "Lion") else []
    results = []
    for extra in flags:
        params = problem_for(name).trained()
        optimizer = ours(name, params, **options, **extra)
        for t in range(3):
            random_gradients(params, t, name)
            optimizer.step()
        results.append((frozen(params), frozen(optimizer.state_dict()["state"])))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_a_step_tells_autograd_and_profiler_and_leaves_the_rest_alone(name: str, options: dict[str, Any]) -> None:
    params = problem_for(name).trained()
    params.append(nn.Parameter(torch.ones(3)))  # has no gradient
    optimizer = ours(name, params, **options)
    random_gradients(params[:-1], 0, name)
    versions = [p._version for p in params]
    places, generator = [(id(p), p.data_ptr()) for p in params], torch.get_rng_state()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
        optimizer.zero_grad()
    seen = {event.key for event in profile.key_averages()}
    assert {f"Optimizer.step#{name}.step", f"Optimizer.zero_grad#{name}.zero_grad"} <= seen
    assert [p._version > v for p, v in zip(params, versions, strict=True)] == [True] * (len(params) - 1) + [False]
    assert places == [(id(p), p.data_ptr()) for p in params]
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.is_leaf and p.requires_grad and p.grad_fn is None for p in params)


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_backward_through_a_weight_that_a_step_changed_is_an_error(name: str, options: dict[str, Any]) -> None:
    problem = Problem()
    optimizer = ours(name, problem.trained(), **options)
    backward(problem, 0)
    loss = problem(1)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(("name", "options"), DENSE_ALL, ids=case_id)
def test_threads_and_their_number_change_no_bit(name: str, options: dict[str, Any]) -> None:
    sizes = (70_000, 3, 150_001)
    steps = [[torch.randn(n, generator=torch.Generator().manual_seed(t)) for n in sizes] for t in range(3)]

    def run(threads: int, results: list[Any]) -> None:
        torch.set_num_threads(threads)
        params = [nn.Parameter(torch.linspace(-1, 1, n)) for n in sizes]
        optimizer = ours(name, params, **options)
        for given in steps:
            for p, g in zip(params, given, strict=True):
                p.grad = g
            optimizer.step()
        results.append(everything(optimizer))

    results: list[Any] = []
    for threads in (1, 2):
        run(threads, results)
    workers = [threading.Thread(target=run, args=(2, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 5
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("name", "options"), ALL, ids=case_id)
def test_another_type_after_some_steps_goes_on_or_fails_and_changes_nothing(name: str, options: dict[str, Any]) -> None:
    params = problem_for(name, torch.float32).trained()
    optimizer = ours(name, params, **options)
    random_gradients(params, 0, name)
    optimizer.step()
    for p in params:
        p.grad = None
        p.data = p.data.double()
    random_gradients(params, 1, name)
    before, start = everything(optimizer), [p.detach().clone() for p in params]
    try:
        optimizer.step()
    except (ValueError, RuntimeError):
        assert everything(optimizer) == before
    else:
        assert_moved(params, start)
        assert all(p.isfinite().all() for p in params)


class Tagged(torch.Tensor):
    """A tensor subclass: torch functions on it return it."""


@pytest.mark.parametrize(("name", "options"), DENSE_RICH, ids=case_id)
def test_subclasses_of_tensors_are_stepped(name: str, options: dict[str, Any]) -> None:
    with default_dtype(torch.float64):
        plain = [nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))]
        tagged = [torch.linspace(-1, 1, 6).reshape(2, 3).as_subclass(Tagged).requires_grad_()]
        for params, make in ((plain, reference), (tagged, ours)):
            optimizer = make(name, params, **options)
            for t in range(3):
                random_gradients(params, t)
                optimizer.step()
    assert type(tagged[0]) is Tagged
    assert_agree([tagged[0].as_subclass(Tensor)], plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", range(10))
def test_rules_run_on_torchs_tensors_are_those_of_kernels(number: int, dtype: torch.dtype) -> None:
    """Numbers of the host in slots, and numbers that a rule chooses element by element, among them."""
    made = random_rule(number)
    ends = []
    choices: tuple[dict[str, Any], ...] = ({}, {"differentiable": True})
    for options in choices:
        with told(made):
            p = torch.linspace(-1, 1, 30, dtype=dtype).reshape(5, 6)
            optimizer = steprule.torch.Optimizer([p], made.rule, **options, **made.given(made.choices[number % 2]))
            for g in gradients(np.random.default_rng(number), (5, 6), 4):
                p.grad = torch.from_numpy(g).to(dtype)
                optimizer.step()
            slots = {key: value for key, value in optimizer.state[p].items() if isinstance(value, Tensor)}
            ends.append({"theta": p, **slots})
    assert list(ends[0]) == list(ends[1])
    for key, value in ends[0].items():
        with told(made):
            near = 1e-5 if dtype is torch.float32 else 1e-13  # torch divides by a number in its own way
            np.testing.assert_allclose(ends[1][key].numpy(), value.numpy(), near, near, err_msg=key)


def test_state_is_made_on_the_cpu_whatever_the_default_device() -> None:
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = ours("Adam", [p])
    with torch.device("meta"):
        optimizer.step()
    assert {value.device.type for value in optimizer.state[p].values()} == {"cpu"}
    assert p.isfinite().all()
