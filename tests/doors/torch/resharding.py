"""What processes do that save a sharded run by torch.distributed.checkpoint, or go on from one of other processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import steprule
import steprule.torch as door
from steprule.errors import CheckpointError, StateError
from tests.doors.torch.processes import alive
from tests.doors.torch.sharded import Case, Place, everything, give, model_of, placed, said

CASES = {
    "float32": Case("AdamW", {}),
    "low": Case("AdamW", {"states": "8bit", "weights": "split24", "min_elements": 300}, torch.bfloat16),
    "gathered": Case("CAME", {"states": "8bit", "min_elements": 300}),
    "sums": Case("Lamb", {}, torch.float64),
}
BEFORE, AFTER = 2, 4
"""The step of the checkpoints, and that at which the runs are compared."""


class Run(NamedTuple):
    """A model and what trains it."""

    model: nn.Module
    optimizer: door.Optimizer


def run_of(case: Case, fully_shard: Callable[[nn.Module], object]) -> Run:
    model = model_of(fully_shard, case.dtype)
    return Run(model, getattr(door, case.cls)(model.parameters(), lr=0.01, **case.options))


def advance(run: Run, steps: Iterable[int], place: Place) -> None:
    for t in steps:
        alive()
        give([*run.model.parameters()], t, place)
        run.optimizer.step()


def states_of(runs: dict[str, Run]) -> dict[str, Any]:
    """Return what a checkpoint is of."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    return {name: dict(zip(Run._fields, get_state_dict(*run), strict=True)) for name, run in runs.items()}


def read(runs: dict[str, Run], folder: Path) -> None:
    from torch.distributed.checkpoint.state_dict import set_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    alive()
    states = states_of(runs)
    load(states, checkpoint_id=folder)
    for name, run in runs.items():
        own = states[name]
        set_state_dict(*run, model_state_dict=own["model"], optim_state_dict=own["optimizer"])


def last_whole(folder: Path) -> Path:
    """Return the newest checkpoint that is whole."""
    return max(folder.glob("step-*/.metadata")).parent


def _runs(names: Iterable[str] = CASES) -> tuple[dict[str, Run], Place]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    rows = placed(init_device_mesh("cpu", (torch.distributed.get_world_size(),)), Shard(0))
    alive()
    return {name: run_of(CASES[name], fully_shard) for name in names}, rows


def saves(rank: int, world: int, folder: Path) -> None:
    """Save a run, then in the background while it goes on; return what it was, and what came of it."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import async_save, save

    runs, rows = _runs()
    for run in runs.values():
        advance(run, range(BEFORE), rows)
    found = {"saved": {name: everything(run.optimizer) for name, run in runs.items()}}
    save(states_of(runs), checkpoint_id=folder / "step-2")
    torch.save(runs["low"].optimizer.state_dict(), folder / f"local-{rank}.pt")
    have_stepped, write = threading.Event(), FileSystemWriter.write_data

    def late(*args: Any) -> Any:
        have_stepped.wait()
        return write(*args)

    FileSystemWriter.write_data = late  # type: ignore[assignment, method-assign]
    # A group of its own: in that of the steps, reductions of both threads would meet.
    group = torch.distributed.new_group()
    saving: Any = async_save(states_of(runs), checkpoint_id=folder / "async", process_group=group)
    for run in runs.values():
        advance(run, range(BEFORE, AFTER), rows)
    found["went on"] = {name: everything(run.optimizer) for name, run in runs.items()}
    have_stepped.set()
    saving.result()
    if rank == 0:
        torch.save(found, folder / "expected.pt")


def dies(rank: int, world: int, folder: Path) -> None:
    """Lose the last process when it has written half of its part of a checkpoint."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    runs, _ = _runs(["low"])
    read(runs, last_whole(folder))

    def half(*args: Any) -> Any:
        (folder / "step-3" / f"__{rank}_0.distcp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    if rank == world - 1:
        FileSystemWriter.write_data = half  # type: ignore[assignment, method-assign]
    save(states_of(runs), checkpoint_id=folder / "step-3")


def typed(run: Run, folder: Path, place: Place) -> list[list[dict[str, Any]]]:
    """Do what ``steprule.save`` says of a sharded run; return what it was, and what it is when loaded again."""
    import torch.distributed.checkpoint as checkpoint
    from torch.distributed.checkpoint import state_dict

    words = said(lambda: steprule.save(folder / "x", run.optimizer), CheckpointError)
    get, save, load, put = re.findall(r"(?:state = )?\w+\([\w, =]+\)", words)
    names = {**vars(checkpoint), **vars(state_dict), **run._asdict(), "folder": folder / "typed"}
    exec(get, names)
    exec(save, names)
    found = [everything(run.optimizer)]
    advance(run, [AFTER], place)
    exec(load, names)
    exec(put, names)
    return [*found, everything(run.optimizer)]


def refusals(optimizer: door.Optimizer, folder: Path, local: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of states of other parts, and the optimizer's before and after."""
    param = nn.Parameter(torch.ones(67, 130, dtype=torch.bfloat16))
    whole = door.AdamW([param], **CASES["low"].options)
    param.grad = torch.ones_like(param)
    whole.step()
    cut, state = optimizer.state_dict(), whole.state_dict()["state"][0]
    rows = {**cut, "state": {**cut["state"], 0: state}}
    one = {**whole.state_dict(), "state": {0: cut["state"][0]}}
    before = everything(optimizer), everything(whole)
    found: dict[str, Any] = {
        "of other processes": said(lambda: optimizer.load_state_dict(local), StateError),
        "of a part": said(lambda: whole.load_state_dict(one), StateError),
    }
    if torch.distributed.get_world_size() > 1:  # else they are the same
        found["of the whole"] = said(lambda: optimizer.load_state_dict(rows), StateError)
    return {**found, "before": before, "after": (everything(optimizer), everything(whole))}


def resumes(rank: int, world: int, folder: Path) -> None:
    """Go on from the last whole checkpoint, and save again where the killed process has left its half."""
    from torch.distributed.checkpoint.state_dict_saver import save

    runs, rows = _runs()
    read(runs, last_whole(folder))
    found: dict[str, Any] = {"saved": {name: everything(run.optimizer) for name, run in runs.items()}}
    for run in runs.values():
        advance(run, range(BEFORE, AFTER), rows)
    found["went on"] = {name: everything(run.optimizer) for name, run in runs.items()}
    again = folder / f"again-{world}"
    if rank == 0:
        shutil.copytree(folder / "step-3", again)
    torch.distributed.barrier()
    save(states_of(runs), checkpoint_id=again)
    alive()
    read(runs, folder / "async")
    found["async"] = {name: everything(run.optimizer) for name, run in runs.items()}
    read(runs, again)
    found["again"] = {name: everything(run.optimizer) for name, run in runs.items()}
    found["typed"] = typed(runs["low"], folder, rows)
    found["refusals"] = refusals(runs["low"].optimizer, folder, torch.load(folder / "local-0.pt", weights_only=False))
    if rank == 0:
        torch.save(found, folder / f"resumed-{world}.pt")
