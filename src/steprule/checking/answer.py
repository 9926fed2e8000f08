"""What a check has found, as an object and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steprule.checking.mistakes import Mistake
from steprule.checking.nice import written
from steprule.checking.picture import draw
from steprule.checking.righted import Deviations, Difference
from steprule.checking.source import Line
from steprule.style import LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answer", "Recovered", "within"]


@dataclass(frozen=True)
class Recovered:
    """A hyperparameter, as its steps tell.

    Attributes:
        value: the number.
        error: within what it is known; infinite where the steps do not tell, and ``value`` is the rule's default.
        text: the roundest number within the error.
    """

    value: float
    error: float
    text: str

    @classmethod
    def of(cls, name: str, value: float, error: float) -> Recovered:
        """Return a hyperparameter of that name."""
        return cls(value, error, written(value, error, decay=name.startswith("beta") or name in ("rho", "mu")))


@dataclass(frozen=True)
class Answer:
    """What somebody's optimizer is.

    Attributes:
        name: what was checked.
        called: how it was called.
        rule: the rule that explains its steps, as a person says it, or ``""`` if none does.
        hyperparameters: those of the rule.
        mistakes: what is wrong with it.
        remarks: what is worth knowing beside.
        difference: where it first differs from the rule without its mistakes, or from the nearest rule.
        nearest: the rule that comes nearest where none explains it.
        evidence: on what the answer rests.
        lines: of each mistake's name, the lines that it stands in and what to write there, where that can be said.
        deviations: how far each of some further steps is from the rule's.
    """

    name: str
    called: str
    rule: str
    hyperparameters: Mapping[str, Recovered]
    mistakes: tuple[Mistake, ...]
    remarks: tuple[str, ...]
    difference: Difference | None
    nearest: str
    evidence: str
    lines: Mapping[str, tuple[Line, ...]]
    deviations: Deviations

    @property
    def is_right(self) -> bool:
        """Whether it is a known rule without a known mistake."""
        return bool(self.rule) and not self.mistakes

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        if not self.rule and self.mistakes:
            names = ", ".join(mistake.name for mistake in self.mistakes)
            return f"{self.name} is none of the known rules, and has {_count(self.mistakes)}: {names}."
        if not self.rule:
            return f"{self.name} is none of the known rules, with or without the known mistakes."
        if not self.mistakes:
            return f"{self.name} is {self.rule}."
        names = ", ".join(mistake.name for mistake in self.mistakes)
        return f"{self.name} is {self.rule}, with {_count(self.mistakes)}: {names}."

    def __str__(self) -> str:
        return "\n".join(self.paragraphs())

    def figure(self, theme: Theme = LIGHT) -> Figure:
        """Return a figure of matplotlib's: how far each step is from the rule's, with and without the mistakes.

        Args:
            theme: of ``steprule.style``, ``LIGHT`` or ``DARK``.

        Raises:
            ImportError: without matplotlib.
        """
        return draw(self.deviations, "the rule" if self.rule else "the nearest rule", theme)

    def paragraphs(self) -> list[str]:
        """Return the answer in lines; a line that begins with two blanks belongs to the one above."""
        lines = [self.headline, ""]
        if not self.rule and self.nearest:
            lines += [f"The nearest is {self.nearest}. It first differs {self.difference}."]
        for name, one in self.hyperparameters.items():
            lines.append(f"  {name:13} {one.text:10} ({within(one)})")
        for place, mistake in enumerate(self.mistakes, 1):
            lines += ["", f"{place}. {mistake.name.capitalize()}. {mistake.what}", f"  Remedy: {mistake.remedy}"]
            lines += [f"  {part}" for one in self.lines.get(mistake.name, ()) for part in str(one).splitlines()]
        if self.rule and self.difference:
            lines += ["", f"Without its mistakes it would first step otherwise {self.difference}."]
        lines += [part for remark in self.remarks for part in ("", f"Note: {remark}")]
        return [*lines, "", self.evidence]


def _count(mistakes: tuple[Mistake, ...]) -> str:
    return "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"


def within(one: Recovered) -> str:
    """Return in words how well a hyperparameter is known."""
    if one.error == float("inf"):
        return "the default; these steps do not tell"
    # What is known to nine digits and more depends on the processor's rounding.
    if 0 < one.error < 1e-9 * abs(one.value):
        return "to rounding"
    # Upwards to a power of ten: more digits of an error say nothing.
    return f"within {10.0 ** math.ceil(math.log10(one.error)):.0e}" if one.error else "exactly"
