"""Moments in low precision: what no smooth fit explains, tried again with slots that are rounded."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.checking.fit import Candidate, Fit, Observed, fit
from steprule.checking.nice import roundest
from steprule.checking.observe import TYPES
from steprule.checking.probe import Floats, Probe
from steprule.checking.search import adam_forms
from steprule.checking.simulate import simulate

__all__ = ["find_rounded"]

_NEAR = 0.02
_ALIKE = 1.5
"""Distances that are within this factor say nothing."""
_GAIN = 4.0
"""By what factor rounding must bring a rule nearer to be taken for the reason."""


_USUAL = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)


def find_rounded(seen: Observed, probe: Probe, kept: Collection[str]) -> Fit | None:
    """Return the Adam whose moments are kept in fewer digits, if that explains the steps; otherwise None.

    Gradients of medium size alone are looked at, since the squares of others leave the range of half precision. Values
    of hyperparameters are the roundest that are as near as rounding lets one see.

    Args:
        seen: what was observed.
        probe: the sequence.
        kept: the types of fewer digits that arrays of its state have, where that can be seen: then a rule need only
            come near, since one cannot know in which order it rounds.
    """
    medium = seen.of(probe.medium)
    near = [found for one in adam_forms(seen, probe) if (found := fit(one, medium)).distance < _NEAR]
    if not near or any(one.fits for one in near):
        return None
    nearest = sorted(one.distance for one in near)[:2]
    forms = [[*_rounded(found, medium)] for found in near if found.distance <= nearest[-1]]
    best = _simplest(forms)
    if best and best.distance * _GAIN < nearest[0]:
        return best
    return _simplest([[one for one in form if one.candidate.books.slots in kept] for form in forms])


def _simplest(forms: Sequence[Sequence[Fit]]) -> Fit | None:
    """Return the nearest fit of the first form that comes about as near as any; forms begin with what is most usual.

    An average that is rounded may not fall at all, as a maximum does not, so that Adam is like AMSGrad.
    """
    best = [min(form, key=lambda one: one.distance) for form in forms if form]
    nearest = min((one.distance for one in best), default=0.0)
    return next((one for one in best if one.distance <= _ALIKE * nearest), None)


def _rounded(found: Fit, medium: Observed) -> Iterator[Fit]:
    """Return a fit with round values, or usual ones near them, and each type of slots; its distance says how near."""
    tolerance = max(10 * found.distance, 1e-6)
    values = {name: _round(name, value, tolerance) for name, value in found.values.items() if isinstance(value, float)}
    untold = [name for name, error in found.errors.items() if error == np.inf]
    values = {**found.values, **values, **{name: found.candidate.start[name] for name in untold}}
    decays = [[values[name]] if name in untold else _near(values[name]) for name in ("beta1", "beta2")]
    for kind, (beta1, beta2) in itertools.product(TYPES, itertools.product(*decays)):
        candidate = replace(found.candidate, books=replace(found.candidate.books, slots=kind))
        own = _with_rate(candidate, {**values, "beta1": beta1, "beta2": beta2}, medium, tolerance)
        distance = float(np.sqrt(np.mean(_off(candidate, own, medium) ** 2)))
        known = max(10 * distance, 1e-6)
        sizes = {name: 1 - own[name] if name.startswith("beta") else own[name] for name in found.errors}
        errors = {name: np.inf if name in untold else known * size for name, size in sizes.items()}
        yield Fit(candidate, own, errors, 0.0, distance)


def _round(name: str, value: float, tolerance: float) -> float:
    if name.startswith("beta"):
        return 1 - roundest(1 - value, tolerance * (1 - value))
    return roundest(value, tolerance * value)


def _near(decay: float) -> list[float]:
    """Return a decay, and the usual ones near it: rounding pulls the slow averages off what they are fitted as."""
    return [decay, *(one for one in _USUAL if one != decay and 0.3 < (1 - one) / max(1 - decay, 1e-9) < 3)]


def _with_rate(candidate: Candidate, values: dict[str, Any], medium: Observed, tolerance: float) -> dict[str, Any]:
    """Return hyperparameters with the learning rate that gives steps of the observed size."""
    after = simulate(candidate.rule, values, medium.before, medium.gradients, candidate.books)
    with np.errstate(all="ignore"):
        ratios = medium.moved / (after - medium.before)
    ratio = float(np.median(ratios[np.isfinite(ratios)]))
    return {**values, "lr": roundest(values["lr"] * ratio, tolerance * values["lr"])} if ratio > 0 else values


def _off(candidate: Candidate, values: dict[str, Any], medium: Observed) -> Floats:
    after = simulate(candidate.rule, values, medium.before, medium.gradients, candidate.books)
    off = (after - medium.after) / (np.abs(medium.moved) + 1e3 * medium.noise(0.0))
    return np.where(np.isfinite(off), off, 0.0)
