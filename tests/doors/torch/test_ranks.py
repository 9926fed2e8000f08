"""Processes that step parts of one model: what they must agree on, and parameters that they share in unlike ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import steprule.torch as door
from tests.doors.torch.processes import run_in_group
from tests.doors.torch.ranks import (
    GUARDED,
    MIXED,
    STEPS,
    gradient_of_parts,
    mine,
    same,
    trained,
    width_of,
    work,
)
from tests.doors.torch.sharded import everything
from tests.doors.torch.tensors import numbers


@pytest.fixture(scope="module", params=[2, *(pytest.param(world, marks=pytest.mark.slow) for world in (3, 4))])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what processes have found, by rank."""
    return found_by(work, request.param, tmp_path_factory.mktemp("ranks"))


def found_by(work: Callable[..., None], world: int, folder: Path) -> list[dict[str, Any]]:
    assert run_in_group(work, world, folder) == [0] * world
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def assert_close(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> None:
    """Assert that sums in another order are all that differs."""
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(dict(own), dict(other), rtol=1e-12, atol=1e-15)


def assert_equal(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> None:
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(dict(own), dict(other), rtol=0, atol=0)


SAID = {
    "lr": "lr (group 0) is 0.1 on rank 0 and 0.2 on rank 1",
    "plane": "lr (group 0) is 0.1 on rank 0 and 0.2 on rank",
    "betas": "beta1 (group 0) is 0.9 on rank 0 and 0.8 on rank 1",
    "rule": "rule (group 0) is 'decoupled(adam)' on rank 0 and 'lion' on rank 1",
    "states": "states (group 0) is {'m': '8bit', 'v': '8bit'} on rank 0 and 'float32' on rank 1",
    "seed": "seed (group 0) is 1 on rank 0 and 0 on rank 1",
    "guards": "clip_norm is 1.0 on rank 0 and None on rank 1",
    "count": "number of parameters (group 0) is 3 on rank 0 and 2 on rank 1",
    "shape": "parameter 'group 0, 0' is float64 of shape (6, 5)",
    "placement": "is float64 of shape (6, 4), S(0) over ({world},) processes, after 0 steps on rank 0 and float64 of "
    "shape (6, 4), R over ({world},) processes, after 0 steps on rank 1",
    "steps": "after 0 steps on rank 0 and float64 of shape (6, 4), S(0) over ({world},) processes, after 1 steps on",
}


@pytest.mark.parametrize("name", SAID)
def test_a_disagreement_is_found_before_the_first_step_and_named_on_all(name: str, found: list[Any]) -> None:
    words = {own["disagreements"][name] for own in found}
    assert len(words) == 1
    assert SAID[name].replace("{world}", str(len(found))) in words.pop()


def test_they_ask_each_other_once_and_after_a_load_and_of_a_new_group(found: list[Any]) -> None:
    assert [own["exchanges"] for own in found] == [[1, 2, 3]] * len(found)


@pytest.mark.parametrize("cls", ["AdamW", "Lamb"])
def test_parameters_may_be_over_unlike_processes(cls: str, found: list[Any]) -> None:
    """Where nothing is summed over all of them. The first process has parts of all."""
    assert_close(found[0]["meshes"][cls], trained(cls, [same] * 3, {"lr": 0.1}))
    for own in found[1:]:
        for place in (0, 2):
            assert_equal([own["meshes"][cls][place]], [found[0]["meshes"][cls][place]])


def test_sums_over_all_need_the_same_processes(found: list[Any]) -> None:
    expected = trained("AdamW", [same] * 3, GUARDED)
    for own in found:
        assert_close(own["meshes"]["alike"], expected)
        assert_equal(own["meshes"]["alike"], found[0]["meshes"]["alike"])
        for name in ("guarded", "summed"):
            ranks = [*range(len(found))]
            assert f"some DTensors are over ranks [0] and some over {ranks}" in own["meshes"][name]


@pytest.mark.parametrize("cls", MIXED)
def test_shards_replicas_and_plain_tensors_count_once(cls: str, found: list[Any]) -> None:
    expected = trained(cls, [same] * 3, MIXED[cls])
    for own in found:
        assert_close(own["mixed"][cls], expected)
        assert_equal(own["mixed"][cls], found[0]["mixed"][cls])


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["plain", "DTensors", "Prodigy"])
def test_a_process_group_adds_up_what_are_other_parameters(kind: int, found: list[Any]) -> None:
    width = width_of(len(found))
    stages = len(found) // width
    whole = numbers((2 * stages, 4), torch.float64, 0)
    params = [nn.Parameter(mine(whole, stage).clone()) for stage in range(stages)]
    optimizer: Any = door.Prodigy(params) if kind == 2 else door.AdamW(params, **GUARDED)
    for t in range(STEPS):
        for stage, param in enumerate(params):
            param.grad = mine(gradient_of_parts(stages, t, kind != 2), stage).clone()
        optimizer.step()
    expected = everything(optimizer)
    for rank, own in enumerate(found):
        assert_close(own["parts"]["ends"][kind], expected[rank // width :][:1])
        assert kind == 2 or own["parts"]["skipped"][kind] == optimizer.skipped == 2


def test_a_process_group_that_does_nothing_or_counts_twice_is_refused(found: list[Any]) -> None:
    for own in found:
        assert "process_group does nothing without clip_norm, nonfinite and a rule" in own["parts"]["nothing"]
        assert re.search(r"clip_norm is 1\.0 on rank \d and 2\.0 on rank \d", own["parts"]["options"])
        assert "whose sums are those of its own mesh; nothing was stepped. Remove process_group" in own["parts"]["mesh"]


@pytest.mark.parametrize("name", ["guarded", "summed", "group", "first", "again"])
def test_a_process_group_that_was_destroyed_is_told(name: str, found: list[Any]) -> None:
    for own in found:
        assert "process group was destroyed (or never made); nothing was stepped" in own["destroyed"][name]
