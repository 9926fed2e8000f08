"""DTensors in the launch of their process: the bits of whole tensors, sums over all parts, states that reshard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.doors.torch.processes import run_in_group
from tests.doors.torch.sharded import (
    COLUMNS,
    EXACT,
    GATHERED,
    MATRICES,
    STEPS,
    SUMMED,
    evaluated,
    everything,
    forwarded,
    give,
    loaded,
    model_of,
    monitored,
    optimizer_of,
    run,
    work,
)

WORLDS = [3, *(pytest.param(world, marks=pytest.mark.slow) for world in (1, 2, 4))]


@pytest.fixture(scope="module", params=WORLDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return what processes have found, by rank, and where they have saved a model."""
    world, folder = request.param, tmp_path_factory.mktemp("sharded")
    assert run_in_group(work, world, folder) == [0] * world
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def same(tensor: Tensor) -> Tensor:
    return tensor


def bits_of(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


def assert_equal(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> None:
    """Assert that all tensors have the same bits."""
    for own, other in zip(found, expected, strict=True):
        assert own.keys() == other.keys()
        for key in own:
            assert own[key].dtype == other[key].dtype
            assert torch.equal(bits_of(own[key]), bits_of(other[key])), key


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.dear
def test_parts_have_the_bits_of_the_whole(name: str, shared: tuple[Path, list[Any]]) -> None:
    expected = everything(run(EXACT[name], same))
    for found in shared[1]:
        assert_equal(found[name], expected)


def test_forward_passes_see_the_point_that_was_switched_to(shared: tuple[Path, list[Any]]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = forwarded(lambda layer: None, same)
    torch.set_num_threads(threads)
    assert not torch.equal(*expected)
    for found in shared[1]:
        assert all(map(torch.equal, found["forwarded"], expected))


@pytest.mark.parametrize("name", GATHERED)
def test_what_sees_rows_and_columns_has_the_bits_of_the_whole(name: str, shared: tuple[Path, list[Any]]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as there: products of matrices have the bits of so many
    expected = everything(run(GATHERED[name], same, MATRICES, is_kept=False))
    torch.set_num_threads(threads)
    for found in shared[1]:
        assert_equal(found[name], expected)


@pytest.mark.parametrize("name", COLUMNS)
def test_parts_that_are_columns_have_the_bits_of_the_whole(name: str, shared: tuple[Path, list[Any]]) -> None:
    expected = everything(run(EXACT[name], same, MATRICES))
    for found in shared[1]:
        assert_equal(found[f"columns of {name}"], expected)


def test_states_of_what_is_stepped_whole_are_loaded_and_evaluated(shared: tuple[Path, list[Any]]) -> None:
    for found in shared[1]:
        assert_equal(found["columns, evaluated"], evaluated(same, MATRICES))
        for own, expected in zip(found["loaded"], loaded(same), strict=True):
            assert_equal(own, everything(expected))


@pytest.mark.parametrize("name", SUMMED)
def test_sums_are_over_all_parts(name: str, shared: tuple[Path, list[Any]]) -> None:
    expected = everything(run(SUMMED[name], same))
    for found in shared[1]:
        for own, other in zip(found[name], expected, strict=True):
            torch.testing.assert_close(own, dict(other), rtol=1e-12, atol=1e-15)
        assert_equal(found[name], shared[1][0][name])
        # LAMB sums in one pass, and so do guards; Prodigy counts its elements, and sums in one pass.
        assert found[f"reductions of {name}"] == 1


def test_replicas_count_once(shared: tuple[Path, list[Any]]) -> None:
    expected = everything(run(SUMMED["clip_norm"], same))
    for found in shared[1]:
        for own, other in zip(found["replicas"], expected, strict=True):
            torch.testing.assert_close(own, dict(other), rtol=1e-12, atol=1e-15)


def test_parts_may_be_columns(shared: tuple[Path, list[Any]]) -> None:
    expected = everything(run(SUMMED["Lamb"], same, [(5, 7, 3), (4, 2)]))
    for found in shared[1]:
        for own, other in zip(found["columns"], expected, strict=True):
            torch.testing.assert_close(own, dict(other), rtol=1e-12, atol=1e-15)


def test_a_monitor_reads_the_whole(shared: tuple[Path, list[Any]]) -> None:
    expected = monitored(same)
    for found in shared[1]:
        for own, other in zip(found["monitored"], expected, strict=True):
            assert own.keys() == other.keys()
            for key, value in other.items():
                assert own[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), key


def test_the_evaluated_point_of_parts(shared: tuple[Path, list[Any]]) -> None:
    for found in shared[1]:
        assert_equal(found["evaluated"], evaluated(same))


def test_what_cannot_be_is_said(shared: tuple[Path, list[Any]]) -> None:
    for found in shared[1]:
        words = found["refusals"]
        assert "is a DTensor, and differentiable=True; nothing was stepped" in words["differentiable"]
        if len(shared[1]) > 1:
            assert "whose sums are those of its own mesh; nothing was stepped" in words["process_group"]
        assert "set_optimizer_state_dict(model, optimizer, state)" in words["save"]
        if len(shared[1]) > 1:
            assert "set_optimizer_state_dict), which reshards" in words["placements"]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process of a group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_a_checkpoint_of_many_processes_goes_on_in_one(shared: tuple[Path, list[Any]], tmp_path: Path) -> None:
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    straight = model_of(lambda layer: None)
    expected, reference = optimizer_of(straight), model_of(lambda layer: None)
    optimizer = optimizer_of(reference)
    with alone(tmp_path):
        of_model, of_optimizer = get_state_dict(reference, optimizer)
        states: dict[str, Any] = {"model": of_model, "optimizer": of_optimizer}
        load(states, checkpoint_id=shared[0] / "saved")
        set_state_dict(reference, optimizer, model_state_dict=states["model"], optim_state_dict=states["optimizer"])
    for t in range(STEPS):
        for own, params in ((expected, [*straight.parameters()]), (optimizer, [*reference.parameters()])):
            if own is expected or t >= 3:
                give(params, t, same)
                own.step()
    assert_equal(everything(optimizer), everything(expected))
