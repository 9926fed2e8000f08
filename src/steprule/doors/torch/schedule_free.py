"""The schedulefree package's AdamWScheduleFree and SGDScheduleFree, with its names, defaults and state dicts.

The package keeps one count of steps and one weight for each group, in ``param_groups``; here every parameter has its
own, as in all classes. State dicts are laid out as the package's: numbers that all parameters of a group share are
the group's, and an entry has only what is its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from steprule import rules
from steprule.doors.torch.arguments import init_options
from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
from steprule.doors.torch.modes import is_intercepted
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, GroupOptions, with_decay_and_sign
from steprule.doors.torch.state import step_dtype
from steprule.doors.torch.trained import TRAINED_KEYS

__all__ = ["AdamWScheduleFree", "SGDScheduleFree"]

_SLOTS = ("lr_max", "weight_sum")
_TOLD: dict[str, Any] = {"k": 0, "lr_max": -1.0, "weight_sum": 0.0, "scheduled_lr": 0.0}
"""What the package keeps in groups, and its values before the first step."""
_COUNT = "k"
_WRITTEN = "k_of_group"
"""What an entry with numbers of its own says: the count of its group when it was written."""
_MEANINGS = {
    "momentum": "beta: where between z and the average the gradient is taken; above 0 and below 1.",
    "weight_decay": "at least 0; decays at y, the point of the gradient, as in the package.",
    "warmup_steps": "over how many steps lr rises linearly from 0.",
    "r": "the power of t in the weights of the average.",
    "weight_lr_power": "the power of the largest lr so far in the weights of the average.",
}


class _ScheduleFree(Base):
    """What both classes share: the layout of the package's state dicts."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with options of its own, which has taken no step.

        Raises:
            HyperparameterError: when an option is out of range or misspelt.
        """
        if isinstance(param_group, dict):
            param_group.update(_TOLD)
        super().add_param_group(param_group)

    def _advance(self) -> None:
        super()._advance()
        launch = self._launch
        if is_intercepted():  # the numbers may be those of a trace: state dicts then have each parameter's own
            return
        if launch is None:
            self._tell()
        elif not launch.device_decides:  # a device would have to be waited for: state_dict() asks it
            latest: dict[int, tuple[int, Mapping[str, Any], Any]] = {}
            for own in launch.groups:
                if own.t > latest.get(id(own.options), (0,))[0]:
                    latest[id(own.options)] = own.t, own.scalars, own.options
            for t, scalars, options in latest.values():
                _tell(options.group, {_COUNT: t - 1, **scalars})

    def _tell(self) -> None:
        """Write into the groups what their parameters have counted."""
        for group in self.param_groups:
            _tell(group, _latest(self._entries_of(group)))

    def _entries_of(self, group: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        return (self.state[param] for param in group["params"] if param in self.state)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as the package lays it out: see ``torch.optim.Optimizer.state_dict``.

        ``z``, ``exp_avg_sq`` in entries; ``k``, ``lr_max`` and ``weight_sum`` in groups. A parameter that has taken
        fewer steps than others of its group has its own ``step``, ``lr_max`` and ``weight_sum`` beside, and so that
        these are not followed where the package has gone on from them, ``k_of_group``.
        """
        if is_intercepted():
            return super().state_dict()
        self._tell()
        told: dict[str, Any] = super().state_dict()
        at = {key: group for group in told["param_groups"] for key in group["params"]}
        state = {key: _packed(entry, at[key]) if key in at else entry for key, entry in told["state"].items()}
        return {**told, "state": state}

    def _translated(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a state dict of the package, or of this class, with each parameter's numbers in its entry."""
        at = {key: group for group in state_dict["param_groups"] for key in group["params"]}
        state = {key: _unpacked(entry, at[key]) if key in at else entry for key, entry in state_dict["state"].items()}
        return {**state_dict, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickle's, a copy's or a state dict's parts."""
        super().__setstate__(state)
        if not is_intercepted():
            self._tell()

    def _trained_of(self, point: Tensor, options: GroupOptions, slots: Mapping[str, Tensor]) -> Tensor:
        """Return the training point of an evaluated one that the package has left.

        Evaluated is x = y + (1 - 1/beta) (z - y), so that y = x + (1 - beta) (z - x): the same with 1/beta for beta.
        """
        rule, share = options.rule, self._share
        assert rule.evaluated is not None
        given = {rule.parameter: point, "z": slots["z"], share: 1 / float(options.values[share])}
        return rule.evaluated(**given)  # type: ignore[no-any-return]

    _share = "beta"
    """The hyperparameter that is the share of the average in y."""


class AdamWScheduleFree(_ScheduleFree, meanings=_MEANINGS):
    """AdamW without a schedule: rule ``schedule_free_adamw``.

    ``train()`` and ``eval()`` switch the parameters.

    State: ``z``, ``exp_avg_sq``; in groups ``k``, ``lr_max``, ``weight_sum``, ``scheduled_lr``, ``train_mode``. The
    first of ``betas`` is the share of the average in the point where gradients are taken.

    Source: Defazio et al. 2024, Algorithm 1, arXiv:2405.15682.
    """

    _naming = Naming.of(rules.schedule_free_adamw, options={"weight_t_power": "r"})
    _share = "beta1"

    def __init__(
        self,
        params: Params,
        lr: Number = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = True,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rules.schedule_free_adamw, group), {}


class SGDScheduleFree(_ScheduleFree, meanings=_MEANINGS):
    """Gradient descent without a schedule: rule ``schedule_free_sgd``.

    ``train()`` and ``eval()`` switch the parameters.

    State: ``z``; in groups ``k``, ``lr_max``, ``weight_sum``, ``scheduled_lr``, ``train_mode``.

    Source: Defazio et al. 2024, Algorithm 1, arXiv:2405.15682.
    """

    _naming = Naming.of(rules.schedule_free_sgd, options={"beta": "momentum", "weight_t_power": "r"})

    def __init__(
        self,
        params: Params,
        lr: Number = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2,
        foreach: bool | None = True,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        # Weight decay is inside: it acts at y. Around the rule it would move y alone, and not z.
        rule = rules.schedule_free(rules.l2(rules.sgd)) if group["weight_decay"] != 0 else rules.schedule_free_sgd
        return (rules.maximize(rule) if group["maximize"] else rule), {}


def _latest(entries: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the numbers of the parameters that have taken most steps; nothing before the first."""
    begun = [entry for entry in entries if isinstance(entry.get("step"), Tensor)]
    if not begun:
        return {}
    last = max(begun, key=lambda entry: float(entry["step"]))
    return {_COUNT: int(last["step"]), **{slot: _float(last[slot]) for slot in _SLOTS}}


def _tell(group: dict[str, Any], numbers: Mapping[str, Any]) -> None:
    """Let a group say what its parameters have counted."""
    told = {**_TOLD, **numbers}
    if told[_COUNT]:
        told["scheduled_lr"] = _float(group["lr"]) * min(1.0, told[_COUNT] / max(1.0, group["warmup_steps"]))
    group.update(told)


def _packed(entry: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry without numbers that its group has; with the group's count, if anything is its own."""
    shared = {"step": group[_COUNT], **{slot: group[slot] for slot in _SLOTS}}
    left = dict(entry)
    if all(name in entry and _is_number(entry[name], value) for name, value in shared.items()):
        left = {name: value for name, value in entry.items() if name not in shared}
    own = any(name in left for name in (*shared, *TRAINED_KEYS))
    return {**left, _WRITTEN: group[_COUNT]} if own else left


def _unpacked(entry: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with all numbers of its parameter, those of the group where it has none.

    What it has of its own is not followed where the package has gone on from it, which counts in the group alone.
    """
    given = dict(entry)
    count = given.pop(_WRITTEN, None)
    if count is not None and group.get(_COUNT) != count:
        given = {name: value for name, value in given.items() if name not in ("step", *_SLOTS, *TRAINED_KEYS)}
    if "z" not in given or "step" in given or not {_COUNT, *_SLOTS} <= group.keys():
        return given
    given["step"] = torch.tensor(float(group[_COUNT]), dtype=step_dtype())
    return given | {slot: torch.tensor(_float(group[slot]), dtype=torch.float64) for slot in _SLOTS}


def _is_number(tensor: Any, number: Any) -> bool:
    """Whether a tensor is just this number, and no part of a graph."""
    return isinstance(tensor, Tensor) and not tensor.requires_grad and float(tensor) == number


def _float(value: Any) -> float:
    return float(value.detach() if isinstance(value, Tensor) else value)
