"""A new optimizer is one file, one line and one loop: CONTRIBUTING.md, done in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

RULE = '''\
"""LaProp."""

from steprule.language import maximum, minimum, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Positive, Rate, SecondMoment


@rule(paper="Ziyin, Wang & Ueda 2020, Algorithm 1, arXiv:2002.04839", title="LaProp")
def laprop(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 4e-4,
    beta1: Decay = 0.8,
    beta2: Decay = 0.95,
    eps: NonNegative = 1e-15,
    ceiling: Positive | None = None,
):
    """Adam with its halves apart: g is divided by its root mean square first, and averaged then.

    ``ceiling`` bounds the divided gradient on both sides; None: nothing does, as in the paper.
    """
    v = beta2 * v + (1 - beta2) * g**2
    v_hat = v / (1 - beta2**t)
    divided = g / (sqrt(v_hat) + eps)
    if ceiling is not None:
        divided = minimum(maximum(divided, -ceiling), ceiling)
    m = beta1 * m + (1 - beta1) * divided
    m_hat = m / (1 - beta1**t)
    theta = theta - lr * m_hat
    return theta, m, v
'''
LINES = [
    ("from steprule.rules.papers.lion", "from steprule.rules.papers.laprop import laprop"),
    ("    lion,", "    laprop,"),
]
LOOP = '''\
"""LAPROP: Ziyin, Wang & Ueda 2020, Algorithm 1 (its n is v here, its mu and nu beta1 and beta2)."""

import math


def run(theta, gradients, *, lr=4e-4, beta1=0.8, beta2=0.95, eps=1e-15, ceiling=None):
    theta, m, v, path = list(theta), [0.0] * len(theta), [0.0] * len(theta), []
    for t, g in enumerate(gradients, start=1):
        for i, x in enumerate(g):
            v[i] = beta2 * v[i] + (1 - beta2) * x**2
            d = x / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
            if ceiling is not None:
                d = max(-ceiling, min(d, ceiling))
            m[i] = beta1 * m[i] + (1 - beta1) * d
            theta[i] -= lr * m[i] / (1 - beta1**t)
        path.append(list(theta))
    return path, {"m": m, "v": v}
'''
SEEN = """\
import torch
import steprule.jax
import steprule.torch

optimizer: steprule.torch.LaProp = steprule.torch.LaProp([torch.ones(3)], lr=1e-3, betas=(0.8, 0.9), ceiling=2.0)
transformation = steprule.jax.laprop(1e-3, beta1=0.8, ceiling=None)
"""
# Where a rule must be found, in the suite and beside it.
ROOMS = ["rules/test_papers", "backends/test_bits", "backends/test_c", "backends/triton/test_bits"]
ROOMS += ["doors/numpy/test_guards", "doors/torch/test_bits", "doors/jax/test_bits", "doors/jax/test_agreement"]
# What holds for all rules or classes together.
TOGETHER = "in_the_matrix or is_fresh or names_of_the_classes or defaults_are"


def run_tests(copy: Path, which: str) -> list[str]:
    """Run tests in a copy, which all must pass, and return the files of each."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "-k", which]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^tests/(\S+)\.py::.* PASSED", done.stdout, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_optimizer_is_one_file_one_line_and_one_loop(tmp_path: Path) -> None:
    copy = tmp_path / "steprule"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "shared", "race-results"))
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    (copy / "src/steprule/rules/papers/laprop.py").write_text(RULE)
    (copy / "tests/papers/laprop.py").write_text(LOOP)
    catalogue = copy / "src/steprule/rules/catalogue.py"
    text = catalogue.read_text()
    for before, line in LINES:
        assert text.count(before) == 1
        text = text.replace(before, f"{line}\n{before}")
    catalogue.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    subprocess.run([sys.executable, "docs/generate.py"], cwd=copy, env=environment, check=True)

    found = run_tests(copy, "laprop")
    assert len(found) > 150
    assert set(found) >= {*ROOMS}
    assert len(run_tests(copy, TOGETHER)) >= 5

    (copy / "user.py").write_text(SEEN)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "user.py"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
