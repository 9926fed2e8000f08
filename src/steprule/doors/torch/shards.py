"""DTensors: of each, this process has a shard, a plain tensor that kernels step where it lies.

What an optimizer keeps of a DTensor are DTensors that are sharded as it is, so that ``torch.distributed.checkpoint``
saves and reshards them. Nothing here imports ``torch.distributed.tensor``: who has a DTensor has done so.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.doors.torch.processes import ProcessSums
from steprule.errors import StateError, StructureError
from steprule.launch.row import WHOLE, Shard

__all__ = [
    "RESHARD",
    "are_sharded_as",
    "closed",
    "is_sharded",
    "local_of",
    "locals_of",
    "opened",
    "placements_of",
    "shard_of",
    "sharded_as",
    "sharding_of",
    "with_local",
    "wrapped",
]


RESHARD = "Load it by torch.distributed.checkpoint (set_optimizer_state_dict), which reshards"
"""What helps against a state of other parts."""


def is_sharded(tensor: object) -> bool:
    """Whether a tensor is a DTensor."""
    kind = _kind()
    return kind is not None and isinstance(tensor, kind)


def _kind() -> Any:
    module = sys.modules.get("torch.distributed.tensor")
    return getattr(module, "DTensor", None)


def local_of(tensor: Any) -> Any:
    """Return this process's part of a DTensor, in its own memory; anything else as it is."""
    return tensor._local_tensor if is_sharded(tensor) else tensor


def with_local(tensor: Any, make: Callable[[Tensor], Tensor]) -> Any:
    """Return what is made of a tensor; of a DTensor one that is sharded alike, of what is made of its part."""
    if not is_sharded(tensor):
        return make(tensor)
    return _kind()(make(tensor._local_tensor), tensor._spec, requires_grad=False)


def locals_of(grads: Sequence[Tensor | None]) -> list[Any]:
    """Return this process's parts of gradients."""
    kind = _kind()
    return [grad._local_tensor if isinstance(grad, kind) else grad for grad in grads]


def placements_of(tensor: Any) -> tuple[Any, Any]:
    """Return where the parts of a DTensor are: the mesh of processes, and along which axes it is cut."""
    return tensor.device_mesh, tensor.placements


def shard_of(param: Any) -> Shard:
    """Return which part of a tensor is here, as launches know it; of a plain one all.

    A run of rows is what FSDP2 makes, and tensor parallelism along the first axis; a replica is a run of all of them.
    """
    if not is_sharded(param):
        return WHOLE
    mesh, placements = placements_of(param)
    here = mesh.get_coordinate()
    if here is None:  # a process that has no part of it
        return Shard(0, tuple(param.shape))
    cut = [placement for placement in placements if not placement.is_replicate()]
    is_run = all(getattr(placement, "dim", None) == 0 for placement in cut)
    # Of replicas the first counts, where sums are those of all processes.
    at = zip(here, placements, strict=True)
    counts = all(place == 0 for place, placement in at if placement.is_replicate())
    first = _first_row(tuple(param.shape), mesh, tuple(placements)) if cut and is_run else 0
    return Shard(first, tuple(param.shape), ProcessSums(mesh), counts, is_run)


@functools.lru_cache(maxsize=4096)
def _first_row(shape: tuple[int, ...], mesh: Any, placements: tuple[Any, ...]) -> int:
    """Return where the part that is here begins. ``torch.distributed.checkpoint`` asks the same function."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    return int(compute_local_shape_and_global_offset(shape, mesh, placements)[1][0])


def opened(entry: Mapping[str, Any], param: Any, what: str) -> Mapping[str, Any]:
    """Return the state of a parameter with this process's parts of it.

    Raises:
        StateError: for a state that is sharded in another way than its parameter.
    """
    is_part = is_sharded(param)
    for key, value in entry.items():
        if is_sharded(value) and not (is_part and _are_alike(value, param)):
            own = f"sharded as {sharding_of(param)}" if is_part else "in one piece"
            raise StateError(f"{what}: {key} is sharded as {sharding_of(value)}, and its parameter is {own}. {RESHARD}")
    return {key: local_of(value) for key, value in entry.items()} if is_part else entry


def _are_alike(one: Any, other: Any) -> bool:
    return one._spec is other._spec or placements_of(one) == placements_of(other)


def sharding_of(tensor: Any) -> str:
    """Return how a DTensor is sharded, for messages."""
    mesh, placements = placements_of(tensor)
    return f"{', '.join(map(str, placements))} over {tuple(mesh.shape)} processes"


def closed(fresh: dict[str, Any], param: Any) -> dict[str, Any]:
    """Return what comes into the state of a parameter, for a DTensor as DTensors: numbers stay plain."""
    if not is_sharded(param):
        return fresh
    return {key: _like(param, value) if getattr(value, "ndim", 0) else value for key, value in fresh.items()}


def _like(param: Any, tensor: Tensor) -> Tensor:
    """Return a plane of a DTensor as a DTensor; planes have the first axis of their parameter, or all."""
    shape = tuple(param.shape)
    whole = shape if tensor.shape == local_of(param).shape else (shape[0], *tensor.shape[1:])
    return wrapped(tensor, *placements_of(param), whole)


def wrapped(local: Tensor, mesh: Any, placements: Any, shape: tuple[int, ...]) -> Tensor:
    """Return a DTensor of a shape, of which this process has a part."""
    stride = torch.empty(shape, device="meta").stride()
    made: Tensor = _kind().from_local(local, mesh, placements, run_check=False, shape=shape, stride=stride)
    return made


def sharded_as(grad: Any, param: Any) -> Any:
    """Return a gradient with the parts that its parameter has: itself, or one that processes exchange for it.

    Raises:
        StructureError: for one that is no DTensor.
    """
    if not is_sharded(param):
        return grad
    if not is_sharded(grad):
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)} is a DTensor, and its gradient is a {type(grad).__name__}; "
            "nothing was stepped. Make it a DTensor: distribute_tensor(grad, param.device_mesh, param.placements)"
        )
    if _are_alike(grad, param):
        return grad
    return grad.redistribute(*placements_of(param))


def are_sharded_as(grads: Sequence[Any], params: Sequence[tuple[int, Any]]) -> bool:
    """Whether gradients have the parts that their parameters have, which are given with their places."""
    kind = _kind()
    for place, param in params:
        grad = grads[place]
        if grad is not None and not (isinstance(grad, kind) and _are_alike(grad, param)):
            return False
    return True
