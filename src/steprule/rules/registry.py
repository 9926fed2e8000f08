"""Rules and combinators by name: filled by the catalogue and the combinators, asked by everyone, pickles included."""

from __future__ import annotations

import re
from collections.abc import Callable

from steprule.errors import RuleError, suggest
from steprule.rules.rule import Rule

__all__ = ["CATALOGUE", "COMBINATORS", "find", "register"]

CATALOGUE: dict[str, Rule] = {}
"""The rules of the catalogue by name, in its order."""
COMBINATORS: dict[str, Callable[..., Rule]] = {}
"""What makes rules of rules, by name, as ``"l2(adam)"`` names them."""
_COMBINED = re.compile(r"(\w+)\(([^=]+)\)")


def find(rule: str | Rule) -> Rule:
    """Return the rule of that name in the catalogue, made by combinators (``"l2(adam)"``), or the rule itself.

    Raises:
        RuleError: when there is none; it suggests the nearest name.
    """
    if isinstance(rule, Rule):
        return rule
    if callable(rule):
        raise RuleError(f"{rule!r} is a function, not yet a rule: decorate it with @steprule.rule")
    if not isinstance(rule, str):
        raise RuleError(f"a rule is a name of the catalogue or a Rule, got {rule!r}")
    if rule in CATALOGUE:
        return CATALOGUE[rule]
    combined = _COMBINED.fullmatch(rule.strip())
    if combined and combined[1] in COMBINATORS:
        return COMBINATORS[combined[1]](combined[2].strip())
    if rule.strip("() ") in COMBINATORS:
        maker = rule.strip("() ")
        raise RuleError(f"{maker} is a combinator, which makes a rule of a rule: write {maker}(adam)")
    hint = suggest(rule.lower(), CATALOGUE)
    if combined:
        hint = f" Combinators take a rule by its name, as in l2({combined[2]}): {', '.join(COMBINATORS)}"
    raise RuleError(f"no rule is called {rule!r}.{hint}")


def register(*rules: Rule) -> None:
    """Let rules be known by their names, also to pickles and copies."""
    for rule in rules:
        CATALOGUE[rule.name] = rule
        object.__setattr__(rule, "found_by", (find, (rule.name,)))
