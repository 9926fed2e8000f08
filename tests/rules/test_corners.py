"""Every rule at the ends of its hyperparameters' ranges: finite numbers, or what its documentation says."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.engine import plan
from steprule.errors import HyperparameterError
from steprule.formats import FORMATS, Storage
from steprule.rules import Rule
from steprule.rules.hyperparameters import Hyperparameter
from tests.cases import COMBINED
from tests.cases import FOR_VECTORS as CATALOGUE

RULES = {**CATALOGUE, **COMBINED}
TINY, LARGE = 1e-300, 1e3
Values = dict[str, Any]

# Where the documentation says that there is nothing to divide by.
DIVIDES_BY_ZERO: dict[str, Callable[[Values], bool]] = {
    "adadelta": lambda v: v["eps"] == 0 and v["rho"] == 1,
    "rmsprop": lambda v: (
        v["eps"] == 0 and ((v["rho"] == 1 and not v["initial_scale"]) or (v["centered"] and v["rho"] == 0))
    ),
    "adabelief": lambda v: v["eps"] == 0 and v["beta1"] == 0 and not v["eps_root"],
}
# (1 + lambd lr t)^alpha is not a number of float64.
OVERFLOWS: dict[str, Callable[[Values, int], bool]] = {
    "asgd": lambda v, t: v["alpha"] * math.log10(1 + v["lambd"] * v["lr"] * t) > 308,
}


# A loss that is scaled by next to nothing has gradients that are not finite, whatever the rule.
WITHIN: dict[str, dict[str, tuple[float, float]]] = {"": {"grad_scale": (1 / LARGE, math.inf)}}
# lr multiplies an estimate that grows with the distance gone and is squared with the gradient, and the correction of
# bias does, too: steps that are too large make the next ones larger, until float32 has no number for them.
WITHIN["prodigy"] = {**dict.fromkeys(("d0", "d_coef", "lr", "weight_decay"), (1e-6, 1.0)), "beta1": (0.0, 0.999)}
WITHIN["dadapt_adam"] = {**WITHIN["prodigy"], "eps": (1e-30, math.inf)}  # in float32 it divides, and may not be 0
CORNERS = 2000
"""So many of all combinations of ends, at most, for a rule of many hyperparameters."""


def _ends(hyper: Hyperparameter, ends: tuple[float, float]) -> list[Any]:
    """Return both ends of a range, or what is next to them; large numbers stand for those without an end."""
    if hyper.is_static:
        return list(hyper.choices)
    within = hyper.range
    low = within.low if not within.open_low else math.nextafter(within.low, math.inf) if within.low else TINY
    high = LARGE if within.high == math.inf else within.high
    if within.high != math.inf and not within.closed_high:
        high = math.nextafter(high, -math.inf)
    low, high = max(low, ends[0]) if low else low, min(high, ends[1])
    return [low, high, *([None] if hyper.optional else [])]


def corners(rule: Rule) -> Iterator[Values]:
    """Return every combination of ends, or many of them, and every end beside defaults."""
    within = {**WITHIN[""], **WITHIN.get(rule.name, {})}
    ends = {name: _ends(hyper, within.get(name, (0.0, math.inf))) for name, hyper in rule.hyperparameters.items()}
    seen: set[tuple[Any, ...]] = set()
    every = list(itertools.product(*ends.values()))
    for chosen in random.Random(0).sample(every, min(len(every), CORNERS)):
        corner = _effective(rule, dict(zip(ends, chosen, strict=True)))
        if (key := tuple(corner.values())) not in seen:
            seen.add(key)
            yield corner
    for name, values in ends.items():
        for value in values:
            yield rule.resolve({name: value})


def _effective(rule: Rule, values: Values) -> Values:
    """Return the values with the defaults of those that do nothing beside the others, which are refused."""
    starts = {start for start in rule.init.values() if isinstance(start, str)}
    used = rule.trace(rule.variant(values)).used | starts
    return {
        name: value if hyper.is_static or value is None or name in used else hyper.default
        for (name, hyper), value in zip(rule.hyperparameters.items(), values.values(), strict=True)
    }


def _stepped(rule: Rule, values: Values, dtype: str) -> list[Any]:
    theta = np.array([1, -2, 0.5], dtype)
    optimizer = sr.Optimizer(theta, rule, **values)
    for t in range(1, 5):
        optimizer.step(np.array([1, -0.5, 2], dtype) * t)
    return [theta, *(slot for slot in optimizer.slots.values() if slot is not None)]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RULES)
def test_steps_at_the_ends_of_all_ranges(name: str, dtype: str) -> None:
    rule, nothing, overflows = RULES[name], DIVIDES_BY_ZERO.get(name), OVERFLOWS.get(name)
    for values in corners(rule):
        if overflows and overflows(values, 3):
            with pytest.raises(HyperparameterError, match="no value at"):
                _stepped(rule, values, dtype)
            continue
        is_finite = all(np.isfinite(array).all() for array in _stepped(rule, values, dtype))
        assert is_finite != bool(nothing and nothing(values)), values


@pytest.mark.parametrize("name", RULES)
def test_the_numbers_of_a_step_after_many_steps(name: str) -> None:
    rule, overflows = RULES[name], OVERFLOWS.get(name)
    for values in corners(rule):
        prelude = plan(rule, rule.variant(values), Storage(FORMATS["float64"])).prelude
        for t in (t for t in (1, 2, 10**6, 2**53) if not (overflows and overflows(values, t))):
            given = {**dict.fromkeys(rule.scalars, 0.25), **values, "t": t}
            # What it does not have is found over the tensor.
            numbers = prelude.function(*(given.get(argument, 0.25) for argument in prelude.arguments))
            assert all(map(math.isfinite, numbers)), (values, t)
