"""Which rule somebody's optimizer is, and which known mistakes it has: found by fitting rules to its steps."""

from steprule.checking.answer import Answer, Recovered
from steprule.checking.examine import check, check_subject
from steprule.checking.mistakes import MISTAKES, Mistake
from steprule.checking.page import write
from steprule.checking.place import subject_at
from steprule.checking.righted import Deviations, Difference
from steprule.checking.source import Line
from steprule.checking.subject import Subject, subject_of

__all__ = [
    "MISTAKES",
    "Answer",
    "Deviations",
    "Difference",
    "Line",
    "Mistake",
    "Recovered",
    "Subject",
    "check",
    "check_subject",
    "subject_at",
    "subject_of",
    "write",
]
