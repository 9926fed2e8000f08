"""What is wrong with the values that a rule returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steprule.language.node import VECTOR, Node, Stage, is_number
from steprule.language.sums import SUMS
from steprule.language.walk import first_difference, postorder

__all__ = ["miscount", "misfit", "misseen", "sees_matrices", "takes_polar", "unrepeated"]

_NAMES = {"tensor": "PerTensor", "row": "PerRow", "column": "PerColumn"}
_PLURAL = {"tensor": "sums over the tensor", "row": "rows", "column": "columns", "matrix": "matrices"}


def miscount(outputs: Sequence[Any], expected: Sequence[str]) -> str:
    """Return what is wrong where a rule returns more or fewer values than there are names; empty if it does not."""
    if len(outputs) == 1 and outputs[0] is None:
        return f"returns nothing, expected {', '.join(expected)}: end with return {', '.join(expected)}"
    if len(outputs) == len(expected):
        return ""
    missing = expected[len(outputs) :]
    lacking = f": {', '.join(missing)} is never returned; a hyperparameter comes after *" if missing else ""
    return f"returns {len(outputs)} values, expected {len(expected)} ({', '.join(expected)}){lacking}"


def misfit(slot: str, own: Stage, value: Node) -> str:
    """Return what is wrong with the new value of a slot, of which there are as many as of a stage; empty if nothing is.

    Args:
        slot: its name.
        own: the latest stage that the value may have, and that the old one has.
        value: the new one.
    """
    stage = value.stage
    if own == "host" and stage not in ("host", "all"):
        return (
            f"slot {slot!r} is a Scalar, so it may depend on hyperparameters, t, Scalars and sums over all tensors "
            f"only, not on {_PLURAL.get(stage, 'elements')}: {value!r}. Sum over='all', or make it PerTensor"
        )
    if own in ("host", "element") or is_number(value) or (own != "tensor" and stage in ("matrix", own)):
        return ""
    over = "" if own == "tensor" else f" over={own!r}"
    every = stage if stage in VECTOR else "element"
    return f"slot {slot!r} is {_NAMES[own]}, but {value!r} is a number of every {every}; take a sum{over}"


def misseen(matrices: object, *, sees: bool) -> str:
    """Return what is wrong with how a rule's tensors are to be seen as matrices; empty if nothing is."""
    if matrices not in (None, "first", "last"):
        return f'matrices is "first" or "last", got {matrices!r}'
    if matrices and not sees:
        return "matrices does nothing: the rule sees no rows and no columns; remove it"
    return ""


def sees_matrices(results: Iterable[Node]) -> bool:
    """Whether expressions ask for the rows, columns or axes of their tensor, or for its polar factor."""
    return any(
        node.op in ("ndim", "polar") or (node.op in SUMS and node.name in ("row", "column"))
        for node in postorder(results)
    )


def takes_polar(results: Iterable[Node]) -> bool:
    """Whether expressions ask for the polar factor of their tensor."""
    return any(node.op == "polar" for node in postorder(results))


def unrepeated(first: Mapping[str, Node], second: Mapping[str, Node], names: Iterable[str]) -> str:
    """Return what is wrong where two runs of a rule return other expressions, by name; empty if they do not.

    What is not a function of the rule's arguments would be frozen.
    """
    for name in names:
        one, other = first.get(name), second.get(name)
        if one is None and other is None:
            continue
        differ = (one, other) if one is None or other is None else first_difference(one, other)
        if differ is not None:
            return (
                f"the new {name} is not the same twice: {differ[0]!r} in one run of the function, {differ[1]!r} in "
                "the next. A rule is run when it is defined, and what it says then is every step: a random number, "
                "a clock or a counter would be one constant for ever. Add noise to the gradient, and give numbers "
                "that change from step to step as hyperparameters, which may be schedules of t"
            )
    return ""
