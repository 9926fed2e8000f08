"""What earlier versions wrote loads in every bit, in each door, and goes on as it would have then."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steprule as sr
from tests.cases import Array
from tests.checkpoint.written_states import (
    CASES,
    MORE,
    STEPS,
    WRITTEN,
    Case,
    after,
    arrays_of,
    minimized,
    start,
    step_arrays,
    step_tensors,
    tensor,
    tensors_in,
    tensors_of,
)

_NAMES = list(CASES)
_OTHER = {"lr": 0.5}
"""An option of the optimizer that is to go on, which is not that of the file."""


def bits(value: Any) -> bytes:
    """Return the bits of an array or a tensor in C order."""
    if isinstance(value, torch.Tensor):
        return value.detach().contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else bits(value[None])
    return np.asarray(value).tobytes()


def planes_of(file: dict[str, bytes]) -> list[bytes]:
    """Return the bits of all slots of a file, in no order: doors have names of their own."""
    return sorted(own for name, own in file.items() if name.startswith("slots/"))


def check_arrays(
    name: str, case: Case, params: dict[str, Array], optimizer: sr.Optimizer, file: list[bytes], t: int | None = None
) -> None:
    """Check what was loaded, and what follows from it."""
    state = optimizer.state_dict()
    assert optimizer.t == (STEPS - (case.skips is not None) if t is None else t)
    assert optimizer.skipped == (case.skips is not None)
    assert sorted(bits(plane) for own in state["slots"].values() for plane in own.values()) == file
    for group, own in zip(optimizer.groups, case.groups or ({},), strict=True):
        wanted = {**case.options, **own}
        assert {key: group[key] for key in wanted.keys() & group.keys()}.items() <= wanted.items()
        assert group["lr"] == wanted["lr"]
    step_arrays(case, optimizer, STEPS, MORE)
    assert {key: bits(array) for key, array in params.items()} == after(name)


def check_tensors(name: str, case: Case, params: dict[str, nn.Parameter], optimizer: Any, file: list[bytes]) -> None:
    """Check the same of tensors."""
    entries = [optimizer.state[param] for param in params.values()]
    kept = [value for entry in entries for key, value in entry.items() if key not in ("step", "mu_product")]
    assert sorted(map(bits, kept)) == file
    for group, own in zip(optimizer.param_groups, case.groups or ({},), strict=True):
        wanted = {**case.of_torch, **case.formats, **own}
        assert {key: group[key] for key in wanted.keys() & group.keys()}.items() <= wanted.items()
        assert group["lr"] == wanted["lr"]
    step_tensors(case, optimizer, params, STEPS, MORE)
    assert {key: bits(param) for key, param in params.items()} == after(name)


def blank(case: Case) -> dict[str, Array]:
    """Return parameters that are to be filled."""
    return {name: np.zeros_like(array) for name, array in start(case.dtype).items()}


@pytest.mark.parametrize("door", ["numpy", "torch"])
@pytest.mark.parametrize("name", _NAMES)
def test_a_checkpoint_goes_on_in_arrays(name: str, door: str) -> None:
    case, path = CASES[name], WRITTEN / f"{name}.{door}.safetensors"
    params = blank(case)
    optimizer = arrays_of(case, params, **_OTHER)
    checkpoint = sr.load(path, optimizer)
    own = tensors_in(path)
    for label, array in zip(checkpoint.names, params.values(), strict=True):
        array[...] = np.frombuffer(own[f"params/{label}"], array.dtype).reshape(array.shape)
    is_uncounted = (name, door) == ("momentum", "torch")  # as in torch.optim: what has slots has been stepped
    check_arrays(name, case, params, optimizer, planes_of(own), 1 if is_uncounted else None)


@pytest.mark.parametrize("door", ["numpy", "torch"])
@pytest.mark.parametrize("name", _NAMES)
def test_a_checkpoint_goes_on_in_tensors(name: str, door: str) -> None:
    case, path = CASES[name], WRITTEN / f"{name}.{door}.safetensors"
    params = {key: nn.Parameter(tensor(array)) for key, array in blank(case).items()}
    optimizer = tensors_of(case, params, **_OTHER)
    sr.load(path, optimizer, params=True)
    check_tensors(name, case, params, optimizer, planes_of(tensors_in(path)))


@pytest.mark.parametrize("name", _NAMES)
def test_a_state_dict_goes_on_in_arrays(name: str) -> None:
    case, params = CASES[name], blank(CASES[name])
    optimizer = arrays_of(case, params, **_OTHER)
    written = pickle.loads((WRITTEN / f"{name}.numpy.pickle").read_bytes())
    optimizer.load_state_dict(written["state"])
    for key, array in params.items():
        array[...] = np.frombuffer(written["params"][key], array.dtype).reshape(array.shape)
    if case.skips is not None:  # a state dict does not tell it
        optimizer.guards.skipped = 1
    check_arrays(name, case, params, optimizer, planes_of(tensors_in(WRITTEN / f"{name}.numpy.safetensors")))


@pytest.mark.parametrize("name", _NAMES)
def test_a_state_dict_goes_on_in_tensors(name: str) -> None:
    case = CASES[name]
    params = {key: nn.Parameter(tensor(array)) for key, array in blank(case).items()}
    optimizer = tensors_of(case, params, **_OTHER)
    written = torch.load(WRITTEN / f"{name}.torch.pt", weights_only=True)
    optimizer.load_state_dict(written["state"])
    for key, param in params.items():
        param.data.copy_(written["params"][key])
    check_tensors(name, case, params, optimizer, planes_of(tensors_in(WRITTEN / f"{name}.torch.safetensors")))


def test_both_doors_wrote_the_same_slots() -> None:
    for name in _NAMES:
        files = [tensors_in(WRITTEN / f"{name}.{door}.safetensors") for door in ("numpy", "torch")]
        assert planes_of(files[0]) == planes_of(files[1])


def test_a_run_of_minimize_goes_on() -> None:
    checkpoint = sr.load(WRITTEN / "minimize.safetensors")
    assert bits(minimized(state=checkpoint.state).x) == bits(checkpoint.extra["after"])


def test_everything_that_was_written_is_loaded() -> None:
    kinds = ("numpy.safetensors", "torch.safetensors", "numpy.pickle", "torch.pt")
    expected = {f"{name}.{kind}" for name in _NAMES for kind in kinds}
    expected |= {"minimize.safetensors", "adamw_amsgrad.after.json"}
    assert {path.name for path in WRITTEN.iterdir()} == expected
