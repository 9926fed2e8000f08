"""What a page shows when it is opened: the user's rules, surface and start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from steprule.errors import HyperparameterError, RuleError
from steprule.lab.entrants import menu, told_apart
from steprule.lab.surface import Surface
from steprule.rules import Rule
from steprule.rules.settings import Settings, with_defaults, without_defaults

__all__ = ["TWIN", "Entry", "View"]

TWIN = " (2)"
"""What the page puts behind the name of a rule that it shows once more, with settings of its own."""


@dataclass(frozen=True)
class Entry:
    """A rule as the page shows it: its name there, and what its sliders are set to."""

    rule: Rule
    name: str
    settings: Settings = ()


@dataclass(frozen=True)
class View:
    """What the page is to show first; by default, nothing in particular.

    Attributes:
        rules: to be shown first, one alone beside Adam; those that are not in the menu are added to it. A rule may come
            with settings (``steprule.rules.load("adam(beta2=0.9)")``), and in two of them. One that is called as
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
        for name, count in Counter(rule.name for rule in self.rules).items():
            if count > 1:
                raise RuleError(f"rule {name!r} is given {count} times; name each rule once")
        len(self.entries)  # which refuses a rule in more than two settings
        if self.surface is not None:
            self.surface.check_start(self.surface.start if self.start is None else self.start)
        elif self.start is not None:
            raise HyperparameterError("--start belongs to a surface; name one by --surface, as in --surface beale")

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The rules as the page has them; before one that is alone, and is not plain Adam itself, plain Adam.

        Raises:
            RuleError: for a rule with more than two settings.
        """
        asked = [_of_page(rule) for rule in self.rules]
        adam: tuple[Rule, Settings] = (menu()["adam"], ())
        if len(asked) == 1 and asked != [adam]:
            asked = [adam, *asked]
        counts: Counter[str] = Counter()
        entries = []
        for rule, settings in asked:
            counts[rule.name] += 1
            if counts[rule.name] > 2:
                raise RuleError(f"the page shows a rule in two settings at most, {rule.name!r} beside them is one more")
            entries.append(Entry(rule, rule.name + (TWIN if counts[rule.name] == 2 else ""), settings))
        return tuple(entries)

    @property
    def asked(self) -> Sequence[Entry]:
        """The rules that were asked for, as the page has them."""
        return self.entries[len(self.entries) - len(self.rules) :]

    @property
    def added(self) -> Sequence[Rule]:
        """The rules that are not in the menu."""
        return [entry.rule for entry in self.entries if entry.rule.name not in menu()]


def _of_page(rule: Rule) -> tuple[Rule, Settings]:
    """Return the rule of the page that ``rule`` is, and what its sliders are set to.

    What a slider cannot do, since it is fixed when a rule is traced, makes another rule: ``momentum(nesterov=True)``.
    """
    plain, settings = without_defaults(rule)
    [plain] = told_apart([plain])
    usual = dict(plain.variant(plain.resolve({})))
    chosen = dict(plain.variant(plain.resolve(dict(settings))))
    fixed = tuple((name, value) for name, value in settings if chosen[name] != usual[name])
    numbers = [name for name, kind in usual.items() if kind == chosen[name] == "number"]
    return with_defaults(plain, fixed), tuple((name, value) for name, value in settings if name in numbers)
