"""Replicas (DDP), ZeroRedundancyOptimizer and FSDP1 take our optimizers as they take torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.doors.torch.processes import run_in_group
from tests.doors.torch.wrapped import WRAPPERS, works


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what two processes have found."""
    folder = tmp_path_factory.mktemp("wrapped")
    assert run_in_group(works, 2, folder) == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", WRAPPERS)
def test_parameters_are_those_of_one_process(name: str, found: list[dict[str, Any]]) -> None:
    for own in found:
        alone, wrapped = own["alone"][0], own[name]["ours"][0]
        assert all(torch.equal(value, wrapped[key]) for key, value in alone.items())


# Of original parameters torch 2.13 gathers the second moment as the first.
@pytest.mark.parametrize("name", [name for name in WRAPPERS if "original" not in name])
def test_states_are_those_of_one_process(name: str, found: list[dict[str, Any]]) -> None:
    params, state = found[0]["alone"]
    wrapped = found[0][name]["ours"][1]["state"]
    for place, key in enumerate(params):
        own = wrapped[key if key in wrapped else place]
        assert own.keys() == state["state"][place].keys()
        assert all(torch.equal(value, own[slot]) for slot, value in state["state"][place].items())


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_other_library_comes_to_the_same(name: str, found: list[dict[str, Any]]) -> None:
    ours, theirs = (found[0][name][library] for library in ("ours", "torch"))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-7)
    assert ours[1]["state"].keys() == theirs[1]["state"].keys()
    for key, own in ours[1]["state"].items():
        torch.testing.assert_close({**own}, {**theirs[1]["state"][key]}, rtol=1e-5, atol=1e-6)


def test_what_flat_parts_could_not_save_is_refused(found: list[dict[str, Any]]) -> None:
    for own in found:
        assert len(own["refusals"]) == 6
        for words in own["refusals"]:
            assert "is a flat part of FullyShardedDataParallel (FSDP1)" in words
            assert "Use fully_shard (FSDP2), which takes every format, or states='float32'" in words
