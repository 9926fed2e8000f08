"""One optimizer for any rule, and those that torch.optim does not have, in its manner."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from steprule import rules
from steprule.doors.match import is_same, name_of
from steprule.doors.torch.arguments import OPTIONS
from steprule.doors.torch.base import Params
from steprule.doors.torch.derived import derived
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice
from steprule.doors.torch.routing import routed_groups
from steprule.doors.torch.ruled import Ruled
from steprule.errors import HyperparameterError
from steprule.rules import Rule

__all__ = ["DERIVED", "Optimizer"]


class Optimizer(Ruled):
    """Steps by any rule: a name of the catalogue, or a ``steprule.Rule`` of one's own; or by several.

    Args:
        params: tensors, named tensors, or groups, as for every optimizer of torch; with routes also a model. A group
            may name a rule of its own: ``{"params": ..., "rule": "muon", "lr": 0.02}``. Then it has that rule's
            defaults.
        rule: default Adam.
        routes: ``[(selector, rule, options), ...]``: the first route that selects a parameter decides, the rest gets
            ``rule``. A selector is a pattern for names (``"layers.*.weight"``), a function ``(name, tensor) -> bool``,
            or ``"matrices"``, of a model (which modules hold them) or of named parameters (by their names):
            docs/torch.md says which those are, ``describe()`` what each parameter got. Each route makes a group.
        differentiable: let autograd go through the step.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU.
        states, weights, min_elements, seed: how states and 16-bit parameters are kept, as for the other classes.
        clip_norm, clip_value, nonfinite, max_skips, update_clip, process_group: guarded steps, as for the others.
        hyperparameters: the rule's own, by its names (``lr``, ``beta1``, ...), numbers or tensors of one number.
            Groups may have others. Groups and routes of another rule do not take them over.

    State: ``step``, and the rule's slots by its names.

    Example:
        >>> import torch, steprule.torch
        >>> w = torch.nn.Parameter(torch.zeros(3))
        >>> opt = steprule.torch.Optimizer([w], rule="adam", lr=0.1)
        >>> w.sum().backward()
        >>> opt.step()
        >>> w.data
        tensor([-0.1000, -0.1000, -0.1000])
    """

    _naming = Naming(options={"beta1": "beta1", "beta2": "beta2", "beta3": "beta3"})

    def __init__(
        self,
        params: Params | nn.Module,
        rule: str | Rule = "adam",
        *,
        routes: Sequence[Any] | None = None,
        differentiable: bool = False,
        capturable: bool = False,
        **hyperparameters: Any,
    ) -> None:
        if isinstance(rule, dict):  # as torch's base class takes defaults
            raise TypeError(
                "rule is a name or a Rule, got a dict; to write an optimizer, subclass torch.optim.Optimizer"
            )
        self.rule = rules.find(rule)
        self._rules = {name_of(self.rule): self.rule}
        beside = {name: hyperparameters.pop(name) for name in OPTIONS if name in hyperparameters}
        tensors = {name: value for name, value in hyperparameters.items() if isinstance(value, Tensor)}
        for name, value in tensors.items():
            if value.numel() != 1:
                raise HyperparameterError(f"Tensor {name} must be 1-element, got shape {tuple(value.shape)}")
        numbers = {name: value.item() for name, value in tensors.items()}
        options = self.rule.resolve({**hyperparameters, **numbers}, options=OPTIONS)
        own = {"differentiable": differentiable, "capturable": capturable}
        groups: Any = params if routes is None else routed_groups(params, routes, self.rule)
        super().__init__(groups, {**options, **tensors, **own, **beside})

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        return {**super().__getstate__(), "rule": self.rule, "_rules": self._rules}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with options of its own, and with a rule of its own if it names one.

        Raises:
            HyperparameterError: when an option is out of range or misspelt.
            RuleError: when there is no such rule.
        """
        if isinstance(param_group, dict) and param_group.get("rule") is not None:
            param_group["rule"] = self._register(param_group["rule"])
        super().add_param_group(param_group)

    def _register(self, given: str | Rule) -> str:
        """Return what groups call a rule: a name, so that state dicts hold no code."""
        rule = self._rules[given] if isinstance(given, str) and given in self._rules else rules.find(given)
        name = name_of(rule)
        known = self._rules.get(name) or rules.CATALOGUE.get(name) or rule
        if not is_same(known, rule):
            raise HyperparameterError(f"two rules are called {name!r}; give one of them another name")
        self._rules[name] = known
        return name

    @property
    def _own_options(self) -> Collection[str]:
        return self.rule.hyperparameters.keys()

    @property
    def _own_name(self) -> str:
        return name_of(self.rule)

    def _found(self, name: str) -> Rule:
        return self._rules[name] if name in self._rules else rules.find(name)

    def _defaults_of(self, name: str) -> dict[str, Any]:
        return {key: hyper.default for key, hyper in self._found(name).hyperparameters.items()}

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return self._found(self._name_in(group)), {}


DERIVED = derived(__name__)
"""A class for each rule that torch.optim does not have, by its name."""
globals().update(DERIVED)
