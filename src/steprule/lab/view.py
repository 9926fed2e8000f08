"""What a page shows when it is opened: the user's rules, surface and start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steprule.errors import HyperparameterError, RuleError
from steprule.lab.entrants import menu, told_apart
from steprule.lab.surface import Surface
from steprule.rules import Rule

__all__ = ["View"]


@dataclass(frozen=True)
class View:
    """What is asked for; nothing is asked for by default.

    Attributes:
        rules: to be shown first, beside Adam; those that are not in the menu are added to it. One that is called as
            another of the page has its file's name behind its own there.
        surface: to be shown first; one that does not ship is added.
        start: where paths begin.
    """

    rules: tuple[Rule, ...] = ()
    surface: Surface | None = None
    start: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Tell apart rules of one name, and check that the surface has a gradient at the start.

        Raises:
            RuleError, HyperparameterError, ProblemError: otherwise.
        """
        object.__setattr__(self, "rules", told_apart(self.rules))
        names = [rule.name for rule in self.rules]
        for rule in self.rules:
            if names.count(rule.name) > 1:
                raise RuleError(f"rule {rule.name!r} is given {names.count(rule.name)} times; name each rule once")
        if self.surface is not None:
            self.surface.check_start(self.surface.start if self.start is None else self.start)
        elif self.start is not None:
            raise HyperparameterError("--start belongs to a surface; name one by --surface, as in --surface beale")

    @property
    def added(self) -> Sequence[Rule]:
        """The rules that are not in the menu."""
        return [rule for rule in self.rules if rule.name not in menu()]
