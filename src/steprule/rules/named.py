"""The values that a rule's source gives names to: what formulas are drawn with, and what a probe shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steprule.language import where
from steprule.language.node import Node
from steprule.language.walk import postorder
from steprule.rules.rule import Rule, Trace, Variant

__all__ = ["Named", "in_order", "named", "probes"]


@dataclass(frozen=True)
class Named:
    """A rule's trace with names for its intermediate values.

    Attributes:
        trace: the expressions.
        inputs: by name of a symbol, ``"old"``, or ``"new"`` (the gradient of this step).
        outputs: the new value of each slot that is kept, of any kind, and of the parameter.
        values: the intermediate values by name, in the order of the rule's source; none has a name of an input.
    """

    trace: Trace
    inputs: Mapping[str, str]
    outputs: Mapping[str, Node]
    values: Mapping[str, Node]


def named(rule: Rule, variant: Variant | None = None) -> Named:
    """Return a fresh trace of a variant (default: that of the default values) with its names.

    A second value of the same name has none: it is written out where it is used.
    """
    trace, labels = rule.named_trace(variant)
    inputs = {rule.parameter: "old", rule.gradient: "new", **dict.fromkeys(rule.slots, "old")}
    outputs = {**trace.numbers, **trace.vectors, **trace.slots, rule.parameter: trace.parameter}
    results = set(outputs.values())
    values: dict[str, Node] = {}
    for node in in_order(outputs.values()):
        name = labels.get(node, "")
        # A hyperparameter that the rule computes anew would have two values under one name.
        if name and node not in results and name not in {*values, *inputs, *outputs, *rule.hyperparameters, "t"}:
            values[name] = node
    return Named(trace, inputs, outputs, values)


def in_order(roots: Iterable[Node]) -> list[Node]:
    """Return every node below the roots in the order of the rule's source: arguments before what uses them."""
    return sorted(postorder(roots), key=lambda node: node.serial)


def probes(given: Named) -> dict[str, Node]:
    """Return what a probe of a step shows beside the slots, by name, as numbers.

    The intermediate values; ``sqrt NAME`` for the root of a named value; and ``1 - BETA^t`` for what corrects the bias
    of an average that decays by BETA. A condition is 1 or 0.
    """
    names = {node: name for name, node in {**given.values, **given.outputs}.items()}
    found = {name: where(node, 1.0, 0.0) if node.kind == "bool" else node for name, node in given.values.items()}
    for node in in_order(given.outputs.values()):
        if node.op == "sqrt" and node.args[0] in names and node not in names:
            found.setdefault(f"sqrt {names[node.args[0]]}", node)
        decay = _corrected(node)
        if decay and node not in names:
            found.setdefault(f"1 - {decay}^t", node)
    return found


def _corrected(node: Node) -> str:
    """Return the name of the decay whose bias ``1 - decay**t`` corrects."""
    if node.op != "sub" or node.args[0].op != "const" or node.args[0].value != 1 or node.args[1].op != "pow":
        return ""
    base, exponent = node.args[1].args
    return base.name if base.op == "symbol" and exponent.op == "symbol" and exponent.name == "t" else ""
