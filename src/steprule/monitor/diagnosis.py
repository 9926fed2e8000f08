"""What is found to be wrong with a run, in words and with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Diagnoses", "Diagnosis"]

_NAMED = 3


@dataclass(frozen=True)
class Diagnosis:
    """One illness of a run.

    Attributes:
        illness: its name.
        parameters: those that have it; none where it is the whole run's.
        what: what was seen, in one sentence.
        evidence: the numbers behind it.
        remedy: what to try.
    """

    illness: str
    parameters: tuple[str, ...]
    what: str
    evidence: Mapping[str, float] = field(hash=False)
    remedy: str

    def __str__(self) -> str:
        more = len(self.parameters) - _NAMED
        named = ", ".join(self.parameters[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        return f"{self.illness}{f' ({named})' if named else ''}: {self.what} {self.remedy}"


class Diagnoses(list[Diagnosis]):
    """What was found; empty for a healthy run.

    Attributes:
        is_read: whether there was anything to judge.
    """

    is_read = True

    def __str__(self) -> str:
        if not self and not self.is_read:
            return (
                "nothing was read yet: no step was taken since the monitor came, no parameter had a gradient, or none "
                "of them is stepped by a kernel"
            )
        return "\n".join(map(str, self)) or "nothing found"
