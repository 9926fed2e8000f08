"""Parameter groups of the NumPy door: arrays with hyperparameters and formats of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steprule.doors.leaf import Leaf
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import check_seed
from steprule.launch.values import GroupValues
from steprule.rules.rule import ARGUMENTS

__all__ = ["Group", "as_groups", "seed_groups"]

_FORMATS = ("states", "weights", "min_elements")


class Group:
    """Parameters with hyperparameters of their own: ``steprule.Group(params, lr=1e-4)``.

    Pass a list of groups as the parameters of an ``Optimizer``; gradients are then a list with
    one structure per group. ``states``, ``weights`` and ``min_elements`` may differ from the optimizer's, too.

    Args:
        params: an array, or nested lists, tuples and dicts of arrays.
        first_row: for arrays that are a part of larger ones, the index of their first row there. Stochastic rounding
            then gives the same bits as for the whole arrays.
        hyperparameters: those of the rule.
    """

    def __init__(self, params: Any, *, first_row: int = 0, **hyperparameters: Any) -> None:
        if isinstance(first_row, bool) or not isinstance(first_row, int) or first_row < 0:
            raise HyperparameterError(f"first_row must be an integer of at least 0, got {first_row!r}")
        for name in hyperparameters:
            if name in ARGUMENTS and name not in _FORMATS:
                raise HyperparameterError(f"{name} is for all groups together; give it to the Optimizer itself")
        self.params = params
        self.first_row = first_row
        self.formats = {name: hyperparameters.pop(name) for name in _FORMATS if name in hyperparameters}
        self.hyperparameters = hyperparameters

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in {**self.hyperparameters, **self.formats}.items())
        return f"Group({type(self.params).__name__}{options})"


def as_groups(params: Any) -> list[Group] | None:
    """Return the groups if ``params`` is a list of them, None if it is a plain structure."""
    if isinstance(params, Group):
        return [params]
    if not isinstance(params, (list, tuple)) or not any(isinstance(item, Group) for item in params):
        return None
    for index, item in enumerate(params):
        if not isinstance(item, Group):
            raise StructureError(
                f"params[{index}] is a {type(item).__name__} among groups; wrap it: steprule.Group(...)"
            )
    return list(params)


def seed_groups(
    seed: int | None, given: Sequence[Group], groups: Sequence[GroupValues], leaves: Sequence[Leaf]
) -> None:
    """Give the groups that round stochastically their seed, and all of them where they begin.

    Raises:
        HyperparameterError: for an option that has no effect on any parameter.
    """
    if seed is not None:
        check_seed(seed)
    for own, values in zip(given, groups, strict=True):
        values.first_row = own.first_row
    for leaf in leaves:
        if leaf.kernel.plan.inputs:
            leaf.group.seed = seed or 0
    for values in groups:
        if values.first_row and values.seed is None:
            raise HyperparameterError(
                f"first_row={values.first_row} has no effect: no rounding is stochastic{values.place}; remove it"
            )
