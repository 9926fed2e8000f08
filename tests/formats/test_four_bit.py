"""Slots of which two share a byte, in every door: planes, rows that end within a byte, states, checkpoints, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
import steprule.torch as door
from steprule.coding import decode, encode
from steprule.errors import StateError
from steprule.formats import SLOT_FORMATS
from steprule.runtime import launch
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits, wild
from tests.doors.numpy.test_formats import assert_same_state, fitting

FOUR: dict[str, Any] = {"states": "4bit", "min_elements": 0, "seed": 5}
SHAPES = [(3, 131), (7,), (1,), (), (0,), (2, 3, 51), (9, 256), (5, 1)]


def arrays(seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), np.float32) for shape in SHAPES]


def gradients(t: int) -> list[Array]:
    rng = np.random.default_rng([3, t])
    return [wild(rng, int(np.prod(shape)), "float32").reshape(shape) for shape in SHAPES]


def trained(steps: int = 3, **options: Any) -> sr.Optimizer:
    optimizer = sr.Optimizer(arrays(), "adamw", **{**FOUR, **options})
    for t in range(steps):
        optimizer.step([np.nan_to_num(g, nan=1.0, posinf=2.0, neginf=-2.0) for g in gradients(t)])
    return optimizer


def tensors(optimizer: sr.Optimizer | None = None) -> list[torch.nn.Parameter]:
    source = arrays() if optimizer is None else optimizer.params
    return [torch.nn.Parameter(torch.from_numpy(np.array(x))) for x in source]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_rule_equals_the_referee(name: str) -> None:
    options = fitting(CATALOGUE[name], FOUR)
    mine, referee = (sr.Optimizer(arrays(), name, backend=backend, **options) for backend in ("llvm", "numpy"))
    for t in range(3):
        mine.step(gradients(t))
        referee.step(gradients(t))
    assert_same_state(mine, referee, name)


@pytest.mark.parametrize("chunk", [1, 7, 10**9])
def test_threads_and_chunks_share_no_byte(chunk: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CHUNK", chunk)
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    mine, referee = sr.Optimizer(arrays(), **FOUR), sr.Optimizer(arrays(), backend="numpy", **FOUR)
    for t in range(2):
        mine.step(gradients(t))
        referee.step(gradients(t))
    assert_same_state(mine, referee)


def test_neighbours_share_a_byte_and_rows_do_not() -> None:
    optimizer = trained()
    planes = optimizer.state_dict()["slots"]["params[0]"]
    assert planes["m"].shape == (3, 66)
    assert planes["m"].dtype == np.uint8
    assert planes["m.scale"].shape == (3, 2)
    assert (planes["m"][:, -1] >> 4 == 0).all(), "what is left of a row's last byte is zero"
    way = SLOT_FORMATS["4bit"].signed
    m = np.zeros((1, 5), np.float32)
    m[0] = [1, -0.5, 0, 0.25, -1]  # codes 6, 8 + 5, 0, 4, 8 + 6, beside the exponent of 1
    assert encode(way, m)[""].tolist() == [[6 | 13 << 4, 4 << 4, 14]]
    assert_same_bits(decode(way, encode(way, m), m.shape), m)


@pytest.mark.parametrize("order", ["F", "strided", "backwards"])
def test_layouts(order: str) -> None:
    homes: dict[str, Any] = {
        "F": lambda: np.zeros((24, 151), np.float32, order="F"),
        "strided": lambda: np.zeros((24, 302), np.float32)[:, ::2],
        "backwards": lambda: np.zeros((24, 151), np.float32)[::-1, ::-1],
    }
    theta = homes[order]()
    theta[...] = np.random.default_rng(0).standard_normal(theta.shape)
    mine, referee = sr.Optimizer([theta], **FOUR), sr.Optimizer([theta.copy()], backend="numpy", **FOUR)
    for t in range(3):
        g = np.random.default_rng(t).standard_normal(theta.shape).astype(np.float32)
        mine.step([g])
        referee.step([g])
    assert_same_state(mine, referee)


@pytest.mark.parametrize("cut", [1, 5])
def test_shards_of_rows_step_to_the_bits_of_the_whole(cut: int) -> None:
    theta = np.random.default_rng(0).standard_normal((12, 131)).astype(np.float32)
    whole = sr.Optimizer([theta.copy()], "adam", **FOUR)
    parts = [slice(0, cut), slice(cut, None)]
    shards = [sr.Optimizer([sr.Group([theta[p].copy()], first_row=p.start)], "adam", **FOUR) for p in parts]
    for t in range(3):
        g = np.random.default_rng(t).standard_normal(theta.shape).astype(np.float32)
        whole.step([g])
        for shard, part in zip(shards, parts, strict=True):
            shard.step([[g[part]]])
    planes = whole.state_dict()["slots"]["params[0]"]
    for name, plane in planes.items():
        found = [shard.state_dict()["slots"]["params[0][0]"][name] for shard in shards]
        assert np.array_equal(np.concatenate(found), plane), name


def test_states_are_exact_and_others_are_converted_on_request() -> None:
    optimizer, again = trained(), trained(1)
    again.load_state_dict(optimizer.state_dict())
    for index, theta in enumerate(again.params):
        theta[...] = optimizer.params[index]
    for t in range(3, 5):
        optimizer.step(gradients(t))
        again.step(gradients(t))
    assert_same_state(optimizer, again)
    eight = trained(states="8bit")
    with pytest.raises(StateError, match="m is kept as 8bit signed 128 here, but the state has it as 4bit signed 128"):
        eight.load_state_dict(optimizer.state_dict())
    eight.load_state_dict(optimizer.state_dict(), convert=True)
    for slot in ("m", "v"):
        for a, b in zip(optimizer.slots[slot], eight.slots[slot], strict=True):
            far = np.isfinite(a) & (
                np.abs(a) >= 2.0**-18 * np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)).max(initial=0)
            )
            assert_same_bits(np.where(far, a, 0), np.where(far, b, 0))  # every power of two has a code there


@pytest.mark.parametrize("as_torch_first", [True, False])
def test_doors_agree_and_checkpoints_go_from_one_to_the_other(tmp_path: Path, as_torch_first: bool) -> None:
    ours = sr.Optimizer(arrays(), "adamw", lr=1e-3, weight_decay=1e-2, **FOUR)
    params = tensors()
    theirs: Any = door.AdamW(params, lr=1e-3, weight_decay=1e-2, **FOUR)

    def step(t: int) -> None:
        for param, g in zip(params, gradients(t), strict=True):
            param.grad = torch.from_numpy(g)
        theirs.step()
        ours.step(gradients(t))

    for t in range(3):
        step(t)
    entry = theirs.state[params[0]]
    assert set(entry) == {"step", "exp_avg_4bit", "exp_avg_scale", "exp_avg_sq_4bit", "exp_avg_sq_scale"}
    for index, param in enumerate(params):
        planes = ours.state_dict()["slots"][f"params[{index}]"]
        for key, plane in (("exp_avg_4bit", "m"), ("exp_avg_scale", "m.scale"), ("exp_avg_sq_4bit", "v")):
            assert np.array_equal(theirs.state[param][key].numpy(), planes[plane]), (index, key)
    one, other = (theirs, ours) if as_torch_first else (ours, theirs)
    sr.save(tmp_path / "x", one)
    sr.load(tmp_path / "x", other)
    for t in range(3, 5):
        step(t)
    for index, param in enumerate(params):
        assert np.array_equal(
            theirs.state[param]["exp_avg_4bit"].numpy(), ours.state_dict()["slots"][f"params[{index}]"]["m"]
        )


@pytest.mark.parametrize("states", ["8bit", "bfloat16", "float32", {"exp_avg": "4bit", "exp_avg_sq": "8bit"}], ids=str)
def test_torch_states_go_from_four_bits_to_others_and_back(states: Any) -> None:
    params = tensors()
    four: Any = door.AdamW(params, **FOUR)
    for param, g in zip(params, gradients(0), strict=True):
        param.grad = torch.from_numpy(g)
    four.step()
    options = {**FOUR, "states": states} if states != "float32" else {}
    other: Any = door.AdamW(tensors(), **options)
    with pytest.raises(StateError, match=r"kept as 4bit, and is kept as|is kept as"):
        other.load_state_dict(four.state_dict())
    other.load_state_dict(four.state_dict(), convert=True)
    back: Any = door.AdamW(tensors(), **FOUR)
    back.load_state_dict(other.state_dict(), convert=True)
    assert set(back.state_dict()["state"][0]) == set(four.state_dict()["state"][0])
    float32 = four.float32_state_dict()["state"][0]
    assert_same_bits(float32["exp_avg_sq"].numpy(), other.float32_state_dict()["state"][0]["exp_avg_sq"].numpy())


def test_tables_tell_the_bytes() -> None:
    theta = np.zeros((64, 128), np.float32)
    table = sr.Optimizer([theta], "adamw", states="4bit").describe()
    assert "m: 4bit, v: 4bit" in table
    assert "5.02" in table  # 4 of the parameter, a half for each code, and a 128th for each exponent
    param = torch.nn.Parameter(torch.zeros(64, 128, dtype=torch.bfloat16))
    told = door.AdamW([param], states="4bit", weights="split24").describe()
    assert "4.02" in told


def test_codes_of_a_slot_that_is_switched_off_wait_as_copies() -> None:
    params = tensors()
    optimizer: Any = door.SGD(params, lr=0.1, momentum=0.9, **FOUR)
    for param, g in zip(params, gradients(0), strict=True):
        param.grad = torch.from_numpy(g)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["param_groups"][0]["momentum"] = 0.0
    other: Any = door.SGD(tensors(), lr=0.1, momentum=0.9, **FOUR)
    other.load_state_dict(saved)
    mine = other.state[other.param_groups[0]["params"][0]]["momentum_buffer_4bit"]
    theirs = saved["state"][0]["momentum_buffer_4bit"]
    assert torch.equal(mine, theirs)
    assert mine.data_ptr() != theirs.data_ptr()
