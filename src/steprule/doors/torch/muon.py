"""torch.optim's Muon, with its names, arguments and defaults; and for a whole model, with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Unpack

from torch import Tensor, nn

from steprule import rules
from steprule.doors.routes import MATRICES, Route
from steprule.doors.torch.arguments import init_options
from steprule.doors.torch.base import Number, Params
from steprule.doors.torch.grouping import tensors_of
from steprule.doors.torch.guards import Options
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice
from steprule.doors.torch.routing import divided
from steprule.doors.torch.ruled import Ruled
from steprule.errors import HyperparameterError, suggest
from steprule.language.polar import COEFFICIENTS
from steprule.rules import muon

__all__ = ["Muon"]

_ADAMW: Mapping[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
_OWN = ("lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")
_PLACES = {name: ("ns_coefficients", place) for place, name in enumerate("abc")}
_BY_NAME = Naming.of(muon, counts=False)
"""Where the coefficients are a name."""


class Muon(
    Ruled,
    meanings={
        "params": "matrices, as torch.optim.Muon takes them: tensors, (name, tensor) pairs, or groups; then any other "
        "shape is refused. Or the model: its matrices step by Muon, all else by AdamW.",
        "weight_decay": "at least 0; decoupled.",
        "momentum": "the decay of the average of gradients, in [0, 1).",
        "nesterov": "whether to step along the gradient and the average after it.",
        "ns_coefficients": 'those of the Newton-Schulz steps, or "polar_express", whose steps differ.',
        "eps": "the least that the norm of a matrix counts as; at least 0.",
        "ns_steps": "how many Newton-Schulz steps there are, from 1 to 99.",
        "adjust_lr_fn": '"original" (None): lr times sqrt(max(1, rows/columns)); "match_rms_adamw": lr times 0.2 '
        "sqrt(max(rows, columns)), with which AdamW's lr and weight_decay serve.",
        "matrices": "which parameters of a model, or of named parameters, step by Muon: a pattern for names "
        '("layers.*.weight") or a function (name, tensor) -> bool; kernels of convolutions are flattened to matrices. '
        "None: of a model, those that docs/torch.md says, by the modules that hold them; without a model, all.",
        "adamw": "options of AdamW for the rest, `lr`, `betas`, `eps` and `weight_decay`, if not its defaults.",
    },
):
    """Muon: rule ``muon``; of a model also AdamW: rule ``adamw``, in the same optimizer.

    State: ``momentum_buffer``; by AdamW ``step``, ``exp_avg``, ``exp_avg_sq``. Groups by AdamW are those with ``rule``
    "adamw". ``describe()`` shows which parameter is stepped by which.
    """

    _naming = Naming.of(muon, options=_PLACES, counts=False)
    _naming_of_adamw = Naming.of(rules.adamw)
    _is_routed = False
    _adamw: Mapping[str, Any] = _ADAMW

    def __init__(
        self,
        params: Params | nn.Module,
        lr: Number = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] | str = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        matrices: str | Callable[[str, Tensor], bool] | None = None,
        adamw: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        own = init_options(locals())
        for name in ("matrices", "adamw"):
            del own[name]
        self._adamw = {**_ADAMW, **_checked(adamw)}
        self._is_routed = isinstance(params, nn.Module) or matrices is not None
        groups: Any = _groups(params, MATRICES if matrices is None else matrices) if self._is_routed else params
        super().__init__(groups, own)
        if adamw is not None and not any(self._name_in(group) == "adamw" for group in self.param_groups):
            raise HyperparameterError(
                "adamw= has no effect: no parameter is stepped by AdamW. Pass the model itself, or groups with "
                "'rule': 'adamw', or remove it"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        return {**super().__getstate__(), "_is_routed": self._is_routed, "_adamw": self._adamw}

    @property
    def _own_name(self) -> str:
        return "muon"

    @property
    def _own_options(self) -> Collection[str]:
        return _OWN

    def _defaults_of(self, name: str) -> dict[str, Any]:
        if name != "adamw":
            raise HyperparameterError(
                f"groups of Muon have the rule 'muon' or 'adamw', got {name!r}; steprule.torch.Optimizer has others"
            )
        return dict(self._adamw)

    def _naming_of(self, group: Mapping[str, Any]) -> Naming:
        if self._name_in(group) != "muon":
            return self._naming_of_adamw
        return _BY_NAME if isinstance(group.get("ns_coefficients"), str) else self._naming

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        if self._name_in(group) != "muon":
            return rules.adamw, {}
        for name, words in (("lr", "Learning rate"), ("momentum", "momentum"), ("weight_decay", "weight decay")):
            _not_negative(words, group[name])
        adjusted, named = group["adjust_lr_fn"], group["ns_coefficients"]
        if adjusted not in (None, "original", "match_rms_adamw"):
            raise HyperparameterError(f"Adjust learning rate function {adjusted} is not supported")
        chosen = {"adjust_lr": adjusted or "original"}
        if not isinstance(named, str):
            return muon, chosen
        if named not in COEFFICIENTS:
            known = ", ".join(map(repr, COEFFICIENTS))
            raise HyperparameterError(f"ns_coefficients must be 3 numbers or one of {known}, got {named!r}")
        return muon, {**chosen, "coefficients": named}

    def _check_params_of(self, group: Mapping[str, Any], where: str) -> None:
        if self._name_in(group) == "muon":
            for param in tensors_of(group):
                if param.dim() < 2 or (param.dim() > 2 and not self._is_routed):
                    raise _not_a_matrix(param)
        super()._check_params_of(group, where)

    def _read(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        if self._name_in(group) == "muon":
            if grad.is_complex():
                raise RuntimeError("Muon does not support complex parameters")
            if grad.is_sparse:
                raise RuntimeError("Muon does not support sparse gradients")
        return super()._read(grad, group)


def _groups(params: Any, selector: Any) -> list[dict[str, Any]]:
    """Return the group of matrices and that of the rest."""
    chosen = Route(selector, muon, {}, "Muon(model)" if selector == MATRICES else "matrices=")
    parts = divided(params, [chosen], rules.adamw)
    return [{"params": own, "rule": name} for name, own in zip(("muon", "adamw"), parts, strict=True) if own]


def _checked(adamw: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the options of AdamW; their values are checked with the group's.

    Raises:
        HyperparameterError: for one that it has not.
    """
    if adamw is not None and not isinstance(adamw, Mapping):
        raise HyperparameterError(f"adamw must be a dict of options of AdamW, got {adamw!r}")
    for name in adamw or {}:
        if name not in _ADAMW:
            raise HyperparameterError(
                f"adamw has no option {name!r}; it has {', '.join(_ADAMW)}.{suggest(name, _ADAMW)}"
            )
    return adamw or {}


def _not_negative(what: str, value: Any) -> None:
    """Refuse what torch refuses, in its words. A tensor on a device is not waited for; the rest the rule refuses."""
    if isinstance(value, Tensor) and (value.device.type != "cpu" or value.numel() != 1):
        return
    if isinstance(value, (int, float, Tensor)) and not value >= 0:
        raise HyperparameterError(f"{what} should be >= 0 but is: {value}")


def _not_a_matrix(param: Tensor) -> HyperparameterError:
    return HyperparameterError(
        f"Muon only supports 2D parameters whereas we found a parameter with size: {param.size()}. Pass the model "
        "itself (Muon(model)), which lets AdamW step what is no matrix; or put it in a group with 'rule': 'adamw'; "
        "matrices= selects kernels of convolutions"
    )
