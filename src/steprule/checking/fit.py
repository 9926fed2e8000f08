"""Fitting the hyperparameters of a rule to observed steps: damped Gauss-Newton, and what error is left.

Residuals are first relative to the steps, so that a start far off converges, and in the end in units of rounding, so
that "fits" means: in every step every element is where the rule puts it, as far as floating point can tell.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.checking.probe import Floats
from steprule.checking.simulate import PLAIN, Books, simulate
from steprule.rules import Rule

__all__ = ["Candidate", "Fit", "Observed", "fit", "noise"]

_NEAR = 0.02
"""Relative residuals (root mean square) below which a fit is worth polishing."""
_FAR = 0.2
_ROUNDS, _POLISH = 20, 8
_STEP = 1e-7
"""By how much a logarithm is moved for a derivative."""
_UNTOLD = 0.3
"""A hyperparameter whose relative error (of 1 - beta for a decay) is larger cannot be told from the steps."""
_DECAYS = (0.0, 0.1, 0.5, 0.9, 0.97, 0.99, 0.999, 0.9999)
# None between 0 and 0.3 would leave a beta2 of 0.1 at the edge, 0: there 0 / 0 bars the way back.
_MORE_DECAYS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 0.999, 0.9999)
_SIZES = {"eps": tuple(10.0 ** np.arange(-16, 1)), "weight_decay": (1e-5, 1.0, 100.0), "fall": (1e-3, 0.01, 0.1, 1.0)}
_MOST_STARTS = 1200
_SLOWEST = 1e-6
"""1 - decay below which rounding is not thought to be larger still."""
_MOST_OFF = 0.01
"""The share of a step that rounding may make at most, in float32 with a slow average."""


@dataclass(frozen=True)
class Observed:
    """What somebody's optimizer did to one tensor.

    Attributes:
        before: the parameter that each step was given, of shape (steps, elements).
        after: where it left it.
        gradients: what it was given.
        unit: the unit roundoff of the parameter's type.
    """

    before: Floats
    after: Floats
    gradients: Floats
    unit: float

    @property
    def moved(self) -> Floats:
        """How far each step went."""
        return self.after - self.before

    def of(self, elements: NDArray[np.bool_]) -> Observed:
        """Return what is observed of some elements."""
        return Observed(self.before[:, elements], self.after[:, elements], self.gradients[:, elements], self.unit)

    def noise(self, decay: float) -> Floats:
        """Return how far off rounding may put each step, if the slowest average decays by ``decay``.

        1 - decay**t is computed with an error of a unit roundoff of 1, which is much where it is small.
        """
        return noise(self.before, self.after, self.unit, decay)


def noise(before: Floats, after: Floats, unit: float, decay: float) -> Floats:
    """Return how far off rounding may put each step, of arrays whose first axis is that of steps."""
    moved = np.where(np.isfinite(after), np.abs(after - before), 0.0).max(axis=0)
    theta = np.where(np.isfinite(before), np.abs(before), 0.0)
    # Without a bound a rule whose decay tends to 1 would be allowed everything, and fit whatever it is fitted to.
    share = min(unit * (100 + 8 / max(1 - decay, _SLOWEST)), _MOST_OFF)
    return np.asarray(4 * unit * theta + share * moved + 1e-300)


@dataclass(frozen=True)
class Candidate:
    """A rule that may explain what is observed.

    Attributes:
        rule: the rule.
        options: hyperparameters that are not fitted.
        freed: hyperparameters that are fitted although their default is 0 or None, and where that begins.
        books: what it does around its formula.
        begins: where fitted hyperparameters are known to be near; of others, several starts are compared.
    """

    rule: Rule
    options: Mapping[str, Any] = field(default_factory=dict)
    freed: Mapping[str, float] = field(default_factory=dict)
    books: Books = PLAIN
    begins: Mapping[str, float] = field(default_factory=dict)

    @property
    def start(self) -> dict[str, Any]:
        """All hyperparameters, where the search begins."""
        return self.rule.resolve({**self.options, **self.freed})

    @property
    def free(self) -> list[str]:
        """The hyperparameters that are fitted: numbers that have an effect and whose default is not 0 or None."""
        values = self.start
        used = self.rule.trace(self.rule.variant(values)).named | set(self.rule.init.values())
        return [
            name
            for name, hyper in self.rule.hyperparameters.items()
            if not hyper.is_static and name in used and values[name] and name not in self.options
        ]


@dataclass(frozen=True)
class Fit:
    """A candidate with its hyperparameters.

    Attributes:
        candidate: what was fitted.
        values: all hyperparameters.
        errors: of those that were fitted, within what error; infinite where the steps do not tell.
        worst: the largest deviation from what is observed, in units of what rounding may do. Below 1 it fits.
        distance: the root mean square of the relative deviation; how near it came.
    """

    candidate: Candidate
    values: Mapping[str, Any]
    errors: Mapping[str, float]
    worst: float
    distance: float

    @property
    def fits(self) -> bool:
        """Whether it explains every step."""
        return self.worst <= 1

    @property
    def slowest(self) -> float:
        """The decay of its slowest average."""
        return _slowest(self.candidate.rule, self.values)

    def deviations(self, seen: Observed) -> Floats:
        """Return by how much each step of each element deviates, in units of what rounding may do."""
        own = self.candidate
        after = simulate(own.rule, self.values, seen.before, seen.gradients, own.books)
        off = np.abs(after - seen.after) / seen.noise(self.slowest)
        return np.where(np.isfinite(seen.after), np.where(np.isfinite(off), off, np.inf), 0.0)


@np.errstate(all="ignore")  # far from a fit, numbers overflow
def fit(candidate: Candidate, seen: Observed) -> Fit:
    """Return a candidate with the hyperparameters that bring it nearest to what is observed.

    Args:
        candidate: the rule and its options.
        seen: the steps.
    """
    free = candidate.free
    values = {**candidate.start, **{name: value for name, value in candidate.begins.items() if name in free}}
    problem = _Problem(candidate, free, values, seen, known=frozenset(candidate.begins))
    x, distance = problem.descend(problem.begin())
    if not distance < _NEAR:
        return Fit(candidate, problem.values(x), {}, np.inf, distance)
    for _ in range(_POLISH):
        weights = 1 / seen.noise(_slowest(candidate.rule, problem.values(x)))
        residual, slopes = problem.linear(x, functools.partial(_weighted, seen.after[:, None], weights[:, None]))
        x = x - np.clip(np.linalg.lstsq(slopes, residual, rcond=1e-13)[0], -1, 1) if len(x) else x
    found = Fit(candidate, problem.values(x), {}, np.inf, distance)
    worst = float(found.deviations(seen).max(initial=0.0))
    return replace(found, errors=problem.errors(x, slopes, max(1.0, worst)), worst=worst)


def _weighted(theirs: Floats, weights: Floats, after: Floats) -> Floats:
    return np.asarray((after - theirs) * weights)


def _slowest(rule: Rule, values: Mapping[str, Any]) -> float:
    """Return the decay of the slowest average."""
    decays = [float(values[name]) for name, hyper in rule.hyperparameters.items() if _is_decay(rule, name) and hyper]
    return min(max([0.0, *decays]), 1 - 1e-12)


def _is_decay(rule: Rule, name: str) -> bool:
    hyper = rule.hyperparameters[name]
    return not hyper.is_static and not hyper.optional and hyper.range.high == 1.0


class _Problem:
    """Residuals as a function of the logarithms of hyperparameters, of 1 - beta in place of a decay."""

    def __init__(
        self,
        candidate: Candidate,
        free: Sequence[str],
        values: Mapping[str, Any],
        seen: Observed,
        known: frozenset[str],
    ) -> None:
        self.candidate, self.free, self.given, self.seen, self.known = candidate, free, values, seen, known
        self.decays = np.array([_is_decay(candidate.rule, name) for name in free], bool)
        self.together = candidate.rule.trace(candidate.rule.variant(values)).sees == "element"
        self.finite = np.isfinite(seen.after)
        self.theirs = seen.moved[:, None]
        largest = np.where(self.finite, np.abs(seen.moved), 0.0).max(axis=0, initial=0.0)
        # Of an element that moves at other times, a step of zero is no other than one of a millionth.
        self.size = np.abs(self.theirs) + (1e3 * seen.noise(0.0) + 1e-6 * largest)[:, None]

    def begin(self) -> Floats:
        """Return the best point of a grid, each with the learning rate that gives steps about their observed size."""
        given = [float(self.given[name]) for name in self.free]
        axes = [[value] for value in given]
        if self.together:
            axes = self._axes(given, _MORE_DECAYS)
            if np.prod([len(axis) for axis in axes]) > _MOST_STARTS:
                axes = self._axes(given, _DECAYS)
            while np.prod([len(axis) for axis in axes]) > _MOST_STARTS:
                axes = [axis[:-1] if len(axis) == max(map(len, axes)) else axis for axis in axes]
        values = np.array(list(itertools.product(*axes)))
        rows = np.log(np.where(self.decays, np.maximum(1 - values, 1e-12), np.maximum(values, 1e-30)))
        rows = rows.reshape(len(values), len(self.free))
        if "lr" in self.free:
            with np.errstate(all="ignore"):
                ratios = np.abs(self.seen.moved[:, None] / (self.after(rows) - self.seen.before[:, None]))
            # Steps that are zero or no numbers are sorted to both ends alike, so that medians leave them out.
            ratios = np.where(np.isfinite(ratios) & (ratios > 0), ratios, np.where(ratios == 0, 0.0, np.inf))
            middle = np.median(ratios, axis=(0, 2))
            rows[:, self.free.index("lr")] += np.log(np.where(np.isfinite(middle) & (middle > 0), middle, 1.0))
        costs = np.square(self.relative(self.after(rows)) * self.finite[:, None]).sum(axis=(0, 2))
        return np.asarray(rows[int(np.argmin(costs))])

    def _axes(self, given: Sequence[float], decays: Sequence[float]) -> list[list[float]]:
        return [self._starts(name, value, decays) for name, value in zip(self.free, given, strict=True)]

    def _starts(self, name: str, value: float, decays: Sequence[float]) -> list[float]:
        if name == "lr" or name in self.known:
            return [value]
        if self.decays[self.free.index(name)]:
            return [value, *(one for one in decays if one != value)]
        return [value, *_SIZES.get(name, ())]

    def values(self, x: Floats) -> dict[str, Any]:
        """Return all hyperparameters at a point, or of rows of points as columns."""
        numbers = np.where(self.decays, 1 - np.exp(x), np.exp(x))
        own = {name: numbers[..., place] for place, name in enumerate(self.free)}
        return {**self.given, **{name: one[:, None] if one.ndim else float(one) for name, one in own.items()}}

    def after(self, rows: Floats) -> Floats:
        """Return the parameters after each step, for rows of points: of shape (steps, points, elements)."""
        own, seen = self.candidate, self.seen
        if self.together and len(rows) > 1:
            try:
                found = simulate(own.rule, self.values(rows), seen.before, seen.gradients, own.books)
                if found.ndim == 3:
                    return found
            except (TypeError, ValueError, ArithmeticError):  # a rule that takes a function of math of a hyperparameter
                self.together = False
        return np.stack([self._alone(row) for row in rows], axis=1)

    def _alone(self, row: Floats) -> Floats:
        own, seen = self.candidate, self.seen
        try:
            return simulate(own.rule, self.values(row), seen.before, seen.gradients, own.books)
        except (ArithmeticError, ValueError):  # a function of math of a number that is out of its range
            return np.full_like(seen.before, np.nan)

    def linear(self, x: Floats, residual: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
        """Return the residuals at a point and their slopes."""
        rows = np.concatenate([x[None], x + _STEP * np.eye(len(x))])
        found = np.where(self.finite[:, None], residual(self.after(rows)), 0.0).transpose(1, 0, 2)
        found = np.nan_to_num(found.reshape(len(rows), -1), nan=1.0, posinf=1e30, neginf=-1e30)
        return found[0], (found[1:] - found[0]).T / _STEP

    def relative(self, after: Floats) -> Floats:
        """Return residuals relative to the steps, between -1 and 1, of shape (steps, points, elements)."""
        with np.errstate(all="ignore"):
            ours = after - self.seen.before[:, None]
            found = (ours - self.theirs) / (np.abs(ours) + self.size)
        return np.where(np.isfinite(found), found, 1.0)

    def descend(self, x: Floats) -> tuple[Floats, float]:
        """Return a point where the relative residuals are least (Levenberg-Marquardt), and their root mean square."""
        damping = 1e-3
        residual, slopes = self.linear(x, self.relative)
        cost = float(residual @ residual)
        for _ in range(_ROUNDS):
            normal = slopes.T @ slopes
            scale = np.diag(np.diag(normal) + 1e-12)
            move = np.clip(np.linalg.solve(normal + damping * scale, slopes.T @ residual), -3, 3)
            trial, trial_slopes = self.linear(x - move, self.relative)
            if (lower := float(trial @ trial)) < cost:
                gained, x, residual, slopes, cost = 1 - lower / cost, x - move, trial, trial_slopes, lower
                damping = max(damping / 10, 1e-9)
                # Far from everything, slow progress leads nowhere.
                if cost < 1e-16 * len(residual) or gained < (1e-4 if cost < _FAR**2 * len(residual) else 0.02):
                    break
            elif damping > 1e4:
                break
            else:
                damping *= 10
        return x, float(np.sqrt(cost / max(1, self.finite.sum())))

    def errors(self, x: Floats, slopes: Floats, worst: float) -> dict[str, float]:
        """Return within what error each hyperparameter is known, from the slopes in units of rounding."""
        if not len(x):
            return {}
        lengths = np.sqrt((slopes**2).sum(axis=0)) + 1e-300
        _, singular, axes = np.linalg.svd(slopes / lengths, full_matrices=False)
        spread = worst * np.sqrt(((axes / (singular[:, None] + 1e-300)) ** 2).sum(axis=0)) / lengths
        numbers = np.where(spread < _UNTOLD, np.maximum(spread, 1e-15) * np.exp(x), np.inf)
        return dict(zip(self.free, map(float, numbers), strict=True))
