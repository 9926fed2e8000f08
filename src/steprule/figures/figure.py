"""What a figure of a paper is: pieces of work, a table, a picture, and what is claimed with a verdict."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from steprule.install import lacking
from steprule.race.plan import versions
from steprule.report.folder import to_json
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Figure", "Judgement", "Part", "Results", "Table", "part"]


@dataclass(frozen=True)
class Part:
    """A piece of work, small enough to be lost when a run is killed.

    Attributes:
        work: the function that does it, ``module:name``; it returns what JSON can hold.
        arguments: of that function, by name.
        source: of what data it is, where these may change: their digest.
    """

    work: str
    arguments: tuple[tuple[str, Any], ...]
    source: str = ""

    @cached_property
    def key(self) -> str:
        """Its name on disk: another one where the numbers may be others."""
        text = json.dumps([asdict(self), versions()], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def do(self) -> Any:
        """Return what comes of it, as it is read from disk."""
        return json.loads(to_json(resolve_name(self.work)(**dict(self.arguments))))


Results: TypeAlias = Mapping[Part, Any]


@dataclass(frozen=True)
class Judgement:
    """A claim, and whether it holds here.

    Attributes:
        claim: what the paper says, in a sentence.
        holds: whether it is so here.
        statistic: what that rests on, in a sentence, with numbers and the bound that decides.
        why: where it does not hold, the reason.
    """

    claim: str
    holds: bool
    statistic: str
    why: str = ""

    @property
    def verdict(self) -> str:
        """In two or three words."""
        return "Holds here." if self.holds else "Does not hold here."


@dataclass(frozen=True)
class Table:
    """The numbers of a figure: names of columns, and rows."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


class Figure(ABC):
    """A figure of a paper, or a claim that is shown as one.

    Attributes:
        name: of its files.
        title: of the picture.
        source: where in which paper.
        needs: modules without which it cannot be made, and the packages that have them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Mapping[str, str]] = {}

    @property
    @abstractmethod
    def setting(self) -> str:
        """What is run here, and how that differs from the paper."""

    @abstractmethod
    def parts(self, results: Results) -> Sequence[Part]:
        """Return the work that is known of, given what is done: what follows from results comes later."""

    @abstractmethod
    def judge(self, results: Results) -> Sequence[Judgement]:
        """Return the claims with their verdicts."""

    @abstractmethod
    def table(self, results: Results) -> Table:
        """Return the numbers that are drawn."""

    @abstractmethod
    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the picture."""

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed, without which it cannot be made."""
        return lacking(self.needs)

    def left(self, results: Results) -> list[Part]:
        """Return the known parts that are not done."""
        return [part for part in dict.fromkeys(self.parts(results)) if part not in results]


def part(function: str, source: str = "", /, **arguments: Any) -> Part:
    """Return a piece of work by the name of its function, within this package."""
    return Part(f"steprule.figures.{function}", tuple(sorted(arguments.items())), source)
