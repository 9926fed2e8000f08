"""A backend that the package knows nothing of steps what the NumPy door steps, with the same bits: the emitted C."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.errors import TargetError
from tests.backends.test_bits import LAYOUTS, RULES, agree, home, wild_run
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import MATRICES, case_id
from tests.covering import FIRST_CASES, SOME_CASES, swept
from tests.doors.numpy.test_formats import COMBINATIONS, arrays, assert_same_state, combination_id, fitting, gradients
from tests.doors.numpy.test_guards import all_guards, spread
from tests.launch.c_backend import CBackend

C: Any = CBackend()
SHAPES = [(3, 129), (2, 200, 2), (5,), (), (0, 3)]
STEPS = 3
# C has no type of 16-bit floats.
IN_C = [(dtype, formats) for dtype, formats in COMBINATIONS if dtype != "float16"]


def same_as_the_referee(rule: Any, dtype: str, **options: Any) -> None:
    """Step arrays of several shapes by both, with the monitor looking on, and compare all state and all readings."""
    pair = [sr.Optimizer(arrays(dtype, SHAPES), rule, backend=backend, **options) for backend in (C, "numpy")]
    monitors = [sr.Monitor(optimizer, every=2) for optimizer in pair]
    for t in range(STEPS):
        grads = [spread(np.random.default_rng([t, n]), shape, dtype) for n, shape in enumerate(SHAPES)]
        for optimizer in pair:
            optimizer.step(grads if t < STEPS - 1 else gradients(dtype, SHAPES, t))
        assert_same_state(pair[0], pair[1], f"t={t}")
    assert str(monitors[0].rows) == str(monitors[1].rows)
    assert pair[0].skipped == pair[1].skipped


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case", swept([case for case in SOME_CASES if case[0] not in MATRICES], FIRST_CASES), ids=case_id
)
def test_every_rule_and_option(case: tuple[str, dict[str, Any]], dtype: str) -> None:
    theta, grads = wild_run(1003, dtype, 6, rule=CATALOGUE[case[0]])
    agree(CATALOGUE[case[0]], theta, grads, backend=C, **case[1])


@pytest.mark.parametrize(
    "name", [name for number, name in enumerate(RULES) if number % 4 == 0 and name not in MATRICES]
)
def test_guards_and_readings(name: str) -> None:
    same_as_the_referee(RULES[name], "float32", nonfinite="skip", **all_guards(name))


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in SOME_CASES if case[0] not in MATRICES], ids=case_id)
def test_guards_and_readings_of_every_rule_and_option(case: tuple[str, dict[str, Any]]) -> None:
    for dtype in ("float32", "float64"):
        same_as_the_referee(case[0], dtype, **all_guards(case[0], **case[1]))


@pytest.mark.parametrize(("dtype", "formats"), IN_C, ids=combination_id)
def test_formats(dtype: str, formats: dict[str, Any]) -> None:
    same_as_the_referee("adam", dtype, **formats, **all_guards("adam"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RULES if name not in MATRICES])
def test_every_rule_in_formats(name: str) -> None:
    for dtype, formats in IN_C:
        same_as_the_referee(RULES[name], dtype, **fitting(RULES[name], formats))


@pytest.mark.parametrize("parameter", LAYOUTS)
def test_layouts(parameter: str) -> None:
    for along in LAYOUTS:
        theta, g = home(parameter), home(along)
        g[...] = np.random.default_rng(3).standard_normal(g.shape)
        pair = [(backend, theta.copy(order="K")) for backend in ("numpy", C)]
        if parameter not in ("C", "Fortran", "transposed"):
            pair[1] = C, theta
        for backend, own in pair:
            optimizer = sr.Optimizer(own, "adamw", backend=backend, **all_guards("adamw"))
            optimizer.step(g)
            optimizer.step(g)
        assert pair[0][1].tobytes() == pair[1][1].tobytes()


def test_gradients_in_parameters() -> None:
    x, y = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    sr.Optimizer([x, y], "sgd", lr=0.5, backend=C).step([y, x])
    np.testing.assert_array_equal([x, y], [[-4.0, -8.0], [9.5, 19.0]])


def test_what_it_cannot_do_it_says() -> None:
    with pytest.raises(TargetError, match="C has no type float16"):
        sr.Optimizer(np.zeros(3, np.float16), backend=C)


def test_an_optimizer_with_it_describes_itself_and_is_copied() -> None:
    theta = np.ones(3)
    optimizer = sr.Optimizer(theta, "adam", lr=0.1, backend=C)
    optimizer.step(np.ones(3))
    assert "adam by c" in optimizer.describe()
    twin = pickle.loads(pickle.dumps(optimizer))
    for own in (optimizer, twin):
        own.step(np.full(3, 0.5))
    assert twin.params.tobytes() == theta.tobytes()
