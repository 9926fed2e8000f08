"""What a rule is, and the catalogue: ``steprule.rules.NAME`` is the rule of that name."""

from typing import TYPE_CHECKING

from steprule.rules.catalogue import CATALOGUE, find
from steprule.rules.combinators import (
    averaged,
    batched,
    cautious,
    cautious_decay,
    centralized,
    decoupled,
    l2,
    lookahead,
    maximize,
    schedule_free,
    trust_ratio,
    unscaled,
    update_clip,
)
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import (
    Count,
    Decay,
    FirstMoment,
    Fraction,
    Hyperparameter,
    NonNegative,
    PerColumn,
    PerRow,
    PerTensor,
    Positive,
    Range,
    Rate,
    Scalar,
    SecondMoment,
)
from steprule.rules.load import load
from steprule.rules.rule import Rule

globals().update(CATALOGUE)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Rule: ...


__all__ = [
    "CATALOGUE",
    "Count",
    "Decay",
    "FirstMoment",
    "Fraction",
    "Hyperparameter",
    "NonNegative",
    "PerColumn",
    "PerRow",
    "PerTensor",
    "Positive",
    "Range",
    "Rate",
    "Rule",
    "Scalar",
    "SecondMoment",
    "averaged",
    "batched",
    "cautious",
    "cautious_decay",
    "centralized",
    "decoupled",
    "find",
    "l2",
    "load",
    "lookahead",
    "maximize",
    "rule",
    "schedule_free",
    "trust_ratio",
    "unscaled",
    "update_clip",
]
