"""Rules that sum over all tensors, and the steps that have not all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from steprule.doors.matrices import check_matrix
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, GroupOptions, hyperparameters
from steprule.doors.torch.shards import is_sharded
from steprule.errors import HyperparameterError, StructureError
from steprule.launch.guards import Guards
from steprule.launch.totals import check_alike
from steprule.launch.values import GroupValues

__all__ = ["check_added", "check_matrices", "check_process_group", "check_together", "sees_all", "values_of"]

_Options = Mapping[str, Any]


def values_of(choice: Choice, group: Mapping[str, Any], naming: Naming, where: str) -> GroupValues:
    """Return the checked hyperparameters of a group, which is not guarded."""
    return GroupValues(choice[0], hyperparameters(choice, group, naming, where), where)


def check_added(
    values: GroupValues,
    groups: Sequence[Mapping[str, Any]],
    choose: Callable[[Mapping[str, Any]], Choice],
    naming: Callable[[Mapping[str, Any]], Naming],
) -> None:
    """Refuse a group that takes other sums over all tensors than those that there are.

    Args:
        values: of the new group.
        groups: others, of which one of each rule is enough.
        choose, naming: return the rule of a group, and torch's names of it.

    Raises:
        HyperparameterError: naming both.
    """
    others = [values_of(choose(own), own, naming(own), f" (group {index})") for index, own in enumerate(groups)]
    every = (*others, values)
    check_alike([(own.plan("step"), own.place) for own in every], [own.rule for own in every])


def sees_all(groups: Iterable[GroupOptions]) -> bool:
    """Whether a group steps by a rule that sums over all tensors."""
    return any(own.values.plan("step").asks_for_all for own in groups)


def check_together(options: GroupOptions, what: str) -> None:
    """Refuse a step of parameters one by one for a rule that sums over all.

    Raises:
        StructureError: naming the rule, and ``what`` steps them so.
    """
    if sees_all([options]):
        raise StructureError(
            f"rule {options.rule.name!r} sums over all tensors, but {what}, by itself; nothing was stepped. Give such "
            "parameters an optimizer of their own, with a rule that sums over each tensor"
        )


def check_matrices(options: GroupOptions, param: Tensor, grad: Tensor) -> None:
    """Refuse parameters and gradients of which a rule cannot see the rows and columns.

    Raises:
        StructureError: naming the rule and the parameter.
    """
    if options.rule.view is None:
        return
    differs = options.group.get("differentiable")
    check_matrix(options.rule, param.shape, f"a parameter of shape {tuple(param.shape)}")
    is_shared = "is a DTensor, and differentiable=True" if differs and is_sharded(param) else ""
    what = "is complex" if param.is_complex() else "has a sparse gradient" if grad.is_sparse else is_shared
    if what:
        raise StructureError(
            f"rule {options.rule.name!r} sees the rows and columns of a parameter, but one of shape "
            f"{tuple(param.shape)} {what}; nothing was stepped. Give it to an optimizer of another rule"
        )


def check_process_group(groups: Sequence[GroupOptions], guards: Guards) -> None:
    """Refuse a ``process_group`` over which nothing is added up.

    Raises:
        HyperparameterError: naming what would be.
    """
    if not (guards.is_local or guards.measures or sees_all(groups)):
        raise HyperparameterError(
            "process_group does nothing without clip_norm, nonfinite and a rule that sums over all tensors; remove it"
        )
