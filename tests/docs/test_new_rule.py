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
"""QHAdam."""

from steprule.language import maximum, minimum, sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, Fraction, NonNegative, Positive, Rate, SecondMoment


@rule(paper="Ma & Yarats 2019, section 4.4, arXiv:1810.06801", title="QHAdam")
def qhadam(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.95,
    nu: Fraction = 0.7,
    eps: NonNegative = 1e-8,
    ceiling: Positive | None = None,
):
    """Adam whose step is a mixture of the average gradient and the gradient itself.

    ``nu`` is the share of the average. ``ceiling`` bounds the step on both sides; None: nothing does, as in the paper.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    step = ((1 - nu) * g + nu * m_hat) / (sqrt(v_hat) + eps)
    if ceiling is not None:
        step = minimum(maximum(step, -ceiling), ceiling)
    theta = theta - lr * step
    return theta, m, v
'''
LINES = [
    ("from steprule.rules.papers.lion", "from steprule.rules.papers.qhadam import qhadam"),
    ("    lion,", "    qhadam,"),
]
LOOP = '''\
"""QHADAM: Ma & Yarats 2019, section 4.4, with nu1 for both averages but that of squares, which is Adam's."""

import math


def run(theta, gradients, *, lr=1e-3, beta1=0.9, beta2=0.95, nu=0.7, eps=1e-8, ceiling=None):
    theta, m, v, path = list(theta), [0.0] * len(theta), [0.0] * len(theta), []
    for t, g in enumerate(gradients, start=1):
        for i, x in enumerate(g):
            m[i] = beta1 * m[i] + (1 - beta1) * x
            v[i] = beta2 * v[i] + (1 - beta2) * x**2
            d = (1 - nu) * x + nu * m[i] / (1 - beta1**t)
            d /= math.sqrt(v[i] / (1 - beta2**t)) + eps
            if ceiling is not None:
                d = max(-ceiling, min(d, ceiling))
            theta[i] -= lr * d
        path.append(list(theta))
    return path, {"m": m, "v": v}
'''
SEEN = """\
import torch
import steprule.jax
import steprule.torch

optimizer: steprule.torch.QHAdam = steprule.torch.QHAdam([torch.ones(3)], lr=1e-3, betas=(0.8, 0.9), ceiling=2.0)
transformation = steprule.jax.qhadam(1e-3, beta1=0.8, ceiling=None)
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
    (copy / "src/steprule/rules/papers/qhadam.py").write_text(RULE)
    (copy / "tests/papers/qhadam.py").write_text(LOOP)
    catalogue = copy / "src/steprule/rules/catalogue.py"
    text = catalogue.read_text()
    for before, line in LINES:
        assert text.count(before) == 1
        text = text.replace(before, f"{line}\n{before}")
    catalogue.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    subprocess.run([sys.executable, "docs/generate.py"], cwd=copy, env=environment, check=True)

    found = run_tests(copy, "qhadam")
    assert len(found) > 150
    assert set(found) >= {*ROOMS}
    assert len(run_tests(copy, TOGETHER)) >= 5

    (copy / "user.py").write_text(SEEN)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "user.py"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
