"""The processes of tests: one that waits in vain, or fails, ends them all, and they say where they were."""

from __future__ import annotations

import faulthandler
import threading
from pathlib import Path
from typing import Any

import torch

from tests.doors.torch.processes import run_in_group


def waits(rank: int, world: int, folder: Path) -> None:
    faulthandler.dump_traceback_later(1, exit=True)
    if rank:
        threading.Event().wait()
    torch.distributed.barrier()


def fails(rank: int, world: int, folder: Path) -> None:
    if rank:
        raise ValueError("no more")
    torch.distributed.barrier()


def test_processes_that_wait_in_vain_say_where(tmp_path: Path, capsys: Any) -> None:
    assert 0 not in run_in_group(waits, 2, tmp_path)
    assert capsys.readouterr().err.count("in waits") == 2


def test_a_process_that_fails_ends_the_others(tmp_path: Path, capsys: Any) -> None:
    assert 0 not in run_in_group(fails, 2, tmp_path)
    said = capsys.readouterr().err
    assert "ValueError: no more" in said
    assert said.count("in fails") == 2
