"""Steps of rules that see the rows and columns of tensors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import steprule as sr
import steprule.torch as door
from steprule.language.matrices import ROWS
from steprule.language.sums import BLOCK
from steprule.runtime import launch
from tests.cases import assert_same_bits
from tests.covering import rotated
from tests.launch.row_rules import ALONE, RULES, starts_of, straight_factored

SHAPES = [
    (300, 20),
    (5, 3, 2),
    (2, 3, 7, 130),
    (7,),
    (),
    (0, 3),
    (3, 0),
    (2, 0, 3),
    (0, 2, 0),
    (1, 9),
    (9, 1),
    (2 * ROWS + 1, 3),
]
LARGE = [(2, 2 * BLOCK + 77), (2 * BLOCK + 5,), (ROWS + 1, 130)]
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
        assert np.shape(one) == np.shape(other), what
        assert_same_bits(np.asarray(one), np.asarray(other), what)


def by_the_rule(name: str, arrays: Arrays, steps: Sequence[int], **values: Any) -> tuple[Arrays, list[list[Any]]]:
    """Return the arrays and slots after some steps of the rule called on each array: what it means."""
    some, arrays = RULES[name], [array.copy() for array in arrays]
    slots = [starts_of(some, array) for array in arrays]
    for t in steps:
        for k, g in enumerate(grads_of(t, arrays)):
            with np.errstate(all="ignore"):
                new, *kept = some(arrays[k], g, *slots[k], t=t, **values)
            arrays[k] = np.asarray(new)
            likes = zip(some.slots, kept, slots[k], strict=True)
            slots[k] = [
                value if slot in some.numbers else np.broadcast_to(np.asarray(value, like.dtype), like.shape).copy()
                for slot, value, like in likes
            ]
    return arrays, slots


@pytest.mark.parametrize(
    ("name", "way"),
    rotated(ALONE, [(dtype, by) for dtype in ("float32", "float64") for by in ("llvm", "numpy")]),
    ids=str,
)
def test_steps_are_the_rule_called_on_each_array(name: str, way: tuple[str, str], threads: int) -> None:
    dtype, backend = way
    some, shapes = RULES[name], SHAPES if backend == "numpy" else SHAPES + LARGE
    arrays = starts(dtype, shapes)
    expected, slots = by_the_rule(name, arrays, (1, 2, 3))
    optimizer = stepped(sr.Optimizer(arrays, some, backend=backend), arrays, (1, 2, 3))
    assert_alike(arrays, expected, name)
    for place, slot in enumerate(some.slots):
        assert_alike(optimizer.slots[slot], [own[place] for own in slots], f"{name}: {slot}")


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_all_words_over_all_there_is(backend: str, dtype: str, odd: bool) -> None:
    """Of a tensor alone sums over all are those over the tensor."""
    for shape in [(300, 20), (4, 33, 5), (70,), (), (3, 0)]:
        arrays = starts(dtype, [shape])
        expected, slots = by_the_rule("mixed", arrays, (1, 2, 3), odd=odd)
        optimizer = stepped(sr.Optimizer(arrays, RULES["mixed"], backend=backend, odd=odd), arrays, (1, 2, 3))
        assert_alike(arrays, expected, str(shape))
        for place, slot in enumerate(RULES["mixed"].slots):
            assert_alike(optimizer.slots[slot], [slots[0][place]], f"{shape}: {slot}")


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("chunk", [1, 1_000, BLOCK + 1])
def test_chunks_and_threads_do_not_matter(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(3, 2 * BLOCK + 77), (2, 300, 20), (2, 0)]
    expected = starts("float32", shapes)
    stepped(sr.Optimizer(expected, RULES[name], backend="numpy"), expected, (1, 2))
    for threads in (1, 2):
        sr.set_num_threads(threads)
        arrays = starts("float32", shapes)
        with monkeypatch.context() as patch:
            patch.setattr(launch, "CHUNK", chunk)
            stepped(sr.Optimizer(arrays, RULES[name]), arrays, (1, 2))
        assert_alike(arrays, expected, name)


@given(
    st.lists(st.integers(0, 9) | st.sampled_from([1, 127, 128, 129, 130, 257]), max_size=3),
    st.sampled_from(sorted(ALONE)),
    st.sampled_from(["float32", "float64"]),
)
def test_any_shape(shape: list[int], name: str, dtype: str) -> None:
    arrays = starts(dtype, [tuple(shape[:3] if np.prod(shape) < 50_000 else shape[:1])])
    expected, _ = by_the_rule(name, arrays, (1, 2))
    for backend in ("numpy", "llvm"):
        found = [array.copy() for array in arrays]
        stepped(sr.Optimizer(found, RULES[name], backend=backend), found, (1, 2))
        assert_alike(found, expected, f"{backend} {shape}")


def test_the_papers_loop() -> None:
    rng = np.random.default_rng(3)
    x, gradients = rng.standard_normal((23, 17)), rng.standard_normal((5, 23, 17))
    expected = straight_factored(x.tolist(), gradients.tolist())
    optimizer = sr.Optimizer(x, RULES["factored"])
    for g in gradients:
        optimizer.step(g)
    np.testing.assert_allclose(x, expected, rtol=1e-12)


def test_a_vector_is_one_row_whose_moment_is_not_in_factors() -> None:
    """For it ``r / mean(r) * c`` is the average of squares itself."""
    x, g = np.ones(9), np.arange(1.0, 10.0)
    optimizer = sr.Optimizer(x, RULES["factored"])
    optimizer.step(g)
    assert optimizer.slots["r"].shape == (1,)
    assert_same_bits(optimizer.slots["c"], g * g + 1e-30, "c")
    np.testing.assert_allclose(x, 1 - 0.1 * np.ones(9), rtol=1e-15)
    assert "r: float64 a row, c: float64 a column" in optimizer.describe()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_strided_arrays_have_the_bits_of_their_copies(name: str, backend: str) -> None:
    shapes = [(300, 20), (6, 5, 4), (70,)]
    expected = starts("float32", shapes)
    whole = stepped(sr.Optimizer(expected, RULES[name], backend=backend), expected, (1, 2))
    fortran = [np.asarray(array, order="F") for array in starts("float32", shapes)]
    gaps = [np.repeat(array, 2, axis=-1)[..., ::2] for array in starts("float32", shapes)]
    for arrays in (fortran, gaps):
        optimizer = stepped(sr.Optimizer(arrays, RULES[name], backend=backend), arrays, (1, 2))
        assert_alike(arrays, expected, name)
        for slot in RULES[name].vectors:
            assert_alike(optimizer.slots[slot], whole.slots[slot], slot)


@pytest.mark.parametrize("weights", ["nearest", "stochastic", "split24", "split32"])
@pytest.mark.parametrize("name", ["factored", "confident"])
def test_16_bits_of_numpy_are_those_of_the_referee(name: str, weights: str) -> None:
    shapes = [(300, 20), (2, 3, 130), (5,), (2, BLOCK + 3)]
    found = []
    for backend in ("llvm", "numpy"):
        arrays = starts("float16", shapes)
        options: dict[str, Any] = {} if weights == "nearest" else {"weights": weights}
        stepped(sr.Optimizer(arrays, RULES[name], backend=backend, **options), arrays, (1, 2))
        found.append(arrays)
    assert_alike(found[0], found[1], name)


def test_slots_of_elements_have_formats_and_those_of_rows_none() -> None:
    found = []
    for backend in ("llvm", "numpy"):
        arrays = starts("float32", [(300, 20), (5000,)])
        options: dict[str, Any] = {"states": "bfloat16", "backend": backend}
        optimizer = stepped(sr.Optimizer(arrays, RULES["by_neuron"], **options), arrays, (1, 2))
        assert "m: bfloat16, v: float32 a row" in optimizer.describe()
        found.append(arrays)
    assert_alike(found[0], found[1], "bfloat16")
    with pytest.raises(
        sr.errors.HyperparameterError, match="'v', which is not kept for each element and has no format"
    ):
        sr.Optimizer(arrays, RULES["by_neuron"], states={"v": "bfloat16"})


@pytest.mark.parametrize("name", RULES)
def test_a_step_that_is_read_has_the_same_bits(name: str) -> None:
    arrays, expected = starts("float32"), starts("float32")
    stepped(sr.Optimizer(expected, RULES[name]), expected, (1, 2, 3))
    optimizer = sr.Optimizer(arrays, RULES[name])
    monitor = sr.Monitor(optimizer, every=1)
    stepped(optimizer, arrays, (1, 2, 3))
    assert_alike(arrays, expected, name)
    assert len(monitor.latest) == len(arrays)


@pytest.mark.parametrize("name", ALONE)
def test_many_tensors_have_the_bits_of_each_alone(name: str) -> None:
    shapes = [(4, 5), (4, 5), (2, 3, 5), (4, 5), (2, 3, 5), (5,), (5,)] * 5
    arrays, alone = starts("float32", shapes), starts("float32", shapes)
    for array, g in zip(alone, grads_of(1, alone), strict=True):
        sr.Optimizer([array], RULES[name]).step([g])
    stepped(sr.Optimizer(arrays, RULES[name]), arrays, (1,))
    assert_alike(arrays, alone, name)


def test_guards_act_on_gradients_before_they_are_summed() -> None:
    guarded, plain = starts("float32"), starts("float32")
    optimizer = sr.Optimizer(guarded, RULES["factored"], clip_value=0.5, clip_norm=2.0)
    other = sr.Optimizer(plain, RULES["factored"])
    for t in (1, 2):
        grads = [np.clip(g, np.float32(-0.5), np.float32(0.5)) for g in grads_of(t, plain)]
        length = np.sqrt(sum(np.sum(g.astype(np.float64) ** 2) for g in grads))
        optimizer.step(grads_of(t, guarded))
        other.step([g * np.float32(min(1.0, 2.0 / (length + 1e-6))) for g in grads])
    for one, two in zip(guarded, plain, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_numbers_that_are_not_finite_are_those_of_the_referee(bad: float) -> None:
    found = []
    for backend in ("llvm", "numpy"):
        arrays = starts("float32", [(200, 30), (2, 3, 4)])
        optimizer = sr.Optimizer(arrays, RULES["mixed"], backend=backend)
        for t in (1, 2):
            grads = grads_of(t, arrays)
            grads[0][150, 7] = bad
            optimizer.step(grads)
        found.append([*arrays, *optimizer.slots["r"], *optimizer.slots["c"]])
    assert_alike(found[0], found[1], str(bad))


def test_where_a_number_has_no_value_nothing_moves() -> None:
    @sr.rule
    def divides(theta: Any, g: Any, r: sr.PerRow, *, lr: float = 0.1) -> Any:
        r = r + sr.mean(g, over="row")
        return theta - lr / sr.total(r) * g, r

    x = np.ones((3, 4))
    optimizer = sr.Optimizer(x, divides)
    optimizer.step(np.ones((3, 4)))
    before = x.copy(), optimizer.slots["r"].copy()
    with pytest.raises(sr.errors.HyperparameterError, match="division by zero"):
        optimizer.step(-np.ones((3, 4)))
    assert_alike([x, optimizer.slots["r"]], [*before], "after")
    assert optimizer.t == 1


# PyTorch.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_torch_has_numpys_bits(name: str, dtype: str) -> None:
    arrays, some = starts(dtype), RULES[name]
    params = params_of(arrays)
    mine, theirs = sr.Optimizer(arrays, some), door.Optimizer(params, some)
    stepped(mine, arrays, (1, 2, 3))
    torch_stepped(theirs, params, (1, 2, 3))
    assert_alike([param.detach().numpy() for param in params], arrays, name)
    for slot in some.vectors:
        assert_alike([theirs.state[param][slot].numpy() for param in params], mine.slots[slot], slot)


def test_the_slots_of_stacks_have_the_shapes_of_torchs_adafactor() -> None:
    param = torch.nn.Parameter(torch.ones(4, 3, 5))
    param.grad = torch.ones_like(param)
    theirs, mine = torch.optim.Adafactor([param]), door.Optimizer([param], RULES["factored_last"])
    theirs.step()
    mine.step()
    state = mine.state[param]
    assert state["r"].shape == theirs.state[param]["row_var"].shape == (4, 3, 1)
    assert state["c"].shape == theirs.state[param]["col_var"].shape == (4, 1, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_of_torch_step(dtype: torch.dtype) -> None:
    wide = starts("float32", [(20, 30), (70,)])
    narrow = [torch.nn.Parameter(torch.from_numpy(a).to(dtype)) for a in wide]
    exact = [array.float().numpy().copy() for array in map(torch.Tensor.detach, narrow)]
    optimizer, other = door.Optimizer(narrow, RULES["by_neuron"]), sr.Optimizer(exact, RULES["by_neuron"])
    grads = [torch.from_numpy(g).to(dtype) for g in grads_of(1, wide)]
    for param, g in zip(narrow, grads, strict=True):
        param.grad = g
    optimizer.step()
    other.step([g.float().numpy() for g in grads])
    for param, array in zip(narrow, exact, strict=True):
        assert torch.equal(param.detach(), torch.from_numpy(array).to(dtype))


def test_gradients_that_come_and_go() -> None:
    shapes = [(4, 5), (4, 5), (3,)]
    params, alone = params_of(starts("float64", shapes)), params_of(starts("float64", shapes))
    optimizer = door.Optimizer(params, RULES["factored"])
    others = [door.Optimizer([param], RULES["factored"]) for param in alone]
    for t in range(1, 9):
        for place, (param, one, own) in enumerate(zip(params, alone, others, strict=True)):
            is_there = place == 0 or t % 3 != place % 3
            g = torch.full_like(param, 0.5 + t + place) if is_there else None
            param.grad, one.grad = g, g
            if is_there:
                own.step()
        optimizer.step()
    for param, one, own in zip(params, alone, others, strict=True):
        assert torch.equal(param, one)
        assert torch.equal(optimizer.state[param]["r"], own.state[one]["r"])


def test_steps_by_torch_operations() -> None:
    for name in ("factored_last", "by_neuron"):
        arrays = starts("float64", [(4, 3, 5), (6,), ()])
        pairs = params_of(arrays), params_of(arrays)
        by_kernels, by_torch = (door.Optimizer(params, RULES[name]) for params in pairs)
        for t in (1, 2, 3):
            torch_stepped(by_kernels, pairs[0], (t,))
            with _Counter():  # type: ignore[no-untyped-call]
                torch_stepped(by_torch, pairs[1], (t,))
        for one, other in zip(*pairs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
            for slot in RULES[name].vectors:
                kept = by_kernels.state[one][slot], by_torch.state[other][slot]
                torch.testing.assert_close(kept[0], kept[1], rtol=1e-12, atol=0)


class _Counter(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def test_what_has_no_rows_and_columns_is_refused() -> None:
    param = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(sr.errors.StructureError, match=r"rule 'centred' sees the rows .* \(4, 3\) is complex"):
        door.Optimizer([param], RULES["centred"]).step()
    assert (param == 1).all()


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
        for slot in some.vectors:
            assert_alike(second.slots[slot], whole.slots[slot], slot)
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
    for slot in some.vectors:
        assert_alike([again.state[param][slot].numpy() for param in params], whole.slots[slot], slot)


def test_states_of_other_shapes_are_refused() -> None:
    """Seen first, a stack of matrices has other rows than seen last."""
    array = np.ones((4, 3, 5))
    first, last = sr.Optimizer([array], RULES["factored"]), sr.Optimizer([array], RULES["factored_last"])
    state = first.state_dict()
    with pytest.raises(sr.errors.StateError):
        last.load_state_dict(state)
    state["slots"]["params[0]"]["r"] = np.zeros((4, 3, 1))
    with pytest.raises(sr.errors.StateError, match=r"slot r is float64 of shape \(4, 3, 1\), expected .* \(4, 1, 1\)"):
        first.load_state_dict(state)
