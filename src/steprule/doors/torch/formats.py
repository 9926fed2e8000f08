"""The options of memory formats in the PyTorch door: what a group asks for, and what its tensors get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor

from steprule.doors.describe import Line, line, table
from steprule.doors.torch.modes import is_intercepted
from steprule.doors.torch.shards import is_sharded
from steprule.engine import codecs_of
from steprule.errors import HyperparameterError, StructureError
from steprule.formats import (
    FORMATS,
    MIN_ELEMENTS,
    Formats,
    Storage,
    check_effects,
    check_seed,
)
from steprule.launch.values import GroupValues
from steprule.rules import Rule
from steprule.rules.rule import Variant

__all__ = [
    "DEFAULTS",
    "OF_FORMATS",
    "STORAGE",
    "FormatOptions",
    "check_formats",
    "check_has_kernel",
    "described",
    "formats_of",
    "names_of",
    "storage_of",
]


class FormatOptions(TypedDict, total=False):
    """How states and 16-bit parameters are kept.

    Attributes:
        states: ``"float32"`` (default) or a low-precision format (docs/formats.md), or a dict of these by slot.
        weights: of float16 and bfloat16 parameters: ``"nearest"`` (default), ``"stochastic"``, ``"split24"``,
            ``"split32"``.
        min_elements: tensors with fewer elements keep float32 states. Default 4096; 0: none do. Where all tensors of
            the optimizer do, states are an error.
        seed: what random rounding depends on besides the step, the tensor and the element. Default 0.
    """

    states: str | Mapping[str, str]
    weights: str
    min_elements: int
    seed: int


DEFAULTS: dict[str, Any] = {"states": "float32", "weights": "nearest", "min_elements": MIN_ELEMENTS, "seed": 0}
OF_FORMATS = (*DEFAULTS, "coding")
"""What a group of a state dict tells of formats."""
STORAGE = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64"}


def formats_of(group: Mapping[str, Any], rule: Rule, names: Mapping[str, str], where: str) -> tuple[Formats, int]:
    """Return the checked formats of a group, and its seed.

    Args:
        group: with or without the options.
        rule: its rule.
        names: what torch calls the slots; states may be given by either name.
        where: how messages name the group.

    Raises:
        HyperparameterError: for a format, a slot or a seed that does not exist.
    """
    own = {**DEFAULTS, **{name: group[name] for name in DEFAULTS if name in group}}
    seed, states = own.pop("seed"), own["states"]
    check_seed(seed, where)
    if isinstance(states, Mapping):
        slots = {key: slot for slot, key in names.items()}
        own["states"] = {slots.get(key, key): name for key, name in states.items()}
        if len(own["states"]) < len(states):
            raise HyperparameterError(f"states names a slot twice, by torch's name and the rule's: {states}{where}")
    kept = rule.element_slots
    if not kept and isinstance(states, str):  # SGD has a slot with momentum, and none without
        own["states"] = {}
    return Formats.of(**own, slots=kept, where=where, numbers=rule.numbers | rule.vectors, points=rule.points), seed


def storage_of(formats: Formats, param: Tensor, rule: Rule, variant: Variant) -> Storage:
    """Return how a tensor is kept. Complex ones keep slots of their own precision.

    Raises:
        StructureError: when low-precision slots were asked for a tensor of float64.
    """
    if param.is_complex() or param.dtype not in STORAGE:
        return Storage(FORMATS["float64" if param.dtype is torch.complex128 else "float32"])
    what = f"a parameter of shape {tuple(param.shape)}"
    storage = formats.storage(FORMATS[STORAGE[param.dtype]], param.shape, rule.trace(variant).slots, what)
    # A vector is one row, and its groups of neighbours would be cut otherwise by other numbers of processes.
    is_cut = rule.view is None and param.dim() < 2 and is_sharded(param)
    return storage.uncoded() if storage.slots and is_cut else storage


def check_has_kernel(storage: Storage, param: Tensor, *, clips_update: bool = False) -> None:
    """Check that a tensor whose formats or guards need a kernel is one that kernels step.

    Raises:
        StructureError: for tensors on other devices, subclasses, sparse or differentiable steps, and while torch's
            operations are looked at.
    """
    if is_intercepted() and (clips_update or not storage.is_plain):
        asked = "update_clip" if clips_update else _asked(storage)
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)} cannot be stepped with {asked} while a TorchDispatchMode "
            "(make_fx, FakeTensorMode, a counter) or torch.jit.trace intercepts torch's operations: that takes a "
            "kernel, which they would not see; nothing was stepped. Step outside of it, or without these options"
        )
    if clips_update:
        raise StructureError(
            f"update_clip takes dense tensors in this machine's memory, or on a GPU for which Triton is installed; a "
            f"parameter of shape {tuple(param.shape)} is a {type(param).__name__} on {param.device}; nothing was "
            "stepped. Use clip_norm"
        )
    if not storage.is_plain:
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)}, a {type(param).__name__} on {param.device}, cannot be kept as "
            f"asked ({_asked(storage)}): this takes dense tensors in this machine's memory, or on a GPU for which "
            "Triton is installed, dense gradients, and no differentiable=True. Give it to a group with "
            "states='float32' and weights='nearest'"
        )


def _asked(storage: Storage) -> str:
    return ", ".join([*(f"{slot}: {name}" for slot, name in storage.slots), f"weights: {storage.weights}"])


def check_formats(groups: Sequence[_Group], given: Mapping[str, Any]) -> None:
    """Refuse formats that no parameter can have, and options without effect.

    Raises:
        StructureError: for low-precision states on float64, and on flat parts of FSDP1.
        HyperparameterError: for an option without effect on any parameter.
    """
    if all(own.formats.is_plain for own in groups) and DEFAULTS.keys().isdisjoint(given):
        return
    params = [(p, own) for own in groups for p in own.group["params"] if p.is_floating_point() or p.is_complex()]
    storages = [storage_of(own.formats, param, own.rule, own.values.variant) for param, own in params]
    for (param, own), storage in zip(params, storages, strict=True):
        _check_flat_part(param, own, storage)
    changed = {name: given[name] for name, value in DEFAULTS.items() if given.get(name, value) != value}
    check_effects(changed, [own.formats for own in groups], storages, [param.numel() for param, _ in params])


def _check_flat_part(param: Tensor, own: _Group, storage: Storage) -> None:
    """Refuse formats whose planes FSDP1 could not divide among the tensors of a part, after all of the training."""
    if not getattr(param, "_fsdp_flattened", False):
        return
    codecs = codecs_of(own.rule, own.values.variant, storage)
    slots = [codec for value, codec in codecs.items() if value != own.rule.parameter and codec.is_elementwise]
    if len(codecs[own.rule.parameter].planes) > 1 or not all(codec.is_plain for codec in slots):
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)} is a flat part of FullyShardedDataParallel (FSDP1), whose "
            f"optim_state_dict could not save what is kept as asked ({_asked(storage)}). Use fully_shard (FSDP2), "
            "which takes every format, or states='float32' and weights='stochastic' or 'nearest'"
        )


def names_of(group: Mapping[str, Any], index: int) -> list[str]:
    """Return what tables and messages call the parameters of a group."""
    return list(group.get("param_names") or [f"group {index}, {place}" for place in range(len(group["params"]))])


class _Group(Protocol):
    """What ``described`` needs of a group."""

    group: dict[str, Any]
    formats: Formats
    rule: Rule
    values: GroupValues


def described(groups: Sequence[_Group], title: str) -> str:
    """Return the table of what each parameter of the groups uses."""
    lines: list[Line] = []
    for index, own in enumerate(groups):
        params = own.group["params"]
        names = names_of(own.group, index)
        variant = own.values.variant
        lines += [_line(n, p, own.formats, own.rule, variant) for n, p in zip(names, params, strict=True)]
    return table(title, lines)


def _line(name: str, param: Tensor, formats: Formats, rule: Rule, variant: Variant) -> Line:
    storage = storage_of(formats, param, rule, variant)
    kind, nbytes = str(param.dtype).removeprefix("torch."), param.numel() * param.element_size()
    codecs, is_complex = codecs_of(rule, variant, storage), param.is_complex()
    numbers = tuple(rule.trace(variant).per_tensor)
    is_elsewhere = param.device.type != "cpu"
    given = (name, param.shape, kind, nbytes, codecs, rule, storage, numbers)
    return line(*given, is_complex=is_complex, is_elsewhere=is_elsewhere)
