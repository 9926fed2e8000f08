"""Which rule, and which mistakes, explain what is observed: the simplest first, until one fits every step."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.checking.fit import Candidate, Fit, Observed, fit
from steprule.checking.probe import Floats, Probe
from steprule.checking.scheduled import SCHEDULES, scheduled
from steprule.checking.simulate import PLAIN, Books
from steprule.checking.written import adam_as_written
from steprule.rules import CATALOGUE, Rule, decoupled, l2

__all__ = ["adam_forms", "decayed", "decays", "find", "inner", "is_adam", "is_scheduled"]

_STRUCTURE = 1e-4
"""Relative deviation of large gradients' steps, below which a form of the moments is looked at in full."""
_FIRST = ("sgd", "momentum", "momentum_ema", "rmsprop", "adagrad")
"""Rules that are common, and that are tried before an Adam with mistakes."""
_NEAREST, _WHOLE = 5, 3
"""Of so many rules that come nearest with their default options, the others are tried; of whole tensors' fewer."""
_MADE = ("_l2", "_decayed", *(f"_{one}" for one in SCHEDULES))
_NO_EPSILON = 1e-30
"""An epsilon that nothing shows, but that keeps 0 / 0 from the first step of gradients that are read late."""
_TINY = 1e-8
"""Where an optional hyperparameter begins; one that may not be so small stays out."""
_NEVER_ZERO = 1e-18
"""An epsilon that a fit drives below this is tried as 0."""


def is_adam(candidate: Candidate) -> bool:
    """Whether a candidate is Adam, AMSGrad, or one of them with mistakes."""
    return inner(candidate.rule) is adam_as_written


def is_scheduled(candidate: Candidate) -> bool:
    """Whether its rate changes from step to step: of what no rule explains, such a one says little by being near."""
    return candidate.rule.made_by[:1] == (scheduled,)


def inner(rule: Rule) -> Rule:
    """Return the rule inside one with weight decay."""
    return (
        rule.made_by[1][0]
        if rule.made_by and rule.made_by[0] in (l2, decoupled, scheduled) and rule.name.endswith(_MADE)
        else rule
    )


def find(
    seen: Observed, probe: Probe, *, elementwise: bool, watch: Callable[[Sequence[Fit]], None] = lambda _: None
) -> list[Fit]:
    """Return the first fit that explains every step; or else all, those that come nearest first.

    Args:
        seen: what was observed of the probing sequence.
        probe: the sequence.
        elementwise: whether a step of one element depends on that element alone.
        watch: told what has been tried, after each.
    """
    tried: list[Fit] = []
    for candidate in _candidates(seen, probe, tried, elementwise=elementwise):
        tried.append(_tried(candidate, seen))
        watch(tried)
        if tried[-1].fits and not _is_another(tried[-1]):
            return tried[-1:]
    return sorted(tried, key=lambda one: (not one.fits, _says_little(one), one.distance))


def _says_little(found: Fit) -> bool:
    """Whether it comes near since its rate is fitted to each step's size; very near it is not by chance."""
    return is_scheduled(found.candidate) and found.distance > _STRUCTURE


def _is_another(found: Fit) -> bool:
    """Whether an Adam with a mistake is better called by another name: without a first moment it is RMSprop."""
    return is_adam(found.candidate) and found.candidate.options.get("corrected", "both") != "both" and (
        abs(found.values["beta1"]) < 1e-9
    )  # fmt: skip


def _tried(candidate: Candidate, seen: Observed) -> Fit:
    """Return the fit of a candidate, with an epsilon of zero where that is what it tends to."""
    found = fit(candidate, seen)
    gone = {name for name in candidate.free if name.startswith("eps") and found.values[name] < _NEVER_ZERO}
    if found.fits or not gone:
        return found
    return fit(replace(candidate, options={**candidate.options, **dict.fromkeys(gone, 0.0)}), seen)


def decays(seen: Observed, probe: Probe) -> tuple[str, ...]:
    """Return which kinds of weight decay the elements without a gradient bear out: they move by decay alone."""
    theta, moved = _still(seen, probe)
    if not np.isfinite(moved).all():
        return ("", "decoupled", "l2")
    if not moved.any():
        return ("",)
    shares = moved / theta
    return ("decoupled", "l2") if np.ptp(shares) <= 64 * seen.unit + 1e-9 * abs(shares[0]) else ("l2",)


def _still(seen: Observed, probe: Probe) -> tuple[Floats, Floats]:
    """Return parameters whose gradients are zero, and how far they move, in the first step that leaves them numbers."""
    moved = seen.moved[:, probe.still]
    step = int(np.argmax(np.isfinite(moved).all(axis=1)))
    return seen.before[step, probe.still], moved[step]


def _bookkeeping(seen: Observed, probe: Probe) -> tuple[Books, ...]:
    """Return what the first step says of step numbers: NaN if they begin at 0, no step if gradients are read late."""
    first = seen.after[0, probe.large | probe.medium]
    moved = seen.moved[0, probe.large]
    if not np.isfinite(first).any():
        return _either_way(Books(ahead=-1), Books(ahead=-1, late=True))
    if not moved.any():
        # The last divides by the root of infinity, where the second moment alone is corrected.
        skips = Books(ahead=-1, late=True, skips=True)
        return _either_way(Books(late=True), skips, Books(ahead=-1), Books(ahead=1, late=True))
    if _goes_uphill(seen, probe):
        return Books(uphill=True), Books(uphill=True, ahead=1)
    return PLAIN, Books(ahead=1)


def _candidates(seen: Observed, probe: Probe, tried: list[Fit], *, elementwise: bool) -> Iterator[Candidate]:
    """Return what may explain the steps, from Adam to what is rare; ``tried`` is read when they are at its end."""
    kinds, books = decays(seen, probe), _bookkeeping(seen, probe)
    # The simplest first, since one with more hyperparameters may do the same with some of them at zero.
    every = sorted(CATALOGUE.values(), key=lambda rule: len(rule.hyperparameters))
    rules = [rule for rule in every if (rule.trace().sees == "element") == elementwise]
    first = [CATALOGUE[name] for name in _FIRST]
    if elementwise:
        plain, *others = _forms(books)
        yield from _of_form(*plain, seen, probe, kinds)
        yield from (one for rule in first for one in _of_catalogue(rule, kinds, books[0]))
        yield from (one for form in others for one in _of_form(*form, seen, probe, kinds))
        yield from (one for rule in first for one in _of_catalogue(rule, kinds, books[0], options=True))
        if kinds == ("",):
            yield from _of_schedules(first, seen, probe, books[0])
    yield from (one for rule in rules if rule not in first for one in _of_catalogue(rule, kinds, books[0]))
    nearest = sorted((one for one in tried if not is_adam(one.candidate)), key=lambda one: one.distance)
    near = list(dict.fromkeys(inner(one.candidate.rule) for one in nearest))
    # What adamw can be beside is among the options of adam with decay, and those of common rules have been tried.
    near = [rule for rule in near if rule not in first and rule.name != "adamw"][: _NEAREST if elementwise else _WHOLE]
    yield from (one for rule in near for one in _of_catalogue(rule, kinds, books[0], options=True))


def _goes_uphill(seen: Observed, probe: Probe) -> bool:
    """Whether the first step goes up the gradient, from zero, where no decay hides it."""
    ups = (seen.moved * seen.gradients)[0, (probe.large | probe.medium) & (seen.before[0] == 0)]
    return bool((ups[np.isfinite(ups)] > 0).all() and np.isfinite(ups).any())


def _either_way(*books: Books) -> tuple[Books, ...]:
    """Return bookkeeping of which the first step does not tell whether it goes uphill, both ways."""
    return (*books, *(replace(one, uphill=True) for one in books))


_V_CORRECTED = ("both", "v", "m in place")
_PLAIN = ("both", "none", "m", "v")
_FORMS = {"both": 0, "none": 1, "m": 1, "v": 1, "both in place": 1, "m in place": 2, "v in place": 2}
"""How moments may be corrected, and how many mistakes each is."""


def _with_decay(candidate: Candidate, kind: str) -> Candidate:
    if not kind:
        return candidate
    combine, ending = (l2, "l2") if kind == "l2" else (decoupled, "decayed")
    made = combine(candidate.rule, name=f"{candidate.rule.name}_{ending}")
    return replace(candidate, rule=made)


def _of_form(
    options: dict[str, Any], books: Books, seen: Observed, probe: Probe, kinds: tuple[str, ...]
) -> Iterator[Candidate]:
    """Return Adams of a form of their moments, with decay of each kind and each place of epsilon, if the form may be.

    It must explain the steps of large gradients, beside which no epsilon counts, with a decoupled decay undone.
    """
    theta, moved = _still(seen, probe)
    share = float(-moved[0] / theta[0]) if "decoupled" in kinds else 0.0
    share = share if np.isfinite(share) else 0.0
    large = replace(seen, after=seen.after + share * seen.before).of(probe.large)
    near = fit(Candidate(adam_as_written, {**options, "eps": _NO_EPSILON}, books=books), large)
    if near.distance > _STRUCTURE:
        return
    begins = {name: near.values[name] for name in ("lr", "beta1", "beta2")}
    places = ("outside", "inside", *(["uncorrected"] if options["corrected"] in _V_CORRECTED else []))
    for epsilon, kind in itertools.product(places, kinds):
        decay = {"weight_decay": share / begins["lr"]} if kind == "decoupled" and share else {}
        own = Candidate(adam_as_written, {**options, "epsilon": epsilon}, {}, books, {**begins, **decay})
        yield _with_decay(own, kind)


def _of_schedules(rules: Sequence[Rule], seen: Observed, probe: Probe, books: Books) -> Iterator[Candidate]:
    """Return common rules, and Adam in the plain forms of its moments, with rates that change from step to step."""
    for schedule, begin in SCHEDULES.items():
        freed = {"fall": begin}
        yield from (Candidate(scheduled(rule, schedule), {}, freed, books) for rule in rules)
        rule = scheduled(adam_as_written, schedule)
        for corrected in _PLAIN:
            options = {"corrected": corrected}
            large = fit(Candidate(rule, {**options, "eps": _NO_EPSILON}, freed, books), seen.of(probe.large))
            if large.distance < _STRUCTURE:
                begins = {name: large.values[name] for name in ("lr", "beta1", "beta2", "fall")}
                for epsilon in ("outside", "inside", *(["uncorrected"] if corrected in _V_CORRECTED else [])):
                    yield Candidate(rule, {**options, "epsilon": epsilon}, freed, books, begins)


def _forms(books: tuple[Books, ...]) -> list[tuple[dict[str, Any], Books]]:
    """Return all forms of the moments, those with the fewest deviations from Adam first."""
    found = []
    for own, (corrected, slips), maximum in itertools.product(books, _FORMS.items(), ("none", "before", "after")):
        # Of a moment that is not corrected, or overwritten, the maximum before is the maximum after.
        if (maximum == "after" and corrected not in _V_CORRECTED) or (
            corrected == "none" and replace(own, uphill=books[0].uphill) != books[0]
        ):
            continue
        changed = (own != books[0]) + slips + (maximum != "none")
        found.append((changed, {"corrected": corrected, "maximum": maximum}, own))
    return [(options, own) for _, options, own in sorted(found, key=lambda one: one[0])]


def decayed(candidate: Candidate) -> Candidate:
    """Return a candidate with a decoupled decay in the place of its own."""
    return _with_decay(replace(candidate, rule=inner(candidate.rule)), "decoupled")


def adam_forms(seen: Observed, probe: Probe) -> Iterator[Candidate]:
    """Return Adam in all forms of its moments, with the kinds of weight decay that the steps bear out."""
    kinds = decays(seen, probe)
    for options, own in _forms(_bookkeeping(seen, probe)):
        yield from (_with_decay(Candidate(adam_as_written, options, books=own), kind) for kind in kinds)


def _of_catalogue(rule: Rule, kinds: tuple[str, ...], books: Books, *, options: bool = False) -> Iterator[Candidate]:
    """Return a rule of the catalogue; then with what is 0 or None by default fitted, too.

    Args:
        rule: the rule.
        kinds: of weight decay; of those that have their own it is fitted, if there is any.
        books: what it does around its formula.
        options: try all options that are choices, not only the default ones.
    """
    hypers = rule.hyperparameters.values()
    static = [hyper for hyper in hypers if hyper.is_static]
    zero = {hyper.name: 0.1 for hyper in hypers if hyper.default == 0 and not hyper.is_static}
    own_decay = {name: 0.01 for name in zero.keys() & {"weight_decay"} if kinds != ("",)}
    zero.pop("weight_decay", None)
    optional = [hyper.name for hyper in hypers if hyper.optional and hyper.default is None and _TINY in hyper.range]
    frees = [{}, *([zero] if zero else []), *({name: 0.9 if name == "momentum" else _TINY} for name in optional)]
    without = [{}, *({hyper.name: None} for hyper in hypers if hyper.optional and hyper.default is not None)]
    all_choices = itertools.product(*(_choices(hyper) if options else [hyper.default] for hyper in static))
    for choices, freed, absent in itertools.product(all_choices, frees, without):
        chosen = {**dict(zip([hyper.name for hyper in static], choices, strict=True)), **absent}
        one = Candidate(rule, chosen, {**freed, **own_decay}, books)
        if set(freed) <= set(one.free):
            for kind in [""] if "weight_decay" in rule.hyperparameters else kinds:
                yield _with_decay(one, kind)


def _choices(hyper: Any) -> list[Any]:
    """Return the choices of an option, the default first."""
    return [hyper.default, *(choice for choice in hyper.choices if choice != hyper.default)]
