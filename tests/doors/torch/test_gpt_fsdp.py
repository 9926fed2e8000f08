"""The example that trains a GPT in several processes: a run that fails goes on from its last checkpoint."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from examples import train_gpt_fsdp
from examples.train_gpt import Config
from examples.train_gpt_fsdp import LOOKS, Settings, kill_step, losses
from matplotlib.image import imread

from tests import ROOT
from tests.doors.torch.processes import run_in_group

TINY = Config(context=16, layers=1, heads=2, width=32, batch=4)
STEPS, KILL_AT = 6, 5


def trains(rank: int, world: int, folder: Path, kill_at: int) -> None:
    train_gpt_fsdp.run(Settings(folder, "8bit", "split24", STEPS, save_every=2, kill_at=kill_at, config=TINY))


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def test_a_run_that_fails_goes_on_as_one_that_does_not(tmp_path: Path) -> None:
    straight, failed = tmp_path / "straight", tmp_path / "failed"
    straight.mkdir()
    failed.mkdir()
    assert run_in_group(trains, 2, straight, 0) == [0, 0]
    first, killed = run_in_group(trains, 2, failed, KILL_AT)
    assert first != 0
    assert killed == -signal.SIGKILL
    assert train_gpt_fsdp.last_whole(failed) == failed / "step-000004"
    assert run_in_group(trains, 2, failed, KILL_AT) == [0, 0]
    assert losses(failed) == losses(straight)
    assert [line["step"] for line in told(failed)] == [1, 2, 3, 4, 5, 5, 6]


@pytest.mark.slow
def test_any_number_of_processes_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commands themselves: one process of four is killed, and two go on."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(train_gpt_fsdp, "FORMATS", {"float32": []})
    monkeypatch.setattr(train_gpt_fsdp, "LOOKS", {"1": LOOKS["1"]})
    train_gpt_fsdp.compare(8, 3, tmp_path)
    alone, killed = tmp_path / "float32" / "1", tmp_path / "float32" / "killed"
    assert losses(killed) == pytest.approx(losses(alone), rel=1e-4)
    assert kill_step(8, 3) == 5
    four, two = [(step, 4) for step in range(1, 6)], [(step, 2) for step in range(4, 9)]
    assert [(line["step"], line["processes"]) for line in told(killed)] == [*four, *two]
    assert imread(tmp_path / "gpt_fsdp.png").shape[1] > 700


def test_the_picture_of_the_documents_is_small() -> None:
    picture = ROOT / "docs" / "gpt_fsdp.png"
    assert picture.stat().st_size < 120_000
    assert imread(picture).shape[1] > 700


def test_windows_are_shared_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    with pytest.raises(ValueError, match="4 windows cannot be shared evenly by 3 processes"):
        train_gpt_fsdp.run(Settings(tmp_path, config=TINY))
