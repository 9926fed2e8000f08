"""Formats with groups beside rows and columns: loops that keep every number, and every way to step."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
import steprule.torch as door
from steprule.backends import c, javascript, triton
from steprule.compile import Plan
from steprule.engine import plan
from steprule.formats import FORMATS, Storage, stream
from steprule.language.matrices import ROWS
from steprule.language.sums import BLOCK
from steprule.launch import machine
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from steprule.runtime import launch
from tests.cases import Array, assert_same_bits, flushed
from tests.formats.test_kernels import Loops
from tests.launch.row_rules import RULES

SOME = {own.name: own for own in (*RULES.values(), came, adam_mini) if own.element_slots}
ALONE = [name for name in SOME if name != "mixed"]
STATES = ["8bit", "4bit"]
CROSSING = [(4, 3, 20), (2, 3, 7, 130), (6, 5, 1), (1, 4, 20)]
"""Where a group has elements of several rows of the last two axes."""
SHAPES = [*CROSSING, (2, 3, 256), (5, 1, 70), (20, 300), (9,), (300,), (1, 9), (9, 1), (0, 3), (3, 0), ()]
LARGE = [(2, 2 * BLOCK + 77), (2 * BLOCK + 5,), (2 * ROWS + 1, 130)]


def starts(shapes: Sequence[tuple[int, ...]], dtype: str = "float32") -> list[Any]:
    rng = np.random.default_rng(7)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def grads_of(t: int, arrays: Sequence[Array]) -> list[Any]:
    rng = np.random.default_rng([11, t])
    return [np.asarray(rng.standard_normal(x.shape) * 10.0 ** rng.uniform(-2, 2), x.dtype) for x in arrays]


def made(arrays: list[Any], name: str, states: str, **options: Any) -> Any:
    return sr.Optimizer(arrays, SOME[name], states=states, min_elements=0, seed=3, **options)


def stepped(optimizer: Any, arrays: Sequence[Array], steps: Sequence[int]) -> Any:
    for t in steps:
        optimizer.step(grads_of(t, arrays))
    return optimizer


def planes_of(optimizer: Any) -> list[dict[str, Array]]:
    return list(optimizer.state_dict()["slots"].values())


def assert_alike(found: Sequence[Array], optimizer: Any, expected: Sequence[Array], other: Any, what: str) -> None:
    for one, two in zip(found, expected, strict=True):
        assert_same_bits(np.asarray(one), np.asarray(two), f"{what} {np.shape(one)}")
    for ours, theirs in zip(planes_of(optimizer), planes_of(other), strict=True):
        assert ours.keys() == theirs.keys()
        for plane, array in ours.items():
            assert_same_bits(array, theirs[plane], f"{what} {plane}")


class MatrixLoops(Loops):
    """A tensor stepped by the rule called on it, whose numbers of rows and columns are kept as they are."""

    def _keep_slot(self, name: str, x: Array, draws: list[Any]) -> None:
        if name not in self.rule.vectors:
            super()._keep_slot(name, x, draws)
            return
        self.planes[name] = flushed(x[tuple(slice(n) for n in self.planes[name].shape)])


def loops_of(name: str, array: Array, states: str, planes: dict[str, Array], place: int) -> MatrixLoops:
    """Return loops that begin as an optimizer's parameter does, given the planes of its slots at first."""
    some = SOME[name]
    slots = tuple((slot, states) for slot in some.element_slots)
    own = {some.parameter: array, some.gradient: np.zeros_like(array)}
    given: Any = SimpleNamespace(
        rule=some,
        storage=Storage(FORMATS["float32"], "nearest", slots),
        planes={**own, **{plane: np.asarray(x) for plane, x in planes.items()}},
        scalars={},
        shape=array.shape,
        values=some.resolve({}),
        seed=3,
        first=0,
        stream=stream(place),
    )
    return MatrixLoops(given)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("name", ALONE)
def test_steps_are_the_loops(name: str, states: str, backend: str) -> None:
    arrays = starts([(2, 2, 70), (2, 1, 128), (3, 131), (131,), (1, 3), (3, 1), ()])
    optimizer = made(arrays, name, states, backend=backend)
    loops = [
        loops_of(name, array, states, planes, place)
        for place, (array, planes) in enumerate(zip(arrays, planes_of(optimizer), strict=True))
    ]
    for t in (1, 2, 3):
        gradients = grads_of(t, arrays)
        optimizer.step(gradients)
        for own, g, array, planes in zip(loops, gradients, arrays, planes_of(optimizer), strict=True):
            own.step(g)
            assert_same_bits(array, own.planes[own.rule.parameter], f"{array.shape} {t}")
            for plane, values in planes.items():
                assert_same_bits(values, own.planes[plane], f"{array.shape} {plane} {t}")


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("name", SOME)
def test_machine_code_is_the_referee(name: str, states: str, threads: int) -> None:
    arrays, expected = starts(SHAPES + LARGE), starts(SHAPES + LARGE)
    mine = stepped(made(arrays, name, states), arrays, (1, 2, 3))
    theirs = stepped(made(expected, name, states, backend="numpy"), expected, (1, 2, 3))
    assert_alike(arrays, mine, expected, theirs, name)


@pytest.mark.parametrize("name", SOME)
def test_chunks_and_threads_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(3, BLOCK + 77), (300, 200), (2, 300, 128)]
    expected = starts(shapes)
    theirs = stepped(made(expected, name, "4bit"), expected, (1, 2))
    for threads, chunk in itertools.product((1, 2), (1, 1_000)):
        sr.set_num_threads(threads)
        arrays = starts(shapes)
        with monkeypatch.context() as patch:
            patch.setattr(launch, "CHUNK", chunk)
            mine = stepped(made(arrays, name, "4bit"), arrays, (1, 2))
        assert_alike(arrays, mine, expected, theirs, name)


@pytest.mark.parametrize("name", ["by_neuron", "came"])
def test_only_what_crosses_rows_is_stepped_by_numpy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code has everything else: a table of it is asked for those rows, and for no others."""
    found: list[tuple[int, ...]] = []
    table = machine.MachineCodeBackend.table

    def noted(self: Any, items: Any, commit: Any) -> Any:
        found.extend(item.row.shape for item in items)
        return table(self, items, commit)

    monkeypatch.setattr(machine.MachineCodeBackend, "table", noted)
    arrays = starts(SHAPES)
    stepped(made(arrays, name, "8bit"), arrays, (1,))
    stepped_here = {shape for shape in SHAPES if 0 not in shape}
    assert {shape for shape in found if 0 not in shape} == (
        stepped_here if name == "by_neuron" else stepped_here - {*CROSSING}
    )


def test_tables_say_what_is_stepped_how() -> None:
    arrays = starts([(4, 3, 20), (2, 3, 256), (300, 20), (300,), ()])
    params = [torch.nn.Parameter(torch.from_numpy(array)) for array in arrays]
    by_numpy, vectors = " (stepped by NumPy: groups cross rows)", " (one row)"
    for states, crosses in (("8bit", by_numpy), ("bfloat16", "")):
        for optimizer in (made(arrays, "came", states), door.Optimizer(params, came, states=states, min_elements=0)):
            lines = optimizer.describe().splitlines()[2:]
            slots = f"m: {states}, r: float32 a row, c: float32 a column, r_s: float32 a row, c_s: float32 a column"
            for line, note in zip(lines, (crosses, "", "", vectors, vectors), strict=True):
                assert f"{slots}{note}  " in line
    assert "(one row)" in sr.Optimizer(arrays, sr.centralized("sgd")).describe()
    assert "(one row)" not in sr.Optimizer(arrays, "adam").describe()


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rounded_parameters_and_other_layouts(dtype: str, states: str) -> None:
    options: dict[str, Any] = {"weights": "stochastic"} if dtype == "float16" else {}
    for name in ("by_neuron", "came"):
        found = []
        for backend in ("llvm", "numpy"):
            arrays = [np.asarray(x, order="F") for x in starts([(70, 40), (2, 3, 20), (2, 3, 128)], dtype)]
            optimizer = stepped(made(arrays, name, states, backend=backend, **options), arrays, (1, 2))
            found.append((arrays, optimizer))
        assert_alike(*found[0], *found[1], name)


@pytest.mark.parametrize("name", SOME)
def test_a_step_that_is_read_has_the_same_bits(name: str) -> None:
    arrays, expected = starts(SHAPES), starts(SHAPES)
    theirs = stepped(made(expected, name, "8bit"), expected, (1, 2))
    mine = made(arrays, name, "8bit")
    monitor = sr.Monitor(mine, every=1)
    stepped(mine, arrays, (1, 2))
    assert_alike(arrays, mine, expected, theirs, name)
    other = starts(SHAPES)
    optimizer = made(other, name, "8bit", backend="numpy")
    read = sr.Monitor(optimizer, every=1)
    stepped(optimizer, other, (1, 2))
    assert monitor.latest == read.latest


@pytest.mark.parametrize("how", ["dict", "file"])
@pytest.mark.parametrize("name", ["by_neuron", "came", "mixed"])
def test_a_run_goes_on_exactly(name: str, how: str, tmp_path: Path) -> None:
    expected = starts(SHAPES)
    whole = stepped(made(expected, name, "4bit"), expected, (1, 2, 3))
    arrays = starts(SHAPES)
    first = stepped(made(arrays, name, "4bit"), arrays, (1, 2))
    second = made(arrays, name, "4bit")
    if how == "dict":
        second.load_state_dict(first.state_dict())
    else:
        sr.save(tmp_path / "first", first)
        sr.load(tmp_path / "first", second)
    stepped(second, arrays, (3,))
    assert_alike(arrays, second, expected, whole, how)


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("name", SOME)
def test_torch_has_numpys_bits(name: str, states: str) -> None:
    arrays = starts(SHAPES)
    params = [torch.nn.Parameter(torch.from_numpy(array.copy())) for array in arrays]
    mine = made(arrays, name, states)
    theirs = door.Optimizer(params, SOME[name], states=states, min_elements=0, seed=3)
    for t in (1, 2, 3):
        gradients = grads_of(t, arrays)
        mine.step(gradients)
        for param, g in zip(params, gradients, strict=True):
            param.grad = torch.from_numpy(g)
        theirs.step()
    for param, array, planes in zip(params, arrays, planes_of(mine), strict=True):
        assert_same_bits(param.detach().numpy(), array, name)
        for plane, values in planes.items():
            slot, _, part = plane.partition(".")
            kept = f"{slot}_{states}" if slot in SOME[name].element_slots and not part else plane.replace(".", "_")
            assert_same_bits(np.asarray(theirs.state[param][kept]), values, plane)


@pytest.mark.parametrize("target", ["c", "javascript", "triton"])
@pytest.mark.parametrize("states", STATES)
def test_targets_without_such_groups_say_so(target: str, states: str) -> None:
    emit: dict[str, Callable[[Plan], str]] = {"javascript": javascript.emit, "triton": triton.emit}
    emit["c"] = functools.partial(c.emit, name="step")
    some = SOME["came"]
    storage = Storage(FORMATS["float32"], "nearest", (("m", states),))
    with pytest.raises(sr.errors.TargetError, match="rows and columns"):
        emit[target](plan(some, some.variant(some.resolve({})), storage, rides=False))
