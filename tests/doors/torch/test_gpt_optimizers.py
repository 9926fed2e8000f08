"""The example that compares optimizers on a GPT: what is tuned, paired, kept and drawn."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import gpt_optimizers
from examples.gpt_optimizers import OPTIMIZERS, Case
from examples.train_gpt import GPT, Config, train
from matplotlib.image import imread
from rich.console import Console

from tests import ROOT

CASE = Case("adamw", 1e-2, seed=0, steps=2, every=1, weight_decay=0.1)


def _run(name: str, lr: float, seed: int, loss: float) -> dict[str, Any]:
    return {**asdict(replace(CASE, optimizer=name, lr=lr, seed=seed)), "validation": {"1": 4.0, "2": loss}}


def test_each_optimizer_has_the_rate_with_which_it_ended_lowest() -> None:
    tuned = [_run("adamw", 1e-3, 0, 3.0), _run("adamw", 1e-2, 0, 2.0), _run("adamw", 1.0, 0, math.nan)]
    tuned += [_run("muon", 1e-3, 0, math.inf), _run("muon", 1e-2, 0, 2.5)]
    assert gpt_optimizers.tune(tuned) == {"adamw": 1e-2, "muon": 1e-2}


def test_runs_of_a_seed_are_a_pair() -> None:
    ends = {"adamw": [3.0, 2.0, 2.5], "muon": [2.9, 1.9, 2.6]}
    found = [_run(name, 1e-2, seed, loss) for name, own in ends.items() for seed, loss in enumerate(own)]
    shuffled = [found[index] for index in (4, 0, 5, 2, 3, 1)]
    assert sorted(gpt_optimizers.differences("muon", "adamw", shuffled)) == pytest.approx([-0.1, 0.1, 0.1])
    first, second = gpt_optimizers.rows({"adamw": 1e-2, "muon": 1e-2}, shuffled)
    assert first[2:] == ["2.5000", "2.0000 to 3.0000", "", ""]
    assert second[2:] == ["2.6000", "1.9000 to 2.9000", "+0.1000 (-0.1000 to +0.1000)", "2 of 3"]


def test_what_was_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = _run("adamw", 1e-2, 0, 2.0)
    CASE.path(tmp_path).write_text(json.dumps(ready))
    monkeypatch.setattr(gpt_optimizers, "run", lambda case: pytest.fail(f"{case} was run"))
    assert gpt_optimizers.runs([CASE], tmp_path, 1, Console()) == {CASE: ready}


def test_a_file_of_other_settings_is_no_run_of_these(tmp_path: Path) -> None:
    CASE.path(tmp_path).write_text(json.dumps(_run("adamw", 1e-2, 0, 2.0) | {"weight_decay": 0.0}))
    with pytest.raises(ValueError, match="is a run with other settings; choose another --output, or delete it"):
        gpt_optimizers.kept(CASE, tmp_path)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_seed_gives_all_optimizers_the_same_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt_optimizers, "CONFIG", Config(context=16, layers=1, heads=2, width=16, batch=4))
    starts: list[torch.Tensor] = []

    def note(model: Any, *rest: Any, **options: Any) -> Any:
        starts.append(model.letters.weight.detach().clone())
        return train(model, *rest, **options)

    monkeypatch.setattr(gpt_optimizers, "train", note)
    threads = torch.get_num_threads()
    try:
        first, again, other = (gpt_optimizers.run(replace(CASE, optimizer=name, seed=seed)) for seed in (0, 0, 1))
    finally:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    assert torch.equal(starts[0], GPT(gpt_optimizers.CONFIG).letters.weight)
    assert first["validation"] == again["validation"] != other["validation"]
    assert [*first["validation"]] == [1, 2]


def test_a_picture_of_the_comparison(tmp_path: Path) -> None:
    tuned = [_run(name, lr, 0, 2 + lr) for name in OPTIMIZERS for lr in (1e-3, 1e-2)]
    found = [_run(name, 1e-2, seed, 2.0 + seed) for name in OPTIMIZERS for seed in (0, 1)]
    gpt_optimizers.draw(tuned, found, OPTIMIZERS, tmp_path / "drawn.png")
    assert imread(tmp_path / "drawn.png").shape[1] > 700


def test_the_numbers_in_the_documents_are_of_the_runs_that_are_kept() -> None:
    kept = json.loads((ROOT / "docs" / "gpt_optimizers.json").read_text())
    rates = gpt_optimizers.tune(kept["tuned"])
    assert kept["rows"] == [*gpt_optimizers.rows(rates, kept["compared"])]
