"""Which laws a rule obeys: found by stepping it, on a small matrix and in float64, by the referee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import steprule as sr
from steprule.report.table import markdown_table
from steprule.rules import Rule

__all__ = ["table"]

_Array = NDArray[np.float64]
_RATE = 0.25
_NEAR = 1e-6
_BITS, _NEARLY, _NO = "yes, in every bit", "to one part in a million", "no"


def table(rule: Rule) -> str:
    """Return the laws of a rule with its default options as a table, in Markdown."""
    return markdown_table(["law", "obeyed"], [[words, found(rule)] for words, found in _LAWS.items()])


def _inputs() -> tuple[_Array, _Array]:
    rng = np.random.default_rng(7)
    return rng.normal(size=(3, 2)), rng.uniform(0.5, 2.0, (6, 3, 2)) * rng.choice([-1.0, 1.0], (6, 3, 2))


def _path(rule: Rule, theta: _Array, gradients: _Array, **values: Any) -> _Array:
    """Return the parameter before the first step and after each."""
    theta, points = theta.copy(), [theta.copy()]
    optimizer = sr.Optimizer(theta, rule, backend="numpy", **values)
    for gradient in gradients:
        optimizer.step(gradient)
        points.append(theta.copy())
    return np.array(points)


def _without_eps(rule: Rule) -> dict[str, float]:
    if "eps" not in rule.trace().used:
        return {}
    # Some rules ask for a positive one.
    return {"eps": 1e-300 if "positive" in rule.hyperparameters["eps"].kind else 0.0}


def _compared(one: _Array, other: _Array) -> str:
    if np.array_equal(one, other):
        return _BITS
    return _NEARLY if np.allclose(one, other, rtol=_NEAR, atol=_NEAR * float(np.abs(other).max())) else _NO


def _odd(rule: Rule) -> str:
    theta, gradients = _inputs()
    return _compared(_path(rule, -theta, -gradients), -_path(rule, theta, gradients))


def _scale_free(rule: Rule) -> str:
    theta, gradients = _inputs()
    values = _without_eps(rule)
    return _compared(_path(rule, theta, 4 * gradients, **values), _path(rule, theta, gradients, **values))


def _proportional(rule: Rule) -> str:
    theta, gradients = np.zeros((3, 2)), _inputs()[1]
    return _compared(_path(rule, theta, 4 * gradients), 4 * _path(rule, theta, gradients))


def _of_the_rate(rule: Rule) -> str:
    if "lr" not in rule.hyperparameters:
        return "it has no rate"
    theta, gradients = np.zeros((3, 2)), _inputs()[1]
    return _compared(_path(rule, theta, gradients, lr=2 * _RATE), 2 * _path(rule, theta, gradients, lr=_RATE))


def _anywhere(rule: Rule) -> str:
    theta, gradients = _inputs()
    steps = [np.diff(_path(rule, start, gradients, lr=_RATE), axis=0) for start in (theta, theta + 1)]
    return "yes, but for rounding" if np.allclose(*steps, rtol=1e-9, atol=1e-12) else _NO


def _at_rest(rule: Rule) -> str:
    theta, gradients = _inputs()
    return _compared(_path(rule, theta, 0 * gradients)[-1], theta)


def _first_step(rule: Rule) -> str:
    theta, gradients = np.zeros((3, 2)), _inputs()[1]
    first = np.abs(_path(rule, theta, gradients[:1], lr=_RATE, **_without_eps(rule))[1]) / _RATE
    size = float(first.mean())
    if size == 0 or not np.allclose(first, size, rtol=1e-9):
        return _NO
    return "yes, by lr" if abs(size - 1) < 1e-9 else f"yes, by {size:.3g} lr"


_LAWS: dict[str, Callable[[Rule], str]] = {
    "With parameter and gradients negated, the path is negated": _odd,
    "Gradients four times as large change nothing (with `eps` = 0, where it has one)": _scale_free,
    "Gradients four times as large take steps four times as long (from zero)": _proportional,
    "Twice the rate takes steps twice as long (from zero)": _of_the_rate,
    "Steps do not depend on where the parameter is": _anywhere,
    "With gradients of zero, nothing moves": _at_rest,
    "The first step moves all elements equally far, whatever their gradients (from zero, `eps` = 0)": _first_step,
}
