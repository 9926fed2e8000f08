"""Optimizers of the PyTorch door whose groups may name the rules that they step by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from steprule.doors.torch.base import Base
from steprule.errors import HyperparameterError, StateError

__all__ = ["Ruled"]


class Ruled(Base):
    """Steps groups by the rules that they name: ``{"params": ..., "rule": "muon", "lr": 0.02}``.

    A group that names another rule than the optimizer's own has the defaults of that rule, and of the optimizer what is
    no hyperparameter: formats, guards and the like.
    """

    @property
    def _own_options(self) -> Collection[str]:
        """The options of the optimizer's own rule."""
        raise NotImplementedError

    @property
    def _own_name(self) -> str:
        """What groups call the optimizer's own rule."""
        raise NotImplementedError

    def _defaults_of(self, name: str) -> dict[str, Any]:
        """Return the options of another rule, with their defaults."""
        raise NotImplementedError

    def _name_in(self, group: Mapping[str, Any]) -> str:
        """Return the name of the rule that a group steps by."""
        named = group.get("rule")
        return self._own_name if named is None else str(named)

    def _known(self, group: Mapping[str, Any]) -> dict[str, Any]:
        name = self._name_in(group)
        if name == self._own_name:
            return self.defaults
        shared = {key: value for key, value in self.defaults.items() if key not in self._own_options}
        return {**shared, **self._defaults_of(name)}

    def _needed(self, group: Mapping[str, Any]) -> dict[str, Any]:
        named = {"rule": group["rule"]} if group.get("rule") is not None else {}
        if self._name_in(group) == self._own_name:
            return {**super()._needed(group), **named}
        own = self._defaults_of(self._name_in(group))
        known = self._known(group)
        return {**{key: known[key] for key in known if key in own or key in self._option_names}, **named}

    def _check_named_rule(self, group: Mapping[str, Any], where: str) -> None:
        """Refuse a hyperparameter of the optimizer's own rule in a group of another: it would do nothing there."""
        known = self._known(group)
        left = [
            name
            for name, value in group.items()
            if name in self._own_options and name not in known and value is not self.defaults.get(name)
        ]
        if left:
            raise HyperparameterError(
                f"the group steps by rule {self._name_in(group)!r}, which has no {left[0]!r}{where}; it has "
                f"{', '.join(self._defaults_of(self._name_in(group)))}"
            )

    def _check_saved(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Refuse groups of a state dict that step by other rules than those here.

        Raises:
            StateError: naming both.
        """
        for index, (old, new) in enumerate(zip(self.param_groups, groups, strict=False)):
            named, own = new.get("rule"), self._name_in(old)
            if named is not None and named != own:
                raise StateError(
                    f"group {index} of the state steps by rule {named!r}, and here by {own!r}. Make the optimizer with "
                    "the rules and routes that it was saved with"
                )
