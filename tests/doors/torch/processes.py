"""Processes of one group on this machine. None waits for another for good: it ends within a minute, and says where."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

PATIENCE = 50
"""After how many seconds without a word of ``alive`` a process says where it is, and ends."""
GRACE = 10
"""How many seconds the others of a process that has failed may go on: many end by themselves, with an error."""
LIBRARIES = ["steprule.torch", "torch.distributed.checkpoint", "torch.distributed.fsdp", "tests.doors.torch.sharded"]


def alive() -> None:
    """Let this process go on: without this it ends, with the stacks of its threads."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)


def run_in_group(work: Callable[..., None], world: int, folder: Path, *given: Any) -> list[int | None]:
    """Run ``work(rank, world, folder, *given)`` in processes of one group, and return their exit codes.

    They are forked from a process that has imported the libraries, which takes longer than most of what they do. What
    they say is written to this process's standard error when all have ended.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    own = folder / f"group-{uuid.uuid4().hex}"
    own.mkdir()
    members = [context.Process(target=_member, args=(own, work, rank, world, folder, *given)) for rank in range(world)]
    for member in members:
        member.start()
    _wait(members)
    for log in sorted(own.glob("*.log")):
        sys.stderr.write(f"{log.stem}:\n{log.read_text()}")
    return [member.exitcode for member in members]


def _wait(members: Sequence[Any]) -> None:
    waiting = {member.sentinel: member for member in members}
    while waiting:
        has_failed = any(member.exitcode for member in members)
        ended = connection.wait([*waiting], GRACE if has_failed else None)
        for sentinel in ended:
            waiting.pop(sentinel).join()
        for member in () if ended else waiting.values():
            os.kill(member.pid, signal.SIGABRT)  # of which it says where it was


def _member(own: Path, work: Callable[..., None], rank: int, world: int, folder: Path, *given: Any) -> None:
    log = os.open(own / f"{rank}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(log, standard)
    faulthandler.enable()
    alive()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{own}/store", rank=rank, world_size=world)
    work(rank, world, folder, *given)
    torch.distributed.barrier()  # who leaves while the other still reads ends it
    torch.distributed.destroy_process_group()
