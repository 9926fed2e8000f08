"""How fast a second moment forgets is computed from its update: what the rule calls anything decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule import Decay, FirstMoment, NonNegative, Positive, Rate, Rule, Scalar, SecondMoment, rule, sqrt
from steprule.monitor.judge import look_back
from steprule.monitor.seen import Seen
from steprule.rules import CATALOGUE
from steprule.rules.averaging import averaging
from steprule.rules.hyperparameters import Role

STEPS = 12


def looked_at(own: Rule, steps: int = STEPS, **options: Any) -> list[Seen]:
    """Return what illnesses look at in the last readings of steps along a gradient that is always the same."""
    theta = np.full((8, 3), 0.5)
    optimizer = sr.Optimizer(theta, own, **options)
    with sr.Monitor(optimizer, every=1) as monitor:
        for _ in range(steps):
            optimizer.step(np.full((8, 3), -3.0))
    (series,) = look_back(monitor._window, monitor._peaks, clips=False).values()
    return series


def decays(own: Rule, **options: Any) -> list[float | None]:
    return [one.decay for one in looked_at(own, **options)]


# The catalogue.

DECAYS: dict[str, str] = {
    "adam": "beta2",
    "adamw": "beta2",
    "amsgrad": "beta2",
    "nadam": "beta2",
    "radam": "beta2",
    "yogi": "beta2",
    "ademamix": "beta2",
    "adopt": "beta2",
    "adan": "beta3",
    "lamb": "beta2",
    "laprop": "beta2",
    "rmsprop": "rho",
    "schedule_free_adamw": "beta2",
}
"""What papers call the decay of the average of squares."""


def test_every_second_moment_is_here() -> None:
    assert set(DECAYS) == {name for name, own in CATALOGUE.items() if own.slot_of(Role.SECOND_MOMENT)}
    assert all(averaging(own, own.variant(own.resolve({}))) is None for n, own in CATALOGUE.items() if n not in DECAYS)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.9, 0.999])
@pytest.mark.parametrize("name", DECAYS)
def test_the_decay_is_that_of_the_papers(name: str, value: float) -> None:
    found = decays(CATALOGUE[name], **{DECAYS[name]: value})
    expected = None if name == "yogi" and value == 0 else value  # it moves by all of what comes in: there is no average
    assert found == [expected] * len(found)


def test_other_decays_are_not_meant() -> None:
    assert set(decays(CATALOGUE["adan"], beta1=0.5, beta2=0.6, beta3=0.7)) == {0.7}
    assert set(decays(CATALOGUE["ademamix"], beta1=0.5, beta2=0.6, beta3=0.7)) == {0.6}
    assert set(decays(CATALOGUE["rmsprop"], rho=0.6, momentum=0.5, centered=True)) == {0.6}
    assert set(decays(CATALOGUE["adam"], beta2=lambda t: 1 - 1 / (t + 1))) == {
        1 - 1 / (t + 1) for t in range(STEPS - 4, STEPS + 1)
    }


STEADY: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in DECAYS if name not in ("adopt", "yogi")),
    ("adam", {"bias_correction": False}),
    ("adan", {"bias_correction": False}),
    ("adan", {"bias_correction": False, "beta2": 0.3}),
    ("yogi", {"bias_correction": True}),
    ("yogi", {"bias_correction": False}),
    ("rmsprop", {"centered": True}),
    ("rmsprop", {"eps_inside": True}),
    ("adam", {"eps_hat": True}),
    ("nadam", {"psi": None}),
    *(("amsgrad", {"correction": way}) for way in ("none", "after_max", "before_max")),
]


@pytest.mark.parametrize(("name", "options"), STEADY, ids=str)
def test_steady_gradients_exceed_nothing_however_v_starts(name: str, options: dict[str, Any]) -> None:
    for steps in (2, STEPS):
        for one in looked_at(CATALOGUE[name], steps, **options):
            # Yogi's v grows by equal steps, from a millionth: to t (1 - beta2), not to 1 - beta2**t.
            assert one.excess == pytest.approx(1, rel=1e-2 if name == "yogi" else 1e-9)


# Rules of one's own.


@rule
def bare(theta, w, a: FirstMoment, s: SecondMoment, *, t, lr: Rate = 1e-3, fade: Decay = 0.75):
    s = fade * s + (1 - fade) * w**2
    return theta - lr * w / sqrt(s / (1 - fade**t)), w, s


@rule
def by_its_complement(theta, g, v: SecondMoment, *, t, lr: Rate = 1e-3, alpha: Positive = 0.25):
    v = (1 - alpha) * v + alpha * g**2
    return theta - lr * g / sqrt(v / (1 - (1 - alpha) ** t)), v


@rule
def moved(theta, g, v: SecondMoment, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    """As an interpolation; and not corrected."""
    v = v + (1 - beta2) * (g**2 - v)
    return theta - lr * g / (sqrt(v) + 1e-12), v


@rule
def written_out(theta, g, v: SecondMoment, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    v = v - (1 - beta2) * v + g * (1 - beta2) * g + 1e-30
    return theta - lr * g / sqrt(v), v


@rule
def of_numbers(theta, g, v: SecondMoment, *, lr: Rate = 1e-3, beta2: Rate = 0.1):
    """The decay is not a hyperparameter, and what is called beta2 is something else."""
    v = 0.75 * v + 0.25 * g**2
    return theta - lr * (g + beta2) / sqrt(v), v


@rule
def from_the_first(theta, g, v: SecondMoment, *, t, lr: Rate = 1e-3, beta2: Decay = 0.75):
    """v begins as the first square, so there is nothing to correct."""
    v = sr.where(t == 1, g**2, beta2 * v + (1 - beta2) * g**2)
    return theta - lr * g / sqrt(v), v


@rule
def slower_and_slower(theta, g, v: SecondMoment, *, t, lr: Rate = 1e-3, power: NonNegative = 0.8):
    """As Adafactor (Shazeer & Stern 2018, section 7.2): the decay is 0 at first."""
    beta2_t = 1 - t**-power
    v = beta2_t * v + (1 - beta2_t) * g**2
    return theta - lr * g / sqrt(v), v


@rule(init={"left": 1.0})
def by_product(theta, g, v: SecondMoment, left: Scalar, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    """Corrected by a running product."""
    left = left * beta2
    v = beta2 * v + (1 - beta2) * g**2
    return theta - lr * g / sqrt(v / (1 - left)), v, left


@rule
def corrected_elsewhere(theta, g, v: SecondMoment, *, t, lr: Rate = 1e-3, beta2: Decay = 0.75, bias_correction=False):
    """The step length is corrected, and v is not; the option of that name is another one."""
    v = beta2 * v + (1 - beta2) * g**2
    scale = math.sqrt(1 - beta2**t)
    return theta - lr * (2.0 if bias_correction else 1.0) * scale * g / sqrt(v), v


OWN: list[Rule] = [
    bare,
    by_its_complement,
    moved,
    written_out,
    of_numbers,
    from_the_first,
    corrected_elsewhere,
    by_product,
]
COMBINED: list[Callable[[Rule], Rule]] = [sr.l2, sr.decoupled, sr.maximize, sr.unscaled, sr.cautious]


@pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)
def test_the_decay_of_a_rule_of_ones_own(own: Rule) -> None:
    for one in looked_at(own):
        assert one.decay == 0.75
        assert one.excess == pytest.approx(1, rel=1e-9)


@rule
def above_a_floor(theta, g, v: SecondMoment, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    v = beta2 * v + (1 - beta2) * g**2 + 0.125
    return theta - lr * g / sqrt(v), v


def test_what_is_added_besides_is_no_part_of_the_decay() -> None:
    assert decays(above_a_floor) == [0.75] * 5


def test_a_decay_that_changes_with_t() -> None:
    for one in looked_at(slower_and_slower):
        assert one.decay == 1 - one.reading.t**-0.8
        assert one.excess == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("combine", COMBINED)
@pytest.mark.parametrize("own", [bare, moved, CATALOGUE["yogi"]], ids=lambda own: own.name)
def test_rules_of_rules_forget_as_the_rule_inside(own: Rule, combine: Callable[[Rule], Rule]) -> None:
    options = {"grad_scale": 1024.0} if combine is sr.unscaled else {}
    assert decays(combine(own), **options) == decays(own)


@pytest.mark.parametrize("own", [bare, by_its_complement, of_numbers], ids=lambda own: own.name)
def test_how_the_decay_is_called(own: Rule) -> None:
    name = {"bare": "fade"}.get(own.name)
    assert {one.decay_name for one in looked_at(own)} == {name}


# What does not forget.


@rule
def added_up(theta, g, v: SecondMoment, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    v = v + g**2
    return theta - lr * (1 - beta2) * g / sqrt(v), v


@rule
def without_a_number(theta, g, v: SecondMoment, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    v = beta2 * v + g**2 / v
    return theta - lr * g / sqrt(v + 1.0), v


@rule
def through_a_scalar(theta, g, v: SecondMoment, b: Scalar, *, lr: Rate = 1e-3, beta2: Decay = 0.75):
    b = beta2 * b
    v = b * v + (1 - b) * g**2
    return theta - lr * g / sqrt(v), v, b


@pytest.mark.parametrize("own", [added_up, without_a_number, through_a_scalar], ids=lambda own: own.name)
def test_what_cannot_be_told_is_not_told(own: Rule) -> None:
    assert [(one.decay, one.excess, one.decay_name) for one in looked_at(own)] == [(None, None, None)] * 5
    assert decays(CATALOGUE["rmsprop"], rho=1.0) == [None] * 5  # v stays as it is
