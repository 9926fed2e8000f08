"""torch.optim's Adafactor, with its names, arguments and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from steprule import rules
from steprule.doors.torch.arguments import init_options
from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, with_decay_and_sign
from steprule.errors import HyperparameterError

__all__ = ["Adafactor"]


class Adafactor(
    Base,
    meanings={
        "lr": "the largest relative step size, at least 0, or a tensor of one number: a step has min(lr, 1/sqrt(t)).",
        "beta2_decay": "the moment's decay is 1 - t**beta2_decay; at most 0.",
        "eps": "the least root of the second moment (None: that of the parameters' type, which must then be one in a "
        "group), and the least RMS of the parameter that steps are multiplied by; at least 0.",
        "d": "the largest RMS of what is multiplied by the step size; at least 1.",
        "weight_decay": "at least 0; decoupled.",
    },
):
    """Adafactor: rule ``adafactor`` with ``clamp``.

    State: ``step``, ``row_var`` and ``col_var``; of parameters with fewer than two axes ``step`` and ``variance``.
    Complex parameters are refused.
    """

    _naming = Naming.of(
        rules.adafactor,
        options={"decay_rate": "beta2_decay", "clip_threshold": "d", "eps1": ("eps", 0), "eps2": ("eps", 1)},
        negated=("decay_rate",),
    )

    def __init__(
        self,
        params: Params,
        lr: Number = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        chosen: dict[str, Any] = {"clamp": True}
        _within("Learning rate", group["lr"], least=0.0)
        _within("beta2_decay", group["beta2_decay"], most=0.0)
        _within("weight_decay", group["weight_decay"], least=0.0)
        _within("Clipping threshold d", group["d"], least=1.0)
        eps = group["eps"]
        if isinstance(eps, Sequence) and len(eps) == 2:
            _within("epsilon2", eps[1], least=0.0)
            if eps[0] is None:
                chosen["eps1"] = _least(group)
            else:
                _within("epsilon1", eps[0], least=0.0)
        return with_decay_and_sign(rules.adafactor, group), chosen

    def _takes_dense(self, grad: Tensor) -> Tensor:
        if grad.is_complex():
            raise RuntimeError("Adafactor does not support complex parameters")
        return grad


def _least(group: Mapping[str, Any]) -> float:
    """Return the difference of 1 to the next number of the parameters' type.

    Raises:
        HyperparameterError: where a group has parameters of several.
    """
    params = group.get("params")
    listed = params if isinstance(params, (list, tuple)) else [params]  # an iterator is not to be used up
    tensors = [p[1] if isinstance(p, tuple) else p for p in listed]
    kinds = {p.dtype for p in tensors if isinstance(p, Tensor) and p.is_floating_point()}
    if len(kinds) > 1:
        raise HyperparameterError(
            f"eps[0] is that of the parameters' type, and a group has {', '.join(sorted(map(str, kinds)))}; give it as "
            "a number (torch.finfo(torch.float32).eps), or make a group of each type"
        )
    return torch.finfo(kinds.pop() if kinds else torch.float32).eps


def _within(what: str, value: Any, *, least: float | None = None, most: float | None = None) -> None:
    """Refuse what is no number, or out of range. A tensor on a device is not waited for.

    Raises:
        HyperparameterError: in torch's words.
    """
    if isinstance(value, Tensor) and value.device.type != "cpu":
        return
    number = value.detach().item() if isinstance(value, Tensor) and value.numel() == 1 else value
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    sign, limit = (">=", least) if least is not None else ("<=", most)
    if not is_number or (least is not None and not number >= least) or (most is not None and not number <= most):
        raise HyperparameterError(f"{what} should be {sign} {limit:g} but is: {number}")
