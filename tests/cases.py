"""The matrix of rules and options, from the catalogue, and the meaning that backends must equal.

`direct` computes a step by calling the rule on NumPy arrays. It uses no plan, no compiler and no
backend: only the rule, and the two things the design adds to it (storage types, and subnormal slots
stored as zero).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy the type bfloat16)
import numpy as np
from numpy.typing import NDArray

from steprule.language.matrices import kept_shape
from steprule.language.node import Node
from steprule.rules import CATALOGUE, Rule, cautious, cautious_decay, decoupled, l2, maximize, unscaled
from steprule.rules.declare import rule as declared
from steprule.rules.hyperparameters import Hyperparameter, NonNegative, Rate, Role, Scalar

Array = NDArray[Any]

COMPUTE = {"float16": np.float32, "bfloat16": np.float32, "float32": np.float32, "float64": np.float64}

# Values unlike the defaults, so that every hyperparameter has an effect; those of others follow from their ranges.
_UNLIKE = {
    "lr": 0.02,
    "momentum": 0.8,
    "eps": 1e-5,
    "dampening": 0.3,
    "initial_accumulator": 0.25,
    "lr_decay": 0.1,
    "weight_decay": 0.05,
    "grad_scale": 3.0,
    "warmup": 7.0,
    "t0": 3.0,
    "rho_min": 4.5,
    "beta1": 0.8,
    "beta2": 0.95,
    "beta3": 0.7,
    "beta": 0.6,
    "mu": 0.75,
    "rho": 0.85,
    "psi": 0.02,
    "lambd": 0.03,
    "alpha": 0.6,
    "eta_minus": 0.4,
    "eta_plus": 1.3,
    "delta_min": 0.004,
    "delta_max": 0.09,
    "eps_root": 0.003,
    "initial_scale": 0.4,
}


def unlike_default(hyper: Hyperparameter) -> float:
    """Return a number that a hyperparameter takes, unlike its default."""
    low = hyper.range.low if hyper.range.low > -math.inf else -1.0
    high = min(hyper.range.high, low + 1.0)
    if hyper.name in _UNLIKE:
        return _UNLIKE[hyper.name]
    near = low + 0.8 * (float(hyper.default) - low) if hyper.default is not None else low
    return near if near not in (low, hyper.default) else low + 0.7 * (high - low)


def variants(rule: Rule) -> list[dict[str, Any]]:
    """Return every combination of booleans, choices and optional hyperparameters of a rule that is a computation.

    Of those in which an option does nothing, which are the same expressions, the first.
    """
    names = [name for name, hyper in rule.hyperparameters.items() if hyper.is_static or hyper.optional]
    values = [
        hyper.choices or (None, unlike_default(hyper))
        for hyper in rule.hyperparameters.values()
        if hyper.is_static or hyper.optional
    ]
    found: dict[Any, dict[str, Any]] = {}
    for combination in itertools.product(*values):
        options = dict(zip(names, combination, strict=True))
        trace = rule.trace(rule.variant(rule.resolve(options)))
        outputs = {rule.parameter: trace.parameter, **trace.slots, **trace.scalars}
        found.setdefault(tuple((name, _written(node)) for name, node in outputs.items()), options)
    return list(found.values())


def _written(node: Node) -> Any:
    """Return an expression as nested tuples."""
    return node.op, node.name, node.value, *map(_written, node.args)


def unlike_defaults(rule: Rule, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the numbers among the hyperparameters that have an effect with these options, none with its default."""
    used = rule.trace(rule.variant(rule.resolve(options or {}))).named | set(rule.init.values())
    numbers = [hyper for hyper in rule.hyperparameters.values() if not hyper.is_static and not hyper.optional]
    return {hyper.name: unlike_default(hyper) for hyper in numbers if hyper.name in used}


def sees(rule: Rule, options: Mapping[str, Any] | None = None) -> str:
    """Return of what a step of one element depends: of this "element" alone, of its "tensor", or of "all"."""
    return rule.trace(rule.variant(rule.resolve(options or {}))).sees


FOR_VECTORS = {name: rule for name, rule in CATALOGUE.items() if not rule.needs_matrices}
"""The rules that step arrays of any shape; ``tests/rules/test_muon.py`` has those that step matrices alone."""
MATRICES = {name for name, rule in FOR_VECTORS.items() if rule.view}
"""The rules that see rows and columns."""
SECOND_MOMENT = [name for name, rule in FOR_VECTORS.items() if rule.slot_of(Role.SECOND_MOMENT)]
"""The rules that divide by the root of an average of squares."""
CASES = [(rule.name, options) for rule in FOR_VECTORS.values() for options in variants(rule)]


@declared
def of_numbers(
    theta, g, rate, fixed: NonNegative, last, kept: Scalar, first: Scalar, *, t, lr: Rate = 0.1, mu: NonNegative = 0.5
):
    """Slots whose new values depend on no element: on hyperparameters and t, or on nothing. Two are never read."""
    theta = theta - lr * (g + 0.125 * rate * fixed - mu * first)
    return theta, lr / t, 0.25, t, mu * t, first / (1 + t)


COMBINED: dict[str, Rule] = {
    "l2(adam)": l2(CATALOGUE["adam"]),
    "decoupled(lion)": decoupled(CATALOGUE["lion"]),
    "maximize(adamax)": maximize(CATALOGUE["adamax"]),
    "unscaled(l2(momentum))": unscaled(l2(CATALOGUE["momentum"])),
    "cautious(adamw)": cautious(CATALOGUE["adamw"]),
    "decoupled(cautious(nadam))": decoupled(cautious(CATALOGUE["nadam"])),
    "cautious_decay(maximize(lion))": cautious_decay(maximize(CATALOGUE["lion"])),
    "of_numbers": of_numbers,
}
"""Rules beside the catalogue: made of rules, and what none of it has."""


def case_id(case: tuple[str, dict[str, Any]] | str) -> str:
    """Return a readable id of a case; a text that stands beside one is its own."""
    if isinstance(case, str):
        return case
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def flushed(x: Array) -> Array:
    """Return what a slot keeps: zero below the smallest normal number."""
    return np.where(np.abs(x) < np.finfo(x.dtype).smallest_normal, x.dtype.type(0), x)


class Direct:
    """Steps an array by calling the rule itself."""

    def __init__(self, rule: Rule, theta: Array, **hyperparameters: Any) -> None:
        self.rule, self.theta = rule, theta
        self.values = rule.resolve(hyperparameters)
        self.compute = COMPUTE[theta.dtype.name]
        self.t = 0
        starts = {slot: 0.0 if slot in rule.points else rule.init.get(slot, 0.0) for slot in rule.slots}
        numbers = {slot: self.values[start] if isinstance(start, str) else start for slot, start in starts.items()}
        self.slots: dict[str, Any] = {
            slot: number if slot in rule.numbers else np.full(self._shape_of(slot), number, self.compute)
            for slot, number in numbers.items()
        }
        self.slots |= {slot: theta.astype(self.compute) for slot in rule.points}

    def _shape_of(self, slot: str) -> tuple[int, ...]:
        rule, shape = self.rule, self.theta.shape
        if slot not in rule.vectors or rule.view is None:
            return shape
        return kept_shape(shape, "row" if slot in rule.per_row else "column", rule.view)

    def _as_array(self, one: Any) -> Any:
        """Return an array of no dimensions with one: NumPy makes scalars of the former, whose x**2 is not x * x.

        Not for a rule that sees matrices, which may ask how many dimensions there are.
        """
        is_point = isinstance(one, np.ndarray) and one.ndim == 0 and self.rule.view is None
        return one.reshape(1) if is_point else one

    def step(self, g: Array) -> None:
        """Take one step, replacing theta."""
        self.t += 1
        theta, g, *given = map(
            self._as_array, (self.theta.astype(self.compute), g.astype(self.compute), *self.slots.values())
        )
        with np.errstate(all="ignore"):
            new, *slots = self.rule(theta, g, *given, t=self.t, **self.values)
            self.theta = np.reshape(new, self.theta.shape).astype(self.theta.dtype)
        for name, slot in zip(self.rule.slots, slots, strict=True):
            # A slot that a variant does not keep must not be read: None would raise.
            is_number = slot is None or name in self.rule.numbers
            with np.errstate(all="ignore"):
                if not is_number:
                    slot = np.full(self._shape_of(name), slot, self.compute)
                    slot = slot if name in self.rule.points else flushed(slot)
                self.slots[name] = slot


def same(a: float, b: float) -> bool:
    """Whether two numbers are equal; a NaN equals a NaN."""
    return a == b or (math.isnan(a) and math.isnan(b))


def assert_same_bits(a: Array, b: Array, what: str = "") -> None:
    """Assert that two arrays are equal in every bit; a NaN equals a NaN."""
    assert a.dtype == b.dtype, what
    assert a.shape == b.shape, what
    both_nan = np.isnan(a) & np.isnan(b)
    bits = np.dtype(f"u{a.itemsize}")
    same = both_nan | (np.ascontiguousarray(a).view(bits) == np.ascontiguousarray(b).view(bits)).reshape(a.shape)
    if not same.all():
        where = np.argwhere(~same)[0]
        count = int((~same).sum())
        raise AssertionError(
            f"{what}: {count} of {a.size} differ, first at {where}: {a[tuple(where)]!r} {b[tuple(where)]!r}"
        )


def wild(rng: np.random.Generator, n: int, dtype: str) -> Array:
    """Return gradients from 1e-30 to 1e30, with zeros of both signs, infinities, NaN and subnormals."""
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-30, 30, n)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1e-320, 3e38, 1.0])
    hit = rng.random(n) < 0.1
    x[hit] = rng.choice(special, int(hit.sum()))
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(dtype)
