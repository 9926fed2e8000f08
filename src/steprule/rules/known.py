"""Rules by name: filled by the catalogue, asked by combinators, pickles and everyone else."""

from __future__ import annotations

from steprule.errors import RuleError, suggest
from steprule.rules.rule import Rule

__all__ = ["CATALOGUE", "find", "register"]

CATALOGUE: dict[str, Rule] = {}
"""The rules of the catalogue by name, in its order."""


def find(rule: str | Rule) -> Rule:
    """Return the rule of that name in the catalogue, or the rule itself.

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
    raise RuleError(f"no rule is called {rule!r}.{suggest(rule.lower(), CATALOGUE)}")


def register(*rules: Rule) -> None:
    """Let rules be known by their names, also to pickles and copies."""
    for rule in rules:
        CATALOGUE[rule.name] = rule
        object.__setattr__(rule, "found_by", (find, (rule.name,)))
