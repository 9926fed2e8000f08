"""torch.optim's further optimizers, with its names, arguments and defaults; each names its rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from steprule import rules
from steprule.doors.torch.arguments import init_options
from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, with_decay_and_sign
from steprule.doors.torch.state import check_entry
from steprule.errors import HyperparameterError

__all__ = ["ASGD", "SGD", "Adadelta", "Adagrad", "RMSprop", "Rprop"]


class SGD(Base):
    """Gradient descent, with momentum if it is not zero: rules ``sgd`` and ``momentum``.

    State: ``momentum_buffer``. Sparse gradients: without momentum only the touched rows are moved; with it the
    gradient is made dense, since every row that was ever touched moves on.
    """

    _naming = Naming.of(rules.momentum, options={"mu": "momentum"}, counts=False)

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise HyperparameterError("Nesterov momentum requires a momentum and zero dampening")
        return with_decay_and_sign(rules.sgd if group["momentum"] == 0 else rules.momentum, group), {}

    def _takes_sparse(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        _no_decay(group)
        return grad if group["momentum"] == 0 else grad.to_dense()


class RMSprop(Base, meanings={"alpha": "the decay of the averages, in [0, 1]."}):
    """RMSProp: rule ``rmsprop``. State: ``step``, ``square_avg``, ``momentum_buffer``, ``grad_avg``."""

    _naming = Naming.of(rules.rmsprop, options={"rho": "alpha"})

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.rmsprop, group), {"momentum": None} if group["momentum"] == 0 else {}


class Adagrad(Base):
    """AdaGrad: rule ``adagrad``. State, from the start: ``step``, ``sum``.

    Sparse gradients move only the rows they touch.
    """

    _naming = Naming.of(rules.adagrad, options={"initial_accumulator": "initial_accumulator_value"})

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))
        self._refresh()
        for own in self._options:
            for param in own.group["params"]:
                self.state[param].update(check_entry({}, param, own)[1])

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.adagrad, group), {}

    def _takes_sparse(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        _no_decay(group)
        return grad

    def share_memory(self) -> None:
        """Move the sums to memory that other processes can share."""
        for state in self.state.values():
            state["sum"].share_memory_()


class Adadelta(Base):
    """AdaDelta: rule ``adadelta``. State: ``step``, ``square_avg``, ``acc_delta``."""

    _naming = Naming.of(rules.adadelta)

    def __init__(
        self,
        params: Params,
        lr: Number = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.adadelta, group), {}


class Rprop(Base):
    """Rprop, the form iRprop-: rule ``rprop``. State: ``step``, ``prev``, ``step_size``."""

    _naming = Naming.of(
        rules.rprop,
        options={
            "eta_minus": ("etas", 0),
            "eta_plus": ("etas", 1),
            "delta_min": ("step_sizes", 0),
            "delta_max": ("step_sizes", 1),
        },
    )

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.rprop, group), {}


class ASGD(Base, meanings={"alpha": "the power of t by which the step size falls; at least 0."}):
    """Averaged gradient descent: rule ``asgd``, whose step size lags one step behind lr.

    State: ``step``, ``ax`` (the average), and ``eta``, ``mu`` in float64. As in torch.optim, the parameters are what is
    evaluated, and not the average; ``Optimizer(params, "asgd", lagged=True)`` has ``eval()``, for the average.
    """

    _point_of_its_own = (
        "like torch.optim.ASGD it has its model evaluated at the parameters, and only keeps the average, in "
        'state[param]["ax"]. Use Optimizer(params, "asgd", lagged=True), which evaluates the average'
    )

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.asgd, group), {"lagged": True}


def _no_decay(group: Mapping[str, Any]) -> None:
    if group["weight_decay"] != 0:
        raise RuntimeError("weight_decay option is not compatible with sparse gradients")
