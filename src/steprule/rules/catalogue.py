"""The catalogue: one line a rule. Everything else (docs, CLI, tests) follows from it."""

from __future__ import annotations

from steprule.errors import RuleError, suggest
from steprule.rules.adabelief import adabelief
from steprule.rules.adadelta import adadelta
from steprule.rules.adagrad import adagrad
from steprule.rules.adam import adam, adamax
from steprule.rules.adamw import adamw
from steprule.rules.adan import adan
from steprule.rules.ademamix import ademamix
from steprule.rules.adopt import adopt
from steprule.rules.amsgrad import amsgrad
from steprule.rules.asgd import asgd
from steprule.rules.lion import lion
from steprule.rules.momentum import momentum, momentum_ema
from steprule.rules.nadam import nadam
from steprule.rules.radam import radam
from steprule.rules.rmsprop import rmsprop
from steprule.rules.rprop import rprop
from steprule.rules.rule import Rule
from steprule.rules.sgd import sgd
from steprule.rules.signum import signum
from steprule.rules.yogi import yogi

__all__ = ["CATALOGUE", "find"]

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
    """Return the rule of that name in the catalogue, or the rule itself.

    Raises:
        RuleError: when there is none; it suggests the nearest name.
    """
    if isinstance(rule, Rule):
        return rule
    if rule in CATALOGUE:
        return CATALOGUE[rule]
    raise RuleError(f"no rule is called {rule!r}.{suggest(rule, CATALOGUE)}")
