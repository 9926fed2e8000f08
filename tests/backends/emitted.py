"""Runs of the referee, recorded, for targets that run elsewhere: what goes in, and the bits that must come out."""

from __future__ import annotations

import functools
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

import steprule as sr
from steprule.compile import BLOCK, Plan
from steprule.engine import plan
from steprule.formats import FORMATS, Storage
from steprule.language import mean, total
from steprule.language.matrices import kept_shape
from steprule.rules import FirstMoment, NonNegative, Rule
from tests.cases import CASES, COMBINED, Array, assert_same_bits, sees, unlike_defaults, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.formats.test_kernels import Run, rows_and_groups, storage_of

STEPS = 7


@sr.rule
def unusual(theta, g, E_g, count: sr.Scalar, *, t, lr=0.01, s0=0.5, x1=2.0, mixed=1.0):
    """Constants that are not numbers, a remainder, names that emitted code uses itself."""
    count = count + t % 3 + (-7.0 * t) // 2
    E_g = sr.where(g > 0.9, g, math.nan) + sr.minimum(E_g, math.inf) + s0 * sr.where(g < -0.9, -math.inf, -0.0)
    return theta - lr * x1 * sr.where(E_g == E_g, mixed * E_g, -g) / (1 + count * count), E_g, count


@sr.rule
def layerwise(theta, g, m: FirstMoment, v: NonNegative, *, t, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-6):
    """Two sums in one pass: of the parameter, and of what is computed again to step."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    step = (m / (1 - beta1**t)) / (sr.sqrt(v / (1 - beta2**t)) + eps)
    length, moved = math.sqrt(total(theta * theta)), math.sqrt(total(step * step))
    ratio = sr.where((length > 0) & (moved > 0), length / (moved + 1e-30), 1.0)
    return theta - lr * ratio * step, m, v


@sr.rule
def standardized(theta, g, sums, n, size: sr.Scalar, *, t, lr=0.1, beta=0.9):
    """A sum that takes another, a mean, a scalar slot; names that emitted code uses itself."""
    centred = g - mean(g)
    scaled = centred / (math.sqrt(mean(centred * centred)) + 1e-6)
    sums = beta * sums + (1 - beta) * scaled
    return theta - lr * sums - size * 1e-3 - 0.01 * n, sums, 0.5 * n + sr.sign(g), 0.5 * size + 1 / t


SUMMING: dict[str, Rule] = {"layerwise": layerwise, "standardized": standardized}
"""Rules with sums over the tensor."""
RULES = {**CATALOGUE, **COMBINED, "unusual": unusual, **SUMMING}
# No function of one array steps by sums over all: tests/backends/test_emitted_sums.py calls those of the passes.
RULES = {name: rule for name, rule in RULES.items() if sees(rule) != "all"}
_LOW = [("8bit", "float32", "nearest"), ("bfloat16", "bfloat16", "stochastic"), ("8bit", "bfloat16", "split24")]


@dataclass(frozen=True)
class Case:
    """A rule with options, and how it is stored."""

    rule: Rule
    options: tuple[tuple[str, Any], ...]
    storage: Storage
    shape: tuple[int, ...]

    @property
    def id(self) -> str:
        options = "".join(f"-{key}={value}" for key, value in self.options)
        kept = self.storage
        size = math.prod(self.shape)
        return f"{self.rule.name}{options}-{kept.parameter.name}-{kept.weights}{self._states}-{size}"

    @property
    def _states(self) -> str:
        return f"-{self.storage.slots[0][1]}" if self.storage.slots else ""

    @property
    def values(self) -> dict[str, Any]:
        return self.rule.resolve({**unlike_defaults(self.rule, dict(self.options)), **dict(self.options)})

    @property
    def plan(self) -> Plan:
        return plan(self.rule, self.rule.variant(self.values), self.storage, rides=False)

    @property
    def starts(self) -> dict[str, float]:
        """What slots hold before the first step."""
        given = {slot: self.rule.init.get(slot, 0.0) for slot in self.rule.slots}
        return {slot: self.values[start] if isinstance(start, str) else start for slot, start in given.items()}

    def shape_of(self, slot: str) -> tuple[int, ...]:
        """Return the shape of a slot that is an array."""
        if slot not in self.rule.vectors:
            return self.shape
        return kept_shape(self.shape, "row" if slot in self.rule.per_row else "column", self.rule.view or "first")


def in_bfloat16(rule: Rule) -> Storage:
    """Return what a rule that sees rows and columns may be kept in here, where groups have no loops over rows."""
    kept = rule.trace(rule.variant(rule.resolve({}))).slots
    return Storage(FORMATS["float32"], "nearest", tuple((slot, "bfloat16") for slot in kept))


def _cases() -> list[Case]:
    found = [
        Case(CATALOGUE[name], tuple(options.items()), Storage(FORMATS["float32"]), (203,))
        for name, options in CASES
        if name in RULES
    ]
    for number, rule in enumerate(RULES.values()):
        state, dtype, way = _LOW[number % len(_LOW)]
        found.append(Case(rule, (), Storage(FORMATS["float64"]), (31,)))
        low = storage_of(rule, state, dtype, way) if rule.view is None else in_bfloat16(rule)
        found.append(Case(rule, (), low, (3, 150)))
        if rule.view is None and rule.trace().slots:  # rows of a number of elements that is odd
            found.append(Case(rule, (), storage_of(rule, "4bit"), (3, 151)))
    others = (*COMBINED.values(), unusual, *SUMMING.values())
    found += [Case(rule, (), Storage(FORMATS["float32"]), (64,)) for rule in others]
    return found + [Case(rule, (), Storage(FORMATS["float64"]), (2 * BLOCK + 77,)) for rule in SUMMING.values()]


MATRIX = {case.id: case for case in _cases()}


@dataclass(frozen=True)
class Recorded:
    """Planes before the first step, the gradient of each, planes and slots after it, and what preludes have given."""

    start: dict[str, Array]
    gradients: list[Array]
    scalars: dict[str, float]
    planes: list[dict[str, Array]]
    slots: list[dict[str, float]]
    numbers: list[list[Array]]

    def check(self, step: int, planes: dict[str, Array], slots: dict[str, float], what: str) -> None:
        """Assert that a target has these bits after a step."""
        for name, array in self.planes[step].items():
            assert_same_bits(planes[name].reshape(array.shape), array, f"{what} {name} at t={step + 1}")
        assert slots.keys() == self.slots[step].keys(), what
        ours, theirs = (np.array([one[slot] for slot in slots], np.float64) for one in (slots, self.slots[step]))
        assert_same_bits(ours, theirs, f"{what} numbers at t={step + 1}")


@functools.cache
def recorded(name: str, seed: int = 9, tensor: int = 4) -> Recorded:
    return record(MATRIX[name], name, seed, tensor)


def record(case: Case, name: str, seed: int = 9, tensor: int = 4) -> Recorded:
    """Take the steps of a case by the referee."""
    if case.rule.view:
        return record_matrices(case, name, seed, tensor)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    run = Run(case.rule, case.storage, case.shape, "numpy", seed=seed, number=tensor, **case.values)
    starts = {slot: value for slot, value in run.start.items() if slot in run.planes and value}
    run.set(**{case.rule.parameter: rng.standard_normal(case.shape)})
    for slot, value in starts.items():
        if run.planes[slot].dtype.kind == "f":
            run.planes[slot][...] = value
    start, scalars = _copied(run.planes), dict(run.scalars)
    rows, length, _ = rows_and_groups(case.shape)
    gradients, planes, slots, numbers = [], [], [], []
    for t in range(STEPS):
        # Mostly of one size, so that slots stay alive; wild now and then, but not at first where a sum would be NaN.
        share = 0.0 if t < STEPS // 2 and sees(case.rule, dict(case.options)) != "element" else 0.1
        plain = rng.standard_normal(case.shape)
        strange = wild(rng, rows * length, "float64").reshape(case.shape)
        run.set(**{case.rule.gradient: np.where(rng.random(case.shape) < share, strange, plain)})
        gradients.append(run.planes[case.rule.gradient].copy())
        run.step()
        planes.append(_copied(run.planes))
        slots.append(dict(run.scalars))
        numbers.append(run.numbers)
    return Recorded(start, gradients, scalars, planes, slots, numbers)


def record_matrices(case: Case, name: str, seed: int, tensor: int) -> Recorded:
    """Take the steps of a case whose rule sees rows and columns, of a tensor that has no other beside it."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    rule, dtype, starts = case.rule, case.storage.parameter.name, case.starts
    theta = np.array(rng.standard_normal(case.shape), dtype)
    empty = [np.zeros(0, dtype) for _ in range(tensor)]
    states = {"states": dict(case.storage.slots), "min_elements": 0, "seed": seed} if case.storage.slots else {}
    optimizer = sr.Optimizer([*empty, theta], rule, backend="numpy", **{**case.values, **states})
    start = {rule.parameter: theta.copy(), rule.gradient: np.zeros_like(theta)}
    for plane in case.plan.kept_planes[2:]:
        start[plane.name] = np.full(case.shape_of(plane.name), starts[plane.name], plane.dtype)
    found: list[dict[str, Array]] = []
    gradients, numbers = [], []
    for t in range(1, STEPS + 1):
        g = np.array(rng.standard_normal(case.shape) * 10.0 ** rng.uniform(-3, 3), dtype)
        if t > STEPS - 2 and g.size:  # what is wild takes a row and a column with it, and often all
            g.reshape(-1)[rng.integers(g.size)] = wild(rng, 1, dtype)[0]
        gradients.append(g)
        optimizer.step([*empty, g])
        kept = optimizer.state_dict()["slots"].get(f"params[{tensor}]", {})
        slots = {slot: kept[slot].reshape(like.shape) for slot, like in start.items() if slot in kept}
        found.append({rule.parameter: theta.copy(), rule.gradient: g, **slots})
        numbers.append({slot: float(np.ravel(optimizer.slots[slot])[-1]) for slot in rule.numbers})
    return Recorded(start, gradients, {slot: starts[slot] for slot in rule.numbers}, found, numbers, [])


def _copied(planes: dict[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in planes.items()}
