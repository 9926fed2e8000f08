"""The page of other libraries: what it tells to write can be written, and of torch.optim nothing is left out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import optax
import optax.contrib
import pytest
import torch

import steprule as sr
import steprule.jax
import steprule.torch
from tests import ROOT

PAGE = (ROOT / "docs" / "migrating.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
ROWS = [
    (section, *(cell.strip() for cell in line.strip("|").split(" | ")))
    for section, text in SECTIONS.items()
    for line in re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    if not line.startswith((" you have", "---"))
]
RULES = [(row[0], row[2][1 : row[2].index("`", 1)]) for row in ROWS if row[2].startswith('`"')]
"""What is written for an optimizer of NumPy: a rule, and its hyperparameters."""
CLASSES = [(row[0], code) for row in ROWS for code in re.findall(r"`([A-Z]\w+\([^`]*\))", row[2]) if "..." not in code]
"""Classes with arguments, of PyTorch."""


def test_there_are_tables() -> None:
    assert list(SECTIONS) == [
        "torch.optim",
        "optax",
        "bitsandbytes",
        "torchao",
        "Keras",
        "pytorch-optimizer",
        "HeavyBall",
    ]
    assert len(RULES) >= 12
    assert len(CLASSES) >= 12


@pytest.mark.parametrize(("section", "code"), RULES, ids=str)
def test_rules_can_be_made(section: str, code: str) -> None:
    eval(f"sr.Optimizer([np.ones((4, 3)), np.ones(4)], {code})", {"sr": sr, "np": np})


@pytest.mark.parametrize(("section", "code"), CLASSES, ids=str)
def test_classes_can_be_made(section: str, code: str) -> None:
    params = [torch.nn.Parameter(torch.zeros(64, 64))]
    if not code.startswith("Optimizer("):
        code = code.replace("(", "(params, ", 1)
    names: dict[str, Any] = {"sr": sr, "params": params, "rule": "adam", "w": 0.1, "T": 100}
    eval(code, {**vars(steprule.torch), **names})


def test_all_of_torch_optim_is_there() -> None:
    theirs = {name for name in dir(torch.optim) if name[0].isupper() and name != "Optimizer"}
    named = set(re.findall(r"`(\w+)`", SECTIONS["torch.optim"]))
    assert theirs <= named
    assert {name for name in theirs if not hasattr(steprule.torch, name)} == {"LBFGS"}


@pytest.mark.skipif("Version " + optax.__version__ not in PAGE, reason="the page is about another version of optax")
def test_what_is_said_of_optax_is_there() -> None:
    """What optax has and steprule.jax has not, and the other way round."""
    rows = [row for row in ROWS if row[0] == "optax"]
    without = next(row for row in rows if "sm3" in row[1])
    for name in re.findall(r"`([\w.]+)`", without[1]):
        own = name.removeprefix("contrib.")
        assert hasattr(optax, own) or hasattr(optax.contrib, own), name
        assert not hasattr(steprule.jax, own), name
    for name in ("muon", "prodigy", "dadapt_adamw", "schedule_free_sgd", "schedule_free_adamw", "adopt", "ademamix"):
        assert hasattr(optax.contrib, name)
        assert hasattr(steprule.jax, name)
