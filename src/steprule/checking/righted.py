"""What an optimizer would do without its mistakes, and how far it is from that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from steprule.checking.fit import Candidate, Fit, Observed
from steprule.checking.probe import Floats
from steprule.checking.search import decayed, is_adam
from steprule.checking.simulate import Books, simulate_tensors

__all__ = ["Deviations", "Difference", "deviations", "first_difference", "righted"]


@dataclass(frozen=True)
class Difference:
    """Where the steps first differ from a rule's.

    Attributes:
        step: the step number, 1 at the first.
        element: of the probing sequence, or of a tensor.
        gradient: that this element has in this step.
        theirs: how far it goes.
        rules: how far the rule goes.
        tensor: which of several tensors, 1 for the first; 0 in the probing sequence, which has one.
    """

    step: int
    element: int
    gradient: float
    theirs: float
    rules: float
    tensor: int = 0

    def __str__(self) -> str:
        of = f" of tensor {self.tensor}" if self.tensor else ""
        return (
            f"at step {self.step}, in element {self.element}{of} (gradient {self.gradient:.3g}): it steps by "
            f"{self.theirs:.6g}, the rule by {self.rules:.6g}"
        )


@dataclass(frozen=True)
class Deviations:
    """How far each step is from the rule's, along gradients to which nothing was fitted.

    Relative to the larger of both, root mean square over all elements; infinite where it leaves no number and the rule
    does.

    Attributes:
        rule: from the rule without the mistakes; from the nearest rule, where none explains the steps.
        explained: from the rule with the mistakes; of the same length, or empty where no mistake changes the steps.
        rounding: what rounding may do, to the middle one of all elements.
    """

    rule: tuple[float, ...]
    explained: tuple[float, ...]
    rounding: tuple[float, ...]


def righted(found: Fit, names: Collection[str], said: Mapping[str, float]) -> Fit:
    """Return what explains the steps without its mistakes; of what does not explain them, the same.

    Args:
        found: the fit.
        names: of the mistakes.
        said: the hyperparameters that the code itself names.
    """
    if not found.fits:
        return found
    options, values, rule = dict(found.candidate.options), dict(found.values), found.candidate.rule
    if is_adam(found.candidate) and not (
        options.get("corrected") == "none" and options.get("maximum", "none") != "none"
    ):
        options |= {"corrected": "both"}
    if options.get("epsilon") == "inside":
        options |= {"epsilon": "outside"}
    if "beta2 is 0.99" in names:
        values["beta2"] = 0.999
    if "weight decay is scaled otherwise" in names:
        values["weight_decay"] = said["weight_decay"]
    if "weight decay is in the gradient" in names:
        rule = decayed(found.candidate).rule
    candidate = Candidate(rule, options)
    return replace(found, candidate=candidate, values={**candidate.start, **values, **options})


def _moves(of: Fit, before: Floats, gradients: Floats, books: Books) -> Floats:
    return simulate_tensors(of.candidate.rule, of.values, before, gradients, books) - before


def first_difference(seen: Observed, right: Fit) -> Difference | None:
    """Return where steps first differ from those of a rule by more than a millionth; None where they do not.

    Args:
        seen: the steps, of shape (steps, elements) or (steps, tensors, elements).
        right: the rule.
    """
    shape = seen.before.shape
    before, gradients = (one.reshape(shape[0], -1, shape[-1]) for one in (seen.before, seen.gradients))
    rules = _moves(right, before, gradients, right.candidate.books).reshape(shape)
    allowed = np.maximum(seen.noise(right.slowest), 1e-6 * np.abs(rules))
    off = np.abs(rules - seen.moved)
    off = np.where(np.isnan(off), np.inf, off) / allowed
    steps = np.flatnonzero((off > 1).reshape(shape[0], -1).any(axis=1))
    if not steps.size:
        return None
    step = int(steps[0])
    place = np.unravel_index(int(np.argmax(np.where(np.isfinite(rules[step]), off[step], 0.0))), shape[1:])
    gradient, theirs, own = (float(one[step][place]) for one in (seen.gradients, seen.moved, rules))
    tensor = int(place[0]) + 1 if len(shape) > 2 else 0
    return Difference(step + 1, int(place[-1]), gradient, theirs, own, tensor)


def deviations(seen: Observed, right: Fit, explained: Fit, books: Books) -> Deviations:
    """Return how far the steps of several tensors are from a rule's.

    Args:
        seen: the steps, of shape (steps, tensors, elements).
        right: the rule without the mistakes.
        explained: with them.
        books: what it does around its formula.
    """
    rules = _moves(right, seen.before, seen.gradients, right.candidate.books)
    rule = _distances(seen, rules)
    with_them = _distances(seen, _moves(explained, seen.before, seen.gradients, books))
    return Deviations(rule, with_them if with_them != rule else (), _rounding(seen, rules))


def _rounding(seen: Observed, rules: Floats) -> tuple[float, ...]:
    """Return what rounding may do to a step, relative to it: of the middle element; 1 where nothing is left of it."""
    with np.errstate(all="ignore"):
        share = seen.unit * (1 + np.abs(seen.before) / np.fmax(np.abs(seen.moved), np.abs(rules)))
    share = np.where(share < 1, share, 1.0).reshape(len(share), -1)
    return tuple(float(one) for one in np.median(share, axis=1))


def _distances(seen: Observed, rules: Floats) -> tuple[float, ...]:
    with np.errstate(all="ignore"):
        off = np.abs(seen.moved - rules) / np.maximum(np.abs(seen.moved), np.abs(rules))
    off = np.where(seen.moved == rules, 0.0, off)
    # Where both leave no number they are alike; where one does, nothing says how far apart they are.
    off[~np.isfinite(rules) & ~np.isfinite(seen.moved)] = 0.0
    off = np.where(np.isnan(off), np.inf, off).reshape(len(off), -1)
    return tuple(float(one) for one in np.sqrt(np.mean(np.square(off), axis=1)))
