"""What is read of a step while it is taken: sums over the elements of a parameter, for a monitor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steprule.language import sqrt, where
from steprule.language.computing import of_others
from steprule.language.node import Node, constant, is_number, symbol
from steprule.language.walk import symbols_in
from steprule.rules.guard import update_ratio
from steprule.rules.hyperparameters import Role
from steprule.rules.moments import first_moment, is_timely, second_moment
from steprule.rules.rule import Rule, Variant

__all__ = ["BELOW", "Read", "readings"]

BELOW = tuple(range(-12, 4))
"""The powers of 4, times the learning rate, below which the sizes of steps are counted."""
_IDLE = 1e-4


@dataclass(frozen=True)
class Read:
    """What is summed: a value, its square, or how often a condition holds."""

    node: Node
    is_squared: bool = False


def readings(rule: Rule, variant: Variant, given: Node, stored: Mapping[str, Node]) -> dict[str, Read]:
    """Return what is summed over the elements of a parameter, by name.

    Args:
        rule: what steps.
        variant: its choices.
        given: the gradient as it is given.
        stored: what the parameter, and the low-precision slots, hold after the step.

    Returns:
        - ``gradient``, ``weight``: squares of the gradient, and of the parameter before the step;
        - ``nonfinite``, ``zeros``: elements of the gradient that are not finite, or zero;
        - ``update``: squares of what the stored parameter moves;
        - ``moved``, ``frozen``: elements that the rule moves, and of these those that stay as they are stored;
        - ``below 4^k``: elements whose step, without decoupled decay, is smaller than ``lr * 4**k``;
        - ``epsilon``: elements whose step is more than halved by ``eps``;
        - ``ratio``: ``rules.guard.update_ratio``;
        - ``signal``: ``|m_hat| / sqrt(v_hat)`` of the rule's moments m and v, whatever it calls them, or ``|m_hat|``
          where m averages what was divided already;
        - ``idle``: elements without a gradient whose first moment has died away;
        - ``error SLOT``, ``square SLOT``: squares of what a low-precision slot is off by, and of its exact value.

        Those that the rule has nothing for are left out.
    """
    theta, new = symbol(rule.parameter, "element"), rule.trace(variant).parameter
    kept = stored[rule.parameter]
    found = {
        "gradient": Read(given, is_squared=True),
        "nonfinite": Read(given - given != 0.0),
        "zeros": Read(given == 0.0),
        "weight": Read(theta, is_squared=True),
        "update": Read(kept - theta, is_squared=True),
        "moved": Read(new != theta),
        "frozen": Read((new != theta) & (kept == theta)),
    }
    slots = rule.trace(variant).slots
    for name, node in stored.items():
        if name in slots:
            found[f"error {name}"] = Read(node - slots[name], is_squared=True)
            found[f"square {name}"] = Read(slots[name], is_squared=True)
    found |= _steps(rule, variant) | _moments(rule, variant, given)
    return {name: read for name, read in found.items() if not is_number(read.node)}


def _steps(rule: Rule, variant: Variant) -> dict[str, Read]:
    """Return what is read of the sizes of steps."""
    step = _step(rule, rule.trace(variant).parameter)
    lr = symbol("lr", "host") if "lr" in rule.trace(variant).used else constant(1.0)
    found = {f"below 4^{power}": Read(abs(step) < lr * 4.0**power) for power in BELOW}
    without = _without_epsilon(step)
    if without is not None:
        found["epsilon"] = Read(abs(step) < 0.5 * abs(without))
    return found


def _step(rule: Rule, new: Node) -> Node:
    """Return what a rule subtracts from the parameter, without decoupled decay.

    That is part of what it subtracts from, or is added to the step.
    """
    return _without_decay(rule, new.args[1]) if new.op == "sub" else symbol(rule.parameter, "element") - new


def _without_decay(rule: Rule, step: Node) -> Node:
    """Return a sum, or a quotient of one by a number, without the terms that are the parameter times a number."""
    if step.op == "div" and is_number(step.args[1]):
        inner = _without_decay(rule, step.args[0])
        return of_others(step, [inner, step.args[1]])
    if step.op != "add":
        return step
    left, right = step.args
    if _is_decay(rule, right):
        return _without_decay(rule, left)
    return _without_decay(rule, right) if _is_decay(rule, left) else step


def _is_decay(rule: Rule, node: Node) -> bool:
    """Whether a node is the parameter times a number without this step's gradient, or for some elements 0."""
    if node.op == "where":
        return all((part.op == "const" and part.value == 0) or _is_decay(rule, part) for part in node.args[1:])
    return node.op == "mul" and any(
        is_number(one)
        and rule.gradient not in symbols_in([one])
        and other.op == "symbol"
        and other.name == rule.parameter
        for one, other in (node.args, reversed(node.args))
    )


def _moments(rule: Rule, variant: Variant, given: Node) -> dict[str, Read]:
    """Return what is read of the averages that the rule keeps."""
    found: dict[str, Read] = {}
    mean, moment, ratio = first_moment(rule, variant), second_moment(rule, variant), update_ratio(rule, variant)
    # Over an average without this step's gradient (ADOPT) it is large for long after a small first one.
    if ratio is not None and is_timely(rule, variant):
        found["ratio"] = Read(ratio)
    if mean is None:
        return found
    if moment is None:
        found["idle"] = Read((given == 0.0) & (mean == 0.0))
        return found
    root = constant(1.0) if _averages_divided(rule, variant) else sqrt(moment)
    found["signal"] = Read(where(root > 0.0, abs(mean) / root, 0.0))
    found["idle"] = Read((given == 0.0) & (abs(mean) <= _IDLE * root))
    return found


def _averages_divided(rule: Rule, variant: Variant) -> bool:
    """Whether the first moment averages what was divided by the root of the second already."""
    first, second = rule.slot_of(Role.FIRST_MOMENT), rule.slot_of(Role.SECOND_MOMENT)
    return second in symbols_in([rule.trace(variant).slots[first or ""]])


def _without_epsilon(root: Node) -> Node | None:
    """Return an expression with 0 for ``eps``; None where it has none, or where the host may divide by it."""
    done: dict[Node, Node] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        # Numbers of a tensor scale the step without eps as they do with it; that of a polar factor is for its norm, and
        # another factor would be another product of matrices.
        if node.stage in ("all", "tensor") or node.op == "polar":
            done[node] = node
        waiting = [arg for arg in node.args if arg not in done] if node not in done else []
        if waiting:
            stack += waiting
            continue
        stack.pop()
        if node in done:
            continue
        if node.op == "symbol" and node.name == "eps":
            done[node] = constant(0.0)
        elif node.stage == "host" and any(done[arg] is not arg for arg in node.args):
            return None
        else:
            done[node] = of_others(node, [done[arg] for arg in node.args])
    return None if done[root] is root else done[root]
