"""What processes must agree on that step parts of one model, found out before their first step.

Nobody would find a disagreement: processes wait for each other for ever, or each steps its part by other numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.doors.torch.extent import sees_all
from steprule.doors.torch.formats import names_of
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.processes import ProcessSums, job_size
from steprule.doors.torch.shards import is_sharded, sharding_of
from steprule.errors import StructureError
from steprule.launch.guards import Guards

__all__ = ["check_ranks"]

_State = Mapping[Any, Mapping[str, Any]]
_FAKE = "fake"
"""torch's process group of dry runs, whose other processes do not exist."""


def check_ranks(options: Sequence[GroupOptions], guards: Guards, state: _State) -> None:
    """Check that the processes that step parts of one model can do so together. They exchange a digest of a few bytes.

    Of DTensors they compare the rule, all options and the parameters with their step counts; with ``process_group``
    what they decide together, since their parameters are others.

    Args:
        options: the groups.
        guards: those of all.
        state: the optimizer's.

    Raises:
        StructureError: on every process, naming what differs, or which parts are not added up as they are.
    """
    params = [param for own in options for param in own.group["params"]]
    meshes = _meshes_of(params)
    told = _told_of_all(options, guards)
    are_summed = guards.measures or sees_all(options)
    of_params = {**told, **_told_of_params(options, state, are_summed)} if meshes else {}
    for mesh in _fewest(meshes):
        _agree(ProcessSums(mesh), of_params)
    if isinstance(guards.share, ProcessSums):
        _agree(guards.share, told)
        _check_apart(guards.share.over, meshes)
    if are_summed:
        _check_same_processes(meshes)
        _check_flat(params, guards)


def _meshes_of(params: Sequence[Any]) -> list[Any]:
    """Return the meshes of DTensors, each once, in the order of the parameters."""
    return list(dict.fromkeys(param.device_mesh for param in params if is_sharded(param)))


def _ranks_of(mesh: Any) -> list[int]:
    found: list[int] = mesh.mesh.flatten().tolist()
    return found


def _fewest(meshes: Sequence[Any]) -> list[Any]:
    """Return, of the meshes that this process is in, as few as have all its partners: the largest first."""
    found: list[Any] = []
    met: set[int] = set()
    for mesh in sorted(meshes, key=lambda mesh: -mesh.size()):
        ranks = _ranks_of(mesh)
        if mesh.get_coordinate() is not None and not met.issuperset(ranks):
            found.append(mesh)
            met.update(ranks)
    return found


def _told_of_all(options: Sequence[GroupOptions], guards: Guards) -> dict[str, str]:
    """Return what processes decide together, also about parameters that are others on each: stages of a pipeline."""
    summing = sorted({own.rule.name for own in options if sees_all([own])})
    told: dict[str, Any] = {**guards.options, "the rule that sums over all tensors": summing}
    return {name: repr(value) for name, value in told.items()}


def _told_of_group(own: GroupOptions, index: int) -> dict[str, str]:
    """Return what a group steps by; ``lr`` too, which is one number for all parts of a tensor."""
    formats, values = own.formats, own.values
    told = {"rule": own.rule.name, **values, "states": dict(formats.states) or "float32", "weights": formats.weights}
    told |= {
        "min_elements": formats.min_elements,
        "seed": values.seed,
        "number of parameters": len(own.group["params"]),
    }
    return {f"{name} (group {index})": repr(value) for name, value in told.items()}


def _told_of_params(options: Sequence[GroupOptions], state: _State, are_summed: bool) -> dict[str, str]:
    """Return what parameters there are, and what the groups step them by."""
    told = {"number of groups": str(len(options))}
    for index, own in enumerate(options):
        told |= _told_of_group(own, index)
        pairs = zip(names_of(own.group, index), own.group["params"], strict=True)
        told |= {f"parameter {name!r}": _told_of(param, state, are_summed) for name, param in pairs}
    return told


def _told_of(param: Any, state: _State, are_summed: bool) -> str:
    """Return what a parameter is. Plain tensors are alike where sums over all count each once: as replicas."""
    kind = f"{str(param.dtype).removeprefix('torch.')} of shape {tuple(param.shape)}"
    if not is_sharded(param):
        return f"plain, {kind}" if are_summed else "plain"
    step = state.get(param, {}).get("step", 0)
    return f"{kind}, {sharding_of(param)}, after {int(step):,} steps"


def _agree(sums: ProcessSums, told: Mapping[str, str]) -> None:
    """Check that all processes tell the same.

    Raises:
        StructureError: naming the first difference between the first process and the first that differs from it.
    """
    groups = sums.groups()
    if any(torch.distributed.get_backend(group) == _FAKE for group in groups):
        return
    own, rank = list(told.items()), torch.distributed.get_rank()
    digests = _gathered(groups, (rank, hashlib.sha256(repr(own).encode()).hexdigest()))
    others = [other for other, digest in digests if digest != digests[0][1]]
    if others:
        all_told = dict(_gathered(groups, (rank, own)))
        first = digests[0][0]
        raise StructureError(_difference(first, dict(all_told[first]), others[0], dict(all_told[others[0]])))


def _gathered(groups: Sequence[Any], item: Any) -> list[Any]:
    """Return what all processes give, in one order: gathered along one dimension of a mesh after the other."""
    items = [item]
    for group in groups:
        parts: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(parts, items, group=group)
        items = [item for part in parts for item in part]
    return items


def _difference(one: int, told: Mapping[str, str], other: int, others: Mapping[str, str]) -> str:
    key = next(key for key in (*told, *others) if told.get(key) != others.get(key))
    what = " and ".join(f"{by.get(key, 'not there')} on rank {rank}" for rank, by in ((one, told), (other, others)))
    return (
        f"processes that step parts of one model disagree: {key} is {what}; nothing was stepped. Give all of them the "
        "same rule, options and parameters, in the same order, and load the same state"
    )


def _check_apart(group: Any, meshes: Sequence[Any]) -> None:
    """Refuse a ``process_group`` that would count DTensors several times."""
    own = {torch.distributed.get_rank()}
    members = {*torch.distributed.get_process_group_ranks(group)} - own
    for mesh in meshes:
        if members.intersection(_ranks_of(mesh)):
            raise StructureError(
                f"process_group has ranks {sorted({*members, *own})}, and a parameter is a DTensor over ranks "
                f"{_ranks_of(mesh)}, whose sums are those of its own mesh; nothing was stepped. Remove process_group, "
                "or pass that of processes with other parameters (the stages of a pipeline)"
            )


def _check_same_processes(meshes: Sequence[Any]) -> None:
    """Refuse sums over all tensors where processes have not all of them: each would have another sum."""
    found = {tuple(sorted(_ranks_of(mesh))) for mesh in meshes}
    if len(found) > 1:
        one, other, *_ = sorted(found)
        raise StructureError(
            "clip_norm, nonfinite and sums over all tensors are the same on all processes if these have parts of the "
            f"same tensors, but some DTensors are over ranks {list(one)} and some over {list(other)}; nothing was "
            "stepped. Distribute them over the same processes, or give each mesh an optimizer of its own"
        )


def _check_flat(params: Sequence[Tensor], guards: Guards) -> None:
    """Refuse to decide by the flat parts that are here of FSDP1's parameters, as if they were all there is."""
    flat = [param for param in params if getattr(param, "_fsdp_flattened", False)]
    if flat and guards.is_local and job_size() > 1 and all(map(_is_flat_part, flat)):
        raise StructureError(
            "the parameters are flat parts that FullyShardedDataParallel has made, and clip_norm, nonfinite and sums "
            "over all tensors would be those of this process's parts alone; nothing was stepped. Pass "
            "process_group=model.process_group, or use fully_shard, whose DTensors need none"
        )


def _is_flat_part(param: Any) -> bool:
    """Whether a parameter that FSDP1 handles is cut: not with ``NO_SHARD``, which keeps shapes, or all elements."""
    whole = getattr(param, "_unpadded_unsharded_size", None)  # of a flat parameter, without use_orig_params
    return param.dim() == 1 and (whole is None or param.numel() != whole.numel())
