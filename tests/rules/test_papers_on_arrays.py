"""Rules that no optimizer steps by so far, called on arrays, against their papers' loops."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from steprule.rules import Rule
from steprule.rules.papers.dadapt_adam import dadapt_adam
from steprule.rules.papers.novograd import novograd
from steprule.rules.papers.prodigy import prodigy
from tests.cases import Array, unlike_defaults, variants

RULES: dict[str, Rule] = {rule.name: rule for rule in (novograd, prodigy, dadapt_adam)}
CASES = [(name, options) for name, rule in RULES.items() for options in variants(rule)]
RELATIVE = 1e-9


def walked(rule: Rule, theta: Array, gradients: Array, **options: Any) -> tuple[list[Array], dict[str, Any]]:
    """Return theta after each step of calls, and the slots that are kept."""
    values = rule.resolve(options)
    starts = {slot: rule.init.get(slot, 0.0) for slot in rule.slots}
    slots = [values[start] if isinstance(start, str) else start for start in starts.values()]
    slots = [x if name in rule.numbers else np.full_like(theta, x) for name, x in zip(rule.slots, slots, strict=True)]
    path = []
    for t, g in enumerate(gradients, start=1):
        theta, *slots = rule(theta, g, *slots, t=t, **options)
        path.append(theta)
    return path, {name: x for name, x in zip(rule.slots, slots, strict=True) if x is not None}


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("unlike", [False, True])
def test_called_on_arrays_it_is_the_paper(name: str, options: dict[str, Any], unlike: bool) -> None:
    rule = RULES[name]
    if unlike:
        options = {**unlike_defaults(rule, options), **options}
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((40, 9)) * 10.0 ** rng.uniform(-3, 1, 9) + np.linspace(-1, 1, 9)
    gradients[20:, 0] = 0.0
    theta = np.linspace(-2, 3, 9)
    path, slots = walked(rule, theta, gradients, **options)
    expected, kept = importlib.import_module(f"tests.papers.{name}").run(theta.tolist(), gradients.tolist(), **options)
    np.testing.assert_allclose(path, expected, rtol=RELATIVE, atol=RELATIVE)
    assert set(slots) == set(kept)
    for slot, value in kept.items():
        scale = np.max(np.abs(value))
        np.testing.assert_allclose(slots[slot], value, rtol=RELATIVE, atol=RELATIVE * scale)
