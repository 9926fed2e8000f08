"""What save takes, load gives back: names, nestings and shapes of every kind, however deep in the stack."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
from steprule.checkpoint import Stored, write
from steprule.doors.checkpoint.api import load, save
from steprule.errors import CheckpointError
from steprule.torch import AdamW
from tests.cases import Array

BYTES = os.fsdecode(b"caf\xe9.png")
"""The name of a file that is not valid Unicode."""


def _optimizer(key: str = "w") -> sr.Optimizer:
    optimizer = sr.Optimizer({key: np.ones(3)}, "adam")
    optimizer.step({key: np.ones(3)})
    return optimizer


def _of_torch(name: str) -> AdamW:
    return AdamW([(name, torch.ones(3, requires_grad=True))])


def _any(values: dict[str, Any]) -> dict[str, Any]:
    return values


CALLS: dict[str, Callable[[Path], Any]] = {
    "key": lambda path: sr.save(path, _optimizer(BYTES)),
    "torch": lambda path: sr.save(path, _of_torch(BYTES)),
    "params": lambda path: sr.save(path, _optimizer(), {BYTES: np.ones(3)}),
    "own params": lambda path: sr.save(path, _optimizer(BYTES), True),
    "extra": lambda path: sr.save(path, _optimizer(), **_any({BYTES: 1})),
    "array": lambda path: sr.save(path, _optimizer(), **_any({BYTES: np.ones(3)})),
    "value": lambda path: sr.save(path, _optimizer(), files=[{"name": BYTES}]),
    "inner key": lambda path: sr.save(path, _optimizer(), files={BYTES: 1}),
    "pair": lambda path: sr.save(path, _optimizer(), files={(BYTES, 1): 1}),
}


@pytest.mark.parametrize("call", CALLS)
def test_names_that_are_no_unicode_are_refused(tmp_path: Path, call: str) -> None:
    with pytest.raises(CheckpointError, match=r"not valid Unicode.*udce9.*nothing was written"):
        CALLS[call](tmp_path / "x")
    assert not os.listdir(tmp_path)


def test_what_no_reader_takes_is_refused(tmp_path: Path) -> None:
    deep = np.ones((1,) * 64, np.complex64)  # with the axis of its parts, one more than a file may have
    with pytest.raises(CheckpointError, match=r"deep is complex, of 64 axes.*nothing was written"):
        sr.save(tmp_path / "x", _optimizer(), deep=deep)
    huge = Stored("F32", (0, 2**62), lambda: np.zeros(0))  # as torch has them
    with pytest.raises(CheckpointError, match=r"a file of this could not be read: .*F32 of shape.*nothing was written"):
        write(tmp_path / "x", {"huge": huge}, {})
    assert not os.listdir(tmp_path)
    sr.save(tmp_path / "x", _optimizer(), deep=deep[0])
    assert sr.load(tmp_path / "x").extra["deep"].shape == deep.shape[1:]


def _refusal(call: Callable[[], Any]) -> str:
    """Return what a CheckpointError says, and nothing where there is none."""
    try:
        call()
    except CheckpointError as error:
        return str(error)
    return ""


def _nested(wrap: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "dict": lambda value: {"a": value},
    "pairs": lambda value: {1: value},
    "counter": lambda value: Counter({"a": value}),
    "mixed": lambda value: [({"a": (value,)},)],
}


@pytest.mark.parametrize("kind", WRAPS)
def test_a_nesting_that_is_written_can_be_read(tmp_path: Path, kind: str) -> None:
    written = 0
    for depth in (1, 20, 100, 150, 240, 300, 480, 520, 990, 5000):
        value = _nested(WRAPS[kind], depth)
        said = _refusal(lambda value=value, depth=depth: sr.save(tmp_path / f"{depth}", _optimizer(), x=value))  # type: ignore[misc]
        if said:
            assert "nested too deep" in said
            assert "nothing was written" in said
            assert not (tmp_path / f"{depth}").exists()
            continue
        written = depth
        found, levels = sr.load(tmp_path / f"{depth}").extra["x"], 0
        while found != 1:  # comparing the whole would go deep, too
            assert type(found) is type(value)
            found, value, levels = (
                *((next(iter(x.values() if isinstance(x, dict) else x))) for x in (found, value)),
                levels + 1,
            )
        assert value == 1
    assert written >= 20 if kind == "mixed" else written >= 100


def _down(calls: int, call: Callable[[], Any]) -> Any:
    return _down(calls - 1, call) if calls else call()


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


@pytest.mark.parametrize("value", [1, _nested(WRAPS["list"], 300)], ids=["flat", "deep"])
def test_however_deep_in_the_stack(tmp_path: Path, value: Any) -> None:
    """Whatever room is left, a call does all of it or raises CheckpointError and has done nothing."""
    path, new, done, saved = tmp_path / "x", tmp_path / "y", Counter[str](), _optimizer()
    sr.save(path, saved, True, x=value)
    room = sys.getrecursionlimit() - _depth()
    for left in [*range(14, 120, 3), 200, 400, 600]:
        said = _refusal(lambda left=left: _down(room - left, lambda: save(new, saved, True, x=value)))  # type: ignore[misc]
        done["save" if not said else "save refused"] += 1
        if not said:
            sr.load(new)
            new.unlink()
        assert os.listdir(tmp_path) == ["x"]
        other = sr.Optimizer({"w": np.zeros(3)}, "adam", lr=0.5)
        said = _refusal(lambda left=left, other=other: _down(room - left, lambda: load(path, other, True)))  # type: ignore[misc]
        done["load" if not said else "load refused"] += 1
        assert (other.t, other.groups[0]["lr"]) == ((0, 0.5) if said else (1, 0.001))
        assert other.slots["m"]["w"].any() == other.slots["v"]["w"].any() == other.params["w"].any() == (not said)
    assert min(done[key] for key in ("save", "load", "save refused", "load refused")) > 0


def _value(rng: random.Random, depth: int) -> Any:
    """Return some value that a checkpoint holds."""
    plain: list[Callable[[], Any]] = [
        lambda: None, lambda: rng.random() < 0.5, lambda: rng.randint(-(10**25), 10**25), lambda: rng.gauss(0, 1e300),
        lambda: rng.choice([np.inf, -np.inf, 5e-324, -0.0]),
        lambda: rng.choice(["", "$", "$float", "\0", "\u2028é", "x" * 99]),
    ]  # fmt: skip
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(plain)()
    items = [_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    keys = [rng.choice([rng.random(), rng.randint(0, 9), f"${rng.randint(0, 9)}", "a", None, (1, "b")]) for _ in items]
    return rng.choice([items, tuple(items), dict(zip(keys, items, strict=True)), {str(key): 1 for key in keys}])


def test_values_at_random_come_back(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(60):
        extra = {f"x{n}": _value(rng, 5) for n in range(3)}
        array: Array = np.ones(
            [rng.randint(0, 3) for _ in range(rng.randint(0, 5))], rng.choice(["f2", ">f8", "c8", "?"])
        )
        sr.save(tmp_path / "x", _optimizer(), array=array, **extra)
        found = sr.load(tmp_path / "x").extra
        assert repr({name: found[name] for name in extra}) == repr(extra)
        assert np.array_equal(found["array"], array)
