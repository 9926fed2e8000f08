"""Where parameters stand in the groups of an optimizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.doors.torch.formats import names_of
from steprule.doors.torch.options import GroupOptions

__all__ = ["Item", "Places", "Presence", "check_params", "places_of", "rounds", "without_gradient"]

Places = dict[Tensor, list[tuple[int, GroupOptions]]]
"""Where each parameter stands."""
Item = tuple[int, Tensor | None, Tensor, GroupOptions]
"""A parameter: its place, its gradient, itself, and its group."""


def places_of(options: Sequence[GroupOptions]) -> Places:
    """Return where each parameter stands; the same one may stand in several places."""
    places: Places = {}
    params = ((param, own) for own in options for param in own.group["params"])
    for place, (param, own) in enumerate(params):
        places.setdefault(param, []).append((place, own))
    return places


def without_gradient(groups: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Return the names of parameters that have no gradient, and whether they may get one."""
    named = (zip(names_of(group, index), group["params"], strict=True) for index, group in enumerate(groups))
    return [(name, param.requires_grad) for pairs in named for name, param in pairs if param.grad is None]


class Presence:
    """Which gradients come and go, as the steps show that are laid out anew.

    A gradient that was there, was gone, and is there again may go again: to lay out its step anew each time costs more
    than to look at it in every step. One that has come or gone once may stay so (layers that are frozen or thawed).

    Attributes:
        waverers: the places of those that have come and gone.
    """

    def __init__(self) -> None:
        self._last: list[bool] = []
        self._changed: set[int] = set()
        self.waverers: set[int] = set()

    def note(self, grads: Sequence[Tensor | None]) -> None:
        """Note which gradients are there in a step that is laid out anew."""
        now = [grad is not None for grad in grads]
        if len(now) != len(self._last):  # other parameters
            self._last, self._changed, self.waverers = now, set(), set()
        changed = {place for place, (a, b) in enumerate(zip(now, self._last, strict=True)) if a != b}
        self.waverers |= changed & self._changed
        self._changed |= changed
        self._last = now


def rounds(items: Iterable[Item]) -> list[list[Item]]:
    """Return the parameters in rounds that have each once: one that stands in a group twice is stepped twice."""
    found: list[list[Item]] = []
    times: Counter[int] = Counter()
    for item in items:
        param = item[2]
        if times[id(param)] == len(found):
            found.append([])
        found[times[id(param)]].append(item)
        times[id(param)] += 1
    return found


def check_params(params: Any) -> None:
    """Raise the TypeError that torch would, with what to pass instead."""
    if isinstance(params, torch.nn.Module) and not _is_list(params):
        raise TypeError(f"params is a module, {type(params).__name__}; pass its .parameters()")
    if isinstance(params, (int, float)):
        raise TypeError(f"params come first and then lr, got {params!r} for params")
    if isinstance(params, dict):
        raise TypeError("params is a dict; pass its .values(), or named tensors: its .items()")


def _is_list(module: torch.nn.Module) -> bool:
    """Whether a module is a list of tensors, or of nothing, as a ParameterList is; torch takes those."""
    return isinstance(module, Iterable) and isinstance(next(iter(module), None), Tensor | None)
