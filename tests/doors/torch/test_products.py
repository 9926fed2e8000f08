"""torch's products in batches: how far from the exact polar factor they are, in each type, and where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steprule.doors.torch import products
from steprule.doors.torch.products import TorchProducts, has_bfloat16
from steprule.language.newton_schulz import gram_room, iterate
from steprule.language.polar import Polar

JORDAN = Polar(5, "jordan", 1, 1e-7).resolved({})
EXPRESS = Polar(12, "polar_express", 1, 1e-7).resolved({})

Array = NDArray[Any]


def stack_of(shape: tuple[int, int, int], kind: Any, least: float = 0.1) -> tuple[Array, Array]:
    """Return matrices with singular values from ``least`` to 1, and their polar factors, in float64."""
    random = np.random.default_rng(4)
    u, _, v = np.linalg.svd(random.standard_normal(shape), full_matrices=False)
    values = np.linspace(least, 1, min(shape[1:]))
    return ((u * values) @ v).astype(kind), u @ v


def multiplied(stack: Array, iteration: Any, library: TorchProducts) -> Array:
    count, rows, columns = stack.shape
    found = stack.copy()
    library.iterate(found, iteration, np.empty(library.room(count, rows, columns), stack.dtype))
    return found


@pytest.mark.parametrize("shape", [(3, 24, 40), (2, 40, 24), (1, 16, 16), (5, 1, 9), (4, 9, 1)])
@pytest.mark.parametrize(
    ("kind", "in_bfloat16", "bound"), [(np.float64, None, 1e-12), (np.float32, False, 2e-6), (np.float32, True, 0.03)]
)
def test_the_distance_from_the_exact_polar_factor(
    shape: Any, kind: Any, in_bfloat16: bool | None, bound: float
) -> None:
    """Of every element, where singular values are at least a tenth of the largest, and steps enough."""
    stack, exact = stack_of(shape, kind)
    assert np.abs(multiplied(stack, EXPRESS, TorchProducts(in_bfloat16)) - exact).max() < bound


@pytest.mark.parametrize(("in_bfloat16", "bound"), [(False, 1e-5), (True, 0.05)])
def test_five_steps_of_the_quintic_are_those_of_numpy(in_bfloat16: bool, bound: float) -> None:
    stack, exact = stack_of((3, 24, 40), np.float32)
    found, expected = multiplied(stack, JORDAN, TorchProducts(in_bfloat16)), stack.copy()
    iterate(expected, JORDAN, np.empty(gram_room(*stack.shape), np.float32))
    assert np.abs(found - expected).max() < bound
    values = np.linalg.svd(found.astype(np.float64), compute_uv=False)
    assert 0.65 < values.min() < values.max() < 1.2
    assert np.abs(found - exact).max() < 0.3


def test_a_matrix_that_is_not_finite_spoils_no_other() -> None:
    stack, exact = stack_of((3, 4, 6), np.float32)
    stack[1, 0, 0] = np.inf
    found = multiplied(stack, EXPRESS, TorchProducts(in_bfloat16=False))
    assert np.isnan(found[1]).all()
    assert np.abs(found[[0, 2]] - exact[[0, 2]]).max() < 1e-5


def test_matrices_of_zeros_stay() -> None:
    for own in (True, False):
        assert not multiplied(np.zeros((2, 3, 4), np.float32), JORDAN, TorchProducts(own)).any()


def test_it_multiplies_where_the_numbers_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the size of a matrix is made: all lies in the stack and the room."""
    stack, _ = stack_of((2, 3, 4), np.float32)
    made: list[torch.Tensor] = []

    def seen(given: Any, iteration: Any, room: Any) -> None:
        made.extend([given, room])

    monkeypatch.setattr(products, "iterate", seen)
    room = np.empty(TorchProducts().room(2, 3, 4), np.float32)
    TorchProducts(in_bfloat16=False).iterate(stack, JORDAN, room)
    assert [one.data_ptr() for one in made] == [stack.ctypes.data, room.ctypes.data]


@pytest.mark.parametrize(
    ("told", "expected"),
    [({}, False), ({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True, "amx_int8": True}, False)],
)
def test_bfloat16_is_for_processors_with_instructions_for_it(
    told: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    has_bfloat16.cache_clear()
    try:
        assert has_bfloat16(torch.device("cpu")) is (expected and torch.backends.mkldnn.is_available())
        kind = TorchProducts()._kind(np.dtype(np.float32))
        assert kind is (torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32)
    finally:
        has_bfloat16.cache_clear()
