"""DTensors that are stepped whole, by every process: a part of them is not enough.

That is so for rules that see rows and columns or multiply matrices, and for formats of parts that are no runs of rows,
whose groups they would cut. Each process gathers the parameter, its gradient and its state, steps them as one process
steps plain tensors, with the same bits, and keeps what is its own. All processes must do so in the same order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steprule.doors.torch.formats import storage_of
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Slots
from steprule.doors.torch.shards import is_sharded, local_of, placements_of, shard_of, wrapped

__all__ = ["Gathered", "gathered", "is_gathered"]


def is_gathered(param: Tensor, options: GroupOptions) -> bool:
    """Whether a parameter is one that every process steps whole."""
    if not is_sharded(param):
        return False
    if options.rule.view is not None:
        return True
    if shard_of(param).is_run:
        return False
    return not storage_of(options.formats, param, options.rule, options.values.variant).is_plain


def gathered(tensor: Any) -> Any:
    """Return the whole of a DTensor, which all processes of its mesh must ask for; anything else as it is."""
    return tensor.detach().full_tensor() if is_sharded(tensor) else tensor


class Gathered(NamedTuple):
    """The whole of a parameter and of its state.

    Attributes:
        owner: the DTensor.
        param: all of it.
        entry: its state, likewise.
        given: that as the optimizer has it.
    """

    owner: Any
    param: Tensor
    entry: dict[str, Any]
    given: Mapping[str, Any]

    @classmethod
    def of(cls, owner: Any, entry: Mapping[str, Any]) -> Gathered:
        """Gather a parameter and its state."""
        return cls(owner, gathered(owner), {key: gathered(value) for key, value in entry.items()}, entry)

    def closed(self, planes: Mapping[str, Any]) -> dict[str, Any]:
        """Return DTensors with this process's parts of new planes: numbers stay plain.

        What is no plane of elements (codes, scales, numbers of rows) is cut along its first axis, wherever the
        parameter is cut.
        """
        return {key: self._part(value) if getattr(value, "ndim", 0) else value for key, value in planes.items()}

    def _part(self, whole: Tensor) -> Tensor:
        mesh, placements = placements_of(self.owner)
        if whole.shape != self.owner.shape:
            along = sys.modules["torch.distributed.tensor"].Shard(0)
            placements = tuple(one if one.is_replicate() else along for one in placements)
        own = _own(whole, mesh, placements).clone(memory_format=torch.contiguous_format)
        return wrapped(own, mesh, placements, tuple(whole.shape))

    def put_back(self, state: Slots, made: Mapping[str, Any]) -> Callable[[], None]:
        """Return what writes this process's parts when the whole has been stepped. It cannot fail.

        Args:
            state: what is stepped.
            made: what ``closed`` has returned of the planes that are new.
        """
        owners = {plane: made.get(key, self.given.get(key)) for plane, key in state.keys.items()}
        wholes = [(self.owner, self.param), *((owners.get(plane), whole) for plane, whole in state.slots.items())]
        pairs = [
            (local_of(owner).detach(), _own(whole, *placements_of(owner)))
            for owner, whole in wholes
            if is_sharded(owner)
        ]

        def put_back() -> None:
            with torch.no_grad():
                for own, part in pairs:
                    own.copy_(part)

        return put_back


def _own(whole: Tensor, mesh: Any, placements: Any) -> Tensor:
    """Return this process's part of a whole tensor, in its memory."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    extents, starts = compute_local_shape_and_global_offset(tuple(whole.shape), mesh, placements)
    return whole[tuple(slice(start, start + extent) for start, extent in zip(starts, extents, strict=True))]
