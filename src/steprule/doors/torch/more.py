"""One optimizer for any rule, and those that torch.optim does not have, in its manner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from steprule import rules
from steprule.doors.torch.arguments import OPTIONS
from steprule.doors.torch.base import Base, Params
from steprule.doors.torch.derived import derived
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice
from steprule.errors import HyperparameterError
from steprule.rules import Rule

__all__ = ["DERIVED", "Optimizer"]


class Optimizer(Base):
    """Steps by any rule: a name of the catalogue, or a ``steprule.Rule`` of one's own.

    Args:
        params: tensors, named tensors, or groups, as for every optimizer of torch.
        rule: default Adam.
        differentiable: let autograd go through the step.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU.
        states, weights, min_elements, seed: how states and 16-bit parameters are kept, as for the other classes.
        clip_norm, clip_value, nonfinite, max_skips, update_clip, process_group: guarded steps, as for the others.
        hyperparameters: the rule's own, by its names (``lr``, ``beta1``, ...), numbers or tensors of one number.
            Groups may have others.

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
        params: Params,
        rule: str | Rule = "adam",
        *,
        differentiable: bool = False,
        capturable: bool = False,
        **hyperparameters: Any,
    ) -> None:
        if isinstance(rule, dict):  # as torch's base class takes defaults
            raise TypeError(
                "rule is a name or a Rule, got a dict; to write an optimizer, subclass torch.optim.Optimizer"
            )
        self.rule = rules.find(rule)
        beside = {name: hyperparameters.pop(name) for name in OPTIONS if name in hyperparameters}
        tensors = {name: value for name, value in hyperparameters.items() if isinstance(value, Tensor)}
        for name, value in tensors.items():
            if value.numel() != 1:
                raise HyperparameterError(f"Tensor {name} must be 1-element, got shape {tuple(value.shape)}")
        numbers = {name: value.item() for name, value in tensors.items()}
        options = self.rule.resolve({**hyperparameters, **numbers}, options=OPTIONS)
        own = {"differentiable": differentiable, "capturable": capturable}
        super().__init__(params, {**options, **tensors, **own, **beside})

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        return {**super().__getstate__(), "rule": self.rule}

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return self.rule, {}


DERIVED = derived(__name__)
"""A class for each rule that torch.optim does not have, by its name."""
globals().update(DERIVED)
