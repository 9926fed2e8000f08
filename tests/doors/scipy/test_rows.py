"""``steprule.minimize`` by rules that see rows and columns: x is a vector, which is one row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.rules import Rule
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.doors.scipy.bowl import Array, bowl_both, bowl_slope
from tests.papers import adafactor as adafactor_loop
from tests.papers import adam_mini as adam_mini_loop
from tests.papers import came as came_loop

LOOPS = ((adafactor, adafactor_loop.run), (came, came_loop.run), (adam_mini, adam_mini_loop.run))


@pytest.mark.parametrize(("rule", "run"), LOOPS, ids=[rule.name for rule, _ in LOOPS])
def test_the_path_is_the_papers_of_a_vector(rule: Rule, run: object) -> None:
    seen: list[Array] = []
    start = np.array([0.5, -0.25, 1.0])
    sr.minimize(bowl_both, start, rule=rule, jac=True, lr=0.03, maxiter=30, gtol=0, callback=seen.append)
    gradients = [bowl_slope(x).tolist() for x in (start, *seen[:-1])]
    path, _ = run(start.tolist(), gradients, lr=0.03)  # type: ignore[operator]
    np.testing.assert_allclose(np.array(seen), np.array(path), rtol=1e-10)


@pytest.mark.parametrize("rule", [adafactor, came, adam_mini, sr.centralized("adam")], ids=lambda rule: rule.name)
def test_a_matrix_is_flattened_to_one_row(rule: Rule) -> None:
    """As scipy.optimize.minimize sees it, whatever its shape was; the bits are those of an optimizer of the vector."""
    start = np.array([[0.5, -0.25, 1.0]])
    found = sr.minimize(bowl_both, start, rule=rule, jac=True, maxiter=20, gtol=0)
    x = start.ravel().copy()
    optimizer = sr.Optimizer(x, rule)
    for _ in range(20):
        optimizer.step(bowl_slope(x))
    np.testing.assert_array_equal(found.x, x)


@pytest.mark.parametrize("rule", [came, adam_mini], ids=lambda rule: rule.name)
def test_a_run_is_resumed_exactly(rule: Rule) -> None:
    options: dict[str, Any] = {"rule": rule, "jac": True, "gtol": 0}
    start = [0.5, -0.25, 1.0]
    whole = sr.minimize(bowl_both, start, maxiter=20, **options)
    first = sr.minimize(bowl_both, start, maxiter=12, **options)
    second = sr.minimize(bowl_both, None, state=first.state, maxiter=8, **options)
    np.testing.assert_array_equal(second.x, whole.x)
