"""Running somebody's optimizer on probing sequences, and what can be seen of its habits without any rule."""

from __future__ import annotations

import contextlib
import io
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from steprule.checking.fit import Observed
from steprule.checking.forms import Arrays, Unfit
from steprule.checking.probe import Floats, Probe, further
from steprule.checking.sessions import Session
from steprule.checking.subject import Opener, Subject, openers
from steprule.errors import CheckError
from steprule.usercode import user_code

__all__ = ["HALVES", "TYPES", "Habits", "Runner", "is_elementwise", "look", "runner", "together"]


TYPES = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Types of fewer digits than float64, and their unit roundoffs."""
HALVES = frozenset({"float16", "bfloat16"})
"""Those of half precision, in which moments are a mistake."""


@dataclass
class Habits:
    """What was noticed while it ran.

    Attributes:
        wrote: it wrote to a gradient that it was given.
        keeps: it reads gradients later, when others lie in their place.
        printed: so many lines.
        types: the types that parameters came back in, other than the one that they had.
        kept: the types of arrays in its state, as far as they can be seen.
        widens: parameters of float32 come back in another type.
        differs: its steps of float32 are not those of the rule, though those of float64 are.
        returns_step: what it returns is the step, and not the parameter after it.
        single: with parameters of float64 its steps have the digits of float32 alone.
    """

    wrote: bool = False
    keeps: bool = False
    printed: int = 0
    types: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    widens: bool = False
    differs: bool = False
    returns_step: bool = False
    single: bool = False


@dataclass
class Runner:
    """A subject with the way in which it is called."""

    subject: Subject
    opener: Opener
    habits: Habits = field(default_factory=Habits)

    @property
    def unit(self) -> float:
        """The unit roundoff of what parameters came back in; of float32, where it computes in that."""
        kinds = self.habits.types | ({"float32"} if self.habits.single else set())
        return max([2.0**-53, *(TYPES.get(kind, 2.0**-53) for kind in kinds)])

    def run(
        self, starts: Floats, gradients: Floats, *, reuse: bool = False, kind: str = "float64"
    ) -> tuple[Floats, Floats]:
        """Step several tensors at once and return each parameter before and after each step.

        Where a step leaves no finite number, the next one is given the number from before it, so that it can be read.

        Args:
            starts: of shape (tensors, elements).
            gradients: of shape (steps, tensors, elements).
            reuse: gradients lie in the same arrays in every step.
            kind: the type of parameters and gradients.

        Returns:
            two arrays of the shape of gradients, in float64.
        """
        if self.opener.alone:
            steps, tensors, elements = gradients.shape
            columns = gradients.transpose(0, 2, 1).reshape(steps, elements, tensors)
            each = [self._run(list(starts[:, one]), columns[:, one], reuse, kind) for one in range(elements)]
            before, after = (np.stack([one[side] for one in each], axis=2) for side in (0, 1))
            return before, after
        return self._run(list(starts), gradients, reuse, kind)

    def _run(self, starts: Arrays, gradients: Floats, reuse: bool, kind: str) -> tuple[Floats, Floats]:
        with self._theirs():
            session = self.opener.open(self.subject.fresh(), [np.asarray(one, kind) for one in starts])
            before, after, types = [], [], set()
            for row in gradients:
                before.append(session.read())
                session.step([np.asarray(one, kind) for one in row], reuse=reuse)
                types = {str(one.dtype) for one in session.read()} - {kind}
                if self.habits.returns_step:
                    session.write([old + new for old, new in zip(before[-1], session.read(), strict=True)])
                after.append(session.read())
                self._restore(session, before[-1], after[-1])
        self.habits.wrote |= session.wrote
        self.habits.kept |= session.kept()
        if kind == "float64":
            self.habits.types |= types
        else:
            self.habits.widens |= bool(types)
        return np.array(before, np.float64), np.array(after, np.float64)

    @staticmethod
    def _restore(session: Session, before: Arrays, after: Arrays) -> None:
        if not all(np.isfinite(one).all() for one in after):
            session.write([np.where(np.isfinite(new), new, old) for new, old in zip(after, before, strict=True)])

    @contextlib.contextmanager
    def _theirs(self) -> Iterator[None]:
        """Run what is theirs: what it prints is counted, what it raises is said in its own frames."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), np.errstate(all="ignore"), user_code(self.subject.name, CheckError):
            try:
                yield
            except Unfit as wrong:
                raise CheckError(f"{self.subject.name} returned {wrong}") from None
        self.habits.printed += said.getvalue().count("\n")

    def observe(self, probe: Probe, elements: slice = slice(None), *, reuse: bool = False) -> Observed:
        """Return what it does to one tensor along the probing sequence, or to some elements of it."""
        before, after = self.run(probe.start[None, elements], probe.gradients[:, None, elements], reuse=reuse)
        return Observed(before[:, 0], after[:, 0], probe.gradients[:, elements], self.unit)


def runner(subject: Subject) -> Runner:
    """Return a subject with the first way of calling it that works: it returns parameters, and moves them.

    Raises:
        CheckError: when none does, with what went wrong in each.
    """
    failures: dict[str, str] = {}
    for opener, equal in _in_order(openers(subject)):
        wrong = _trial(subject, opener, equal=equal)
        if not wrong:
            return Runner(subject, opener)
        failures.setdefault(opener.words, wrong)
    raise CheckError(_what_went_wrong(subject, failures))


def _in_order(ways: list[Opener]) -> list[tuple[Opener, bool]]:
    """Return ways of calling, and whether tensors have equal shapes: those of one state for all tensors need that.

    A loop over a list of arrays runs over the numbers of one array, too, so lists are tried first in either case.
    """
    several = [one for one in ways if one.most > 1 and not one.alone]
    others = [one for one in ways if one not in several]
    return [*((one, False) for one in several), *((one, True) for one in several), *((one, False) for one in others)]


def _trial(subject: Subject, opener: Opener, *, equal: bool) -> str:
    """Return what is wrong with a way of calling; nothing if it works."""
    shapes: list[tuple[int, ...]] = [(4,), (4,), (4,)] if equal else [(4,), (2,), (3,)]
    shapes = [() for _ in shapes] if opener.alone else shapes
    random = np.random.default_rng(24)
    starts = [random.normal(size=shape) for shape in shapes][: opener.most]
    starts = [np.asarray(one) for one in starts]
    try:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            session = opener.open(subject.fresh(), starts)
            for _ in range(3):
                session.step([np.asarray(random.normal(size=one.shape)) for one in starts])
                ended = session.read()
    except CheckError:
        raise
    except Unfit as wrong:
        return f"it returned {wrong}"
    except (Exception, SystemExit) as error:
        return _raised(error)
    if all(np.array_equal(new, old) for new, old in zip(ended, starts, strict=True)):
        return "it ran, but the parameters are what they were after three steps"
    return ""


def _raised(error: BaseException) -> str:
    """Return an exception in one line, with the line of the user's where it came from."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "steprule" not in one.filename]
    frames = [one for one in frames if "site-packages" not in one.filename] or frames
    where = f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


_HINTS = {
    "ZeroDivisionError": "\nA division by zero in the first step is most often a step counter that starts at 0, so "
    "that 1 - beta**0 is 0. Count the step before the correction: t = t + 1",
    "it ran": "\np = p - ... within it makes a new array and leaves the parameter as it was: return the new ones, or "
    "write p -= ...",
    "RuntimeError: a leaf Variable": "\nPut @torch.no_grad() above the step",
    "KeyError": "\nA dict of parameters and that of their gradients have the same keys here, w00, w01, ..., and the "
    "state is empty at first. Loop over the keys that there are: for name in params",
}


def _what_went_wrong(subject: Subject, failures: dict[str, str]) -> str:
    hint = next((words for kind, words in _HINTS.items() if any(one.startswith(kind) for one in failures.values())), "")
    if all("required positional argument" in one for one in failures.values()):
        hint = f"\nGive it as a setting behind the name, as in '...:{subject.name}(lr=0.01)'"
    by_reason: dict[str, list[str]] = {}
    for words, wrong in failures.items():
        form = words.partition(" and a")[0].replace("a function of ", "given ")
        if form not in (known := by_reason.setdefault(wrong, [])):
            known.append(form)
    lines = [f"  {', '.join(forms)}: {wrong}" for wrong, forms in by_reason.items()]
    return (
        f"{subject.name} cannot be run as an optimizer. Called as (params, grads, state) it must return params or "
        "(params, state). What was tried:\n" + "\n".join(lines) + hint
    )


_OTHERWISE = 0.1
"""A share of a step within which no element depends on others: without half of them a norm is less by more."""


def is_elementwise(run: Runner, probe: Probe, seen: Observed) -> bool:
    """Whether each element is stepped by itself: without the others it goes the same way."""
    if run.opener.alone:
        return True
    part = run.observe(probe, slice(None, None, 2))
    whole = seen.after[:, ::2]
    # Moments of few digits are rounded otherwise where an element stands elsewhere in an array, by some libraries.
    unit = max([seen.unit, *(TYPES.get(kind, 0.0) for kind in run.habits.kept)])
    largest = np.where(np.isfinite(seen.moved), np.abs(seen.moved), 0.0).max(axis=0)[::2]
    near = np.abs(part.after - whole) <= 64 * seen.unit * np.abs(whole) + min(64 * unit, _OTHERWISE) * largest
    return bool((near | ~np.isfinite(whole)).all())


def look(run: Runner, probe: Probe) -> Observed:
    """Run the probing sequence twice, and a third time with reused gradients, and note what differs.

    Raises:
        CheckError: for what differs from run to run.
    """
    seen = run.observe(probe)
    # Without a gradient a parameter stays where it is, or loses a share; of a step alone nothing is left.
    if not seen.after[:, probe.still].any():
        run.habits.returns_step = True
        seen = run.observe(probe)
    again = run.observe(probe)
    if not np.array_equal(seen.after, again.after, equal_nan=True):
        remedy = (
            "remove what is random, or seed it when the state is made"
            if run.subject.reloads
            else "keep everything in the state that it is given; or name its file, path/to/file.py:NAME, which is run "
            "anew for each run"
        )
        raise CheckError(
            f"{run.subject.name} does not do the same twice: two runs from the same start along the same gradients "
            f"differ. It is random, or it keeps something outside of its state (a global, a default argument); {remedy}"
        )
    reused = run.observe(probe, reuse=True)
    run.habits.keeps = not np.array_equal(seen.after, reused.after, equal_nan=True) and not run.habits.wrote
    run.habits.single = run.habits.kept & TYPES.keys() == {"float32"}
    return replace(seen, unit=run.unit)


def together(
    run: Runner, tensors: int = 3, spread: float = 3.0, kind: str = "float64"
) -> tuple[Floats, Floats, Floats]:
    """Return gradients, and parameters before and after each step, of several tensors that are stepped together."""
    starts, gradients = further(min(tensors, run.opener.most), spread)
    if run.opener.alone:
        starts, gradients = starts[:, :1], gradients[:, :, :1]
    before, after = run.run(starts, gradients, kind=kind)
    return gradients, before, after
