"""What is done to a gradient before a rule sees it, the loss's scale and clipping; and what clipped updates are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steprule.language import maximum, minimum, where
from steprule.language.node import Node, symbol
from steprule.rules.cache import cached_with_rule
from steprule.rules.moments import named_nodes, second_moment
from steprule.rules.rule import Rule, Variant

__all__ = [
    "CLIP_FACTOR",
    "CLIP_VALUE",
    "GRAD_SCALE",
    "UNGUARDED",
    "Guard",
    "gradient_of",
    "update_ratio",
]

# The underscores keep these out of the way of a rule's own hyperparameters.
GRAD_SCALE, CLIP_VALUE, CLIP_FACTOR = "_grad_scale", "_clip_value", "_clip_factor"


@dataclass(frozen=True)
class Guard:
    """Which of these are done, in this order; the numbers come with every step.

    Attributes:
        unscales: the gradient is divided by the scale of the loss.
        clips_value: each element is brought to at most ``clip_value`` in size.
        clips_norm: the gradient is multiplied by the factor that brings the norm of all to ``clip_norm``.
        clips_update: the rule is ``combinators.update_clip`` of the one that is given.
    """

    unscales: bool = False
    clips_value: bool = False
    clips_norm: bool = False
    clips_update: bool = False

    def __iter__(self) -> Iterator[str]:
        """Return the names of the numbers that it takes."""
        given = {GRAD_SCALE: self.unscales, CLIP_VALUE: self.clips_value, CLIP_FACTOR: self.clips_norm}
        return (name for name, is_used in given.items() if is_used)

    def unscaled(self, g: Any, numbers: Mapping[str, Any]) -> Any:
        """Return the gradient of the loss itself, which must be finite."""
        return g / numbers[GRAD_SCALE] if self.unscales else g

    def measured(self, g: Any, numbers: Mapping[str, Any]) -> Any:
        """Return the gradient whose norm is clipped."""
        g = self.unscaled(g, numbers)
        if self.clips_value:
            g = minimum(maximum(g, -numbers[CLIP_VALUE]), numbers[CLIP_VALUE])
        return g

    def gradient(self, g: Any, numbers: Mapping[str, Any]) -> Any:
        """Return the gradient that the rule sees."""
        g = self.measured(g, numbers)
        return g * numbers[CLIP_FACTOR] if self.clips_norm else g

    @property
    def symbols(self) -> dict[str, Node]:
        """The numbers, as symbols of the host."""
        return {name: symbol(name, "host") for name in self}


UNGUARDED = Guard()


@cached_with_rule
def update_ratio(rule: Rule, variant: Variant) -> Node | None:
    """Return ``g**2 / max(v_hat, eps**2)``, whose mean over a tensor should not be above 1.

    None for rules without a second moment. Source: StableAdamW, Wortsman et al. 2023, Algorithm 2, arXiv:2304.13013.
    """
    moment = second_moment(rule, variant)
    if moment is None:
        return None
    square = gradient_of(rule, variant) ** 2
    if "eps" in rule.trace(variant).used:
        moment = maximum(moment, symbol("eps", "host") ** 2)
    ratio: Node = where(square == 0.0, 0.0, square / moment)  # 0 / 0 where eps is 0
    return ratio


def gradient_of(rule: Rule, variant: Variant) -> Node:
    """Return the gradient as the rule's own formula sees it, after combinators."""
    return named_nodes(rule, variant).get(rule.gradient, symbol(rule.gradient, "element"))
