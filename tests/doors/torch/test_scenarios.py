"""What training code does with an optimizer, done with torch.optim and with the PyTorch door, compared."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from tests.doors.torch.cases import (
    ALL,
    CLASSES,
    DENSE_RICH,
    RICH,
    Problem,
    assert_agree,
    backward,
    case_id,
    default_dtype,
    one_thread,
    ours,
    random_gradients,
    reference,
    train,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

MakeOn = Callable[..., torch.optim.Optimizer]  # takes parameters and, if any, other options
Scenario = Callable[[MakeOn], list[Any]]
SCENARIOS: list[Scenario] = []


def scenario(run: Scenario) -> Scenario:
    """Add a scenario: what it returns must be equal, tensors within the bound."""
    SCENARIOS.append(run)
    return run


def outcome(problem: nn.Module, optimizer: torch.optim.Optimizer, *others: Any) -> list[Any]:
    """Return what a scenario compares: parameters, state, and what else it has seen."""
    states = sorted(optimizer.state_dict()["state"].items())
    state = [(key, value) for _, s in states for key, value in sorted(s.items())]
    slots = [value.to(torch.float64) if value.dim() == 0 else value for _, value in state]
    return [*problem.parameters(), *slots, [key for key, _ in state], *others]


@scenario
def closures(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    losses: list[Any] = []

    def closure() -> Any:
        assert torch.is_grad_enabled()
        problem.zero_grad()
        problem.first.data = problem.first.data.clone()  # a step may only look at anything after this
        loss = problem(len(losses))
        loss.backward()
        return loss

    with torch.no_grad():
        while len(losses) < 5:
            losses.append(optimizer.step(closure))
    assert all(loss.requires_grad for loss in losses)
    assert optimizer.step() is None
    return outcome(problem, optimizer, *losses)


@scenario
def groups_with_names(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    named = list(problem.named_parameters())
    optimizer = make([{"params": named[:2]}, {"params": named[2:], "lr": 0.003}])
    train(problem, optimizer, 4)
    return outcome(problem, optimizer, [group["param_names"] for group in optimizer.state_dict()["param_groups"]])


@scenario
def a_group_added_in_mid_training(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    params = problem.trained()
    optimizer = make(params[:1])
    train(problem, optimizer, 3)
    optimizer.add_param_group({"params": params[1]})
    optimizer.add_param_group({"params": iter(params[2:]), "lr": 0.004})
    train(problem, optimizer, 4, start=3)
    return outcome(problem, optimizer, len(optimizer.param_groups))


@scenario
def step_hooks(make: MakeOn) -> list[Any]:
    problem, calls = Problem(torch.float64), []
    optimizer = make(problem.trained())

    def note(name: str) -> Callable[..., None]:
        return lambda opt, args, kwargs: calls.append((name, opt is optimizer, len(args), sorted(kwargs)))

    def replace(opt: Any, args: Any, kwargs: Any) -> Any:
        return (args[0], lambda: backward(problem, 7)), kwargs

    with ExitStack() as handles:
        for handle in (
            optimizer.register_step_pre_hook(note("pre")),
            optimizer.register_step_pre_hook(replace),
            optimizer.register_step_post_hook(note("post")),
            register_optimizer_step_pre_hook(note("global pre")),
            register_optimizer_step_post_hook(note("global post")),
        ):
            handles.enter_context(handle)
        losses = [optimizer.step(lambda: backward(problem, 0))]
    losses.append(optimizer.step(closure=lambda: backward(problem, 1)))
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: random_gradients(problem.trained(), 3))
    optimizer.step()
    return outcome(problem, optimizer, calls, *map(torch.tensor, losses))


@scenario
def zero_grad_both_ways(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    backward(problem, 0)
    held = [p.grad for p in problem.trained()]
    optimizer.zero_grad(set_to_none=False)
    same = [p.grad is g for p, g in zip(problem.trained(), held, strict=True)]
    optimizer.step()
    optimizer.zero_grad()
    gone = [p.grad is None for p in problem.trained()]
    optimizer.step()
    return outcome(problem, optimizer, same, gone, *held)


@scenario
def accumulated_and_clipped_gradients(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer, norms = make(problem.trained()), []
    for t in range(4):
        optimizer.zero_grad()
        for part in range(3):
            (problem(3 * t + part) / 3).backward()
        norms.append(nn.utils.clip_grad_norm_(problem.parameters(), 0.3))
        optimizer.step()
    return outcome(problem, optimizer, *norms)


@scenario
def gradients_missing_in_some_steps(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    for t in range(8):
        backward(problem, t)
        for i, p in enumerate(problem.trained()):
            if (t + i) % 3 == 0 or (i == 1 and t < 4):
                p.grad = None
        optimizer.step()
    return outcome(problem, optimizer)


@scenario
def parameters_frozen_and_thawed(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    problem.first.requires_grad_(False)
    optimizer = make(problem.parameters())
    train(problem, optimizer, 3)
    problem.first.requires_grad_(True)
    problem.last.requires_grad_(False)
    train(problem, optimizer, 3, start=3)
    return outcome(problem, optimizer)


@scenario
def tied_parameters(make: MakeOn) -> list[Any]:
    model = nn.Sequential(*(nn.Linear(5, 5, dtype=torch.float64) for _ in range(3)))
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape) * (i + 1) / 6)
    model[2].weight = model[0].weight
    optimizer = make(model.parameters())
    for t in range(5):
        optimizer.zero_grad()
        model(torch.linspace(-1, 2, 5) + t / 7).square().sum().backward()
        optimizer.step()
    return outcome(model, optimizer, len(optimizer.param_groups[0]["params"]))


@scenario
def parameters_of_any_kind(make: MakeOn) -> list[Any]:
    """0-dim, empty, of another type, without requires_grad, a subclass."""
    kinds = [torch.tensor(2.0), torch.empty(0, 3), torch.ones(4, dtype=torch.float32), torch.ones(3, 2)]
    params = [nn.Parameter(x) for x in kinds] + [torch.full((3,), 0.5), nn.Buffer(torch.ones(2))]
    optimizer = make(params)
    for t in range(4):
        random_gradients(params, t)
        optimizer.step()
    return outcome(nn.ParameterList(params[:4]), optimizer, *params[4:])


def move_data(change: Callable[[Tensor], Tensor], when: int) -> Scenario:
    """Return a scenario that gives each parameter other memory after some steps."""

    def run(make: MakeOn) -> list[Any]:
        problem = Problem(torch.float64)
        optimizer = make(problem.trained())
        train(problem, optimizer, when)
        for p in problem.trained():
            p.data = change(p.data)
        train(problem, optimizer, 3, start=when)
        return outcome(problem, optimizer)

    run.__name__ = f"data_moved_by_{change.__name__}_after_{when}_steps"
    return run


def clone(x: Tensor) -> Tensor:
    return x.clone() * 1.01


def transpose(x: Tensor) -> Tensor:
    return x.t().contiguous().t()


def scatter(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=0)[::2]


SCENARIOS += [move_data(change, when) for change in (clone, transpose, scatter) for when in (0, 3)]


@scenario
def model_moved_to_another_type_before_the_first_step(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float32)
    optimizer = make(problem.trained())
    problem.double()
    problem.inputs, problem.targets = problem.inputs.double(), problem.targets.double()
    optimizer.load_state_dict(make(problem.trained()).state_dict())  # Adagrad has made its state already
    train(problem, optimizer, 4)
    return outcome(problem, optimizer)


@scenario
def tensors_moved_under_the_optimizer(make: MakeOn) -> list[Any]:
    """What sharding and conversion code does: set_, swap_tensors, storages freed and filled again."""
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    train(problem, optimizer, 2)
    with torch.no_grad():
        problem.first.set_(problem.first.t().contiguous().t() * 1.01)  # type: ignore[call-overload]
    problem.zero_grad()
    torch.utils.swap_tensors(problem.bias, nn.Parameter(problem.bias.detach() * 1.02))
    kept = problem.last.detach().clone()
    size = problem.last.untyped_storage().size()
    problem.last.untyped_storage().resize_(0)
    occupied = torch.full_like(kept, 7.0)  # likely where the parameter was
    problem.last.untyped_storage().resize_(size)
    with torch.no_grad():
        problem.last.copy_(kept)
    train(problem, optimizer, 3, start=2)
    return outcome(problem, optimizer, occupied)


@scenario
def surgery_on_a_network(make: MakeOn) -> list[Any]:
    """Rows are added to a parameter, and to its state: the parameter becomes another one."""
    problem = Problem(torch.float64)
    optimizer = make([{"params": [p], "name": name} for name, p in problem.named_parameters()])
    train(problem, optimizer, 3)
    group = next(g for g in optimizer.param_groups if g["name"] == "first")
    state = optimizer.state.pop(group["params"][0], {})
    wider = {key: torch.cat([v, v[:2] * 0.5]) if v.dim() else v for key, v in state.items()}
    group["params"][0] = nn.Parameter(torch.cat([problem.first, problem.first[:2] * 0.9]).detach())
    if wider:
        optimizer.state[group["params"][0]] = wider
    for t in range(3, 6):
        params = [g["params"][0] for g in optimizer.param_groups]
        random_gradients(params, t)
        optimizer.step()
    return outcome(nn.ParameterList(params), optimizer)


@scenario
def groups_replaced(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    params = problem.trained()
    optimizer = make([{"params": params[:2]}, {"params": params[2:]}])
    train(problem, optimizer, 2)
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.004}
    train(problem, optimizer, 2, start=2)
    del optimizer.param_groups[1]
    train(problem, optimizer, 2, start=4)
    optimizer.param_groups = [{**optimizer.param_groups[0], "params": params[::-1]}]
    train(problem, optimizer, 2, start=6)
    return outcome(problem, optimizer)


@scenario
def a_checkpoint_taken_back(make: MakeOn) -> list[Any]:
    """Another layout than the parameters', one parameter without state, and options that had changed."""
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    train(problem, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"].pop(1, None)
    problem.first.data = problem.first.data.t().contiguous().t()
    optimizer.param_groups[0]["lr"] = 0.5
    train(problem, optimizer, 2, start=3)
    optimizer.load_state_dict(saved)
    train(problem, optimizer, 3, start=3)
    return outcome(problem, optimizer, optimizer.param_groups[0]["lr"])


@scenario
def parameter_lists_mutated_in_place(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    train(problem, optimizer, 3)
    params = optimizer.param_groups[0]["params"]
    last = params.pop()
    train(problem, optimizer, 2, start=3)
    params[:] = [last, *reversed(params)]
    train(problem, optimizer, 3, start=5)
    return outcome(problem, optimizer)


def change_state(change: Callable[[Any, str], None]) -> Scenario:
    """Return a scenario that does something to every slot between steps."""

    def run(make: MakeOn) -> list[Any]:
        problem = Problem(torch.float64)
        optimizer = make(problem.trained())
        train(problem, optimizer, 3)
        for state in list(optimizer.state.values()):
            for key in [key for key, value in state.items() if value.dim()]:
                change(state, key)
        train(problem, optimizer, 3, start=3)
        return outcome(problem, optimizer)

    run.__name__ = f"state_{change.__name__}"
    return run


def replaced(state: Any, key: str) -> None:
    state[key] = state[key] * 1.5


def replaced_in_another_layout(state: Any, key: str) -> None:
    state[key] = (state[key] * 1.5).t().contiguous().t()


def written(state: Any, key: str) -> None:
    state[key].mul_(1.5)


def moved_by_data(state: Any, key: str) -> None:
    state[key].data = state[key].data * 1.5


def shared(state: Any, key: str) -> None:
    state[key].share_memory_()


SCENARIOS += [change_state(c) for c in (replaced, replaced_in_another_layout, written, moved_by_data, shared)]


def turn_in_place(change: Callable[[Tensor], Any], slots: bool) -> Scenario:
    """Return a scenario that turns a square tensor where it lies: only strides or bits of it tell."""

    def run(make: MakeOn) -> list[Any]:
        p = nn.Parameter(torch.linspace(-1, 1, 25).reshape(5, 5))
        optimizer = make([p])
        for t in range(6):
            random_gradients([p], t)
            optimizer.step()
            if t == 2:
                with torch.no_grad():
                    for x in [v for v in optimizer.state[p].values() if v.dim()] if slots else [p]:
                        change(x)
        return outcome(nn.ParameterList([p]), optimizer)

    run.__name__ = f"{'state' if slots else 'parameter'}_{change.__name__}"
    return run


def transposed_in_place(x: Tensor) -> None:
    x.t_()


def transposed_by_data(x: Tensor) -> None:
    x.data = x.data.t()


def negated_by_its_bit(x: Tensor) -> None:
    x.data = torch.complex(x.data, x.data).conj().imag


TURNS = (transposed_in_place, transposed_by_data)
SCENARIOS += [turn_in_place(change, slots) for change in TURNS for slots in (False, True)]
SCENARIOS.append(turn_in_place(negated_by_its_bit, slots=False))


@scenario
def state_cleared(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    train(problem, optimizer, 3)
    optimizer.state[problem.trained()[0]] = {}
    train(problem, optimizer, 2, start=3)
    optimizer.state = defaultdict(dict)
    train(problem, optimizer, 2, start=5)
    return outcome(problem, optimizer)


@scenario
def options_changed_between_steps(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    group = optimizer.param_groups[0]
    for t, (key, value) in enumerate([("lr", 0.004), ("maximize", True), ("weight_decay", 0.3), ("lr", 0)]):
        if key in group:
            group[key] = value
        train(problem, optimizer, 2, start=2 * t)
    return outcome(problem, optimizer)


@scenario
def weights_written_between_steps(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    for t in range(4):
        train(problem, optimizer, 1, start=t)
        with torch.no_grad():
            problem.first.clamp_(-0.5, 0.5)
            problem.bias.copy_(problem.bias * 0.9)
    return outcome(problem, optimizer)


@scenario
def steps_inside_backward(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizers = {p: make([p]) for p in problem.trained()}

    def step(p: Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in problem.trained():
        p.register_post_accumulate_grad_hook(step)
    for t in range(4):
        problem(t).backward()
    return [*problem.trained(), [p.grad is None for p in problem.trained()]]


@scenario
def averaged_models(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    mean, ema = AveragedModel(problem), AveragedModel(problem, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    schedule = SWALR(optimizer, swa_lr=0.002, anneal_epochs=3)
    for t in range(6):
        train(problem, optimizer, 1, start=t)
        schedule.step()
        mean.update_parameters(problem)
        ema.update_parameters(problem)
    return outcome(problem, optimizer, *mean.parameters(), *ema.parameters(), schedule.get_last_lr())


@scenario
def steps_without_autograd(make: MakeOn) -> list[Any]:
    problem = Problem(torch.float64)
    optimizer = make(problem.trained())
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad, torch.inference_mode):
        backward(problem, 0)
        with mode():
            optimizer.step()
    return outcome(problem, optimizer, [p.requires_grad for p in problem.parameters()])


def compiled(backend: str, whole_step: bool) -> Scenario:
    """Return a scenario that compiles the model, or a function that takes the whole step."""

    def run(make: MakeOn) -> list[Any]:
        torch._dynamo.reset()
        problem = Problem(torch.float64)
        optimizer = make(problem.trained())
        forward = problem if whole_step else torch.compile(problem, backend=backend)

        def step(t: int) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = forward(t)
            loss.backward()
            optimizer.step()
            return loss.detach()

        take = torch.compile(step, backend=backend) if whole_step else step
        losses = [take(t) for t in range(4)]
        torch._dynamo.reset()
        return outcome(problem, optimizer, *losses)

    run.__name__ = f"compiled_{'step' if whole_step else 'model'}_{backend}"
    return run


COMPILED = [compiled("eager", False), compiled("aot_eager", False), compiled("eager", True)]


def compare(run: Scenario, name: str, options: dict[str, Any]) -> None:
    with default_dtype(torch.float64):
        expected, actual = (run(partial(make, name, **options)) for make in (reference, ours))
    for a, e in zip(actual, expected, strict=True):
        if isinstance(e, Tensor):
            assert_agree([a], [e], run.__name__)
        else:
            assert a == e


OF_EACH_ELEMENT = {"state_transposed_by_data", "state_transposed_in_place", "surgery_on_a_network"}
"""Scenarios with states that have a number of each element."""


@pytest.mark.parametrize(
    ("run", "case"),
    [
        pytest.param(run, case, marks=[] if case[0] in ("AdamW", "SGD") or (i + k) % 3 == 0 else pytest.mark.slow)
        for i, run in enumerate(SCENARIOS)
        for k, case in enumerate([*DENSE_RICH, ("SGD", {"lr": 0.05})])
    ],
    ids=lambda x: case_id(x) if isinstance(x, tuple) else x.__name__,
)
def test_training_code_gets_what_torch_gives(run: Scenario, case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    if name == "Adafactor" and run.__name__ == "parameters_of_any_kind":
        with pytest.raises(ZeroDivisionError):  # torch's, of parameters without elements
            run(partial(reference, name, **options))
    elif name != "Adafactor" or run.__name__ not in OF_EACH_ELEMENT:
        compare(run, name, options)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # Dynamo's own
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # likewise
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("run", COMPILED, ids=lambda run: run.__name__)
def test_compiled_code_gets_what_torch_gives(run: Scenario, name: str) -> None:
    compare(run, name, dict(RICH)[name])


def test_every_class_is_stepped_here() -> None:
    assert {name for name, _ in ALL} | {"Optimizer"} == set(CLASSES)
