"""Checkpoints of sharded runs, by torch.distributed.checkpoint: they go on in any number of processes, exactly."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.doors.torch.processes import run_in_group
from tests.doors.torch.resharding import CASES, dies, last_whole, resumes, saves
from tests.doors.torch.test_sharded import assert_equal

WORLDS = [(3, 2), (3, 1), *(pytest.param(one, marks=pytest.mark.slow) for one in [(2, 3), (4, 2), (4, 3), (4, 1)])]
"""How many processes save, and how many go on."""
Found = tuple[Path, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {}


@pytest.fixture(scope="module", params=WORLDS, ids=str)
def resumed(
    request: pytest.FixtureRequest, checkpoints: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Found:
    """Return a folder of checkpoints, the run that was saved there, and those that went on from it."""
    world, others = request.param
    if world not in checkpoints:
        folder = checkpoints[world] = tmp_path_factory.mktemp("resharding")
        assert run_in_group(saves, world, folder) == [0] * world
        *survivors, killed = run_in_group(dies, world, folder)
        assert killed == -signal.SIGKILL
        assert 0 not in survivors
    folder = checkpoints[world]
    assert run_in_group(resumes, others, folder) == [0] * others
    expected, found = (torch.load(folder / f"{name}.pt") for name in ("expected", f"resumed-{others}"))
    return folder, expected, found


@pytest.mark.parametrize("name", CASES)
def test_what_is_loaded_is_what_was_saved(name: str, resumed: Found) -> None:
    _, expected, found = resumed
    assert_equal(found["saved"][name], expected["saved"][name])


@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_on_as_it_would_have(name: str, resumed: Found) -> None:
    _, expected, found = resumed
    if name != "sums":
        assert_equal(found["went on"][name], expected["went on"][name])
    for own, other in zip(found["went on"][name], expected["went on"][name], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_a_save_in_the_background_is_of_its_moment(name: str, resumed: Found) -> None:
    _, expected, found = resumed
    assert_equal(found["async"][name], expected["saved"][name])


@pytest.mark.parametrize("name", CASES)
def test_the_place_of_a_save_that_was_killed_is_saved_to_again(name: str, resumed: Found) -> None:
    found = resumed[2]
    assert_equal(found["again"][name], found["went on"][name])


def test_a_process_killed_while_saving_leaves_the_last_whole_checkpoint(resumed: Found) -> None:
    folder = resumed[0]
    assert (folder / "step-3").is_dir()
    assert not (folder / "step-3" / ".metadata").exists()
    assert last_whole(folder) == folder / "step-2"


def test_what_save_says_of_a_sharded_run_can_be_typed(resumed: Found) -> None:
    for own, other in zip(*resumed[2]["typed"], strict=True):
        kept = own.keys() - {"param"}
        assert kept
        assert_equal([{key: own[key] for key in kept}], [{key: other[key] for key in kept}])
        assert not torch.equal(own["param"], other["param"])


def test_states_of_other_parts_are_refused(resumed: Found) -> None:
    found = resumed[2]["refusals"]
    reshards = "Load it by torch.distributed.checkpoint (set_optimizer_state_dict), which reshards"
    assert all(words.endswith(reshards) for name, words in found.items() if name.startswith("of"))
    assert re.search(r"sharded as S.+ over \(\d,\) processes, and its parameter is shard", found["of other processes"])
    if "of the whole" in found:
        assert "this process's part of a DTensor" in found["of the whole"]
    assert re.search(r"sharded as S.+ over \(\d,\) processes, and its parameter is in one piece", found["of a part"])
    for own, other in zip(found["before"], found["after"], strict=True):
        assert_equal(own, other)
