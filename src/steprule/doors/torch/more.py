"""Optimizers that torch.optim does not have, in its manner, and one for any rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from steprule import rules
from steprule.doors.torch.arguments import OPTIONS, given
from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
from steprule.doors.torch.options import Choice, Naming, dressed
from steprule.errors import HyperparameterError
from steprule.rules import Rule, maximize

__all__ = ["ADOPT", "AdEMAMix", "AdaBelief", "Adan", "Lion", "Optimizer", "Signum", "Yogi"]


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


class Lion(Base):
    """Lion: rule ``lion``. State: ``step``, ``exp_avg``. Weight decay is decoupled, as in the paper."""

    _naming = Naming.of(rules.lion)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return dressed(rules.lion, group), {}


class AdaBelief(Base):
    """AdaBelief: rule ``adabelief``. State: ``step``, ``exp_avg``, ``exp_avg_var``. Weight decay is decoupled."""

    _naming = Naming.of(rules.adabelief)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return dressed(rules.adabelief, group), {}


class Yogi(Base):
    """Yogi: rule ``yogi``. State: ``step``, ``exp_avg``, ``exp_avg_sq``. Weight decay is decoupled."""

    _naming = Naming.of(rules.yogi)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        bias_correction: bool = False,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return dressed(rules.yogi, group), {}


class Adan(Base):
    """Adan: rule ``adan``, whose weight decay is the paper's proximal one.

    State: ``step``, ``exp_avg``, ``exp_avg_diff``, ``exp_avg_sq``, ``previous_grad``.
    """

    _naming = Naming.of(rules.adan)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return maximize(rules.adan) if group["maximize"] else rules.adan, {}


class ADOPT(Base):
    """ADOPT: rule ``adopt``. State: ``step``, ``exp_avg``, ``exp_avg_sq``. Weight decay is decoupled."""

    _naming = Naming.of(rules.adopt)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        clip: bool = False,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return dressed(rules.adopt, group), {}


class AdEMAMix(Base):
    """AdEMAMix: rule ``ademamix``. Weight decay is decoupled, as in the paper.

    State: ``step``, ``exp_avg``, ``exp_avg_slow``, ``exp_avg_sq``.
    """

    _naming = Naming.of(rules.ademamix)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        eps: float = 1e-8,
        warmup: float | None = None,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return dressed(rules.ademamix, group), {}


class Signum(Base):
    """Signum: rule ``signum``. State: ``step``, ``exp_avg``. Weight decay is decoupled."""

    _naming = Naming.of(rules.signum, options={"beta": "momentum"})

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-4,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, given(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return dressed(rules.signum, group), {}
