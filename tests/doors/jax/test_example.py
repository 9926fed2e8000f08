"""``examples/jax_mlp.py``: what it prints and draws, and how it answers wrong words."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from examples import jax_mlp
from PIL import Image
from typer.testing import CliRunner

pytestmark = pytest.mark.apart


@pytest.mark.slow
def test_it_trains_sweeps_and_draws(tmp_path: Path) -> None:
    command = [sys.executable, jax_mlp.__file__, "--epochs", "4", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *_, last = (float(loss) for loss in re.findall(r"loss (\d\.\d+)", done.stdout))
    assert last < 0.5 * first
    (accuracy, *_) = re.findall(r"test accuracy\s+(\d+\.\d)%", done.stdout)
    assert float(accuracy) > 85
    assert re.search(r"64 runs, lr", done.stdout)
    with Image.open(tmp_path / "jax_sweep.png") as picture:
        assert picture.width > 800
        pixels = np.asarray(picture.convert("RGBA").resize((60, 60))).reshape(-1, 4)
        assert len(np.unique(pixels, axis=0)) > 100


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--rule", "adamm"], "Did you mean 'adam"), (["--lr", "-1"], "-1"), (["--epochs", "0"], "equal to 1")],
)
def test_wrong_words_are_answered_plainly(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax_mlp, "train", partial(pytest.fail, "trained"))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(jax_mlp.main)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "Traceback" not in done.output
