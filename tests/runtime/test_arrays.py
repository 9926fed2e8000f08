"""Where arrays lie, and many of them looked at in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steprule.runtime import addresses, arrays
from steprule.runtime.addresses import address
from steprule.runtime.arrays import ArrayCheck
from steprule.runtime.driver import driver

MAKES: dict[str, Callable[[], Any]] = {
    "one axis": lambda: np.zeros(5),
    "no axes": lambda: np.zeros((), np.float32),
    "no elements": lambda: np.zeros((3, 0, 2)),
    "Fortran's order": lambda: np.zeros((2, 3, 4), np.float16, order="F"),
    "backwards": lambda: np.zeros((6, 5), np.float32)[::-2, 1:],
    "many axes": lambda: np.zeros((1, 2) * 8),
}


class Subclass(np.ndarray[Any, Any]):
    """Whatever a subclass means by an array."""


@pytest.fixture(params=["machine code", "few", "fields elsewhere", "nothing compiled"])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many arrays are looked at, in each of the ways in which they are."""
    driver()
    if request.param == "machine code":
        assert arrays._compiled() is not None
    if request.param == "fields elsewhere":
        monkeypatch.setattr(arrays, "_compiled", lambda: None)
    if request.param == "nothing compiled":
        nothing = SimpleNamespace(cache_info=lambda: SimpleNamespace(currsize=0))
        monkeypatch.setattr(arrays, "driver", nothing)
        monkeypatch.setattr(arrays, "_compiled", lambda: pytest.fail("something is compiled"))
    return 3 if request.param == "few" else 40


def _lie(given: Any) -> list[int]:
    return [array.__array_interface__["data"][0] for array in given]


@pytest.mark.parametrize("kind", MAKES)
def test_arrays_as_expected_are_found(kind: str, count: int) -> None:
    given = [MAKES[kind]() for _ in range(count)]
    check = ArrayCheck([MAKES[kind]() for _ in range(count)], [np.zeros(1) for _ in range(count)])
    assert list(check.odd(given)) == []
    assert check.found.tolist() == _lie(given)


def test_every_array_is_compared_with_its_own(count: int) -> None:
    makes = [*MAKES.values()]
    given = [makes[i % len(makes)]() for i in range(count)]
    check = ArrayCheck(given, [np.zeros(1) for _ in range(count)])
    assert list(check.odd(given)) == []
    turned = [*given[1:], given[0]]
    assert list(check.odd(turned)) == [i for i in range(count) if turned[i].shape != given[i].shape]


ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a number": lambda: 1.0,
    "a list": lambda: [[0.0] * 3] * 4,
    "a type": lambda: np.ndarray,
    "a subclass": lambda: np.zeros((4, 3)).view(Subclass),
    "a masked array": lambda: np.ma.masked_array(np.zeros((4, 3))),
    "another type": lambda: np.zeros((4, 3), np.int64),
    "another order of bytes": lambda: np.zeros((4, 3), ">f8"),
    "a shape of as many": lambda: np.zeros((3, 4)),
    "an axis less": lambda: np.zeros(12),
    "an axis more": lambda: np.zeros((4, 3, 1)),
    "no axes": lambda: np.zeros(()),
    "another first axis": lambda: np.zeros((5, 3)),
    "another last axis": lambda: np.zeros((4, 6))[:, :3],
    "transposed": lambda: np.zeros((3, 4)).T,
    "backwards": lambda: np.zeros((4, 3))[::-1],
    "the same number everywhere": lambda: np.broadcast_to(np.zeros(1), (4, 3)),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("place", [0, 1, -1])
def test_odd_ones_are_told_and_the_others_found(kind: str, place: int, count: int) -> None:
    given: list[Any] = [np.zeros((4, 3)) for _ in range(count)]
    check = ArrayCheck(given, [np.zeros(1) for _ in range(count)])
    assert list(check.odd(given)) == []
    place %= count
    others = [*given[:place], ODD[kind](), *given[place + 1 :]]
    assert list(check.odd(others)) == [place]
    assert np.delete(check.found, place).tolist() == _lie(np.delete(np.array([*given, None], object), [place, -1]))


def test_owners_that_are_read_only_are_told(count: int) -> None:
    given = [np.zeros((4, 3)) for _ in range(count)]
    owners = [np.zeros((4, 3)).view(Subclass) for _ in range(count)]
    check = ArrayCheck(given, owners)
    owners[1].flags.writeable = owners[-1].flags.writeable = False
    assert list(check.odd(given)) == [1, count - 1]
    owners[1].flags.writeable = owners[-1].flags.writeable = True
    assert list(check.odd(given)) == []


def test_gradients_may_be_read_only(count: int) -> None:
    given = [np.zeros(3) for _ in range(count)]
    for array in given:
        array.flags.writeable = False
    assert list(ArrayCheck(given, [np.zeros(1) for _ in range(count)]).odd(given)) == []


@pytest.mark.parametrize("other", [-1, 1])
def test_as_many_as_expected_are_looked_at(other: int, count: int) -> None:
    check = ArrayCheck([np.zeros(3)] * count, [np.zeros(1)] * count)
    with pytest.raises(ValueError, match=r"arrays, but|argument 2"):
        check.odd([np.zeros(3)] * (count + other))


def test_fields_that_lie_elsewhere_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arrays._fields_hold()
    for name in ("data", "ndim", "shape", "strides", "dtype", "flags"):
        fields = [("moved", kind) if own == name else (own, kind) for own, kind in arrays._Fields._fields_]
        moved = type("Moved", (ctypes.Structure,), {"_fields_": [*fields, (name, dict(fields)["moved"])]})
        with monkeypatch.context() as patch:
            patch.setattr(arrays, "_Fields", moved)
            assert not arrays._fields_hold(), name


@pytest.mark.parametrize("kind", MAKES)
def test_addresses_are_those_of_the_arrays(kind: str) -> None:
    given = [MAKES[kind]() for _ in range(8)]
    assert [address(array) for array in given] == _lie(given)


def test_addresses_without_the_known_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_header_holds", lambda: False)
    monkeypatch.setattr(addresses, "HEADER", 10**9)  # a wrong field, which must not be read
    given = [np.zeros(3) for _ in range(6)]
    assert [address(array) for array in given] == _lie(given)
