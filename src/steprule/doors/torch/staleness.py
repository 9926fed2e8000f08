"""The columns of a staleness check: what a cached launch depends on, for ``native.is_unchanged``."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.torch import native
from steprule.doors.torch.devices import address_of
from steprule.doors.torch.options import GroupOptions
from steprule.runtime.addresses import address
from steprule.runtime.commit import Commit

__all__ = ["LaunchInputs", "ScalarTensors", "StalenessCheck", "guards_of"]

Int64s = NDArray[np.int64]


class ScalarTensors:
    """Zero-dimensional tensors of float32 and float64 (step counts, scalar slots), written together.

    Attributes:
        commit: what writes them.
        columns: where they lie and what they are to hold, for a staleness check.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        kinds = (torch.float64, torch.float32)
        self._places = [[i for i, t in enumerate(tensors) if t.dtype == kind] for kind in kinds]
        longs, shorts = ([tensors[i] for i in places] for places in self._places)
        self.commit = Commit([t.data_ptr() for t in longs], [t.data_ptr() for t in shorts])
        self._values: tuple[NDArray[Any], ...] = self.commit.longs.view(np.float64), self.commit.shorts.view(np.float32)
        for values, own in zip(self._values, (longs, shorts), strict=True):
            values[:] = [tensor.item() for tensor in own]
        self.columns: dict[str, NDArray[Any]] = {}
        for name, targets, values in zip(("long", "short"), self.commit.targets, self._values, strict=True):
            self.columns |= {f"{name}_pointers": targets, f"{name}_values": values}

    def part(self, start: int, end: int) -> list[NDArray[Any]]:
        """Return where the values of some of the tensors are set."""
        cuts = [[bisect.bisect_left(places, i) for i in (start, end)] for places in self._places]
        return [values[low:high] for values, (low, high) in zip(self._values, cuts, strict=True) if high > low]


@dataclass(frozen=True)
class LaunchInputs:
    """What a launch depends on.

    Attributes:
        options: the groups.
        lists: the parameters of each group.
        states: the values of the optimizer's state, in order.
        slots: a dict of the state, a key, and the tensor there.
        params: those with a gradient.
        grads: their gradients, which are not kept.
        absent: the places of parameters without a gradient.
        sharded: the DTensors whose parts here these tensors are.
    """

    options: Sequence[GroupOptions]
    lists: Sequence[list[Tensor]]
    states: Sequence[dict[str, Any]]
    slots: Sequence[tuple[dict[str, Any], str, Tensor]]
    params: Sequence[Tensor]
    grads: Sequence[Tensor]
    absent: Sequence[int]
    sharded: Sequence[Tensor] = ()


class StalenessCheck:
    """Notices when anything that a launch depends on has changed.

    Checked in one call: the parameters of each group, the states' dicts and the tensors in them, where all these
    tensors lie, their types, shapes and strides, the step counts, and which gradients are there. The gradients' own
    types and shapes are not checked here.

    Args:
        inputs: all this.
        present: the places of the gradients whose addresses are wanted.
        numbers: the step counts and scalar slots.

    Attributes:
        found: the addresses of the gradients at ``present``, after ``is_unchanged``.
    """

    def __init__(self, inputs: LaunchInputs, present: Sequence[int], numbers: ScalarTensors) -> None:
        self._kept = (inputs.lists, inputs.states, inputs.slots, inputs.params, numbers, inputs.sharded)
        self._states = len(inputs.states)
        self.found: Int64s = np.zeros(len(present), np.int64)
        slots, facts = [tensor for _, _, tensor in inputs.slots], _Facts()
        lists = [_ids(items) for items in inputs.lists]
        self._also_kept = (facts, lists)
        columns: dict[str, NDArray[Any]] = {
            "list_objects": _ids(inputs.lists),
            "list_sizes": np.array([len(items) for items in inputs.lists], np.int64),
            "list_items": _addresses(lists),
            "state_items": _ids(inputs.states),
            "slot_dicts": _ids([owner for owner, _, _ in inputs.slots]),
            "slot_keys": _ids([key for _, key, _ in inputs.slots]),
            "slot_items": _ids([owner.get(key) for owner, key, _ in inputs.slots]),
            "slot_objects": _ids(slots),
            "slot_facts": facts.of(slots),
            "param_items": _ids(inputs.params),
            "param_facts": facts.of(inputs.params),
            **numbers.columns,
            **_shards(inputs.sharded),
            "absent_places": np.array(inputs.absent, np.int64),
            "grad_places": np.array(present, np.int64),
            "grad_pointers": self.found,
        }
        self._columns = columns
        self._job = _job(columns)
        self._at = address(self._job)

    def is_unchanged(self, states: list[Any], grads: list[Any]) -> bool:
        """Whether nothing has changed, given the values of the optimizer's state and all gradients."""
        return len(states) == self._states and native.is_unchanged(self._at, states, grads)


class _Facts:
    """What tensors are compared with, in memory that it holds."""

    def __init__(self) -> None:
        self._axes: list[Int64s] = []

    def of(self, tensors: Sequence[Tensor]) -> Int64s:
        """Return of each tensor where it lies, its type, the number of its axes, and where their lengths are."""
        # Lengths and strides that many share are there once: a layout of a thousand parameters reads each tensor's.
        kinds: dict[tuple[Any, ...], int] = {}
        places = [kinds.setdefault((tensor.shape, tensor.stride()), len(kinds)) for tensor in tensors]
        axes = np.array([n for kind in kinds for part in kind for n in part], np.int64)
        self._axes.append(axes)
        dims = np.array([len(shape) for shape, _ in kinds], np.int64)
        facts = np.zeros((len(tensors), 4), np.int64)
        facts[:, 0] = [address_of(tensor) for tensor in tensors]
        facts[:, 1] = [native.dtype_code(tensor.dtype) for tensor in tensors]
        facts[:, 2] = dims[places]
        facts[:, 3] = (address(axes) + 16 * (np.cumsum(dims) - dims))[places]
        return facts


def _job(columns: Mapping[str, NDArray[Any]]) -> Int64s:
    job = np.zeros(len(native.WORDS), np.int64)
    for name, index in native.WORDS.items():
        if name in columns:
            job[index] = address(columns[name])
        elif _COUNTED.get(name) in columns:
            job[index] = len(columns[_COUNTED[name]])
    return job


_COUNTED = {
    "lists": "list_objects",
    "states": "state_items",
    "slots": "slot_dicts",
    "params": "param_items",
    "shorts": "short_pointers",
    "longs": "long_pointers",
    "shards": "shard_pointers",
    "absent": "absent_places",
    "grads": "grad_places",
}


def _shards(tensors: Sequence[Tensor]) -> dict[str, Int64s]:
    """Return the words of DTensors that say which tensor and which specification each has now."""
    if not tensors:
        return {}
    pairs = [pair for tensor in tensors for pair in native.words_of(tensor)]
    pointers, values = np.array(pairs, np.int64).T.copy()
    return {"shard_pointers": pointers, "shard_values": values}


def _ids(objects: Sequence[object]) -> Int64s:
    return np.fromiter(map(id, objects), np.int64, len(objects))


def _addresses(arrays: Sequence[NDArray[Any]]) -> Int64s:
    return np.fromiter(map(address, arrays), np.int64, len(arrays))


def guards_of(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    """Return what tells whether tensors are of the types, shapes, strides and devices that these are."""
    kind = _tensor_guards()
    if kind is None:
        return lambda *tensors: False
    guards = kind(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None)

    def check(*tensors: Any) -> bool:
        try:
            return bool(guards.check(*tensors))
        except TypeError:  # a None where there was a gradient, or what a signal handler raised
            if all(tensor is not None for tensor in tensors):
                raise
            return False

    return check


def _tensor_guards() -> Any:
    try:
        from torch._C._dynamo.guards import TensorGuards
    except ImportError:  # private to torch: without it every step is laid out anew
        return None
    return TensorGuards
