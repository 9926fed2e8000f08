"""Every class of steprule.torch against torch.optim, or, where torch has none, against its paper's loop."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

import steprule.torch as door
from tests.covering import rotated
from tests.doors.torch.cases import (
    CLASSES,
    DENSE_NAMES,
    EXTRA,
    INFO,
    OWN,
    RICH,
    STEPS,
    TORCH_NAMES,
    Make,
    Problem,
    assert_agree,
    assert_moved,
    case_id,
    default_dtype,
    one_thread,
    ours,
    problem_for,
    reference,
    train,
    trained_by,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

SETS = [(name, i, s.desc) for name, info in INFO.items() for i, s in enumerate(info.optim_inputs_func(device="cpu"))]
COMPLEX_SETS = [(name, i, desc) for name, i, desc in SETS if INFO[name].supports_complex]

# What slots are called in the states of classes that torch.optim lacks, and the class itself says of others.
SLOTS: dict[str, dict[str, str]] = {
    "Lion": {"m": "exp_avg"},
    "AdaBelief": {"m": "exp_avg", "s": "exp_avg_var"},
    "Yogi": {"m": "exp_avg", "v": "exp_avg_sq"},
    "Adan": {"m": "exp_avg", "v": "exp_avg_diff", "n": "exp_avg_sq", "g_prev": "previous_grad"},
    "ADOPT": {"m": "exp_avg", "v": "exp_avg_sq"},
    "AdEMAMix": {"m1": "exp_avg", "m2": "exp_avg_slow", "v": "exp_avg_sq"},
    "Signum": {"m": "exp_avg"},
}


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    with default_dtype(request.param):
        yield request.param


def option_set(name: str, index: int) -> dict[str, Any]:
    """Return an option set of torch's table, made anew: its tensors have the default type of now."""
    return dict(INFO[name].optim_inputs_func(device="cpu")[index].kwargs)


def check(name: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    start = [p.detach().clone() for p in problem_for(name, dtype).trained()]
    expected = trained_by(reference, name, dtype, options)
    assert_moved(expected, start)
    assert_agree(trained_by(ours, name, dtype, options), expected, name)


def test_every_class_is_in_the_matrix() -> None:
    """A class that is added to the door, or lost from it, changes this list or fails."""
    assert {name for name, *_ in SETS} == set(TORCH_NAMES) == {name for name, _ in RICH}
    assert set(SLOTS) <= set(OWN) == {name for name, _ in EXTRA}
    assert {*TORCH_NAMES, *OWN, "Optimizer"} == set(CLASSES)
    assert len(TORCH_NAMES) == 13


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_signature_is_that_of_torch(name: str) -> None:
    def arguments(cls: type) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(cls).parameters.values()]

    *own, options = arguments(getattr(door, name))
    assert own == arguments(getattr(torch.optim, name))
    assert options == ("options", inspect.Parameter.VAR_KEYWORD, inspect.Parameter.empty)


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_groups_and_words_are_those_of_torch(name: str) -> None:
    theirs, mine = (cls(problem_for(name).trained()) for cls in (getattr(torch.optim, name), getattr(door, name)))
    assert mine.defaults == theirs.defaults
    assert repr(mine) == repr(theirs)
    assert isinstance(mine, torch.optim.Optimizer)


@pytest.mark.parametrize(("name", "index", "desc"), SETS)
def test_option_set_agrees_with_torch(name: str, index: int, desc: str, dtype: torch.dtype) -> None:
    check(name, dtype, option_set(name, index))


@pytest.mark.parametrize(("name", "options"), RICH, ids=case_id)
def test_many_options_together_agree_with_torch(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    check(name, dtype, options)


@pytest.mark.parametrize("shape", [(), (1,)], ids=["0-dim", "1-element"])
@pytest.mark.parametrize("name", TORCH_NAMES)
def test_a_tensor_as_lr_agrees_with_torch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check(name, dtype, {"lr": torch.full(shape, 0.0123)})


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_tensors_as_betas_agree_with_torch(name: str, dtype: torch.dtype) -> None:
    check(name, dtype, {"betas": (torch.tensor([[0.8]]), torch.tensor(0.95))})


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_groups_with_other_options_agree_with_torch(name: str, dtype: torch.dtype) -> None:
    # Not initial_accumulator_value: torch.optim.Adagrad gives every group that of the constructor.
    sets = [option_set(name, i) for other, i, _ in SETS if other == name]
    sets = [{k: v for k, v in options.items() if k != "initial_accumulator_value"} for options in sets]

    def run(make: Make, first: dict[str, Any], second: dict[str, Any]) -> list[Tensor]:
        problem = Problem(dtype) if name != "SparseAdam" else problem_for(name, dtype)
        params = problem.trained()
        other = [torch.nn.Parameter(p.detach().clone()) for p in params]
        groups = [{"params": params, **copy.deepcopy(first)}, {"params": other, **copy.deepcopy(second)}]
        optimizer = make(name, groups)
        for t in range(STEPS // 2):
            optimizer.zero_grad()
            problem(t).backward()
            for p, q in zip(params, other, strict=True):
                q.grad = p.grad
            optimizer.step()
        return params + other

    for pair in zip(sets, sets[1:] + sets[:1], strict=True):
        assert_agree(run(ours, *pair), run(reference, *pair), f"{name} {pair}")


@pytest.mark.parametrize(
    ("options", "complex_dtype"), rotated(COMPLEX_SETS, [torch.complex64, torch.complex128]), ids=case_id
)
def test_complex_parameters_agree_with_torch(options: tuple[str, int, str], complex_dtype: torch.dtype) -> None:
    name, index, _ = options
    with default_dtype(complex_dtype.to_real()):
        check(name, complex_dtype, option_set(name, index))


def test_any_rule_of_the_catalogue_agrees_with_torch() -> None:
    problem = Problem(torch.float64)
    train(problem, door.Optimizer(problem.trained(), rule="adam", lr=0.01, beta1=0.8))
    with default_dtype(torch.float64):
        expected = trained_by(reference, "Adam", torch.float64, {"lr": 0.01, "betas": (0.8, 0.999)})
    assert_agree(problem.trained(), expected)


Schedule = Callable[[torch.optim.Optimizer], Any]

SCHEDULES: dict[str, Schedule] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9 + 0.01 * t),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 4, gamma=0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 7, 8], gamma=0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, total_iters=5),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.2, total_iters=9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 15, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, T_mult=2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, step_size_up=4, cycle_momentum=False),
    "CyclicLR and momentum": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, step_size_up=4, cycle_momentum=True),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.02, total_steps=STEPS + 1, cycle_momentum=False),
    "OneCycleLR and momentum": lambda o: lr_scheduler.OneCycleLR(o, 0.02, total_steps=STEPS + 1),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=15, power=1.5),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[4]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.2, total_iters=9), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
}
SCHEDULED: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "Adam": {},
    "AdamW": {"weight_decay": 0.1},
    "ASGD": {"lambd": 0.01, "t0": 4},
    "NAdam": {},
    "RAdam": {"betas": (0.9, 0.95)},
    "RMSprop": {"momentum": 0.9},
    "Adagrad": {"lr_decay": 0.1},
}
NO_MOMENTUM = ("ASGD", "Adagrad")


def scheduled(make: Make, name: str, lr: Any, schedule: Schedule) -> tuple[list[Tensor], list[Any]]:
    """Return the parameters after a run with a schedule, and all that it set before each step."""
    problem = Problem(torch.float64)
    optimizer = make(name, problem.trained(), lr=copy.deepcopy(lr), **SCHEDULED[name])
    scheduler = schedule(optimizer)
    seen = []
    for t in range(STEPS):
        group = optimizer.param_groups[0]
        seen.append((float(group["lr"]), group.get("betas"), group.get("momentum")))
        train(problem, optimizer, 1, start=t)
        scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()
    return problem.trained(), seen


@pytest.mark.parametrize("lr", [0.01, torch.tensor(0.01, dtype=torch.float64)], ids=["float", "tensor"])
@pytest.mark.parametrize(("name", "schedule"), rotated(SCHEDULED, [*SCHEDULES], ["AdamW"]))
def test_schedule_agrees_with_torch(name: str, schedule: str, lr: Any) -> None:
    if name in NO_MOMENTUM and schedule.endswith("and momentum"):
        for make in (ours, reference):
            with pytest.raises(ValueError, match="optimizer must support momentum"):
                scheduled(make, name, lr, SCHEDULES[schedule])
        return
    with default_dtype(torch.float64):
        expected, wanted = scheduled(reference, name, lr, SCHEDULES[schedule])
        actual, seen = scheduled(ours, name, lr, SCHEDULES[schedule])
    assert seen == wanted
    assert len({numbers[0] for numbers in seen}) > 1
    assert_agree(actual, expected, schedule)


DECAYED = [
    (name, options)
    for name, options in EXTRA
    if "decoupled_weight_decay" in inspect.signature(getattr(door, name)).parameters
]


def flat_gradients(n: int) -> list[list[float]]:
    random = torch.Generator().manual_seed(3)
    gradients = torch.randn(STEPS, n, generator=random, dtype=torch.float64) * 10 ** torch.linspace(-3, 2, n)
    gradients[STEPS // 2 :, 0] = 0.0
    return gradients.tolist()


def loop(name: str, options: dict[str, Any], theta: list[float], gradients: list[list[float]]) -> Any:
    """Run the paper's loop with the hyperparameters under the names that it has for them."""
    rule = OWN[name]
    renamed = {"r": "weight_t_power"} | ({} if "momentum" in rule.hyperparameters else {"momentum": "beta"})
    if name.endswith("ScheduleFree"):  # whose defaults are those of the package
        given = inspect.signature(getattr(door, name)).parameters
        known = ("lr", "momentum", "betas", "eps", "weight_decay", "warmup_steps", "r", "weight_lr_power")
        defaults = {key: given[key].default for key in known if key in given}
        options = {**defaults, **options}
    values = {renamed.get(key, key): value for key, value in options.items()}
    betas = {f"beta{i}": beta for i, beta in enumerate(values.pop("betas", ()), start=1)}
    run = importlib.import_module(f"tests.papers.{rule.name}").run
    if not values.get("weight_decay", True) and "weight_decay" not in inspect.signature(run).parameters:
        del values["weight_decay"]
    return run(theta, gradients, **values, **betas)


def stepped(name: str, options: dict[str, Any], theta: list[float], gradients: list[list[float]]) -> Any:
    """Return the path of our class under given gradients, and its state."""
    p = torch.nn.Parameter(torch.tensor(theta, dtype=torch.float64))
    optimizer = ours(name, [p], **options)
    path = []
    for g in gradients:
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        path.append(p.detach().clone())
    return path, optimizer.state[p]


THETA = torch.linspace(-2, 3, 9, dtype=torch.float64).tolist()


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in OWN), *EXTRA], ids=case_id)
def test_class_agrees_with_its_paper(name: str, options: dict[str, Any]) -> None:
    if "weight_decay" not in OWN[name].hyperparameters:  # Adan's paper has this decay
        options = {key: value for key, value in options.items() if key != "weight_decay"}
    expected, slots = loop(name, options, THETA, flat_gradients(9))
    path, state = stepped(name, options, THETA, flat_gradients(9))
    assert_agree(path, [torch.tensor(row, dtype=torch.float64) for row in expected], name)
    said = getattr(door, name)._naming.slots
    names = SLOTS.get(name) or {slot: said.get(slot, slot) for slot in slots}
    assert set(state) == {"step", *names.values()}
    assert float(state["step"]) == STEPS
    assert_agree(
        [state[names[s]] for s in slots],
        [torch.tensor(x, dtype=torch.float64).reshape(state[names[s]].shape) for s, x in slots.items()],
        name,
    )


@pytest.mark.parametrize(("name", "options"), EXTRA, ids=case_id)
def test_maximize_is_a_step_on_the_negative_gradient(name: str, options: dict[str, Any]) -> None:
    gradients = flat_gradients(9)
    expected, _ = stepped(name, options, THETA, [[-x for x in g] for g in gradients])
    path, _ = stepped(name, {**options, "maximize": True}, THETA, gradients)
    assert all(torch.equal(a, b) for a, b in zip(path, expected, strict=True))


@pytest.mark.parametrize(("name", "options"), DECAYED, ids=case_id)
@pytest.mark.parametrize("decoupled", [True, False])
def test_weight_decay_is_decoupled_or_in_the_gradient(name: str, options: dict[str, Any], decoupled: bool) -> None:
    options = {key: value for key, value in options.items() if key != "weight_decay"}
    decay, given, used = 0.1, flat_gradients(9), []
    theta = torch.tensor(THETA, dtype=torch.float64)
    expected = []
    for g in given:  # the change of theta depends on gradients alone: the loop is run anew up to here
        used.append(g if decoupled else (torch.tensor(g, dtype=torch.float64) + decay * theta).tolist())
        moves = torch.tensor([[0.0] * 9, [0.0] * 9, *loop(name, options, [0.0] * 9, used)[0]], dtype=torch.float64)
        kept = 1 - options["lr"] * decay if decoupled else 1.0
        theta = theta * kept + (moves[-1] - moves[-2])
        expected.append(theta)
    values = {**options, "weight_decay": decay, "decoupled_weight_decay": decoupled}
    assert_agree(stepped(name, values, THETA, given)[0], expected, name)


def test_dense_classes_are_all_but_one() -> None:
    assert set(TORCH_NAMES) - set(DENSE_NAMES) == {"SparseAdam"}


@pytest.mark.parametrize("extreme", [1e19, 1e22, 3e38, 1e-22, 1e-30, 1e-38, 1e-45], ids=str)
@pytest.mark.parametrize(("name", "options"), [*RICH, *((name, {}) for name in TORCH_NAMES)], ids=case_id)
def test_a_number_that_torch_keeps_finite_is_finite(name: str, options: dict[str, Any], extreme: float) -> None:
    # Squares of these overflow or vanish in float32.
    for gradients in ([extreme] + 6 * [1.0], [1.0, -1.0, extreme, 1.0, 1.0], [1.0, -extreme, extreme], 5 * [extreme]):
        stepped = [torch.nn.Parameter(torch.ones(9)) for _ in range(2)]
        optimizers = [getattr(home, name)([p], **options) for home, p in zip((torch.optim, door), stepped, strict=True)]
        for step, number in enumerate(gradients):
            for p, optimizer in zip(stepped, optimizers, strict=True):
                grad = torch.full((9,), number)
                p.grad = grad.to_sparse() if name == "SparseAdam" else grad
                optimizer.step()
            theirs, own = (p.detach().isfinite().all() for p in stepped)
            assert own or not theirs, (gradients, step)
