"""The groups of an optimizer of the PyTorch door: their rules and options, checked before they are added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from steprule.doors.matrices import check_matrix
from steprule.doors.torch.arguments import check_flags
from steprule.doors.torch.extent import check_added, values_of
from steprule.doors.torch.formats import DEFAULTS, formats_of, storage_of
from steprule.doors.torch.keys import check_group, check_keys
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, tupled
from steprule.doors.torch.stepping import Stepping
from steprule.errors import HyperparameterError
from steprule.formats import CODING
from steprule.launch.values import GroupValues
from steprule.rules import CATALOGUE, Rule

__all__ = ["Grouping", "tensors_of"]


def tensors_of(group: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors of a group as it was given: one, several, or pairs of a name and one. What is none is left."""
    params = group.get("params", ())
    items = [params] if isinstance(params, Tensor) else params
    found = [item[1] if isinstance(item, tuple) else item for item in items]
    return [item for item in found if isinstance(item, Tensor)]


class Grouping(Stepping, torch.optim.Optimizer):
    """What ``Base`` knows of groups: which rule each steps by, what it may have, and what it must have."""

    _naming = Naming()

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        """Return the rule of a group, and the options of it that torch has no name for."""
        raise NotImplementedError

    def _naming_of(self, group: Mapping[str, Any]) -> Naming:
        """Return torch's names of what a group steps by."""
        return self._naming

    def _known(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that a group may have, and notes of wrappers, with their defaults: the very dict."""
        return self.defaults

    def _needed(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that a group must have. torch adds others ("differentiable"), and wrappers add notes."""
        known = self._known(group)
        return {name: known[name] for name in self._option_names if name in known}

    def _check_named_rule(self, group: Mapping[str, Any], where: str) -> None:
        """Refuse a rule that a group names, where the class steps by one alone; other values of the key are notes."""
        named = group.get("rule")
        if isinstance(named, Rule) or (isinstance(named, str) and named in CATALOGUE):
            name = getattr(named, "name", named)
            raise HyperparameterError(
                f"the group asks for rule {name!r}{where}, and {type(self).__name__} steps by one rule alone. Groups "
                "of steprule.torch.Optimizer may have rules of their own, and Muon has groups for AdamW"
            )

    def _check(self, group: Mapping[str, Any], where: str) -> GroupValues:
        """Check the options of a group, and return its hyperparameters.

        Raises:
            HyperparameterError: a ValueError, in torch's words where it has some.
        """
        lr = group.get("lr")
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise HyperparameterError(f"Tensor lr must be 1-element, got shape {tuple(lr.shape)}{where}")
        check_group(group, self.guards, where)
        self._check_named_rule(group, where)
        choice, naming = self._rule(group), self._naming_of(group)
        check_flags(group, self._needed(group).keys() - choice[0].hyperparameters.keys(), where)
        values = values_of(choice, group, naming, where)
        self.guards.check_rule(choice[0], values.variant, where)
        formats_of(group, choice[0], naming.slots, where)
        if group.get("coding", CODING) != CODING:
            raise HyperparameterError(
                f"states are coded as {group['coding']!r}{where}, which this version cannot read; it writes {CODING!r}"
            )
        return values

    def _check_saved(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Refuse groups of a state dict that are for other rules than those here: there may be one alone."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with options of its own.

        Raises:
            HyperparameterError: when an option is out of range or misspelt.
        """
        if self._released is not None:
            raise RuntimeError("step_in_backward is active, and would not see a new group; remove() its handle first")
        if isinstance(param_group, dict):
            where = f" (group {len(self.param_groups)})"
            param_group.update(tupled(param_group, self._naming_of(param_group)))
            known = self._known(param_group)
            check_keys(param_group, {**DEFAULTS, **known}, where)
            if any(name in param_group for name in DEFAULTS):
                param_group = {**DEFAULTS, "coding": CODING, **known, **param_group}
            values = self._check({**known, **param_group}, where)
            params = param_group.get("params")
            if isinstance(params, Iterable) and not isinstance(params, Tensor | set):  # torch refuses a set
                param_group["params"] = list(params)
            self._check_params_of(param_group, where)
            check_added(values, self._unlike_groups(), self._rule, self._naming_of)
            self._begin_mode({**known, **param_group}, param_group)
            for name, value in known.items() if known is not self.defaults else ():
                param_group.setdefault(name, value)  # torch would add the defaults of another rule
        given = set(param_group)
        super().add_param_group(param_group)
        known = self._known(param_group)
        for name in [name for name in self.defaults if name not in known and name not in given]:
            del param_group[name]
        self._launch, self._is_agreed = None, False

    def _unlike_groups(self) -> list[dict[str, Any]]:
        """Return the groups that there are, of each rule that they name the first."""
        return list({str(group.get("rule")): group for group in reversed(self.param_groups)}.values())

    def _check_params_of(self, group: Mapping[str, Any], where: str) -> None:
        """Refuse parameters that cannot have the rule or the formats of their group, before it is added."""
        rule, _ = self._rule(whole := {**self._known(group), **group})
        formats, _ = formats_of(whole, rule, self._naming_of(group).slots, where)
        for tensor in tensors_of(group):
            if not is_lazy(tensor):
                check_matrix(rule, tensor.shape, f"a parameter of shape {tuple(tensor.shape)}{where}")
            if formats.states and tensor.is_floating_point():
                storage_of(formats, tensor, rule, rule.variant(rule.resolve({})))
