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
from tests.doors.torch.ranks import GUARDED, SHAPES, over, params_of
from tests.doors.torch.sharded import everything, said
from tests.doors.torch.tensors import numbers


def model_of(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 31), nn.Tanh(), nn.Linear(31, 5)).to(dtype)


def sharded_model(dtype: torch.dtype, **options: Any) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    model = model_of(dtype)
    for layer in (model[0], model[2], model):
        fully_shard(layer, **options)
    return model


RELEASED: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "AdamW": (torch.bfloat16, {"states": "8bit", "weights": "split24", "min_elements": 100}),
    "Lamb": (torch.float64, {}),
    "Lion": (torch.float32, {"clip_value": 0.01}),
}


def fitted(cls: str, rank: int, *, release: bool) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
    """Return what comes of a model with other samples on each process, and the gradients that it is stepped along.

    In the second step they are accumulated over two batches.
    """
    dtype, options = RELEASED[cls]
    model, grads = sharded_model(dtype), list[Tensor]()
    params = [*model.parameters()]
    optimizer: Any = getattr(door, cls)(params, lr=0.01, **options)
    if release:  # hooks run in the order in which they came
        seen: dict[Tensor, Tensor] = {}
        for param in params:
            param.register_post_accumulate_grad_hook(lambda p: seen.update({p: local_of(p.grad).clone()}))
        door.step_in_backward(optimizer)
    for t in range(3):
        for batch in range(2 if t == 1 else 1):
            model.set_requires_gradient_sync(t != 1 or batch == 1)  # type: ignore[operator]
            model(numbers((4, 40), dtype, 10 * t + 5 * batch + rank)).square().sum().backward()
        grads += [seen[p] if release else local_of(p.grad).clone() for p in params]
        assert not release or all(type(local_of(p.grad)) is SpentGradient for p in params)
        optimizer.step()
        optimizer.zero_grad()
    return everything(optimizer), grads


def released(rank: int, world: int) -> dict[str, str]:
    """Return what is said where gradients are not complete in the backward pass, or spent."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard

    ddp = nn.parallel.DistributedDataParallel(model_of(torch.float32))
    plane = init_device_mesh("cpu", (world, 1), mesh_dim_names=("replicas", "shards"))
    parts = over(plane["shards"], Shard(0))
    model = sharded_model(torch.float32)
    optimizer = door.SGD(model.parameters(), lr=0.1 * (rank + 1))
    words = {
        "plain": said(lambda: door.step_in_backward(door.SGD(ddp.parameters(), lr=0.1)), RuntimeError),
        "some": said(lambda: door.step_in_backward(door.SGD(params_of([parts], SHAPES[:1]), lr=0.1)), RuntimeError),
        "options": said(lambda: door.step_in_backward(optimizer), StructureError),
    }
    optimizer.param_groups[0]["lr"] = 0.1
    handle = door.step_in_backward(optimizer)
    loss = model(numbers((4, 40), torch.float32, 0)).square().sum()
    loss.backward(retain_graph=True)
    words["clip"] = said(lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0), RuntimeError)
    words["again"] = said(lambda: model(numbers((4, 40), torch.float32, 0)).square().sum().backward(), RuntimeError)
    handle.remove()
    assert all(p.grad is None for p in model.parameters())
    return words


def flat() -> dict[str, Any]:
    """Return what comes of FSDP1's flat parts, alone and with their process group."""
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

        def wrapped(*, orig: bool, strategy: str = "FULL_SHARD") -> Any:
            own: dict[str, Any] = {"sharding_strategy": ShardingStrategy[strategy], "use_orig_params": orig}
            return FullyShardedDataParallel(model_of(torch.float64), device_id=torch.device("cpu"), **own)

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
        model(numbers((4, 40), torch.float64, t)).square().sum().backward()
        optimizer.step()


def work(rank: int, world: int, folder: Path) -> None:
    """Do all of it in one of ``world`` processes, and save what came of it."""
    found: dict[str, Any] = {cls: [fitted(cls, rank, release=release) for release in (False, True)] for cls in RELEASED}
    found["released"], found["flat"] = released(rank, world), flat()
    torch.save(found, folder / f"{rank}.pt")
