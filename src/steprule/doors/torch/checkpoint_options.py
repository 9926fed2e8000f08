"""The options of torch's groups in a checkpoint: as they are, or made of a rule's hyperparameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from steprule.checkpoint import Json, decode, encode, short
from steprule.doors.match import fitted
from steprule.doors.state import GroupState
from steprule.doors.torch.base import Base
from steprule.doors.torch.checkpoint_numbers import number_json, number_of
from steprule.doors.torch.options import hyperparameters
from steprule.errors import HyperparameterError, StateError

__all__ = ["encoded_options", "options_for", "options_of"]

_SWITCHES = ("amsgrad", "decoupled_weight_decay", "maximize")
"""Options that choose the rule, and are not hyperparameters of it."""


def options_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group without its parameters."""
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def encoded_options(group: Mapping[str, Any], index: int, options: Sequence[str]) -> dict[str, Json]:
    """Return the options and notes of a group as JSON; ``options`` names the former, which may be arrays of numbers.

    Raises:
        CheckpointError: for one that JSON cannot hold.
    """
    own = options_of(group)
    own |= {name: _without_arrays(own[name]) for name in options if name in own}
    return {name: encode(value, f"option {name!r} of group {index}", number_json) for name, value in own.items()}


def _without_arrays(value: Any) -> Any:
    """Return the numbers of an option, or the tensors of one number, as it may be given."""
    if isinstance(value, np.ndarray):
        return tuple(value.tolist()) if value.ndim else value.item()
    if isinstance(value, Tensor) and value.ndim == 1 and len(value) > 1:
        return tuple(value)
    return type(value)(map(_without_arrays, value)) if type(value) in (list, tuple) else value


def options_for(
    saved: GroupState, optimizer: Base, group: Mapping[str, Any], index: int, is_own: bool
) -> dict[str, Any]:
    """Return the options with which a group goes on as a checkpoint's does.

    Args:
        saved: the group of the checkpoint.
        optimizer: whose group it is to be.
        group: as it is now.
        index: its place, for messages.
        is_own: whether the checkpoint is of the same class, so that its options are meant.

    Raises:
        StateError: when the class cannot step by the rule, or with the hyperparameters.
    """
    if is_own and saved.options is not None:
        return {name: decode(value, number_of) for name, value in options_of(saved.options).items()}
    for name, value in saved.hyperparameters.items():
        if isinstance(value, Mapping):
            raise StateError(
                f"{name} was a schedule when group {index} was saved. Schedules come from torch.optim.lr_scheduler "
                "here: load with hyperparameters=False"
            )
    wrong = f"the checkpoint is for rule {short(saved.rule)} (group {index})"
    for options in _candidates(saved, optimizer, group):
        try:
            choice = optimizer._rule(options)
            here = choice[0].resolve(hyperparameters(choice, options, optimizer._naming_of(options), ""))
            told = fitted(saved, choice[0], here, index)
        except (StateError, HyperparameterError):
            continue
        differing = sorted(name for name in here if name not in told or here[name] != told[name])
        if not differing:
            return options
        name = differing[0]
        wrong += f" with {name}={short(told.get(name))}"
    raise StateError(f"{wrong}, which {type(optimizer).__name__} cannot be; load it with steprule.torch.Optimizer")


def _candidates(saved: GroupState, optimizer: Base, group: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the options that may mean what a checkpoint says."""
    now = options_of(group)
    # torch says 0 for what is left out, the rules None.
    for absent in (None, 0.0):
        told = {n: absent if value is None else value for n, value in saved.hyperparameters.items()}
        if "weight_decay" in now:
            told.setdefault("weight_decay", 0.0)
        options = _named(told, optimizer, now)
        switches = [name for name in _SWITCHES if name in now and name not in told]
        for chosen in itertools.product((False, True), repeat=len(switches)):
            yield {**options, **dict(zip(switches, chosen, strict=True))}


def _named(told: Mapping[str, Any], optimizer: Base, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a group with hyperparameters in torch's names; those without a name are left out."""
    options, naming = dict(now), optimizer._naming_of(now)
    for name, value in told.items():
        key, place = naming.place(name)
        if key not in options:
            continue
        value = -value if name in naming.negated and isinstance(value, (int, float)) else value
        if place is None:
            options[key] = value
        else:
            members = list(options[key])
            members[place] = value
            options[key] = tuple(members)
    if "momentum" in now and "mu" not in told and naming.options.get("mu") == "momentum":
        options["momentum"] = 0  # plain gradient descent
    return options
