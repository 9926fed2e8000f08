"""train(), eval() and evaluating() of the PyTorch door: exact to the bit, in every format, and never silently wrong."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.errors import StateError, StructureError
from tests.doors.torch.cases import assert_equal, everything, frozen, one_thread
from tests.doors.torch.tensors import numbers
from tests.doors.torch.test_guards import Tagged

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

LOW: dict[str, Any] = {"min_elements": 0}
CASES: list[tuple[str, torch.dtype, dict[str, Any]]] = [
    ("AdamWScheduleFree", torch.float32, {"lr": 0.02, "weight_decay": 0.1, "warmup_steps": 3}),
    ("SGDScheduleFree", torch.float64, {"lr": 0.1, "weight_decay": 0.1, "r": 1.0}),
    ("AdamWScheduleFree", torch.bfloat16, {"lr": 0.02}),
    ("AdamWScheduleFree", torch.bfloat16, {"lr": 0.02, "weights": "split24", "states": "8bit", **LOW}),
    ("AdamWScheduleFree", torch.float16, {"lr": 0.02, "weights": "split32", "states": "4bit", **LOW}),
    ("AdamWScheduleFree", torch.bfloat16, {"lr": 0.02, "weights": "stochastic", "states": {"z": "bfloat16"}, **LOW}),
    ("AdamWScheduleFree", torch.complex64, {"lr": 0.02}),
    ("averaged", torch.float16, {"lr": 0.02, "decay": 0.7}),
    ("lookahead", torch.float32, {"lr": 0.02, "sync_period": 4, "states": "8bit", **LOW}),
    ("asgd", torch.float32, {"lr": 0.02, "t0": 0}),
]
RULES = {"averaged": sr.averaged(sr.rules.adam), "lookahead": sr.lookahead(sr.rules.adam)}
case_ids = pytest.mark.parametrize(
    ("kind", "dtype", "options"), CASES, ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(CASES)]
)


def made(kind: str, params: Any, options: dict[str, Any]) -> Any:
    if hasattr(door, kind):
        return getattr(door, kind)(params, **options)
    return door.Optimizer(params, rule=RULES.get(kind, kind), **options)


def tensors(dtype: torch.dtype) -> list[nn.Parameter]:
    """Return a matrix, a vector, one whose elements lie apart, one of columns, and one without elements."""
    apart = numbers((6, 7), dtype, 3)[:, ::2]
    shapes = [numbers((5, 260), dtype, 1), numbers((300,), dtype, 2), apart, numbers((7, 4), dtype, 4).t()]
    return [nn.Parameter(tensor) for tensor in (*shapes, torch.zeros(0, dtype=dtype))]


def step(optimizer: Any, start: int = 0, steps: int = 3) -> None:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for t in range(start, start + steps):
        for i, param in enumerate(params):
            param.grad = numbers(param.shape, param.dtype, 100 * (t + 1) + i)
        optimizer.step()


def run(kind: str, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    optimizer = made(kind, tensors(dtype), options)
    step(optimizer)
    return optimizer


def bits(optimizer: Any) -> Any:
    return frozen([param.detach() for group in optimizer.param_groups for param in group["params"]])


# --- Switching ------------------------------------------------------------------------------------


@case_ids
def test_there_and_back_is_exact(kind: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    straight, optimizer = run(kind, dtype, options), run(kind, dtype, options)
    for start in (3, 6):
        before = everything(optimizer)
        optimizer.eval()
        there = bits(optimizer)
        assert there != before[0]
        optimizer.eval()
        assert bits(optimizer) == there
        with torch.no_grad():
            for param in optimizer.param_groups[0]["params"]:
                param.fill_(7)  # whatever is done meanwhile
        optimizer.train()
        assert everything(optimizer) == before
        optimizer.train()
        assert everything(optimizer) == before
        for one in (straight, optimizer):
            step(one, start)
        assert everything(optimizer) == everything(straight)


def test_the_bits_of_a_nan_come_back() -> None:
    for dtype, kind, word in [
        (torch.float32, torch.int32, 0x7FA01234),
        (torch.float16, torch.int16, 0x7D12),
        (torch.bfloat16, torch.int16, 0x7F91),
        (torch.float64, torch.int64, 0x7FF0000000001234),
    ]:
        param = nn.Parameter(numbers((40,), dtype, 1))
        optimizer = door.AdamWScheduleFree([param])
        step(optimizer)
        param.data.view(kind)[3] = word  # a signalling NaN
        before = bits(optimizer)
        with optimizer.evaluating():
            assert param[3].isnan()
        assert bits(optimizer) == before


@pytest.mark.parametrize("kind", ["AdamWScheduleFree", "SGDScheduleFree"])
def test_the_evaluated_point(kind: str) -> None:
    beta = 0.8
    own: dict[str, Any] = {"betas": (beta, 0.99)} if kind.startswith("Adam") else {"momentum": beta}
    optimizer = run(kind, torch.float64, {"lr": 0.1, **own})
    params = optimizer.param_groups[0]["params"]
    wanted = []
    for param in params:
        y, z = param.detach().clone(), optimizer.state[param]["z"] if param in optimizer.state else param.detach()
        wanted.append(y + (1 - 1 / beta) * (z - y))
        assert not len(y) or not torch.equal(y, z)
    optimizer.eval()
    for param, point in zip(params, wanted, strict=True):
        torch.testing.assert_close(param.detach(), point, rtol=1e-14, atol=1e-15)


def test_averages_are_evaluated() -> None:
    for kind, slot in [("averaged", "average"), ("lookahead", "slow"), ("asgd", "ax")]:
        optimizer = run(kind, torch.float32, {"lr": 0.02})
        params = optimizer.param_groups[0]["params"]
        with optimizer.evaluating():
            assert_equal([param.detach() for param in params], [optimizer.state[param][slot] for param in params])


def test_before_the_first_step_a_parameter_is_its_own_point() -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = door.AdamWScheduleFree([param])
    optimizer.eval()
    with torch.no_grad():
        param.fill_(2)  # a model that is loaded now stays
    optimizer.train()
    assert param.tolist() == [2, 2, 2]
    assert not optimizer.state


def test_a_block_leaves_the_mode_that_it_found() -> None:
    optimizer = run("SGDScheduleFree", torch.float32, {})
    before = bits(optimizer)
    with pytest.raises(ZeroDivisionError), optimizer.evaluating():
        1 / (bits(optimizer) == before)
    assert bits(optimizer) == before
    optimizer.eval()
    there = bits(optimizer)
    with optimizer.evaluating():
        optimizer.train()
    assert bits(optimizer) == there
    assert not optimizer.param_groups[0]["train_mode"]


def test_autograd_refuses_a_graph_with_the_old_numbers() -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = door.SGDScheduleFree([param])
    step(optimizer)
    loss = (param * param).sum()
    optimizer.eval()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_launch_serves_on_after_an_evaluation(layouts: list[Any]) -> None:
    optimizer = run("AdamWScheduleFree", torch.float32, {})
    layouts.clear()
    params = optimizer.param_groups[0]["params"][:2]
    optimizer = door.AdamWScheduleFree(params)
    for _ in range(3):
        for param in params:
            param.grad = torch.ones_like(param) if param.grad is None else param.grad
        optimizer.step()
        with optimizer.evaluating():
            pass
    assert len(layouts) <= 2, "a step is laid out once with its state, and once without"


# --- Who has it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train", "eval", "evaluating"])
def test_only_rules_with_an_evaluated_point_have_it(name: str) -> None:
    params = [nn.Parameter(torch.ones(3))]
    optimizer: Any
    for optimizer in (door.AdamW(params), door.Lion(params), door.Optimizer(params, "adam")):
        assert not hasattr(optimizer, name)
        with pytest.raises(AttributeError, match=rf"has no {name}\(\): rule '.*steprule.averaged") as caught:
            getattr(optimizer, name)()
        assert "Leave the call out" in str(caught.value)
    for optimizer in (
        door.AdamWScheduleFree(params),
        door.Optimizer(params, sr.averaged(sr.rules.lion)),
        door.Optimizer(params, sr.maximize(sr.rules.schedule_free_sgd)),
    ):
        assert callable(getattr(optimizer, name))


def test_asgd_is_that_of_torch() -> None:
    params = [nn.Parameter(torch.ones(3))]
    assert not hasattr(door.ASGD(params), "eval")
    with pytest.raises(AttributeError, match=r"lagged=True\), which evaluates the average"):
        door.ASGD(params).train()  # type: ignore[attr-defined, unused-ignore]
    assert "train_mode" not in door.ASGD(params).param_groups[0]
    assert hasattr(door.Optimizer(params, "asgd", lagged=True), "eval")


# --- No silent wrong mode -------------------------------------------------------------------------


def test_a_step_in_evaluation_mode_is_refused() -> None:
    optimizer = run("AdamWScheduleFree", torch.float32, {})
    optimizer.eval()
    before, called = everything(optimizer), list[int]()

    def closure() -> float:
        called.append(1)
        return 0.0

    for given in ([], [closure]):
        with pytest.raises(StateError, match=r"evaluation mode.*nothing was stepped. Call its train\(\)"):
            optimizer.step(*given)
    assert everything(optimizer) == before
    assert not called
    optimizer.train()
    with pytest.raises(StateError, match="evaluation mode"):
        optimizer.step(optimizer.eval)  # by the closure


def test_a_backward_pass_that_steps_is_refused_in_evaluation_mode() -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = door.AdamWScheduleFree([param])
    with door.step_in_backward(optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            (param**2).sum().backward()
        assert optimizer.state[param]["step"] == 2
        optimizer.step()
        assert optimizer.param_groups[0]["k"] == 2
        optimizer.zero_grad()
        with optimizer.evaluating():
            before = param.detach().clone()
            with pytest.raises(StateError, match="evaluation mode"):
                (param**2).sum().backward()
            assert torch.equal(param, before)


def test_groups_that_come_in_evaluation_mode() -> None:
    straight, optimizer = (run("AdamWScheduleFree", torch.float32, {}) for _ in range(2))
    optimizer.eval()
    for one in (straight, optimizer):
        new = nn.Parameter(numbers((9,), torch.float32, 9))
        one.add_param_group({"params": [new], "lr": 0.1})
    assert [group["train_mode"] for group in optimizer.param_groups] == [False, False]
    with pytest.raises(StateError, match="evaluation mode"):
        optimizer.step()
    optimizer.train()
    for one in (straight, optimizer):
        step(one, 3)
    assert everything(optimizer) == everything(straight)


def test_what_was_changed_in_evaluation_mode_is_said() -> None:
    optimizer = run("AdamWScheduleFree", torch.float32, {})
    param = optimizer.param_groups[0]["params"][0]
    optimizer.eval()
    param.data = param.data.double()
    before = everything(optimizer)
    with pytest.raises(StateError, match=r"cannot put back .*torch.float32.* since it is torch.float64"):
        optimizer.train()
    assert everything(optimizer) == before


def test_parameters_that_share_memory_are_refused() -> None:
    base = torch.ones(6)
    optimizer = door.SGDScheduleFree([nn.Parameter(base[:4]), nn.Parameter(base[2:])], lr=0.1)
    step(optimizer)
    before = everything(optimizer)
    with pytest.raises(StructureError, match="share memory"):
        optimizer.eval()
    assert everything(optimizer) == before


def test_a_graph_through_steps_is_refused() -> None:
    leaf = torch.ones(3, requires_grad=True)
    param = leaf.clone()
    optimizer = door.SGDScheduleFree([param], differentiable=True)
    param.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="no part of a graph"):
        optimizer.eval()


def test_a_parameter_that_stands_twice_is_switched_once() -> None:
    param = nn.Parameter(torch.linspace(0, 1, 5))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = door.SGDScheduleFree([param, param], lr=0.1)
    step(optimizer)
    y, z = param.detach().clone(), optimizer.state[param]["z"]
    with optimizer.evaluating():
        torch.testing.assert_close(param.detach(), y + (1 - 1 / 0.9) * (z - y))
    assert torch.equal(param, y)


def test_subclasses_are_switched_by_torch() -> None:
    ends = []
    for kind in (Tensor, Tagged):
        param = numbers((4, 5), torch.float32, 1).as_subclass(kind)
        optimizer = door.SGDScheduleFree([param], lr=0.1)
        for t in range(3):
            param.grad = numbers((4, 5), torch.float32, t).as_subclass(kind)
            optimizer.step()
        before = param.as_subclass(Tensor).clone()
        optimizer.eval()
        ends.append(param.as_subclass(Tensor).clone())
        optimizer.train()
        assert torch.equal(param.as_subclass(Tensor), before)
        assert not torch.equal(ends[-1], before)
    torch.testing.assert_close(*ends, rtol=0, atol=0)


# --- States ---------------------------------------------------------------------------------------


@case_ids
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state dict"])
def test_copies_in_evaluation_mode_go_on(kind: str, dtype: torch.dtype, options: dict[str, Any], how: str) -> None:
    straight, optimizer = run(kind, dtype, options), run(kind, dtype, options)
    optimizer.eval()
    params = optimizer.param_groups[0]["params"]
    if how == "state dict":
        file = io.BytesIO()
        torch.save([params, optimizer.state_dict()], file)
        file.seek(0)
        params, told = torch.load(file)
        assert not told["param_groups"][0]["train_mode"]
        other = made(kind, [nn.Parameter(param.detach()) for param in params], options)
        other.load_state_dict(told)
    else:
        other = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
    assert everything(other) == everything(optimizer)
    with pytest.raises(StateError, match="evaluation mode"):
        other.step()
    other.train()
    for one in (straight, other):
        step(one, 3)
    assert everything(other) == everything(straight)


def test_a_state_of_training_mode_ends_evaluation_mode() -> None:
    optimizer, straight = (run("AdamWScheduleFree", torch.float32, {}) for _ in range(2))
    saved = copy.deepcopy([[p.detach() for p in straight.param_groups[0]["params"]], straight.state_dict()])
    step(optimizer, 3)
    optimizer.eval()
    optimizer.load_state_dict(saved[1])
    for param, value in zip(optimizer.param_groups[0]["params"], saved[0], strict=True):
        param.data.copy_(value)  # of the state: what the parameters were is dropped
    assert not any("trained" in entry for entry in optimizer.state.values())
    for one in (straight, optimizer):
        step(one, 3)
    assert everything(optimizer) == everything(straight)


def test_a_state_of_evaluation_mode_is_refused_where_there_is_none() -> None:
    params = tensors(torch.float32)
    optimizer = door.Optimizer(params, "asgd", lagged=True)
    step(optimizer)
    other = door.ASGD(params)
    other.load_state_dict(optimizer.state_dict())
    optimizer.eval()
    before = everything(other)
    with pytest.raises(StateError, match=r"in evaluation mode, which ASGD has not.* Call train\(\)"):
        other.load_state_dict(optimizer.state_dict())
    assert everything(other) == before


def test_formats_of_a_state_of_evaluation_mode_are_converted() -> None:
    options: dict[str, Any] = {"weights": "split24", "states": "8bit", **LOW}
    optimizer = run("AdamWScheduleFree", torch.bfloat16, options)
    trained = [optimizer.state[p]["z"] for p in optimizer.param_groups[0]["params"]]
    assert all(z.dtype == torch.float32 for z in trained), "z is a point, which states= leaves alone"
    optimizer.eval()
    other = door.AdamWScheduleFree([nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]])
    with pytest.raises(StateError, match="is kept as"):
        other.load_state_dict(optimizer.state_dict())
    other.load_state_dict(optimizer.state_dict(), convert=True)
    optimizer.train()
    other.train()
    for a, b in zip(*(one.param_groups[0]["params"] for one in (optimizer, other)), strict=True):
        # Halfway between two numbers split24 keeps the larger one, and what is rounded to nearest the even one.
        torch.testing.assert_close(a.detach(), b.detach(), rtol=2**-7, atol=0)
        assert (a != b).sum() <= 0.01 * len(a.ravel())


@pytest.mark.parametrize("mode", ["train", "eval"])
@case_ids
def test_files_hold_the_mode(kind: str, dtype: torch.dtype, options: dict[str, Any], mode: str, tmp_path: Path) -> None:
    straight, optimizer = run(kind, dtype, options), run(kind, dtype, options)
    getattr(optimizer, mode)()
    params = {str(i): param for i, param in enumerate(optimizer.param_groups[0]["params"])}
    sr.save(tmp_path / "file", optimizer, params=params)
    other = made(kind, tensors(dtype), options)
    other.eval()  # another mode before: that of the file counts
    sr.load(tmp_path / "file", other, params=dict(zip(params, other.param_groups[0]["params"], strict=True)))
    assert everything(other) == everything(optimizer)
    other.train()
    for one in (straight, other):
        step(one, 3)
    assert everything(other) == everything(straight)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_files_of_numpy_and_back(mode: str, tmp_path: Path) -> None:
    start = numbers((4, 5), torch.float32, 1)
    array, param = start.numpy().copy(), nn.Parameter(start.clone())
    there = sr.Optimizer(array, rule=sr.rules.schedule_free_adamw, lr=0.02, weight_decay=0.1)
    here = door.AdamWScheduleFree([param], lr=0.02, weight_decay=0.1)
    for t in range(6):
        there.step(numbers((4, 5), torch.float32, t).numpy())
    getattr(there, mode)()
    sr.save(tmp_path / "file", there)
    sr.load(tmp_path / "file", here)
    param.data.copy_(torch.from_numpy(array))
    assert here.param_groups[0]["train_mode"] == (mode == "train")
    assert here.param_groups[0]["k"] == 6
    here.train()
    there.train()
    for t in range(6, 9):
        there.step(numbers((4, 5), torch.float32, t).numpy())
        param.grad = numbers((4, 5), torch.float32, t)
        here.step()
    assert torch.equal(param.detach(), torch.from_numpy(array))
    getattr(here, mode)()
    sr.save(tmp_path / "back", here)
    back = sr.Optimizer(array.copy(), rule=sr.rules.schedule_free_adamw, lr=0.02, weight_decay=0.1)
    sr.load(tmp_path / "back", back)
    assert back.is_training == (mode == "train")


def test_a_file_of_evaluation_mode_is_refused_where_there_is_none(tmp_path: Path) -> None:
    optimizer = door.Optimizer(tensors(torch.float32), "asgd", lagged=True)
    step(optimizer)
    optimizer.eval()
    sr.save(tmp_path / "file", optimizer)
    other = door.ASGD(tensors(torch.float32))
    before = everything(other)
    with pytest.raises(StateError, match=r"at its evaluated point, which steprule.torch.ASGD does not have"):
        sr.load(tmp_path / "file", other)
    assert everything(other) == before
