"""The arithmetic of scale, from bytes that are counted by hand, and from those of an optimizer that was made."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from benchmarks import scale

import steprule as sr
from steprule.rules import load


def _rows(capsys: Any, *words: str) -> list[list[str]]:
    """Return the cells of the tables that the command prints."""
    scale.main(words)
    lines = capsys.readouterr().out.splitlines()
    return [line[2:-2].split(" | ") for line in lines if line.startswith("|") and "---" not in line]


def test_float32_adamw_by_hand(capsys: Any) -> None:
    """theta, m and v are kept; beside them there is g; theta, g, m and v are read, theta, m and v written."""
    rows = _rows(capsys, "--bandwidth", "2000", "--ranks", "1,8")
    kept, gradient, moved = 3 * 4, 4, (4 + 3) * 4
    float32 = [row for row in rows if row[0] == "float32, float32"]
    assert float32[0][1:] == [f"{kept}", f"{kept + gradient}", f"{moved}"]
    for row, billions in zip(float32[1:], (8, 70, 405), strict=True):
        sizes = [float(number.replace(",", "")) for number in re.findall(r"[\d.,]*\d", " ".join(row[1:]))]
        one = [billions * (kept + gradient), billions * moved / 2000 * 1000]
        assert sizes == [billions * kept, *one, *(float(f"{number / 8:.3g}") for number in one)]
    assert [row[2:] for row in rows if row[0] == "parameters, states"][1:] == 3 * [["1 rank", "8 ranks"]]


@pytest.mark.parametrize(
    ("rule", "states"),
    [("adamw", "float32"), ("adamw", "bfloat16"), ("adamw", "8bit"), ("lion", "4bit"), ("adafactor", "float32")],
)
def test_bytes_are_those_of_an_optimizer(rule: str, states: str) -> None:
    text = sr.Optimizer(np.zeros((1024, 1024), np.float32), rule, lr=0.1, states=states).describe()
    kept, with_gradient = re.findall(r"([\d.]+) bytes per parameter \(([\d.]+) with gradients\)", text)[0]
    found = scale.costs(load(rule), "float32", "nearest", states)
    # Numbers of rows and columns are fewer in the larger matrix of the table.
    assert found.kept == pytest.approx(float(kept), abs=0.01)
    assert found.kept + found.gradient == pytest.approx(float(with_gradient), abs=0.01)


def test_low_precision_by_hand() -> None:
    adamw = load("adamw")
    group = 1 / 128
    eight = scale.costs(adamw, "bfloat16", "split24", "8bit")
    assert (eight.kept, eight.gradient) == (2 + 1 + 2 * (1 + group), 2)
    assert eight.moved == 2 * eight.kept + 2
    four = scale.costs(adamw, "bfloat16", "stochastic", "4bit")
    assert (four.kept, four.moved) == (2 + 2 * (0.5 + group), 2 * (2 + 2 * (0.5 + group)) + 2)


def test_a_rule_without_slots_has_no_formats_of_states() -> None:
    assert list(scale.choices(load("sgd"))) == ["float32, float32", "bfloat16, float32", "bfloat16 split32, float32"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bandwidth", "0"], "must be a positive number, got 0"),
        (["--ranks", "8,0"], "must be whole numbers of at least 1, got 8,0"),
        (["--rule", "adm"], "Did you mean 'adam'"),
    ],
)
def test_wrong_options(words: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        scale.main(words)
    assert message in capsys.readouterr().err
