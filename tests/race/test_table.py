"""The table of a race: each rule at its best rate, how numbers are written, how it fits a terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from steprule.race import Settings, make_plan, summarize
from steprule.race.run import Run
from steprule.race.stages import known
from steprule.race.words import cells, loss, loss_format
from tests.race.cases import reported, runs_of, sgd_plan, shown, with_start, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def test_the_best_rate_has_the_lowest_median_over_the_seeds(quadratic: str) -> None:
    plan = sgd_plan(quadratic, (0.1, 1.0, 10.0), 3)
    (row,) = summarize(plan, runs_of(plan, {0.1: [0.5, 0.6, 0.7], 1.0: [0.1, 0.65, 0.66], 10.0: [0.01, None, None]}))
    assert row.best is not None
    assert (row.best.lr, row.best.median, row.low, row.high) == (0.1, 0.6, 0.5, 0.7)
    assert row.at_edge
    assert cells(row) == ("sgd", "–", "0.1*", "0.600†", "–", "50.0%", "–", "–", "4", "9/10")


def test_forgiving_near_zero_is_measured_by_the_start(quadratic: str) -> None:
    plan = sgd_plan(quadratic, (0.1, 1.0, 10.0, 20.0, 30.0), 1)
    # One percent of the start is 0.02, and ten percent of that 0.002.
    runs = runs_of(plan, {0.1: [1e-9], 1.0: [0.0019], 10.0: [0.0021], 20.0: [1.0], 30.0: [None]})
    (row,) = summarize(plan, runs)
    assert row.tolerance == pytest.approx(0.002)
    assert row.forgiving == 2 / 5
    assert cells(row)[7] == "40%"
    # A share of four rates would not tell rules apart.
    runs.popitem()
    (row,) = summarize(plan, runs)
    assert row.forgiving is None
    assert cells(row)[7] == "–"


def test_losses_that_are_rounding_are_equal_and_the_earlier_one_wins(quadratic: str) -> None:
    plan = sgd_plan(quadratic, (0.1, 1.0), 1)
    runs = runs_of(plan, {0.1: [1e-20], 1.0: [1e-30]})
    for task, found in runs.items():
        found.history.insert(1, 1.0 if task.lr == 1.0 else 0.5)
    (row,) = summarize(plan, runs)
    assert row.best is not None
    assert row.best.lr == 0.1
    assert cells(row)[3] == "<1e-12†"


def test_rules_that_diverge_everywhere_come_last(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam"), lrs=(0.1,), seeds=1))
    first, second = known(plan, {})
    rows = summarize(plan, {first: Run(diverged=True, history=[1.0]), second: Run(1, False, 0.5, {}, [1.0, 0.5])})
    assert [row.entrant.label for row in rows] == ["adam", "sgd"]
    assert cells(rows[1])[3] == "diverged"


def test_the_table_folds_into_a_narrow_terminal(quadratic: str) -> None:
    plan = make_plan(Settings(quadratic, rules=("adam(beta2=0.99)", "sgd"), lrs=(1, 2, 3, 4, 5), seeds=4))
    plan = with_start(plan, 2.0)
    losses: list[float | None] = [1.2e-4, 2.2e-4, 0.05, 2.2e-4]
    runs = reported(plan, {"adam(beta2=0.99)": losses, "sgd": losses})
    wide = shown(plan, runs, 130)
    assert "95 % interval" in wide
    middle = shown(plan, runs, 84)
    assert "95 % interval" not in middle
    for narrow, kept in ((middle, True), (shown(plan, runs, 55), False)):
        for text in ("adam(beta2=0.99)", "1*", "2.2e-04\n", "1.2e-04 to 5.0e-02"):
            assert text.rstrip() in narrow
        assert ("100%" in narrow) is kept
    assert "The report has more columns" in shown(plan, runs, 55)


@pytest.mark.parametrize(
    ("value", "plain", "scientific"),
    [(0.1234, "0.123", "1.2e-01"), (0.5, "0.500", "5.0e-01"), (12.0, "12.0", "1.2e+01"), (123.4, "123", "1.2e+02"),
     (4321.0, "4321", "4.3e+03"), (54321.0, "5.4e+04", "5.4e+04"), (-0.5, "-0.500", "-5.0e-01"),
     (1e-13, "<1e-12", "<1e-12"), (math.inf, "diverged", "diverged")],
)  # fmt: skip
def test_how_losses_are_written(value: float, plain: str, scientific: str) -> None:
    assert (loss(value), loss(value, scientific=True)) == (plain, scientific)


@pytest.mark.parametrize(("losses", "first"), [([0.1, 0.05, 0.2], "0.100"), ([0.1, 0.1, 9e-4], "1.0e-01")])
def test_a_table_has_one_format_of_losses(quadratic: str, losses: list[float | None], first: str) -> None:
    plan = sgd_plan(quadratic, (0.1,), 3)
    rows = summarize(plan, runs_of(plan, {0.1: losses}))
    assert loss_format(rows)(0.1) == first


@pytest.mark.parametrize(
    ("losses", "texts"),
    [
        ([5.0, 5.00002, 5.1], ["5.00000", "5.00002", "5.10000"]),
        ([5.0, 5.0, 5.1], ["5.00", "5.00", "5.10"]),
        ([5.0, 5.0 + 1e-13, 5.1], ["5.00", "5.00", "5.10"]),  # digits that would tell nothing more
        ([-5.0, -4.9999, -4.0], ["-5.0000", "-4.9999", "-4.0000"]),
        ([1.23e-5, 1.24e-5, 0.1], ["1.23e-05", "1.24e-05", "1.00e-01"]),
    ],
)
def test_losses_have_the_digits_that_tell_them_apart(quadratic: str, losses: list[float], texts: list[str]) -> None:
    rules = ("sgd", "adam", "lion")
    plan = make_plan(Settings(quadratic, rules=rules, lrs=(0.1,), seeds=1))
    found = dict(zip(rules, losses, strict=True))
    rows = summarize(plan, {task: Run(1, False, found[task.rule], {}, [7.0]) for task in known(plan, {})})
    written = loss_format(rows)
    assert [cells(row, None, written)[3].rstrip("†") for row in rows] == texts


def _shifted(quadratic: str, by: float) -> tuple[list[str], list[float | None], list[float | None]]:
    """Return the order of three rules, their rates and how forgiving they are, all losses moved by a number."""
    plan = with_start(
        make_plan(Settings(quadratic, rules=("sgd", "adam", "lion"), lrs=(1, 2, 3, 4, 5), seeds=1)), 4.0 + by
    )
    found = {"sgd": (0.0, 0.003, 0.005, 1, 9), "adam": (0.5, 0.54, 0.56, 0.549, 8), "lion": (2, 1.9, 2.08, 2.1, 1.8)}
    runs = {
        task: Run(1, False, by + found[task.rule][int(task.lr or 0) - 1], {}, [4.0 + by]) for task in known(plan, {})
    }
    rows = summarize(plan, runs)
    best = [row.best.lr if row.best else None for row in rows]
    return [row.entrant.label for row in rows], best, [row.forgiving for row in rows]


def test_negative_losses_are_counted_from_the_lowest_one(quadratic: str) -> None:
    plain: Any = _shifted(quadratic, 0.0)
    assert plain == (["sgd", "adam", "lion"], [1, 1, 5], [2 / 5, 3 / 5, 2 / 5])
    for by in (-0.25, -2.0, -4.0, -32.0):
        assert _shifted(quadratic, by) == plain
    # Where none is negative zero is the least, and ten percent of the best loss more.
    assert _shifted(quadratic, 32.0)[2] == [4 / 5, 4 / 5, 1.0]
