"""Decoupled weight decay, which is taken off the parameter together with the rule's own step.

Multiplied by ``1 - decay``, or taken off by itself, a parameter is rounded to the same side in step after step. In
``theta - (step + decay)`` only the sum is rounded, which is another one in every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steprule.language.computing import of_others
from steprule.language.node import Node, symbol
from steprule.language.walk import postorder
from steprule.rules.cache import cached_with_rule
from steprule.rules.combine import computed_together
from steprule.rules.rule import Rule, Variant

__all__ = ["decayed"]

_DECAY = "_decay"
"""The symbol of what is taken off; the underscore keeps it out of the way of a rule's own names."""


def decayed(rule: Rule, decay: Any, elements: Sequence[Any], t: Any, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a rule computes where ``theta - decay`` is the parameter, with ``theta - (x + decay)`` for every
    ``theta - decay - x``.

    Args:
        rule: any.
        decay: what is taken off the parameter.
        elements: parameter, gradient and slots: all arrays, or all symbols.
        t: the number of the step.
        values: of the hyperparameters.
    """
    theta, *others = elements
    if isinstance(theta, Node):  # not from the trace, in which no value has the name that the rule's source gives it
        less = theta - decay
        return _together(rule.compute([less, *others], t, values), less, less, theta, decay)
    roots = _traced(rule, rule.variant(values))
    kept = [root for root in roots if root is not None]
    found = dict(zip(kept, computed_together(rule, kept, elements, t, {**values, _DECAY: decay}), strict=True))
    return tuple(None if root is None else found[root] for root in roots)


@cached_with_rule
def _traced(rule: Rule, variant: Variant) -> tuple[Node | None, ...]:
    """Return the same as expressions, of the decay as well."""
    trace, decay = rule.trace(variant), symbol(_DECAY, "element")
    roots = (trace.parameter, *(trace.kept.get(slot) for slot in rule.slots))
    nodes = postorder(root for root in roots if root is not None)
    theta = next((node for node in nodes if node.op == "symbol" and node.name == rule.parameter), None)
    return roots if theta is None else _together(roots, theta, theta - decay, theta, decay)


def _together(roots: Sequence[Any], less: Node, instead: Node, theta: Node, decay: Node) -> tuple[Any, ...]:
    """Return expressions in which the decay is taken off theta together with what else is.

    Args:
        roots: the expressions; what is none stays as it is.
        less: what stands in them for theta after the decay.
        instead: what stands for it where nothing is taken off it.
        theta: the parameter.
        decay: what is taken off it.
    """
    found: dict[Node, Node] = {less: instead}
    for node in postorder([root for root in roots if isinstance(root, Node)], [less]):
        args = [found.setdefault(arg, arg) for arg in node.args]
        if node.op == "sub" and node.args[0] is less:
            found[node] = theta - (args[1] + decay)
        elif node.op == "add" and any(arg is less for arg in node.args):
            found[node] = theta + (args[node.args[0] is less] - decay)
        else:
            found[node] = of_others(node, args)
    return tuple(found[root] if isinstance(root, Node) else root for root in roots)
