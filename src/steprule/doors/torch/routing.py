"""Routes in the PyTorch door: a model's parameters, or named ones, as groups that name their rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steprule.doors.routes import MATRICES, Route, as_routes, routed
from steprule.doors.torch.formats import DEFAULTS
from steprule.doors.torch.modules import matrices_of
from steprule.errors import HyperparameterError, StructureError
from steprule.rules import Rule

__all__ = ["named_parameters", "routed_groups"]

Named = list[tuple[str, Tensor]]


def named_parameters(params: Any) -> tuple[Named, bool]:
    """Return the parameters of a model, named ones, or others with their places for names; and whether they have names.

    Raises:
        StructureError: for groups, which routes would divide, and parameters that are not there yet.
    """
    items = list(params.named_parameters() if isinstance(params, nn.Module) else params)
    if any(isinstance(item, dict) for item in items):
        raise StructureError(
            "routes make the groups themselves; pass the model, its parameters or its named parameters, or give the "
            "groups their rules: {'params': ..., 'rule': 'muon', 'lr': 0.02}, without routes"
        )
    is_named = bool(items) and all(isinstance(item, tuple) for item in items)
    named = items if is_named else [(str(place), item) for place, item in enumerate(items)]
    lazy = [name for name, param in named if is_lazy(param)]
    if lazy:
        raise StructureError(f"{lazy[0]!r} has no shape yet: pass data through the model once, and then route")
    return named, is_named


def routed_groups(params: Any, routes: Any, own: Rule) -> list[dict[str, Any]]:
    """Return a group for each route and one for the rest, each with the rule's name or the rule, and its options.

    Args:
        params: a model, or parameters, with names or without.
        routes: as ``steprule.doors.routes`` has them.
        own: the rule of the rest.

    Raises:
        HyperparameterError, RuleError: for routes that are none, or have no effect.
        StructureError: for parameters that cannot be routed.
    """
    chosen = as_routes(routes, None)
    for route in chosen:
        unknown = [name for name in route.options if name not in (*route.rule.hyperparameters, *DEFAULTS)]
        route.rule.resolve(dict.fromkeys(unknown, 0.0), f" ({route.place})", DEFAULTS)
    parts = divided(params, chosen, own)
    groups = [{**route.options, "rule": route.rule} for route in chosen]
    return [{**group, "params": own} for group, own in zip([*groups, {"rule": own}], parts, strict=True) if own]


def divided(params: Any, routes: Sequence[Route], own: Rule) -> list[list[Any]]:
    """Return the parameters of each route, and those of none.

    Raises:
        HyperparameterError: for routes that have no effect.
        StructureError: for parameters that cannot be routed.
    """
    named, is_named = named_parameters(params)
    if not is_named and any(route.selector == MATRICES for route in routes):
        raise HyperparameterError(
            f"{MATRICES!r} selects by modules or names, and these parameters have neither: an embedding would pass for "
            "a matrix. Pass the model itself, or its named_parameters()"
        )
    decide: Callable[[str, Any], bool] | None = matrices_of(params) if isinstance(params, nn.Module) else None
    names, tensors = [name for name, _ in named], [param for _, param in named]
    places = routed(routes, names, tensors, own, decide)
    items = named if is_named else tensors
    return [[item for item, place in zip(items, places, strict=True) if place == at] for at in range(len(routes) + 1)]
