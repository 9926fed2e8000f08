"""What processes do whose gradients are reduced by an engine: DDP, ``fully_shard``, FSDP1."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import steprule.torch as door
from steprule.doors.torch.release import SpentGradient
from steprule.doors.torch.shards import local_of
from steprule.errors import StructureError
from tests.doors.torch.ranks import GUARDED, SHAPES, Place, over, params_of
from tests.doors.torch.sharded import everything, model_of, said
from tests.doors.torch.tensors import numbers


def plain_model(dtype: torch.dtype) -> nn.Sequential:
    return model_of(lambda layer: None, dtype)


def sharded_model(dtype: torch.dtype, **options: Any) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    return model_of(functools.partial(fully_shard, **options), dtype)


RELEASED: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "AdamW": (torch.bfloat16, {"states": "8bit", "weights": "split24", "min_elements": 100}),
    "Lamb": (torch.float64, {}),
    "Adafactor": (torch.float32, {}),
    "Lion": (torch.float32, {"clip_value": 0.01}),
}


def fitted(cls: str, rank: int, *, release: bool, **options: Any) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
    """Return what comes of a model with other samples on each process, and the gradients that it is stepped along.

    In the second step they are accumulated over two batches.
    """
    dtype, given = RELEASED[cls]
    model, grads = sharded_model(dtype, **options), list[Tensor]()
    params = [*model.parameters()]
    optimizer: Any = getattr(door, cls)(params, lr=0.01, **given)
    if release:  # hooks run in the order in which they came
        seen: dict[Tensor, Tensor] = {}
        for param in params:
            param.register_post_accumulate_grad_hook(lambda p: seen.update({p: local_of(p.grad).clone()}))
        door.step_in_backward(optimizer)
    for t in range(3):
        for batch in range(2 if t == 1 else 1):
            model.set_requires_gradient_sync(t != 1 or batch == 1)  # type: ignore[operator]
            model(numbers((4, 130), dtype, 10 * t + 5 * batch + rank)).square().sum().backward()
        grads += [seen[p] if release else local_of(p.grad).clone() for p in params]
        assert not release or all(type(local_of(p.grad)) is SpentGradient for p in params)
        optimizer.step()
        optimizer.zero_grad()
    return everything(optimizer), grads


def released(rank: int, parts: Place) -> dict[str, str]:
    """Return what is said where gradients are not complete in the backward pass, or spent."""
    ddp = nn.parallel.DistributedDataParallel(plain_model(torch.float32))
    model = sharded_model(torch.float32)
    optimizer = door.SGD(model.parameters(), lr=0.1 * (rank + 1))
    words = {
        "plain": said(lambda: door.step_in_backward(door.SGD(ddp.parameters(), lr=0.1)), RuntimeError),
        "some": said(lambda: door.step_in_backward(door.SGD(params_of([parts], SHAPES[:1]), lr=0.1)), RuntimeError),
        "options": said(lambda: door.step_in_backward(optimizer), StructureError),
    }
    optimizer.param_groups[0]["lr"] = 0.1
    handle = door.step_in_backward(optimizer)
    loss = model(numbers((4, 130), torch.float32, 0)).square().sum()
    loss.backward(retain_graph=True)
    words["clip"] = said(lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0), RuntimeError)
    words["again"] = said(lambda: model(numbers((4, 130), torch.float32, 0)).square().sum().backward(), RuntimeError)
    handle.remove()
    assert all(p.grad is None for p in model.parameters())
    return words


def flat() -> dict[str, Any]:
    """Return what comes of FSDP1's flat parts, alone and with their process group."""
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

        def wrapped(*, orig: bool, strategy: str = "FULL_SHARD") -> Any:
            own: dict[str, Any] = {"sharding_strategy": ShardingStrategy[strategy], "use_orig_params": orig}
            return FullyShardedDataParallel(plain_model(torch.float64), device_id=torch.device("cpu"), **own)

        def end(model: nn.Module, optimizer: Any) -> list[Tensor]:
            fit_whole(model, optimizer)
            with FullyShardedDataParallel.summon_full_params(model):
                return [p.detach().flatten().clone() for p in model.parameters()]

        found: dict[str, Any] = {"alone": [], "grouped": [], "whole": []}
        for orig in (False, True):
            model = wrapped(orig=orig)
            for alone in (door.AdamW(model.parameters(), **GUARDED), door.Prodigy(model.parameters())):
                found["alone"].append(said(functools.partial(fit_whole, model, alone), StructureError))
            optimizer = door.AdamW(model.parameters(), process_group=model.process_group, **GUARDED)
            found["grouped"].append(end(model, optimizer))
            model = wrapped(orig=orig, strategy="NO_SHARD")
            found["whole"].append(end(model, door.AdamW(model.parameters(), **GUARDED)))
        return found


def fit_whole(model: nn.Module, optimizer: Any) -> None:
    for t in range(2):
        optimizer.zero_grad()
        model(numbers((4, 130), torch.float64, t)).square().sum().backward()
        optimizer.step()


def work(rank: int, world: int, folder: Path) -> None:
    """Do all of it in one of ``world`` processes, and save what came of it."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard

    found: dict[str, Any] = {cls: [fitted(cls, rank, release=release) for release in (False, True)] for cls in RELEASED}
    plane = init_device_mesh("cpu", (world, 1), mesh_dim_names=("replicas", "shards"))
    found["replicas"] = [fitted("AdamW", rank, release=release, mesh=plane) for release in (False, True)]
    found["released"], found["flat"] = released(rank, over(plane["shards"], Shard(0))), flat()
    torch.save(found, folder / f"{rank}.pt")
