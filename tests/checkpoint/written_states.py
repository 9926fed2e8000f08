"""Checkpoints and state dicts that earlier versions wrote, and how: ``python -m tests.checkpoint.written_states`` wrote
``tests/checkpoint/written``. They are not written anew: what somebody keeps on a disk must load in every later version.

Each optimizer takes three steps, is written, and takes two more; the parameters that follow are in the files of the
NumPy door, as ``after_w`` and ``after_b``: both doors have the same bits. Where the bits of a rule's steps have changed
since, as the changelog says, those that follow now are in a file of their own: ``python -m
tests.checkpoint.written_states NAME`` wrote it.
Gradients are made by integers and one division, so that no library has a part in them.
"""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy the type bfloat16)
import numpy as np
import torch
from torch import nn

import steprule as sr
import steprule.torch as door
from steprule.rules import Rule, decoupled
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array

WRITTEN = Path(__file__).parent / "written"
SHAPES: dict[str, tuple[int, ...]] = {"w": (2, 135), "b": (3,)}
STEPS, MORE = 3, 2


@dataclass(frozen=True)
class Case:
    """One optimizer in both doors: the rule and the class, their options, and the type of the parameters.

    Attributes:
        groups: the options of a group of ``w`` and one of ``b``; none: one group.
        skips: the step whose gradient is not finite.
    """

    rule: str | Rule
    kind: str
    options: dict[str, Any]
    of_torch: dict[str, Any]
    dtype: str = "float32"
    formats: dict[str, Any] = field(default_factory=dict)
    groups: tuple[dict[str, Any], ...] = ()
    skips: int | None = None


_LOW: dict[str, Any] = {"states": "8bit", "min_elements": 0, "seed": 7}
CASES: dict[str, Case] = {
    "adam": Case("adam", "Adam", {"lr": 0.02, "beta1": 0.8, "beta2": 0.95}, {"lr": 0.02, "betas": (0.8, 0.95)}),
    "adam_float64": Case("adam", "Adam", {"lr": 0.02}, {"lr": 0.02}, "float64"),
    "adam_stochastic": Case(
        "adam", "Adam", {"lr": 0.02}, {"lr": 0.02}, "bfloat16", {"weights": "stochastic", "seed": 5}
    ),
    "adamw_amsgrad": Case(
        decoupled(CATALOGUE["amsgrad"]),
        "AdamW",
        {"lr": 0.02, "weight_decay": 0.1, "correction": "after_max"},
        {"lr": 0.02, "weight_decay": 0.1, "amsgrad": True},
    ),
    "momentum": Case("momentum", "SGD", {"lr": 0.02, "mu": 0.9}, {"lr": 0.02, "momentum": 0.9}),
    "momentum_bfloat16": Case(
        "momentum",
        "SGD",
        {"lr": 0.02, "mu": 0.9},
        {"lr": 0.02, "momentum": 0.9},
        formats={"states": "bfloat16", "min_elements": 0},
    ),
    "lion_bfloat16": Case(
        "lion", "Lion", {"lr": 0.02}, {"lr": 0.02}, formats={"states": "bfloat16", "min_elements": 0}
    ),
    "nadam": Case("nadam", "NAdam", {"lr": 0.02}, {"lr": 0.02}),
    "adan_8bit": Case("adan", "Adan", {"lr": 0.02}, {"lr": 0.02}, formats=_LOW),
    "adam_4bit": Case("adam", "Adam", {"lr": 0.02}, {"lr": 0.02}, formats={**_LOW, "states": "4bit"}),
    "adamw_8bit_split24": Case(
        "adamw",
        "AdamW",
        {"lr": 0.02, "weight_decay": 0.1},
        {"lr": 0.02, "weight_decay": 0.1},
        "bfloat16",
        {**_LOW, "weights": "split24"},
    ),
    "adam_split32": Case("adam", "Adam", {"lr": 0.02}, {"lr": 0.02}, "float16", {"weights": "split32"}),
    "groups": Case("adam", "Adam", {"lr": 0.02}, {"lr": 0.02}, formats=_LOW, groups=({}, {"lr": 0.01})),
    "guarded": Case(
        "adam",
        "Adam",
        {"lr": 0.02, "clip_norm": 0.5, "nonfinite": "skip"},
        {"lr": 0.02, "clip_norm": 0.5, "nonfinite": "skip"},
        skips=1,
    ),
}


def start(dtype: str) -> dict[str, Array]:
    """Return the parameters before the first step."""
    return {name: _numbers(shape, 0).astype(dtype) for name, shape in SHAPES.items()}


def gradients(case: Case, t: int) -> dict[str, Array]:
    """Return the gradients of a step, which is the ``t``-th that is asked for."""
    found = {name: _numbers(shape, t).astype(case.dtype) for name, shape in SHAPES.items()}
    if case.skips == t:
        found["b"][1] = np.nan
    return found


def _numbers(shape: tuple[int, ...], t: int) -> Array:
    n = int(np.prod(shape))
    whole: Array = (np.arange(n) * 7919 + t * 104_729 + n) % 2001 - 1000
    return (whole / 1000).reshape(shape)


def arrays_of(case: Case, params: dict[str, Array], **other: Any) -> sr.Optimizer:
    """Return the optimizer of arrays; ``other`` options are unlike those that a file has."""
    options = {**case.options, **case.formats, **other}
    if not case.groups:
        return sr.Optimizer(params, case.rule, **options)
    groups = [sr.Group({n: params[n]}, **{**own, **other}) for n, own in zip(SHAPES, case.groups, strict=True)]
    return sr.Optimizer(groups, case.rule, **options)


def tensors_of(case: Case, params: dict[str, nn.Parameter], **other: Any) -> Any:
    """Return the optimizer of tensors."""
    named: list[Any] = list(params.items())
    if case.groups:
        named = [{"params": [one], **own, **other} for one, own in zip(named, case.groups, strict=True)]
    return getattr(door, case.kind)(named, **{**case.of_torch, **case.formats, **other})


def tensor(array: Array) -> torch.Tensor:
    """Return a copy of an array as a tensor."""
    if array.dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def step_arrays(case: Case, optimizer: sr.Optimizer, first: int, steps: int) -> None:
    """Take steps, the first of them the ``first`` that is asked for."""
    for t in range(first, first + steps):
        grads = gradients(case, t)
        optimizer.step([{name: grads[name]} for name in SHAPES] if case.groups else grads)


def step_tensors(case: Case, optimizer: Any, params: dict[str, nn.Parameter], first: int, steps: int) -> None:
    """Take the same steps."""
    for t in range(first, first + steps):
        for name, grad in gradients(case, t).items():
            params[name].grad = tensor(grad)
        optimizer.step()


def _written_by_arrays(name: str, case: Case) -> None:
    params = start(case.dtype)
    optimizer = arrays_of(case, params)
    step_arrays(case, optimizer, 0, STEPS)
    state, now = optimizer.state_dict(), {name: array.copy() for name, array in params.items()}
    step_arrays(case, optimizer, STEPS, MORE)
    bits = {key: array.view(np.uint16) if array.dtype == "bfloat16" else array for key, array in params.items()}
    after: dict[str, Any] = {f"after_{key}": array.copy() for key, array in bits.items()}
    for key, array in params.items():
        array[...] = now[key]
    optimizer.load_state_dict(state)
    sr.save(WRITTEN / f"{name}.numpy.safetensors", optimizer, True, **after)
    plain = {key: array.tobytes() for key, array in now.items()}
    (WRITTEN / f"{name}.numpy.pickle").write_bytes(pickle.dumps({"params": plain, "state": state}, protocol=4))


def _written_by_tensors(name: str, case: Case) -> None:
    params = {key: nn.Parameter(tensor(array)) for key, array in start(case.dtype).items()}
    optimizer = tensors_of(case, params)
    step_tensors(case, optimizer, params, 0, STEPS)
    sr.save(WRITTEN / f"{name}.torch.safetensors", optimizer, True)
    own = {key: param.detach() for key, param in params.items()}
    torch.save({"params": own, "state": optimizer.state_dict()}, WRITTEN / f"{name}.torch.pt")


def _written_after(name: str) -> None:
    """Write what now follows from a file, in the bits of this version."""
    case, path = CASES[name], WRITTEN / f"{name}.numpy.safetensors"
    params = start(case.dtype)
    optimizer = arrays_of(case, params)
    sr.load(path, optimizer, params=True)
    step_arrays(case, optimizer, STEPS, MORE)
    (WRITTEN / f"{name}.after.json").write_text(json.dumps({key: one.tobytes().hex() for key, one in params.items()}))


def after(name: str) -> dict[str, bytes]:
    """Return the bits of the parameters that follow, by their names."""
    own = WRITTEN / f"{name}.after.json"
    if own.exists():
        return {key: bytes.fromhex(value) for key, value in json.loads(own.read_text()).items()}
    file = tensors_in(WRITTEN / f"{name}.numpy.safetensors")
    return {key: file[f"extra/after_{key}"] for key in SHAPES}


def main() -> None:
    """Write everything, or what follows from the files that are named."""
    if named := sys.argv[1:]:
        for name in named:
            _written_after(name)
        return
    for name, case in CASES.items():
        (WRITTEN / f"{name}.after.json").unlink(missing_ok=True)
        _written_by_arrays(name, case)
        _written_by_tensors(name, case)
    result = minimized()
    sr.save(WRITTEN / "minimize.safetensors", result.state, after=minimized(state=result.state).x)


def minimized(**going_on: Any) -> Any:
    """Return a result of ``minimize``, or where it goes on to."""
    options: dict[str, Any] = {"rule": "adam", "lr": 0.1, "maxiter": 5, "jac": True}
    return sr.minimize(_bowl, None if going_on else np.array([1.0, -2.0, 0.5]), **options, **going_on)


def _bowl(x: Array) -> tuple[float, Array]:
    weights = np.array([1.0, 4.0, 0.25])
    return float((weights * x * x).sum()), 2 * weights * x


def tensors_in(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file's tensors by name, read without anything of ours."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    del header["__metadata__"]
    spans = {name: told["data_offsets"] for name, told in header.items()}
    return {name: data[end + first : end + last] for name, (first, last) in spans.items()}


if __name__ == "__main__":
    main()
