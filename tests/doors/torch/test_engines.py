"""Engines that reduce gradients: steps in the backward pass where they are complete, and FSDP1's flat parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import steprule.torch as door
from tests.doors.torch.engines import RELEASED, fit_whole, plain_model, work
from tests.doors.torch.ranks import GUARDED
from tests.doors.torch.test_ranks import assert_equal, found_by


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what processes have found, by rank."""
    return found_by(work, request.param, tmp_path_factory.mktemp("engines"))


@pytest.mark.parametrize("name", [*RELEASED, "replicas"])
def test_steps_in_the_backward_pass_are_along_reduced_gradients(name: str, found: list[Any]) -> None:
    for own in found:
        (usual, grads), (at_once, seen) = own[name]
        # Three numbers are added in an order that depends on where they lie among those that are reduced together.
        bound = 1e-12 if name == "Lamb" and len(found) > 2 else 0.0
        for one, other in zip(at_once, usual, strict=True):
            torch.testing.assert_close(dict(one), dict(other), rtol=bound, atol=bound * 1e-3)
        torch.testing.assert_close(seen, grads, rtol=0, atol=0)
        assert_equal(usual, found[0][name][0][0])


def test_steps_in_the_backward_pass_are_refused_where_gradients_are_not_complete(found: list[Any]) -> None:
    world = len(found)
    for own in found:
        words = own["released"]
        assert f"a plain tensor of shape (67, 130) may still have to be summed over the {world}" in words["plain"]
        assert f"those over 1 of the {world} processes of this job may still have to be summed" in words["some"]
        assert "lr (group 0) is 0.1 on rank 0 and 0.2 on rank 1" in words["options"]
        for use in ("clip", "again"):
            assert "a gradient that step_in_backward has used and freed" in words[use]


@pytest.mark.parametrize("kind", ["grouped", "whole"])
def test_flat_parts_of_fsdp1_decide_together_or_are_refused(kind: str, found: list[Any]) -> None:
    model = plain_model(torch.float64)
    fit_whole(model, door.AdamW(model.parameters(), **GUARDED))
    expected = [p.detach().flatten() for p in model.parameters()]
    for own in found:
        for params in own["flat"][kind]:
            torch.testing.assert_close(params, expected, rtol=1e-12, atol=1e-15)
        assert len(own["flat"]["alone"]) == 4
        for words in own["flat"]["alone"]:
            assert "of this process's parts alone; nothing was stepped. Pass process_group=model.process_group" in words
