"""Steps of rules that keep a number of each tensor, and of rules that sum over all of them."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
import steprule.torch as door
from steprule import PerTensor, Scalar, rule, total
from steprule.backends import c, javascript, jax
from steprule.engine import plan
from steprule.errors import HyperparameterError, StateError, StructureError, TargetError
from steprule.formats import FORMATS
from steprule.language.sums import BLOCK
from steprule.runtime import launch
from tests.cases import assert_same_bits
from tests.launch.c_backend import CBackend
from tests.launch.number_rules import ALONE, RULES, start_of, straight

SHAPES = [(3, 129), (2 * BLOCK + 77,), (5,), (), (0, 3), (40, 60)]
TOGETHER = [name for name in RULES if name not in ALONE]
Arrays = list[Any]


def starts(dtype: str = "float64", shapes: Sequence[tuple[int, ...]] = SHAPES) -> Arrays:
    rng = np.random.default_rng(7)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def grads_of(t: int, arrays: Arrays) -> Arrays:
    rng = np.random.default_rng([11, t])
    return [np.asarray(rng.standard_normal(array.shape) * 10.0 ** rng.uniform(-2, 2), array.dtype) for array in arrays]


def stepped(optimizer: Any, arrays: Arrays, steps: Sequence[int]) -> Any:
    for t in steps:
        optimizer.step(grads_of(t, arrays))
    return optimizer


def torch_stepped(optimizer: Any, params: list[Any], steps: Sequence[int]) -> Any:
    arrays = [param.detach().numpy() for param in params]
    for t in steps:
        for param, g in zip(params, grads_of(t, arrays), strict=True):
            param.grad = torch.from_numpy(g)
        optimizer.step()
    return optimizer


def params_of(arrays: Arrays) -> list[Any]:
    return [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in arrays]


def assert_alike(found: Arrays, expected: Arrays, what: str) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other, what)


# What steps are.


@pytest.mark.parametrize("backend", ["llvm", "numpy", "c"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ALONE)
def test_steps_are_the_rule_called_on_each_array(name: str, dtype: str, backend: str, threads: int) -> None:
    arrays, some = starts(dtype), RULES[name]
    expected = [array.copy() for array in arrays]
    slots = [start_of(some, array) for array in arrays]
    for t in (1, 2, 3):
        for k, g in enumerate(grads_of(t, arrays)):
            expected[k], *slots[k] = some(expected[k], g, *slots[k], t=t)
    optimizer = stepped(
        sr.Optimizer(arrays, some, backend=CBackend() if backend == "c" else backend), arrays, (1, 2, 3)
    )
    assert_alike(arrays, expected, name)
    for number in some.per_tensor:
        assert optimizer.slots[number] == [own[some.slots.index(number)] for own in slots]


@pytest.mark.parametrize("backend", ["llvm", "numpy", "c"])
@pytest.mark.parametrize("name", TOGETHER)
def test_sums_over_all_are_those_of_plain_loops(name: str, backend: str, threads: int) -> None:
    arrays = starts()
    expected, kept = straight(name, arrays, [grads_of(t, arrays) for t in (1, 2, 3)])
    optimizer = sr.Optimizer(arrays, RULES[name], backend=CBackend() if backend == "c" else backend)
    stepped(optimizer, arrays, (1, 2, 3))
    assert_alike(arrays, expected, name)
    for number in RULES[name].numbers:
        assert optimizer.slots[number] == (kept[number] if number == "v" else [kept[number]])


@pytest.mark.parametrize("name", TOGETHER)
def test_sums_over_all_are_those_of_one_long_array(name: str) -> None:
    """Where sums are exact, as those of integers are, it does not matter how the elements lie in arrays."""

    @rule
    def of_all(theta: Any, g: Any, d: Scalar, *, lr: float = 0.125) -> Any:
        step = g * sr.norm(g, over="all") - sr.mean(theta * g, over="all")
        return theta - lr * step, 0.5 * d + total(abs(theta), over="all") * sr.rms(theta, over="all")

    rng = np.random.default_rng(1)
    parts = [rng.integers(-9, 9, n).astype(np.float64) for n in (3, 300, 1, 17_000)]
    grads = [rng.integers(-9, 9, part.size).astype(np.float64) for part in parts]
    together = np.concatenate(parts)
    new, d = of_all(together, np.concatenate(grads), 0.0)
    optimizer = sr.Optimizer(parts, of_all)
    optimizer.step(grads)
    assert_same_bits(np.concatenate(parts), new, name)
    assert optimizer.slots["d"] == [d]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("chunk", [1_000, BLOCK + 1])
def test_chunks_and_threads_do_not_matter(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = starts("float32")
    expected = [array.copy() for array in arrays]
    stepped(sr.Optimizer(expected, RULES[name], backend="numpy"), expected, (1, 2))
    monkeypatch.setattr(launch, "CHUNK", chunk)
    stepped(sr.Optimizer(arrays, RULES[name]), arrays, (1, 2))
    assert_alike(arrays, expected, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_torch_has_numpys_bits(name: str, dtype: str) -> None:
    arrays, some = starts(dtype), RULES[name]
    params = params_of(arrays)
    mine, theirs = sr.Optimizer(arrays, some), door.Optimizer(params, some)
    stepped(mine, arrays, (1, 2, 3))
    torch_stepped(theirs, params, (1, 2, 3))
    assert_alike([param.detach().numpy() for param in params], arrays, name)
    for number in some.numbers:
        kept = [theirs.state[param][number] for param in params]
        assert all(tensor.dtype is torch.float64 and not tensor.dim() for tensor in kept)
        values = [tensor.item() for tensor in kept]
        assert values == mine.slots[number] * (len(params) if number in some.scalars else 1)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_of_torch_are_those_of_the_referee(name: str, dtype: torch.dtype) -> None:
    shapes = [(3, 129), (70,), (5,)]
    found = []
    for _ in range(2):
        params = [torch.nn.Parameter(torch.from_numpy(a).to(dtype)) for a in starts("float32", shapes)]
        optimizer = door.Optimizer(params, RULES[name])
        for t in (1, 2):
            for param, g in zip(params, grads_of(t, starts("float32", shapes)), strict=True):
                param.grad = torch.from_numpy(g).to(dtype)
            optimizer.step()
        found.append([param.detach().float().numpy() for param in params])
    assert_alike(found[0], found[1], name)
    assert all(np.isfinite(one).all() for one in found[0])


@pytest.mark.parametrize("name", ["layer_moment", "distance"])
def test_low_precision_slots(name: str) -> None:
    found = []
    for backend in ("llvm", "numpy"):
        arrays = starts("float32")
        optimizer = sr.Optimizer(arrays, RULES[name], backend=backend, min_elements=0, states="8bit")
        found.append((arrays, stepped(optimizer, arrays, (1, 2, 3)).slots))
    assert_alike(found[0][0], found[1][0], name)
    for number in RULES[name].numbers:
        assert found[0][1][number] == found[1][1][number]


@pytest.mark.parametrize("least", [0, 7])
@pytest.mark.parametrize("states", ["float32", "8bit"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("count", [3, 40])
def test_a_step_that_is_read_has_the_same_bits(name: str, count: int, states: str, least: int) -> None:
    """Of tensors with low-precision slots it sums more than of others."""
    shapes = [(k % 5 + 1, 3) for k in range(count)]
    pair = [starts("float32", shapes), starts("float32", shapes)]
    options: dict[str, Any] = {}
    if states != "float32" and RULES[name].element_slots:
        options = {"states": states, "min_elements": least}
    optimizers = [sr.Optimizer(arrays, RULES[name], **options) for arrays in pair]
    monitor = sr.Monitor(optimizers[0], every=1)
    for optimizer, arrays in zip(optimizers, pair, strict=True):
        stepped(optimizer, arrays, (1, 2, 3))
    assert_alike(pair[0], pair[1], name)
    assert len(monitor.latest) == count
    for number in RULES[name].numbers:
        assert optimizers[0].slots[number] == optimizers[1].slots[number]


@pytest.mark.parametrize("name", RULES)
def test_many_tensors_have_the_bits_of_few(name: str) -> None:
    """From 32 on the numbers of tensors are computed on arrays; and strided ones are summed as copies."""
    shapes = [(k % 7 + 1, 2) for k in range(40)]
    arrays = starts("float64", shapes)
    views = [np.repeat(array, 2, axis=0)[::2] for array in arrays]
    grouped = [array.copy() for array in arrays]
    stepped(sr.Optimizer(arrays, RULES[name]), arrays, (1, 2))
    stepped(sr.Optimizer(views, RULES[name]), views, (1, 2))
    assert_alike([view.copy() for view in views], arrays, "strided")
    optimizer = sr.Optimizer([sr.Group(grouped[:9]), sr.Group(grouped[9:])], RULES[name])
    for t in (1, 2):
        grads = grads_of(t, arrays)
        optimizer.step([grads[:9], grads[9:]])
    assert_alike(grouped, arrays, "in groups")


def test_guards_act_on_gradients_before_they_are_summed() -> None:
    arrays = starts()
    clipped = [array.copy() for array in arrays]
    factor = 0.5 / (math.sqrt(math.fsum(total(g * g) for g in grads_of(1, arrays))) + 1e-6)
    optimizer = sr.Optimizer(arrays, RULES["mixed"], clip_norm=0.5, nonfinite="skip")
    optimizer.step(grads_of(1, arrays))
    sr.Optimizer(clipped, RULES["mixed"], backend="numpy").step([g * factor for g in grads_of(1, clipped)])
    for one, other in zip(arrays, clipped, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)
    before, slots = [array.copy() for array in arrays], optimizer.slots
    grads = grads_of(2, arrays)
    grads[0][0, 0] = math.nan
    optimizer.step(grads)
    assert optimizer.skipped == 1
    assert_alike(arrays, before, "skipped")
    assert optimizer.slots == slots


@pytest.mark.parametrize("name", TOGETHER)
def test_processes_that_hold_parts_of_a_model_add_up_their_sums(name: str) -> None:
    """One of two that hold the same has the steps of one that holds it twice: twice a sum is exact."""
    part, whole = starts(), [*starts(), *starts()]
    optimizer = sr.Optimizer(part, RULES[name])
    optimizer.guards.share = lambda numbers: [2 * number for number in numbers]
    twice = sr.Optimizer(whole, RULES[name])
    for t in (1, 2):
        optimizer.step(grads_of(t, part))
        twice.step([*grads_of(t, part), *grads_of(t, part)])
    assert_alike(part, whole[: len(part)], name)
    for number in RULES[name].scalars:
        assert optimizer.slots[number] == twice.slots[number]


def test_schedules_and_hyperparameters_that_change() -> None:
    arrays, other = starts(), starts()
    scheduled = stepped(sr.Optimizer(arrays, RULES["mixed"], lr=lambda t: 0.1 / t), arrays, (1, 2))
    changed = sr.Optimizer(other, RULES["mixed"], lr=0.1)
    stepped(changed, other, (1,))
    changed.groups[0]["lr"] = 0.05
    stepped(changed, other, (2,))
    assert_alike(arrays, other, "lr")
    assert scheduled.slots == changed.slots


# Which passes there are.


@pytest.mark.parametrize(
    ("name", "passes", "own"),
    [("layer_moment", 1, 0), ("late_moment", 0, 1), ("distance", 0, 2), ("whole", 2, 0), ("mixed", 1, 2)],
)
def test_sums_that_only_slots_take_have_no_pass_of_their_own(name: str, passes: int, own: int) -> None:
    some = RULES[name]
    recipe = plan(some, some.variant(some.resolve({})), FORMATS["float32"])
    assert (len(recipe.before), len(recipe.totals)) == (passes, own)
    assert len(recipe.sums) == own


def test_what_could_fail_after_the_step_is_summed_before_it() -> None:
    @rule
    def logged(theta: Any, g: Any, d: Scalar, e: Scalar, *, lr: float = 0.1) -> Any:
        return theta - lr * g, math.log(total(g * g, over="all")), e + total(theta, over="all")

    recipe = plan(logged, logged.variant(logged.resolve({})), FORMATS["float32"])
    assert (len(recipe.before), recipe.totals) == (1, ("_all_total1",))
    x = np.ones(3)
    optimizer = sr.Optimizer(x, logged)
    with pytest.raises(HyperparameterError, match=r"has no value at .*all_total0=0\.0.*: math domain error"):
        optimizer.step(np.zeros(3))
    assert (x.tolist(), optimizer.t, optimizer.slots) == ([1.0] * 3, 0, {"d": [0.0], "e": [0.0]})
    optimizer.step(np.ones(3))
    assert optimizer.slots == {"d": [math.log(3.0)], "e": [3.0]}


@pytest.mark.parametrize("count", [2, 40])
def test_a_division_by_zero_after_the_step_is_infinite(count: int) -> None:
    """It has moved: there is no error that could refuse it."""

    @rule
    def divided(theta: Any, g: Any, v: PerTensor, d: Scalar, *, lr: float = 0.1) -> Any:
        return theta - lr * g, total(theta) / total(g), total(g, over="all") / total(g, over="all")

    arrays = [np.ones(2) for _ in range(count)]
    optimizer = sr.Optimizer(arrays, divided)
    optimizer.step([np.zeros(2)] * count)
    assert optimizer.t == 1
    assert optimizer.slots["v"] == [math.inf] * count
    assert math.isnan(optimizer.slots["d"][0])


@pytest.mark.parametrize("count", [2, 40])
def test_where_a_number_of_a_tensor_has_no_value_nothing_moves(count: int) -> None:
    @rule(init={"v": 1.0})
    def careless(theta: Any, g: Any, v: PerTensor, *, lr: float = 0.1) -> Any:
        v = v / total(g * g)
        return theta - lr * v * g, v

    arrays = [np.ones(2) for _ in range(count)]
    optimizer = sr.Optimizer(arrays, careless)
    optimizer.step([np.ones(2)] * count)
    before, kept = [array.copy() for array in arrays], optimizer.slots["v"]
    with pytest.raises(HyperparameterError, match=r"no value at .*total0=0\.0.* v=0\.5: float division by zero"):
        optimizer.step([*[np.ones(2)] * (count - 1), np.zeros(2)])
    assert_alike(arrays, before, "careless")
    assert (optimizer.t, optimizer.slots["v"]) == (1, kept)


def test_groups_whose_options_sum_otherwise() -> None:
    @rule
    def chosen(theta: Any, g: Any, *, lr: float = 0.1, squared: bool = False, alone: bool = False) -> Any:
        return theta - lr * g if alone else theta - lr * g / total(g * g if squared else abs(g), over="all")

    x, y = np.ones(2), np.ones(3)
    optimizer = sr.Optimizer([sr.Group(x, squared=True), sr.Group(y)], chosen)
    optimizer.step([np.full(2, 3.0), np.full(3, -4.0)])
    assert x.tolist() == [1 - 0.1 * 3 / 30] * 2
    assert y.tolist() == [1 - 0.1 * -4 / 30] * 3
    words = r"options of the groups differ in what is summed over all tensors: \(group 0\) and \(group 1\)"
    with pytest.raises(HyperparameterError, match=words):
        sr.Optimizer([sr.Group(x, alone=True), sr.Group(y)], chosen)
    groups: list[dict[str, Any]] = [{"params": params_of([x])}, {"params": params_of([y]), "alone": True}]
    with pytest.raises(HyperparameterError, match=words):
        door.Optimizer(groups, chosen)
    added = door.Optimizer(params_of([x]), chosen)
    with pytest.raises(HyperparameterError, match=words):
        added.add_param_group(groups[1])
    assert len(added.param_groups) == 1
    added.add_param_group({"params": params_of([y]), "squared": True})


# Gradients that come and go, sparse ones, steps that have not all tensors.


@pytest.mark.parametrize("name", RULES)
def test_tensors_without_a_gradient_keep_their_numbers_and_are_in_no_sum(name: str) -> None:
    present = [(0, 1, 2), (1, 2), (0, 1, 2), (2,), (0, 1, 2), (0, 1, 2)]
    arrays = starts("float64", [(4,), (3, 2), (5,)])
    params = params_of(arrays)
    optimizer = door.Optimizer(params, RULES[name])
    for t, there in enumerate(present, start=1):
        before = {k: {**optimizer.state[params[k]]} for k in range(3) if t > 1}
        before = {k: {n: v.clone() for n, v in own.items()} for k, own in before.items()}
        alone = copy.deepcopy(optimizer)
        for k, (param, twin) in enumerate(zip(params, alone.param_groups[0]["params"], strict=True)):
            param.grad = torch.from_numpy(grads_of(t, arrays)[k]) if k in there else None
            twin.grad = None if param.grad is None else param.grad.clone()
        optimizer.step()
        alone.step()  # laid out anew, and not by a launch that was there before
        for k, (param, twin) in enumerate(zip(params, alone.param_groups[0]["params"], strict=True)):
            assert_same_bits(param.detach().numpy(), twin.detach().numpy(), f"{name} {t} {k}")
            for key, value in optimizer.state[param].items():
                assert torch.equal(value, alone.state[twin][key]), f"{name} {t} {k} {key}"
                if k not in there:
                    assert torch.equal(value, before[k][key])


@pytest.mark.parametrize("name", RULES)
def test_groups_without_parameters(name: str) -> None:
    """Their scalar slots follow the sums over all others; where there are none at all, these are zero."""
    alone = sr.Optimizer([], RULES[name])
    alone.step([])
    assert alone.t == 1
    x, y = starts("float64", [(4,)]), starts("float64", [(4,)])
    stepped(sr.Optimizer(x, RULES[name]), x, (1, 2))
    optimizer = sr.Optimizer([sr.Group([]), sr.Group(y)], RULES[name])
    for t in (1, 2):
        optimizer.step([[], grads_of(t, y)])
    assert_alike(x, y, name)
    for number in RULES[name].scalars:
        first, second = optimizer.slots[number]
        assert first == second


def test_an_empty_tensor_has_a_number_as_well() -> None:
    params = params_of([np.ones((0, 3)), np.ones(2)])
    optimizer = torch_stepped(door.Optimizer(params, RULES["late_moment"]), params, (1, 2, 3))
    assert [optimizer.state[param]["steps"].item() for param in params] == [3.0, 3.0]
    assert optimizer.state[params[0]]["v"].item() == 2.0 * 0.8 * 0.8 * 0.8


@pytest.mark.parametrize("name", RULES)
def test_a_sparse_gradient_has_not_all_of_a_tensor(name: str) -> None:
    param = torch.nn.Parameter(torch.ones(4, 3))
    param.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 3), (4, 3), check_invariants=True)
    with pytest.raises(RuntimeError, match="Optimizer does not support sparse gradients"):
        door.Optimizer([param], RULES[name]).step()
    assert (param == 1).all()


def test_steps_that_have_not_all_tensors() -> None:
    def made(**options: Any) -> Any:
        return door.Optimizer(params_of([np.ones(2), np.ones(3)]), RULES["distance"], **options)

    with pytest.raises(RuntimeError, match="rule that sums over all tensors, whose gradients must all be there"):
        door.step_in_backward(made())
    door.step_in_backward(door.Optimizer(params_of([np.ones(2)]), RULES["layer_moment"])).remove()
    twice = params_of([np.ones(2)])[0]
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = door.Optimizer([twice, twice], RULES["distance"])
    twice.grad = torch.ones(2, dtype=torch.float64)
    with pytest.raises(StructureError, match=r"'distance' sums over all tensors, but a parameter stands .* twice"):
        optimizer.step()


def test_steps_by_torch_operations() -> None:
    """They have the numbers of each tensor, but not those of all."""
    x = torch.arange(6, dtype=torch.float64)
    plain, graphed = x.clone().requires_grad_(), x.clone().requires_grad_()
    for t in range(3):
        for param in (plain, graphed):
            param.grad = torch.full_like(param, 0.5 + t)
        if t == 0:
            mine = door.Optimizer([plain], RULES["layer_moment"])
            theirs = door.Optimizer([graphed], RULES["layer_moment"])
        mine.step()
        with _Counter():  # type: ignore[no-untyped-call]
            theirs.step()
    torch.testing.assert_close(graphed, plain, rtol=1e-14, atol=0)
    torch.testing.assert_close(theirs.state[graphed]["v"], mine.state[plain]["v"], rtol=1e-14, atol=0)
    other = door.Optimizer([graphed], RULES["distance"])
    refused = pytest.raises(StructureError, match=r"'distance' sums over all tensors, but .* by torch operations")
    with refused, _Counter():  # type: ignore[no-untyped-call]
        other.step()


class _Counter(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


# States.


@pytest.mark.parametrize("how", ["dict", "copy", "pickle", "file", "torch's dict", "torch's file"])
@pytest.mark.parametrize("name", RULES)
def test_a_run_goes_on_exactly(name: str, how: str, tmp_path: Path) -> None:
    some = RULES[name]
    expected = starts("float32")
    whole = stepped(sr.Optimizer(expected, some), expected, (1, 2, 3, 4))
    arrays = starts("float32")
    first = stepped(sr.Optimizer(arrays, some), arrays, (1, 2))
    if how in ("copy", "pickle"):
        second = copy.deepcopy(first) if how == "copy" else pickle.loads(pickle.dumps(first))
        arrays = second.params
    elif how == "dict":
        second = sr.Optimizer(arrays, some)
        second.load_state_dict(first.state_dict())
    else:
        sr.save(tmp_path / "first", first)
        if how == "file":
            second = sr.Optimizer(arrays, some)
            sr.load(tmp_path / "first", second)
    if not how.startswith("torch"):
        stepped(second, arrays, (3, 4))
        assert_alike(arrays, expected, how)
        assert {n: second.slots[n] for n in some.numbers} == {n: whole.slots[n] for n in some.numbers}
        return
    params = params_of(arrays)
    optimizer = door.Optimizer(params, some)
    sr.load(tmp_path / "first", optimizer)
    torch_stepped(optimizer, params, (3,))
    again = door.Optimizer(params, some)
    if how == "torch's dict":
        again.load_state_dict(optimizer.state_dict())
    else:
        sr.save(tmp_path / "second", optimizer)
        sr.load(tmp_path / "second", again)
    torch_stepped(again, params, (4,))
    assert_alike([param.detach().numpy() for param in params], expected, how)
    for n in some.per_tensor:
        assert [again.state[param][n].item() for param in params] == whole.slots[n]


@pytest.mark.parametrize("name", RULES)
def test_minimize_has_the_steps_of_an_optimizer_and_goes_on(name: str) -> None:
    def jac(x: Any) -> Any:
        return 2 * (x - 1)

    def run(start: Any, steps: int, **options: Any) -> Any:
        fun = lambda x: float(((x - 1) ** 2).sum())  # noqa: E731
        return sr.minimize(fun, start, jac=jac, rule=RULES[name], maxiter=steps, **options)

    x = np.linspace(3, 4, 4)
    first = run(x, 4)
    second = run(first.x, 5, state=first.state)
    optimizer, points = sr.Optimizer(x, RULES[name]), []
    for _ in range(9):
        optimizer.step(jac(x))
        points.append(x.copy())
    assert any(np.array_equal(first.x, point) for point in points[:4])
    assert any(np.array_equal(second.x, point) for point in points)
    assert_same_bits(second.x, run(np.linspace(3, 4, 4), 9).x, name)


def test_states_of_others_are_refused() -> None:
    some = RULES["layer_moment"]
    optimizer = stepped(sr.Optimizer([np.ones(2)], some), [np.ones(2)], (1,))
    state = optimizer.state_dict()
    wrong: list[tuple[Any, str]] = [
        (None, r"lacks the numbers \['v'\] of params\[0\]"),
        ({"params[0]": {}}, r"lacks the numbers \['v'\] of params\[0\]"),
        ({"params[0]": {"v": "1"}}, r"params\[0\] of the state has scalar slots that are not numbers"),
    ]
    for numbers, message in wrong:
        with pytest.raises(StateError, match=message):
            optimizer.load_state_dict({**state, "numbers": numbers})
    assert optimizer.state_dict()["numbers"] == state["numbers"] != {"params[0]": {"v": 0.0}}
    optimizer.load_state_dict(state)
    assert "numbers" not in sr.Optimizer(np.ones(2)).state_dict()


def test_a_number_has_no_format_and_is_in_the_table() -> None:
    x = np.ones(5000, np.float32)
    for make in (lambda **o: sr.Optimizer([x], RULES["layer_moment"], **o), _torch_made):
        with pytest.raises(HyperparameterError, match="states names 'v', which is not kept for each element"):
            make(states={"v": "8bit"})
        assert "m: 8bit, v: one float64" in make(states="8bit").describe()


def _torch_made(**options: Any) -> Any:
    return door.Optimizer(params_of([np.ones(5000, np.float32)]), RULES["layer_moment"], **options)


@pytest.mark.parametrize("name", RULES)
def test_where_numbers_are_known_before_the_step_all_sums_are_in_passes_before(name: str) -> None:
    some = RULES[name]
    variant = some.variant(some.resolve({}))
    riding, apart = (plan(some, variant, FORMATS["float32"], rides=rides) for rides in (True, False))
    assert apart.totals == ()
    assert apart.sums == ()
    of_both = [sorted(name for own in one.stages for name in own.totals) for one in (apart, riding)]
    assert of_both[0] == of_both[1]
    for emit in (javascript.emit, jax.emit, functools.partial(c.emit, name="some")):
        emit(apart)
        if riding.totals:
            with pytest.raises(TargetError, match="while it steps; make it with rides=False"):
                emit(riding)
