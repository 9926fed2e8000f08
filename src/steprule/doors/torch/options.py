"""From an entry of ``param_groups`` to a rule with its hyperparameters, in torch's names and words."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.doors.torch.formats import DEFAULTS, formats_of
from steprule.doors.torch.keys import check_group, check_keys
from steprule.doors.torch.naming import Naming
from steprule.errors import HyperparameterError
from steprule.formats import Formats
from steprule.launch.guards import GUARDS, Guards
from steprule.launch.values import GroupValues
from steprule.rules import Rule, decoupled, l2, maximize
from steprule.rules.guard import GRAD_SCALE
from steprule.rules.rule import Variant

__all__ = [
    "Choice",
    "GroupOptions",
    "hyperparameters",
    "tupled",
    "with_decay_and_sign",
]

Choice = tuple[Rule, dict[str, Any]]
"""A rule, and the options of it that torch has no name for."""
Choose = Callable[[Mapping[str, Any]], Choice]
"""What a class of optimizers steps a group by."""


_WORDS = {
    "lr": "Invalid learning rate: {}",
    "eps": "Invalid epsilon value: {}",
    "betas": "Invalid beta parameter at index {index}: {}",
    "etas": "Invalid eta values: {all}",
}
_MISSING = object()


def with_decay_and_sign(rule: Rule, group: Mapping[str, Any]) -> Rule:
    """Return ``rule`` with the weight decay, if it has none of its own, and the direction that the group asks for."""
    if group.get("weight_decay", 0) != 0 and "weight_decay" not in rule.hyperparameters:
        rule = decoupled(rule) if group.get("decoupled_weight_decay") else l2(rule)
    return maximize(rule) if group.get("maximize") else rule


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().item() if value.numel() == 1 else value
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def hyperparameters(
    choice: Choice, group: Mapping[str, Any], naming: Naming, where: str, number: Callable[[Any], Any] = _number
) -> dict[str, Any]:
    """Return the checked hyperparameters of a group; ``number`` takes the number out of a tensor.

    Raises:
        HyperparameterError: in torch's words, with the range.
    """
    rule, values = choice[0], dict(choice[1])
    for key, n in _lengths(rule, naming).items():
        members = group.get(key, range(n))
        is_several = isinstance(members, Sequence) or getattr(members, "ndim", 0) == 1
        if not is_several or len(members) != n:
            raise HyperparameterError(f"{key} must be {n} numbers, got {group[key]!r}{where}")
    for name, hyper in rule.hyperparameters.items():
        if name in values:
            continue
        value = _value(name, group, naming)
        if value is _MISSING:
            continue
        if callable(value) and not isinstance(value, Tensor):
            raise HyperparameterError(
                f"{name} must be a number, got {value!r}{where}. Schedules come from torch.optim.lr_scheduler here"
            )
        try:
            values[name] = hyper.check(number(value))
        except HyperparameterError:
            words = _in_words(name, value, group, naming)
            raise HyperparameterError(f"{words}; expected {hyper.kind}{where}") from None
    return values


def _lengths(rule: Rule, naming: Naming) -> dict[str, int]:
    """Return how many numbers each option has that is a tuple."""
    places = [naming.place(name) for name in rule.hyperparameters]
    return {key: 1 + max(i for k, i in places if k == key and i is not None) for key, i in places if i is not None}


def _value(name: str, group: Mapping[str, Any], naming: Naming) -> Any:
    """Return what the group has for a hyperparameter of the rule."""
    key, index = naming.place(name)
    if key not in group:
        return _MISSING
    value = group[key] if index is None else group[key][index]
    return -value if name in naming.negated and isinstance(value, (int, float, Tensor)) else value


def _in_words(name: str, value: Any, group: Mapping[str, Any], naming: Naming) -> str:
    """Return what torch says of a bad value."""
    key, index = naming.place(name)
    words = _WORDS.get(key, f"Invalid {key} value: {{}}")
    members = group[key] if index is not None else ()
    number = _number(value)
    return words.format(
        repr(number) if isinstance(number, str) else number, index=index, all=", ".join(map(str, members))
    )


def tupled(group: Mapping[str, Any], naming: Naming) -> dict[str, Any]:
    """Return the options of a group that are several numbers in an array or a tensor, as tuples."""
    several = {key: group.get(key) for key in naming.tuples}
    arrays = {
        key: value for key, value in several.items() if isinstance(value, np.ndarray | Tensor) and value.ndim == 1
    }
    return {key: tuple(value) if isinstance(value, Tensor) else tuple(value.tolist()) for key, value in arrays.items()}


class GroupOptions:
    """The rule and hyperparameters of one group of an optimizer, which anyone may change between steps.

    Args:
        choose: from a group to its rule. Not kept: it belongs to the optimizer, which then would hold itself and its
            states until the garbage collector runs.
        naming: torch's names of what the group steps by.
        options: the keys that the group must have.
        defaults: those of the optimizer, the very dict.
        group: the group, to be read at every step.
        index: its place, for messages.
        guards: what is done to gradients before the rule sees them.

    Attributes:
        rule: what the group steps by, since the last ``refresh``.
        values: the hyperparameters.
        guards: what is done to gradients.
        formats: how states and parameters are kept.
        deciding_device: the device that decides about steps and reads tensors that lie there; None: this machine.
    """

    formats: Formats
    deciding_device: torch.device | None = None

    def __init__(
        self,
        choose: Choose,
        naming: Naming,
        options: Iterable[str],
        defaults: Mapping[str, Any],
        group: dict[str, Any],
        index: int,
        guards: Guards,
    ) -> None:
        self.naming, self.group, self.guards = naming, group, guards
        self._where = f" (group {index})"
        self._all_entries: dict[Any, dict[Any, Any]] = {}
        self._entries: tuple[Any, ...] = (None, None, None)
        self._seen: tuple[Any, ...] = ()
        self._known: dict[int, tuple[Tensor, Any]] = {}
        self._names, self._defaults, self._named = tuple(options), defaults, group.get("rule")
        self._scale: float | None = None
        self._numbers: dict[str, float] | None = None
        self._read_keys()
        self.rule, self.values = self._resolve(choose, None, None)

    def _read_keys(self) -> None:
        """Find out which options the group has: formats that are the defaults need not be there, nor guards.

        Raises:
            HyperparameterError: for a misspelt one, which would be ignored; each time until it is gone.
        """
        check_keys(self.group, {**DEFAULTS, **self._defaults}, self._where)
        keys = [*self._names, *(key for key in (*DEFAULTS, *GUARDS) if key in self.group and key not in self._names)]
        self._get = operator.itemgetter(*keys, "params", "params")  # twice, so that it always returns a tuple
        self._size = len(self.group)

    @property
    def entries(self) -> dict[Any, Any]:
        """How states of its parameters are laid out now, by their shape and type.

        Found by identity: to hash a rule, a variant and formats for each parameter takes microseconds.
        """
        rule, variant, formats = self.rule, self.values.variant, self.formats
        known = self._entries
        if not (known[0] is rule and known[1] is variant and known[2] is formats):
            own = self._all_entries.setdefault((rule, variant, formats), {})
            known = self._entries = (rule, variant, formats, own)
        entries: dict[Any, Any] = known[3]
        return entries

    @property
    def stamp(self) -> tuple[GroupValues, Variant, Formats, list[Tensor]]:
        """What a launch depends on: it serves as long as these are the same."""
        return self.values, self.values.variant, self.formats, self.group["params"]

    def refresh(self, choose: Choose, scale: Tensor | None) -> None:
        """Follow the group, and the scale of its gradients.

        Raises:
            HyperparameterError: when an option has no longer a meaning.
        """
        if len(self.group) != self._size:
            self._read_keys()
        try:
            seen = (scale, *self._get(self.group))
        except KeyError as error:
            raise HyperparameterError(f"the parameter group has lost its option {error}{self._where}") from None
        if len(seen) == len(self._seen) and all(map(operator.is_, seen, self._seen)):
            return
        self.rule, self.values = self._resolve(choose, scale, self.values)
        # What can be changed where it lies (a tensor, a list) is read again at every step.
        self._seen = seen if all(map(_is_fixed, seen[:-2])) else ()

    def set_factor(self, factor: float) -> None:
        """Set what the gradients of the next step are multiplied by."""
        self._factor, self._numbers = factor, None

    @property
    def scale(self) -> float:
        """That of the loss, as ``GradScaler`` told. Waits for the device that it lies on."""
        if self._scale is None:
            self._scale = 1.0 if self._given_scale is None else float(self._given_scale)
        return self._scale

    @property
    def numbers(self) -> dict[str, float]:
        """Those of the guard, for the next step."""
        if self._numbers is None:
            self._numbers = self.guards.numbers(self.scale, self._factor)
        return self._numbers

    def on_device(self, device: torch.device) -> dict[str, Tensor]:
        """Return the hyperparameters, and the scale of the loss, that kernels on the device can read there."""
        given = self.tensors()
        if self._given_scale is not None:
            given[GRAD_SCALE] = self._given_scale
        return {name: tensor for name, tensor in given.items() if tensor.device == device}

    def tensors(self) -> dict[str, Tensor]:
        """Return the hyperparameters that the group has as tensors, for gradients with respect to them."""
        return {
            name: value
            for name in self.rule.hyperparameters
            if isinstance(value := _value(name, self.group, self.naming), Tensor)
        }

    def _resolve(self, choose: Choose, scale: Tensor | None, values: GroupValues | None) -> tuple[Rule, GroupValues]:
        if "rule" in self._names and self.group["rule"] != self._named:
            raise HyperparameterError(
                f"the rule of a group cannot be changed: it was {self._named!r}, now {self.group['rule']!r}"
                f"{self._where}. Set it back, and make another optimizer for the new rule"
            )
        check_group(self.group, self.guards, self._where)
        choice = choose(self.group)
        given = hyperparameters(choice, self.group, self.naming, self._where, self._number)
        rule, guard = choice[0], self.guards.guard(unscales=scale is not None)
        self._given_scale, self._scale = scale, None
        self.set_factor(1.0)
        formats, seed = formats_of(self.group, rule, self.naming.slots, self._where)
        is_same = values is not None and self.rule is rule and values.guard == guard
        if values is None or not is_same or rule.variant(rule.resolve(given)) != values.variant:
            values = GroupValues(rule, given, self._where, guard)
            self.guards.check_rule(rule, values.variant, self._where)
        else:
            values.restore({name: value for name, value in given.items() if value != values[name]})
        self.formats, values.seed = formats, seed if formats.is_stochastic else None
        return rule, values

    def _number(self, value: Any) -> Any:
        """Return the number in a tensor. On a device that reads it itself, the one that it had at first."""
        if not isinstance(value, Tensor) or value.device.type == "cpu":
            return _number(value)
        known = self._known.get(id(value))
        if known is not None and known[0] is value and value.device == self.deciding_device:
            return known[1]
        number = _number(value)
        self._known = {**dict(list(self._known.items())[1 - _KNOWN :]), id(value): (value, number)}
        return number


_KNOWN = 16
"""Tensors whose first numbers are kept: a group has fewer, and a loop may make new ones in every step."""


def _is_fixed(value: object) -> bool:
    return (
        value is None or type(value) in (float, bool, int, str) or (type(value) is tuple and all(map(_is_fixed, value)))
    )
