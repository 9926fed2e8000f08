"""Moments in low precision: what no smooth fit explains, tried again with slots that are rounded."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from steprule.checking.fit import Fit, Observed, fit
from steprule.checking.nice import roundest
from steprule.checking.observe import TYPES
from steprule.checking.probe import Probe
from steprule.checking.search import adam_forms
from steprule.checking.simulate import simulate

__all__ = ["find_rounded"]

_NEAR = 0.02
_GAIN = 4.0
"""By what factor rounding must bring a rule nearer to be taken for the reason."""


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
    tried = [one for found in sorted(near, key=lambda one: one.distance)[:2] for one in _rounded(found, medium)]
    if not tried or any(one.fits for one in near):
        return None
    best = min(tried, key=lambda one: one.distance)
    nearest = min(one.distance for one in near)
    named = [one for one in tried if one.candidate.books.slots in kept]
    if best.distance * _GAIN < nearest:
        return best
    return min(named, key=lambda one: one.distance, default=None)


def _rounded(found: Fit, medium: Observed) -> Iterator[Fit]:
    """Return a fit with round values and each type of slots; its distance says how near that comes."""
    tolerance = max(10 * found.distance, 1e-6)
    decays = {name for name in found.values if name.startswith("beta")}
    values = {
        name: 1 - roundest(1 - value, tolerance * (1 - value)) if name in decays else roundest(value, tolerance * value)
        for name, value in found.values.items()
        if isinstance(value, float)
    }
    values = {**found.values, **values}
    sizes = {name: 1 - found.values[name] if name in decays else found.values[name] for name in found.errors}
    errors = {name: tolerance * size if found.errors[name] < np.inf else np.inf for name, size in sizes.items()}
    values |= {name: default for name, default in found.candidate.start.items() if errors.get(name) == np.inf}
    for kind in TYPES:
        candidate = replace(found.candidate, books=replace(found.candidate.books, slots=kind))
        after = simulate(candidate.rule, values, medium.before, medium.gradients, candidate.books)
        off = (after - medium.after) / (np.abs(medium.moved) + 1e3 * medium.noise(0.0))
        distance = float(np.sqrt(np.mean(np.where(np.isfinite(off), off, 0.0) ** 2)))
        yield Fit(candidate, values, errors, 0.0, distance)
