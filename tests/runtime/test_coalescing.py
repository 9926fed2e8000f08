"""Places of slices, looked at and summed in machine code, against straight loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from steprule.runtime.addresses import address
from steprule.runtime.coalescing import IS_OUTSIDE, IS_RISING, RADIX, coalescing

Int64s = NDArray[np.int64]


def located(indices: Int64s, extents: tuple[int, ...]) -> tuple[int, list[int]]:
    places = np.full(indices.shape[1], -7, np.int64)
    own = np.ascontiguousarray(indices)
    sizes = np.array(extents, np.int64)
    found = coalescing().locate(address(own), len(indices), len(places), address(sizes), address(places))
    return found, places.tolist()


def merged(places: Int64s, limit: int, values: NDArray[Any]) -> tuple[list[int], NDArray[Any]]:
    """Return what machine code makes of the entries; nothing may be written behind what it is given."""
    n, length = values.shape
    room = np.full(4 * n + RADIX + 1, -9, np.int64)
    count = coalescing().order(address(places), n, limit, address(room))
    assert room[-1] == -9
    if count == n:
        return places.tolist(), values
    own, sums = np.full(count + 1, -9, np.int64), np.full((count + 1, length), -9, values.dtype)
    merge = coalescing().merge[values.itemsize]
    merge(address(room), n, address(own), address(values), address(sums), length)
    assert own[-1] == -9
    assert (sums[-1] == -9).all()
    return own[:-1].tolist(), sums[:-1]


def summed(places: Int64s, values: NDArray[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for place, line in zip(places.tolist(), values, strict=True):
        found[place] = [a + b for a, b in zip(found[place], line, strict=True)] if place in found else list(line)
    return found


@pytest.mark.parametrize("extents", [(7,), (5, 3), (2, 3, 4), (1, 1)])
def test_places_are_counted_in_c_order(extents: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    indices = np.stack([rng.integers(0, n, 9) for n in extents])
    expected = [0] * 9
    for i in range(9):
        for axis, n in enumerate(extents):
            expected[i] = expected[i] * n + int(indices[axis, i])
    assert located(indices, extents) == (0, expected)


def test_places_that_rise_are_known() -> None:
    assert located(np.array([[0, 2, 5]]), (6,)) == (IS_RISING, [0, 2, 5])
    assert located(np.array([[0, 0, 1], [0, 2, 1]]), (2, 3)) == (IS_RISING, [0, 2, 4])
    assert located(np.array([[0, 2, 2]]), (6,))[0] == 0
    assert located(np.array([[3, 2, 5]]), (6,))[0] == 0
    assert located(np.zeros((1, 0), np.int64), (6,)) == (IS_RISING, [])
    assert located(np.zeros((0, 1), np.int64), ()) == (IS_RISING, [0])
    assert located(np.zeros((0, 2), np.int64), ()) == (0, [0, 0])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("at", [0, 3, 4])
@pytest.mark.parametrize("wrong", [6, -1, -(2**63), 2**63 - 1])
def test_an_index_outside_is_found_wherever_it_is(axis: int, at: int, wrong: int) -> None:
    indices = np.array([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    indices[axis, at] = wrong
    assert located(indices, (6, 6))[0] == IS_OUTSIDE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [1, 2, 64, 65, 255, 256, 257, 65_536, 65_537, 2**24 + 1, 2**62])
@pytest.mark.parametrize("n", [1, 2, 3, 40, 700])
def test_equal_places_are_summed_in_their_order(n: int, limit: int, dtype: Any) -> None:
    rng = np.random.default_rng(n)
    few = rng.integers(0, limit, max(1, n // 3))
    few[-1] = limit - 1
    for places in (few[rng.integers(0, len(few), n)], rng.integers(0, limit, n), np.full(n, limit - 1)):
        values = (rng.standard_normal((n, 5)) * 10.0 ** rng.integers(-6, 6, (n, 1))).astype(dtype)
        given = places.copy(), values.copy()
        own, sums = merged(places, limit, values)
        expected = summed(places, values)
        assert len(own) == len(expected)
        assert own == sorted(own) or len(own) == n
        for place, line in zip(own, sums, strict=True):
            assert line.tolist() == [float(x) for x in expected[place]]
        assert (places == given[0]).all()
        assert (values == given[1]).all()


def test_places_that_are_all_different_are_left_as_they_are() -> None:
    places = np.random.default_rng(0).permutation(1000)
    for limit in (1000, 2**40):
        own, _ = merged(places, limit, np.zeros((1000, 1)))
        assert own == places.tolist()


def test_sums_are_those_of_the_usual_floating_point_mode() -> None:
    tiny = np.array([[math.ldexp(1, -140)], [math.ldexp(1, -141)]], np.float32)
    own, sums = merged(np.array([3, 3]), 4, tiny)
    assert own == [3]
    assert sums.tolist() == [[math.ldexp(1, -140) + math.ldexp(1, -141)]]
