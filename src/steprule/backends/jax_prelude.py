"""A prelude as text for JAX, where the step number or a hyperparameter may be traced.

The text computes with what it is given: Python numbers as the host does, ``Exact`` numbers (those that follow from a
traced step number) in float64, and traced hyperparameters in their own type; see ``jax_scalars``. In float32,
``1 - beta**t`` would be rounded to the last places of one, so it is written as one function.
"""

from __future__ import annotations

from steprule.compile import Prelude, assignments, distinct
from steprule.compile.prelude import PYTHON
from steprule.errors import TargetError
from steprule.language.node import Node, host_call

__all__ = ["emit"]

_SPELLED = {
    **PYTHON,
    "and": "({0} & {1})",
    "or": "({0} | {1})",
    "not": "math.negate({0})",
    "where": "math.where({0}, {1}, {2})",
}
_WITHOUT = ("comb", "perm", "factorial", "gcd", "lcm", "nextafter", "ulp", "isqrt", "dist", "prod", "fsum", "sumprod")
_OURS = ("math", "abs", "inf", "nan", "prelude", "late")


def emit(title: str, recipe: Prelude, name: str = "prelude") -> str:
    """Return the text of a function that takes a prelude's arguments and returns what that returns.

    Args:
        title: of the plan, for messages.
        recipe: the prelude.
        name: what the function is called.

    Raises:
        TargetError: when it calls what JAX cannot trace.
    """
    seen: dict[Node, Node] = {}
    results = [_one_less(node, seen) for node in recipe.results]
    names = distinct(recipe.arguments, _OURS)
    lines, texts = assignments(results, [*names.values(), *_OURS], lambda node, args: _text(node, args, names, title))
    values = "".join(f"{texts[node]}, " for node in results)
    body = "\n".join(f"    {line}" for line in [*lines, f"return ({values})"])
    return f"def {name}({', '.join(names.values())}):\n{body}\n"


def _text(node: Node, args: list[str], names: dict[str, str], title: str) -> str:
    if node.op == "symbol":
        return names[node.name]
    if node.op == "const":
        return f"({node.value!r})" if node.value < 0 else repr(node.value)
    function = node.op.removeprefix("math.")
    if function in _WITHOUT:
        raise TargetError(
            f"{title}: the rule calls math.{function}, which JAX has no form of that can be traced. Write it with "
            "operations that have one, or step with steprule.Optimizer or steprule.torch"
        )
    return f"{node.op}({', '.join(args)})" if node.op != function else _SPELLED[node.op].format(*args)


def _one_less(node: Node, seen: dict[Node, Node]) -> Node:
    """Return the expression with ``1 - a**b``, ``1 - (1 - a**b)`` and ``1 - exp(x)`` as functions of their own."""
    if node not in seen:
        args = tuple(_one_less(arg, seen) for arg in node.args)
        special = _special(node, args)
        seen[node] = _with(node, args) if special is None else special
    return seen[node]


def _with(node: Node, args: tuple[Node, ...]) -> Node:
    if all(new is old for new, old in zip(args, node.args, strict=True)):
        return node
    return Node(node.op, args, stage=node.stage, kind=node.kind, name=node.name, value=node.value)


def _special(node: Node, args: tuple[Node, ...]) -> Node | None:
    if node.op == "sub" and args[0].op == "const" and args[0].value == 1:
        return _less_than_one(args[1])
    return None


def _less_than_one(taken: Node) -> Node | None:
    """Return ``1 - taken`` without cancellation; None where the subtraction is all there is."""
    if taken.op == "pow":
        return host_call("one_minus_power", *taken.args)
    if taken.op == "math.one_minus_power":
        return host_call("power_left", *taken.args)
    if taken.op == "math.exp":
        return host_call("one_minus_exp", *taken.args)
    if taken.op != "where":
        return None
    branches = [_less_than_one(branch) for branch in taken.args[1:]]
    if all(branch is None for branch in branches):
        return None
    then, other = (1 - old if new is None else new for old, new in zip(taken.args[1:], branches, strict=True))
    return Node("where", (taken.args[0], then, other), stage="host")
