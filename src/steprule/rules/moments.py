"""What a rule makes of the slots that are its first and second moment, by their declared roles."""

from __future__ import annotations

from steprule.language.node import Node, symbol
from steprule.language.walk import postorder, symbols_in
from steprule.rules.hyperparameters import Role
from steprule.rules.rule import Rule, Variant

__all__ = ["first_moment", "is_corrected", "is_timely", "named_nodes", "second_moment"]


def first_moment(rule: Rule, variant: Variant) -> Node | None:
    """Return the average of gradients, corrected for bias where the rule does so; None if it has none."""
    slot = rule.slot_of(Role.FIRST_MOMENT)
    if slot is None or slot not in rule.trace(variant).slots:
        return None
    return _corrected(rule, variant, slot)


def second_moment(rule: Rule, variant: Variant) -> Node | None:
    """Return the average of squared gradients whose root the rule divides by; None if it has none.

    That is the new ``SecondMoment``, or its largest so far where the rule keeps that, corrected for bias where the rule
    does so; or the slot as it was, where the step does not use the new one (ADOPT).
    """
    slot = rule.slot_of(Role.SECOND_MOMENT)
    if slot is None or slot not in rule.trace(variant).slots:
        return None
    if not is_timely(rule, variant):
        return symbol(slot, "element")
    return _corrected(rule, variant, _largest(rule, variant, slot) or slot)


def is_timely(rule: Rule, variant: Variant) -> bool:
    """Whether the step depends on the second moment with this step's gradient in it."""
    trace = rule.trace(variant)
    moment = trace.slots.get(rule.slot_of(Role.SECOND_MOMENT) or "")
    return any(node is moment for node in postorder([trace.parameter]))


def is_corrected(rule: Rule, variant: Variant) -> bool:
    """Whether what the rule does to its second moment before it divides makes up for the start at zero.

    That is so where it changes from step to step: by t, or by a Scalar such as a running product of decays.
    """
    moment, slot = second_moment(rule, variant), rule.slot_of(Role.SECOND_MOMENT)
    if moment is None:
        return False
    new = rule.trace(variant).slots[slot or ""]
    return not symbols_in([moment], apart=[new]).isdisjoint({"t", *rule.numbers})


def named_nodes(rule: Rule, variant: Variant) -> dict[str, Node]:
    """Return the expressions that the rule has names for; of a rule made of rules the innermost names count."""
    nodes: dict[str, Node] = {}
    for node, name in rule.named_trace(variant)[1].items():
        nodes.setdefault(name, node)
    return nodes


def _corrected(rule: Rule, variant: Variant, slot: str) -> Node:
    """Return what the rule makes of the new value of a slot to undo the pull of its start at zero.

    That is its quotient by ``1 - beta**t`` or the like. Where the correction is no such quotient (Nadam's mixes the
    gradient in; others divide a root by the root of it), it is what the rule's source calls ``SLOT_hat``, as papers do.
    """
    trace = rule.trace(variant)
    for node in postorder([trace.parameter, *trace.slots.values()]):
        if _is_corrected(rule, node, trace.slots[slot]):
            return node
    return named_nodes(rule, variant).get(f"{slot}_hat", trace.slots[slot])


def _is_corrected(rule: Rule, node: Node, moment: Node) -> bool:
    """Whether a node is a moment divided by one minus a number that changes from step to step."""
    if node.op != "div" or node.args[0] is not moment or node.args[1].op != "sub":
        return False
    one, decayed = node.args[1].args
    is_one = one.op == "const" and one.value == 1
    return is_one and decayed.stage == "host" and not symbols_in([decayed]).isdisjoint({"t", *rule.numbers})


def _largest(rule: Rule, variant: Variant, slot: str) -> str | None:
    """Return the slot that keeps the largest value so far of another one, corrected for bias or not (AMSGrad)."""
    slots = rule.trace(variant).slots
    for name, node in slots.items():
        follows = any(arg is slots[slot] or _is_corrected(rule, arg, slots[slot]) for arg in node.args)
        if node.op == "maximum" and follows and name in symbols_in(node.args):
            return name
    return None
