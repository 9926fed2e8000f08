"""The catalogue: one line a rule. Everything else (docs, CLI, tests) follows from it."""

from __future__ import annotations

import re

from steprule.errors import RuleError, suggest
from steprule.rules.combinators import COMBINATORS
from steprule.rules.papers.adabelief import adabelief
from steprule.rules.papers.adadelta import adadelta
from steprule.rules.papers.adagrad import adagrad
from steprule.rules.papers.adam import adam
from steprule.rules.papers.adamax import adamax
from steprule.rules.papers.adamw import adamw
from steprule.rules.papers.adan import adan
from steprule.rules.papers.ademamix import ademamix
from steprule.rules.papers.adopt import adopt
from steprule.rules.papers.amsgrad import amsgrad
from steprule.rules.papers.asgd import asgd
from steprule.rules.papers.lion import lion
from steprule.rules.papers.momentum import momentum, momentum_ema
from steprule.rules.papers.nadam import nadam
from steprule.rules.papers.radam import radam
from steprule.rules.papers.rmsprop import rmsprop
from steprule.rules.papers.rprop import rprop
from steprule.rules.papers.sgd import sgd
from steprule.rules.papers.signum import signum
from steprule.rules.papers.yogi import yogi
from steprule.rules.rule import Rule

__all__ = ["CATALOGUE", "find"]

_COMBINED = re.compile(r"(\w+)\(([^=]+)\)")

CATALOGUE: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        sgd,
        momentum,
        momentum_ema,
        adagrad,
        adadelta,
        rmsprop,
        adam,
        adamax,
        amsgrad,
        adamw,
        nadam,
        radam,
        rprop,
        asgd,
        adabelief,
        yogi,
        lion,
        signum,
        adan,
        adopt,
        ademamix,
    )
}


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
