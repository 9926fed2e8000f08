"""The check: run it, find what explains its steps, try that on other steps, and say what it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steprule.checking.answer import Answer, Recovered
from steprule.checking.declared import declared
from steprule.checking.fit import Fit, Observed, fit, noise
from steprule.checking.low import find_rounded
from steprule.checking.mistakes import DISTURBED, LATER, found_in
from steprule.checking.names import called, remarks_of, so_far
from steprule.checking.observe import HALVES, TYPES, Runner, is_elementwise, look, runner, together
from steprule.checking.place import subject_at
from steprule.checking.probe import Probe, probe
from steprule.checking.righted import deviations, first_difference, righted
from steprule.checking.search import find
from steprule.checking.simulate import Books, simulate_tensors
from steprule.checking.source import lines_of
from steprule.checking.subject import Subject, subject_of
from steprule.errors import CheckError

__all__ = ["check", "check_subject"]

_SINGLE = 2e-5
"""A rule that comes so near may be it in float32, which a rate or a state has that cannot be seen."""
_SLACK = 100.0
"""By what factor rounding may be larger in steps that nothing was fitted to, since it adds up."""


_ALL_NAN = (
    "{} makes every parameter NaN or infinite in every step, even where it is given finite ones again, so there is "
    "nothing to compare. Most often a step counter starts at 0, so that 1 - beta**0 = 0 divides a moment, which is "
    "then stored. Count the step before the correction, t = t + 1, and do not store corrected moments"
)


def check(thing: Any, **settings: Any) -> Answer:
    """Say which rule an optimizer is, with which hyperparameters, and which known mistakes it has.

    It is run on probing sequences of gradients, and rules are fitted to its steps: Adam, the rules of the catalogue,
    and Adam with the known mistakes, alone and together. What fits every step to rounding is the answer; it is then
    tried on several tensors and other gradients.

    Args:
        thing: a place, ``"path/to/file.py:adam"`` or ``"package.module:Adam"``, which is imported and run; or the
            optimizer itself: a function ``(params, grads, state)`` that returns ``params`` or ``(params, state)``, with
            a state that begins as None or ``{}``; an object or class with ``step``; a class of torch.optim's kind;
            a transformation of optax; a function without arguments that returns one of these; or a rule.
        settings: keyword arguments for it, as in ``check(torch.optim.Adam, lr=0.01)``.

    Returns:
        an answer, which prints as text.

    Raises:
        CheckError: for what is not there, cannot be run, returns something else, or does not do the same twice.

    Example:
        >>> import numpy as np, steprule as sr
        >>> def mine(params, grads, state):
        ...     return [p - 0.1 * g for p, g in zip(params, grads)]
        >>> print(sr.check(mine).headline)
        mine is sgd.
    """
    subject = subject_at(thing) if isinstance(thing, str) else subject_of(thing)
    return check_subject(replace(subject, settings={**subject.settings, **settings}))


@np.errstate(all="ignore")  # a step that leaves infinity is looked at like any other
def check_subject(
    subject: Subject, say: Callable[[str], None] = lambda _: None, watch: Callable[[str], None] = lambda _: None
) -> Answer:
    """Do what ``check`` does, of a subject.

    Args:
        subject: what is to be checked.
        say: told what is being done.
        watch: told what is known, after each rule that has been tried.

    Raises:
        CheckError: as ``check`` does.
    """
    say("finding out how it is called")
    run = runner(subject)
    say("running it on the probing sequence")
    sequence = probe()
    seen = look(run, sequence)
    if not np.isfinite(seen.after).any():
        raise CheckError(_ALL_NAN.format(subject.name))
    elementwise = is_elementwise(run, sequence, seen)
    say("fitting the rules to its steps")
    found = _explained(run, seen, sequence, elementwise, lambda tried: watch(so_far(tried)))
    seen = replace(seen, unit=run.unit)
    say("trying that on other tensors")
    several = _several(run, found)
    books, agrees = _of_several(several, found)
    if agrees and not (run.opener.alone or books.slots or run.habits.types or run.habits.single):
        run.habits.differs = not _agrees_in_float32(run, found, books)
    return _answer(run, (seen, several), found, books, agrees, elementwise=elementwise)


def _explained(
    run: Runner, seen: Observed, sequence: Probe, elementwise: bool, watch: Callable[[Sequence[Fit]], None]
) -> Fit:
    """Return what explains the steps, or comes nearest."""
    kept = run.habits.kept & HALVES - run.habits.types
    if kept and elementwise and (rounded := find_rounded(seen, sequence, kept)):
        return rounded
    found, *others = find(seen, sequence, elementwise=elementwise, watch=watch)
    if found.fits or not elementwise:
        return found
    near = [one.candidate for one in [found, *others] if one.distance < _SINGLE]
    for candidate in sorted(near, key=lambda one: (len(one.free), one.rule.name)):
        single = fit(candidate, replace(seen, unit=TYPES["float32"]))
        # What has a number that the steps do not tell is another rule in the guise of this one.
        if single.fits and np.isfinite(list(single.errors.values())).all():
            run.habits.single = True
            return single
    return find_rounded(seen, sequence, ()) or found


def _several(run: Runner, found: Fit) -> Observed:
    """Return steps of several tensors along other gradients, to which nothing was fitted."""
    gradients, before, after = together(run, spread=0.0 if found.candidate.books.slots else 3.0)
    return Observed(before, after, gradients, run.unit)


def _of_several(several: Observed, found: Fit) -> tuple[Books, bool]:
    """Return what an optimizer does around its formula when it steps several tensors, and whether that explains it."""
    books = found.candidate.books
    if not found.fits:
        return books, False
    allowed = _SLACK * several.noise(found.slowest)
    many = several.before.shape[1] > 1
    for shared, per_tensor in itertools.product((False, True), repeat=2) if many else [(False, False)]:
        own = replace(books, shared=shared, per_tensor=per_tensor)
        theirs = simulate_tensors(found.candidate.rule, found.values, several.before, several.gradients, own)
        off = np.where(np.isfinite(several.after), np.abs(theirs - several.after), 0.0)
        # Rounded moments are met but roughly, since nobody knows in which order they are rounded.
        if (off <= allowed).all() or (books.slots and np.median(off) < 0.02 * np.median(np.abs(several.moved))):
            return own, True
    return books, False


def _alone_agrees(run: Runner, found: Fit) -> bool:
    """Whether one tensor alone goes as the rule takes it, for more steps than it was fitted to."""
    gradients, before, after = together(run, tensors=1)
    return _of_several(Observed(before, after, gradients, run.unit), found)[1]


def _agrees_in_float32(run: Runner, found: Fit, books: Books) -> bool:
    """Whether parameters and gradients of float32 are stepped as the rule steps them, to the rounding of float32."""
    gradients, before, after = together(run, kind="float32")
    theirs = simulate_tensors(found.candidate.rule, found.values, before, gradients, books)
    off = np.where(np.isfinite(after), np.abs(theirs - after), 0.0)
    return bool((off <= 4 * noise(before, after, 2.0**-24, found.slowest)).all())


def _answer(
    run: Runner, runs: tuple[Observed, Observed], found: Fit, books: Books, agrees: bool, *, elementwise: bool
) -> Answer:
    thing, name = run.subject.fresh(), run.subject.name
    said = declared(thing, run.subject.settings)
    mistakes = found_in(found, books, run.habits, said, name)
    if found.fits and not agrees and np.isfinite(list(found.errors.values())).all():
        mistakes.append(DISTURBED if _alone_agrees(run, found) else LATER)
    seen, several = runs
    right = righted(found, [one.name for one in mistakes], said)
    zeros = {one: 0.0 for one, value in found.candidate.options.items() if type(value) is float and value == 0.0}
    return Answer(
        name=name,
        called=run.opener.words,
        rule=called(found) if found.fits else "",
        hyperparameters={
            one: Recovered.of(one, found.values[one], error)
            for one, error in {**found.errors, **zeros}.items()
            if found.fits
        },
        mistakes=tuple(mistakes),
        remarks=tuple(remarks_of(found, run.habits, said, elementwise=elementwise)),
        difference=first_difference(seen, right) or (first_difference(several, right) if mistakes else None),
        nearest="" if found.fits else called(found),
        evidence=_evidence(seen, found, agrees=agrees),
        lines=lines_of(thing, mistakes),
        deviations=deviations(several, right, found, books),
    )


def _evidence(seen: Observed, found: Fit, *, agrees: bool) -> str:
    steps, elements = seen.gradients.shape
    if not found.fits:
        return f"{steps} steps of {elements} elements were compared, with gradients from 1e-13 to 1e6 and zeros."
    if found.candidate.books.slots:
        return (
            f"The moments were rounded to {found.candidate.books.slots}; the steps then agree but for "
            f"{found.distance:.0e} of their size."
        )
    more = " So do 30 further steps of other gradients and tensors, to which nothing was fitted." if agrees else ""
    return (
        f"All {steps} steps of {elements} elements, with gradients from 1e-13 to 1e6, agree to rounding in "
        f"{'float64' if seen.unit < 1e-10 else 'float32'}.{more}"
    )
