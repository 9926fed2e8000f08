"""``examples/jax_mlp.py``: what it prints and draws, and how it answers wrong words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import ROOT

pytestmark = pytest.mark.apart

EXAMPLE = ROOT / "examples" / "jax_mlp.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(EXAMPLE), *words], capture_output=True, text=True, check=False)


def test_it_trains_sweeps_and_draws(tmp_path: Path) -> None:
    done = run("--epochs", "4", "--output", str(tmp_path))
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
def test_wrong_words_are_answered_plainly(words: list[str], said: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
