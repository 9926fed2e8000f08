"""Any layout, the same bits: PyTorch parameters and gradients wherever they lie, against plain copies."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

import steprule.torch
from tests.cases import wild

Shape = tuple[int, ...]

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
RULES = ["sgd", "momentum", "adam", "nadam", "rprop"]
ROOTS = {"adam", "nadam"}
"""Rules that take a root: torch's own is not rounded correctly everywhere (MKL's on AMD's processors)."""
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@pytest.fixture(autouse=True)
def _torch_threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor of some shape lie, in elements from the start of its memory."""

    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def end(self) -> int:
        """One past the last element."""
        if 0 in self.shape:
            return self.offset
        return self.offset + 1 + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))

    def of(self, memory: torch.Tensor) -> torch.Tensor:
        return memory.as_strided(self.shape, self.strides, self.offset)


def dense(shape: Shape, order: Sequence[int] = (), step: int = 1, pad: int = 0, offset: int = 0) -> Layout:
    """Return axes in that order from the outermost in, ``step`` apart, with ``pad`` unused after each but the first."""
    strides, stride = [0] * len(shape), step
    for axis in reversed(order or range(len(shape))):
        strides[axis] = stride
        stride *= max(shape[axis], 1)
        stride += pad
    return Layout(shape, tuple(strides), offset)


def channels_last(shape: Shape) -> list[int]:
    return [0, *range(2, len(shape)), 1] if len(shape) > 1 else list(range(len(shape)))


@st.composite
def layouts(draw: st.DrawFn, shape: Shape) -> Layout:
    """Layouts in which no two elements share memory."""
    axes = range(len(shape))
    order = draw(st.sampled_from([list(axes), list(axes)[::-1], channels_last(shape)]) | st.permutations(axes))
    step, pad, offset = (
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.sampled_from([0, 0, 1, 5])),
        draw(st.integers(0, 9)),
    )
    layout = dense(shape, order, step, pad, offset)
    odd = draw(st.sampled_from([None, None, 0, 7]))  # axes that do not move may have any stride
    strides = [odd if n == 1 and odd is not None else stride for n, stride in zip(shape, layout.strides, strict=True)]
    return Layout(shape, tuple(strides), offset)


@st.composite
def gradient_layouts(draw: st.DrawFn, shape: Shape) -> Layout:
    """Layouts, also those in which an axis is expanded: its elements are all the same one."""
    layout = draw(layouts(shape))
    expanded = draw(st.none() | st.sets(st.sampled_from(range(len(shape))))) if shape else None
    strides = [0 if axis in (expanded or ()) else stride for axis, stride in enumerate(layout.strides)]
    return Layout(shape, tuple(strides), layout.offset)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 7]), max_size=5).map(tuple).filter(lambda s: math.prod(s) <= 600)


def memory(rng: np.random.Generator, elements: int, dtype: torch.dtype, *, odd: bool = False) -> torch.Tensor:
    """Return a flat tensor of wild numbers in memory of its own, at an odd address if so asked.

    Complex ones lie evenly: torch's own copies of others end the process.
    """
    home = bytearray(elements * dtype.itemsize + 17)
    start = torch.frombuffer(home, dtype=torch.uint8).data_ptr()
    flat = (
        torch.frombuffer(home, dtype=dtype, offset=-start % 16 + (odd and not dtype.is_complex), count=elements)
        if elements
        else None
    )
    if flat is None:
        return torch.empty(0, dtype=dtype)
    pairs = 2 if dtype.is_complex else 1
    with np.errstate(over="ignore"):
        values = torch.from_numpy(wild(rng, elements * pairs, "float32").reshape(elements, pairs))
    return flat.copy_(torch.view_as_complex(values) if dtype.is_complex else values[:, 0])


def place(layout: Layout, rng: np.random.Generator, dtype: torch.dtype, *, odd: bool = False) -> torch.Tensor:
    return layout.of(memory(rng, layout.end + 3, dtype, odd=odd))


def settle(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Fill a parameter with numbers of ordinary size, in which steps show."""
    values = torch.from_numpy(np.array(rng.standard_normal(tensor.shape)))
    return tensor.copy_(torch.complex(values, -2 * values) if tensor.is_complex() else values)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous copy in memory of its own."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bits of every element, all NaNs as one."""
    values = plain(tensor)
    if values.is_complex():
        values = torch.view_as_real(values)
    return torch.where(values.isnan(), -1, values.view(INTEGERS[values.element_size()]))


def raw(tensor: torch.Tensor) -> bytes:
    """Return all of the memory that a tensor lies in, not only its elements."""
    whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    return whole.numpy().tobytes()


def assert_same(mine: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert mine.dtype == expected.dtype, what
    assert mine.shape == expected.shape, what
    assert torch.equal(bits(mine), bits(expected)), f"{what}: {mine} is not {expected}"


def assert_same_state(mine: dict[str, Any], expected: dict[str, Any]) -> None:
    assert mine.keys() == expected.keys()
    for name, slot in mine.items():
        assert_same(slot, expected[name], name)


class Pair:
    """An optimizer of some parameters, and one of plain copies of them that takes the same steps."""

    def __init__(self, tensors: Sequence[torch.Tensor], rule: str, **options: Any) -> None:
        self.params = [torch.nn.Parameter(tensor) for tensor in tensors]
        self.plain = [torch.nn.Parameter(plain(tensor)) for tensor in tensors]
        self.optimizer = steprule.torch.Optimizer(self.params, rule=rule, **options)
        self.expected = steprule.torch.Optimizer(self.plain, rule=rule, **options)

    def step(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """Take a step and compare every bit of parameters and states."""
        for twin, g in zip(self.plain, gradients, strict=True):
            twin.grad = None if g is None else plain(g)
        for param, g in zip(self.params, gradients, strict=True):
            param.grad = g
        places = [(param.data_ptr(), param.stride()) for param in self.params]
        self.optimizer.step()
        self.expected.step()
        assert places == [(param.data_ptr(), param.stride()) for param in self.params]
        for param, twin in zip(self.params, self.plain, strict=True):
            assert_same(param, twin, f"parameter of strides {param.stride()}")
            assert_same_state(self.optimizer.state[param], self.expected.state[twin])


@st.composite
def parameters(draw: st.DrawFn, rng: np.random.Generator, dtype: torch.dtype, rule: str) -> list[torch.Tensor]:
    """Disjoint parameters, each in memory of its own or all in one.

    Those that are negated by a bit are stepped by torch operations, whose bits are those of kernels without a root.
    """
    found = [draw(layouts(draw(SHAPES))) for _ in range(draw(st.integers(1, 3)))]
    odd = draw(st.sampled_from([False, False, True]))
    negated = [rule not in ROOTS and draw(st.sampled_from([False] * 5 + [True])) for _ in found]
    if not draw(st.booleans()):
        homes = [place(layout, rng, dtype, odd=odd) for layout in found]
        return [settle(torch._neg_view(x) if n else x, rng) for x, n in zip(homes, negated, strict=True)]
    starts = np.cumsum([0, *(layout.end for layout in found)]).tolist()
    home = memory(rng, starts[-1] + 5, dtype, odd=odd)
    moved = [Layout(x.shape, x.strides, x.offset + start) for x, start in zip(found, starts, strict=False)]
    return [settle(layout.of(home), rng) for layout in moved]


@st.composite
def gradients(draw: st.DrawFn, rng: np.random.Generator, shape: Shape, dtype: torch.dtype) -> torch.Tensor | None:
    """A gradient in any layout, also conjugated or negated by a bit; or none."""
    if draw(st.sampled_from([False] * 5 + [True])):
        return None
    g = place(draw(gradient_layouts(shape)), rng, dtype, odd=draw(st.sampled_from([False, False, True])))
    if dtype.is_complex and draw(st.booleans()):
        g = g.conj()
    return torch._neg_view(g) if draw(st.sampled_from([False, False, True])) else g


def outside(tensors: Sequence[torch.Tensor]) -> list[bytes]:
    """Return the memory of tensors with their own elements blanked."""
    blanked = []
    for tensor in tensors:
        storage = torch.empty(0, dtype=tensor.dtype).set_(copy.deepcopy(tensor.untyped_storage()))
        for other in tensors:
            if other.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
                storage.as_strided(other.shape, other.stride(), other.storage_offset()).zero_()
        blanked.append(raw(storage))
    return blanked


@given(seed=st.integers(0, 999), dtype=st.sampled_from(DTYPES), rule=st.sampled_from(RULES), data=st.data())
def test_any_layouts_give_the_bits_of_plain_ones(seed: int, dtype: torch.dtype, rule: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    tensors = data.draw(parameters(rng, dtype, rule))
    pair = Pair(tensors, rule)
    around = outside(tensors)
    for _ in range(3):
        drawn = [data.draw(gradients(rng, tuple(tensor.shape), dtype)) for tensor in tensors]
        before = [b"" if g is None else raw(g) for g in drawn]
        pair.step(drawn)
        assert before == [b"" if g is None else raw(g) for g in drawn]
        assert around == outside(tensors)


def test_one_step_takes_every_layout_and_type_at_once() -> None:
    rng = np.random.default_rng(5)
    shape = (6, 5, 4, 3)
    found = [
        dense(shape),
        dense(shape, [3, 2, 1, 0]),
        dense(shape, channels_last(shape)),
        dense(shape, step=2),
        dense(shape, pad=3),
        dense(shape, [1, 0, 2, 3], 3, 1, 7),
    ]
    places = [(layout, dtype) for layout in found for dtype in DTYPES]
    pair = Pair([settle(place(layout, rng, dtype), rng) for layout, dtype in places], "adam")
    for turn in range(len(found)):
        elsewhere = [found[(i + turn) % len(found)] for i in range(len(places))]
        pair.step([place(layout, rng, dtype) for layout, (_, dtype) in zip(elsewhere, places, strict=True)])


@pytest.mark.parametrize("threads", [1, 2])
def test_large_tensors_in_other_orders(threads: int) -> None:
    torch.set_num_threads(threads)
    rng = np.random.default_rng(6)
    shape = (64, 33, 5, 9)
    tensors = [
        settle(place(dense(shape, order, step), rng, torch.float32), rng)
        for order in ([0, 1, 2, 3], channels_last(shape), [3, 1, 0, 2])
        for step in (1, 2)
    ]
    pair = Pair(tensors, "adam")
    for order in ([0, 1, 2, 3], channels_last(shape), [2, 0, 3, 1]):
        pair.step([place(dense(shape, order), rng, torch.float32) for _ in tensors])


def test_a_transposed_gradient_where_fused_adam_walks_memory() -> None:
    # torch 2.13's fused CPU Adam walks a gradient as if it had the parameter's strides.
    pair = Pair([torch.zeros(3, 4)], "adam")
    g = torch.arange(1.0, 13.0).reshape(4, 3).t()
    pair.step([g])
    assert_same(pair.optimizer.state[pair.params[0]]["m"], (1 - 0.9) * g, "m")


def test_a_strided_parameter_where_fused_adam_walks_memory() -> None:
    # torch 2.13's fused CPU Adam writes the first numel elements from the parameter's address on.
    home = torch.zeros(3, 8)
    pair = Pair([home[:, ::2]], "sgd", lr=1.0)
    pair.step([torch.ones(3, 4)])
    assert torch.equal(home, torch.tensor([-1.0, 0.0]).repeat(3, 4))


def test_a_parameter_negated_by_a_bit() -> None:
    home = torch.tensor([1.0, -2.0, 3.0])
    pair = Pair([torch._neg_view(home)], "sgd", lr=1.0)
    pair.step([torch.ones(3)])
    assert home.tolist() == [2.0, -1.0, 4.0]  # the parameter goes from -1, 2, -3 to -2, 1, -4


@pytest.mark.parametrize("n", [7, 30_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_that_interleave_in_one_memory(dtype: torch.dtype, n: int) -> None:
    rng = np.random.default_rng(7)
    home = memory(rng, 4 * n, dtype)
    untouched = plain(home[3::4])
    pair = Pair([settle(home[i::4], rng) for i in range(3)], "momentum")
    for _ in range(3):
        pair.step([memory(rng, n, dtype) for _ in range(3)])
    assert_same(home[3::4], untouched, "the memory between")


def test_gradients_come_go_and_move_from_step_to_step() -> None:
    rng = np.random.default_rng(8)
    shape = (5, 4)
    pair = Pair([settle(torch.zeros(shape), rng) for _ in range(3)], "nadam")
    kinds = [dense(shape), dense(shape, [1, 0]), dense(shape, step=2), None, Layout(shape, (0, 1)), dense(shape)]
    for turn in range(12):
        found = [kinds[(turn * (i + 1)) % len(kinds)] for i in range(3)]
        pair.step([None if layout is None else place(layout, rng, torch.float32) for layout in found])
    counts = [int(pair.optimizer.state[param]["step"]) for param in pair.params]
    assert counts == [10, 12, 6]


def windows(elements: int, n: int) -> st.SearchStrategy[Layout]:
    """Layouts of ``n`` elements within memory of that many."""

    def within(step: int) -> st.SearchStrategy[Layout]:
        return st.integers(0, elements - (n - 1) * step - 1).map(lambda start: Layout((n,), (step,), start))

    return st.integers(0, (elements - 1) // max(n - 1, 1)).flatmap(within)


@given(seed=st.integers(0, 999), rule=st.sampled_from(RULES), n=st.integers(1, 40), data=st.data())
def test_gradients_that_lie_in_parameters_or_slots_are_as_good_as_copies(
    seed: int, rule: str, n: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    home = torch.from_numpy(rng.standard_normal(3 * n))
    pair = Pair([home[:n], home[n : 2 * n], home[2 * n :]], rule)
    pair.step([memory(rng, n, torch.float64) for _ in pair.params])
    slots = [
        slot for param in pair.params for slot in pair.optimizer.state[param].values() if slot.shape == (n,) and n > 1
    ]
    for _ in range(2):
        crossing = windows(3 * n, n).map(lambda layout: layout.of(home))
        pair.step([data.draw(st.sampled_from(slots) | crossing if slots else crossing) for _ in pair.params])


@pytest.mark.parametrize("n", [2, 100_000])
def test_the_gradient_of_a_product_is_the_other_factor(n: int) -> None:
    x, y = torch.arange(1.0, n + 1), torch.full((n,), 10.0)
    expected = [x - 0.5 * y, y - 0.5 * x]
    params = [torch.nn.Parameter(x), torch.nn.Parameter(y)]
    torch.autograd.backward((params[0] * params[1]).sum())
    params[0].grad, params[1].grad = params[1].data, params[0].data
    steprule.torch.Optimizer(params, rule="sgd", lr=0.5).step()
    assert torch.equal(x, expected[0])
    assert torch.equal(y, expected[1])


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("negated", [(0,), (1,), (0, 1)], ids=str)
def test_crossing_gradients_of_parameters_negated_by_a_bit(negated: tuple[int, ...], differentiable: bool) -> None:
    numbers = [torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])]
    params = [torch._neg_view(-x) if i in negated else x for i, x in enumerate(numbers)]
    params[0].grad, params[1].grad = params[1], params[0]
    steprule.torch.Optimizer(params, rule="sgd", lr=0.5, differentiable=differentiable).step()
    assert [param.tolist() for param in params] == [[-4.0, -8.0], [9.5, 19.0]]


def test_one_gradient_of_several_parameters() -> None:
    g = torch.tensor([1.0, 2.0, 3.0])
    Pair([torch.zeros(3), torch.ones(3), torch.zeros(6)[::2]], "adam").step([g, g, g])


class InTurn:
    """Parameters that share memory, beside copies that share theirs and are stepped one after the other."""

    def __init__(self, home: torch.Tensor, views: Sequence[Layout], rule: str) -> None:
        self.mine, self.theirs = home.clone(), home.clone()
        self.params = [torch.nn.Parameter(view.of(self.mine)) for view in views]
        self.twins = [torch.nn.Parameter(view.of(self.theirs)) for view in views]
        self.optimizer = steprule.torch.Optimizer(self.params, rule=rule)
        self.singles = [steprule.torch.Optimizer([twin], rule=rule) for twin in self.twins]

    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        for param, twin, single, g in zip(self.params, self.twins, self.singles, gradients, strict=True):
            param.grad, twin.grad = g, g.clone()
            single.step()
        self.optimizer.step()
        assert_same(self.mine, self.theirs, "the shared memory")
        for param, twin, single in zip(self.params, self.twins, self.singles, strict=True):
            assert_same_state(self.optimizer.state[param], single.state[twin])


@given(seed=st.integers(0, 999), rule=st.sampled_from(RULES), data=st.data())
def test_parameters_that_share_memory_step_one_after_the_other(seed: int, rule: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    home = torch.from_numpy(rng.standard_normal(24))
    disjoint_in_itself = st.integers(1, 12).flatmap(
        lambda n: windows(24, n).filter(lambda x: n == 1 or x.strides > (0,))
    )
    views = data.draw(st.lists(disjoint_in_itself, min_size=2, max_size=4))
    shared = InTurn(home, views, rule)
    for _ in range(3):
        shared.step([memory(rng, view.shape[0], torch.float64) for view in views])


@pytest.mark.parametrize("shift", [0, 1, 40_000])
def test_large_parameters_that_share_memory_step_one_after_the_other(shift: int) -> None:
    torch.set_num_threads(2)
    rng = np.random.default_rng(9)
    n = 100_000
    home = torch.from_numpy(rng.standard_normal(n + shift))
    views = [Layout((n,), (1,)), Layout((n,), (1,), shift), Layout((10,), (1,), n // 2)]
    shared = InTurn(home, views, "adam")
    for _ in range(3):
        shared.step([memory(rng, view.shape[0], torch.float64) for view in views])


def test_a_complex_parameter_and_its_real_view_step_one_after_the_other() -> None:
    homes = [torch.complex(torch.arange(1.0, 6.0), torch.ones(5)) for _ in range(2)]
    params, twins = [[torch.nn.Parameter(home), torch.nn.Parameter(torch.view_as_real(home))] for home in homes]
    for param in (*params, *twins):
        param.grad = param.detach().clone()
    steprule.torch.Optimizer(params, rule="momentum", lr=0.3).step()
    for twin in twins:
        steprule.torch.Optimizer([twin], rule="momentum", lr=0.3).step()
    assert_same(homes[0], homes[1], "the shared memory")


def _expanded(view: torch.Tensor, how: str) -> torch.Tensor:
    return torch._neg_view(view) if how == "negated by a bit" else view


EXPANDED = [
    torch.zeros(1, 3).expand(4, 3),
    torch.zeros(()).expand(7),
    torch.zeros(3, 2, 1).expand(3, 2, 5).permute(2, 0, 1),
]


@pytest.mark.parametrize("how", ["by its kernel", "negated by a bit", "differentiable"])
@pytest.mark.parametrize("view", EXPANDED, ids=lambda tensor: str(tensor.stride()))
@pytest.mark.parametrize("seasoned", [False, True], ids=["first step", "second step"])
def test_a_parameter_that_overlaps_itself_fails_and_nothing_changes(
    view: torch.Tensor, how: str, seasoned: bool
) -> None:
    params = [torch.ones(5), _expanded(view.clone(), how), torch.ones(5)]
    optimizer = steprule.torch.Optimizer(params, rule="adam", differentiable=how == "differentiable")
    for param in params:
        param.grad = torch.ones(param.shape)
    if seasoned:
        optimizer.step()
    params[1].data = _expanded(view, how)
    before = [(param, plain(param), {k: plain(v) for k, v in optimizer.state[param].items()}) for param in params]
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory"):
        optimizer.step()
    for param, value, state in before:
        assert_same(param, value, "parameter")
        assert_same_state(optimizer.state[param], state)
