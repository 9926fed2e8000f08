"""torch.optim's Adam and its relatives, with its names, arguments and defaults; each names its rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from steprule import rules
from steprule.doors.torch.arguments import FOR_ALL_GROUPS, init_options
from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import GuardOptions, Options
from steprule.doors.torch.keys import OF_GUARDS
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, with_decay_and_sign
from steprule.errors import HyperparameterError

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam"]


class Adam(Base):
    """Adam: rule ``adam``; with ``amsgrad`` rule ``amsgrad``, whose maximum is corrected for bias afterwards.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``, and ``max_exp_avg_sq`` with ``amsgrad``.
    """

    _naming = Naming.of(rules.adam, rules.amsgrad)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        _check_tensors(lr, betas, is_refused=bool(foreach) and not capturable)
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        if group["amsgrad"]:
            return with_decay_and_sign(rules.amsgrad, group), {"correction": "after_max"}
        return with_decay_and_sign(rules.adam, group), {}

    def _takes_sparse(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        raise RuntimeError("Adam does not support sparse gradients, please consider SparseAdam instead")


class AdamW(Adam):
    """Adam with decoupled weight decay, 0.01 by default: rule ``adamw``. State as ``Adam``."""

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, **init_options(locals()), decoupled_weight_decay=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over another optimizer's parts; the decay stays decoupled, as torch's does."""
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


class Adamax(Base, meanings={"eps": "is added to |g|; at least 0."}):
    """AdaMax, with an epsilon added to |g|: rule ``adamax``. State: ``step``, ``exp_avg``, ``exp_inf``."""

    _naming = Naming.of(rules.adamax)

    def __init__(
        self,
        params: Params,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.adamax, group), {"eps": None} if group["eps"] == 0 else {}


class NAdam(Base):
    """NAdam: rule ``nadam``, ``momentum_decay`` is its psi.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``, and ``mu_product`` in float64.
    """

    _naming = Naming.of(rules.nadam, options={"psi": "momentum_decay"})

    def __init__(
        self,
        params: Params,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.nadam, group), {}


class RAdam(Base):
    """RAdam, adaptive from rho_t > 5 on, epsilon added to the root of v itself: rule ``radam``.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``.
    """

    _naming = Naming.of(rules.radam)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.radam, group), {"rho_min": 5.0, "eps_hat": True}


class SparseAdam(Base, meanings={"options": FOR_ALL_GROUPS}):
    """Adam on the touched rows of sparse gradients alone; the others stay, and so do their moments.

    Rule ``adam`` with ``eps_hat``. State: ``step`` in float64, ``exp_avg``, ``exp_avg_sq``.
    """

    # torch has an int, and computes with what it is given: in float32 its next step after ours would be 1e-5 off.
    _naming = Naming.of(rules.adam, count_dtype=torch.float64)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        **options: Unpack[GuardOptions],
    ) -> None:
        chosen = init_options(locals(), OF_GUARDS)
        for option, value, words in (("lr", lr, "learning rate"), ("eps", eps, "epsilon value")):
            if not isinstance(value, Tensor) and not value > 0:  # later 0 is fine: schedules begin there
                raise HyperparameterError(f"Invalid {words}: {value}. {option} must be a positive number")
        super().__init__(params, chosen)
        places = [
            (param, [g, p]) for g, group in enumerate(self.param_groups) for p, param in enumerate(group["params"])
        ]
        sparse = [place for param, place in places if param.is_sparse]
        complex_ = [place for param, place in places if param.is_complex()]
        if sparse:
            raise ValueError(f"Sparse params at indices {sparse}: SparseAdam requires dense parameter tensors")
        if complex_:
            raise ValueError(f"Complex params at indices {complex_}: SparseAdam does not support complex parameters")

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.adam, group), {"eps_hat": True}

    def _takes_dense(self, grad: Tensor) -> Tensor:
        raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")

    def _takes_sparse(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        return grad


def _check_tensors(lr: Any, betas: Any, *, is_refused: bool) -> None:
    """Refuse what torch's Adam refuses of tensors when it is made; schedules may mix numbers and tensors later.

    Args:
        lr: the learning rate.
        betas: the decays.
        is_refused: whether torch takes no tensors at all, with the implementation that is asked for.

    Raises:
        HyperparameterError: in torch's words.
    """
    words = "as a Tensor is not supported for capturable=False and foreach=True"
    if isinstance(lr, Tensor) and is_refused:
        raise HyperparameterError(f"lr {words}")
    members = betas if isinstance(betas, (list, tuple)) else ()
    if len({isinstance(beta, Tensor) for beta in members}) > 1:
        raise HyperparameterError("betas must be either both floats or both Tensors")
    for index, beta in enumerate(members):
        if isinstance(beta, Tensor) and is_refused:
            raise HyperparameterError(f"betas[{index}] {words}")
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise HyperparameterError(f"Tensor betas[{index}] must be 1-element, got shape {tuple(beta.shape)}")
