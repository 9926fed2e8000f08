"""The page of mistakes: its program is Adam, its mistakes are those that the check knows, its losses come again."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from examples.adam_wrong import RIGHT, SLIPS, USUAL, program, train

from steprule.checking import MISTAKES
from tests import ROOT

ROWS = {row["name"]: row for row in json.loads((ROOT / "docs" / "adam_wrong.json").read_text())}
PAGE = (ROOT / "docs" / "adam-wrong.md").read_text()
NONE = {row["beside"] for row in ROWS.values()}
"""What is right."""
TOLD = {"gradient is kept by reference", "step is returned"}
"""What the page tells in words."""


def test_the_page_has_the_program() -> None:
    assert RIGHT.strip() in PAGE


def test_the_program_is_adam() -> None:
    """As a loop over numbers has it."""
    rng = np.random.default_rng(0)
    theta, gradients = rng.standard_normal(5), rng.standard_normal((20, 5))
    params, step = [theta.copy()], program(SLIPS[0])
    state: dict[Any, Any] = {}
    m, v = [0.0] * 5, [0.0] * 5
    for t, g in enumerate(gradients, 1):
        step(params, [g.copy()], state, lr=0.01)
        for k in range(5):
            m[k] = 0.9 * m[k] + 0.1 * g[k]
            v[k] = 0.999 * v[k] + 0.001 * g[k] * g[k]
            theta[k] -= 0.01 * (m[k] / (1 - 0.9**t)) / ((v[k] / (1 - 0.999**t)) ** 0.5 + 1e-8)
        np.testing.assert_allclose(params[0], theta, rtol=1e-12)


def test_every_known_mistake_is_there_and_is_found() -> None:
    assert [slip.name for slip in SLIPS] == list(ROWS)
    wrong = {name: row["found"] for name, row in ROWS.items() if name not in NONE}
    assert {name for found in wrong.values() for name in found} | TOLD == MISTAKES.keys() | {
        "weight decay is scaled otherwise"
    }
    assert all(name in PAGE for name in TOLD)
    assert [name for name, found in wrong.items() if found != [name]] == [
        "moments in bfloat16",  # which has a name of both precisions
        "maximum after the correction",  # which is a note
    ]
    assert not any(ROWS[name]["found"] for name in NONE)
    assert set(re.findall(r"^### (.*)$", PAGE, re.MULTILINE)) == wrong.keys()


@pytest.mark.parametrize("name", ["", "no bias correction", "weight decay is in the gradient"])
def test_losses_come_again(name: str) -> None:
    slip = next(slip for slip in SLIPS if slip.name == name)
    row: dict[str, Any] = ROWS[name]
    assert train(program(slip), USUAL, seed=1)[-1] == pytest.approx(row["usual"][0], rel=0.02)
