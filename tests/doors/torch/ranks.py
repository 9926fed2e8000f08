"""What processes do that step parts of one model and do not agree, or share their parameters in unlike ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import steprule.torch as door
from steprule.doors.torch.shards import local_of
from steprule.errors import HyperparameterError, StructureError
from tests.doors.torch.sharded import everything, said
from tests.doors.torch.tensors import numbers

SHAPES = [(6, 4), (9,), (3, 5)]
STEPS = 4
GUARDED: dict[str, Any] = {"lr": 0.1, "clip_norm": 0.5, "nonfinite": "skip", "max_skips": 2}
Place = Callable[[Tensor], Tensor]


def params_of(places: Sequence[Place], shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    pairs = zip(places, shapes, strict=True)
    return [nn.Parameter(place(numbers(shape, torch.float64, i))) for i, (place, shape) in enumerate(pairs)]


def step(optimizer: Any, places: Sequence[Place], t: int = 0, *, spoilt: bool = False) -> None:
    """Take a step, along gradients that are the same on all processes."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for i, (param, place) in enumerate(zip(params, places, strict=True)):
        grad = numbers(tuple(param.shape), torch.float64, 100 * (t + 1) + i)
        if spoilt and i == 0:
            grad.view(-1)[-1] = torch.nan
        param.grad = place(grad.to(param.dtype))
    optimizer.step()


def trained(cls: str, places: Sequence[Place], options: dict[str, Any]) -> list[dict[str, Tensor]]:
    """Return all there is after some steps, one of them with a gradient that is not finite if it may be."""
    optimizer: Any = getattr(door, cls)(params_of(places), **options)
    for t in range(STEPS):
        step(optimizer, places, t, spoilt=t == 1 and "nonfinite" in options)
    return everything(optimizer)


def same(tensor: Tensor) -> Tensor:
    return tensor


def over(mesh: Any, *placements: Any) -> Place:
    """Return what makes a DTensor of a tensor that all processes have: without exchanging it. Shapes may differ."""
    from torch.distributed.tensor import distribute_tensor

    return lambda tensor: distribute_tensor(tensor, mesh, list(placements), src_data_rank=None)


DISAGREEMENTS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "lr": ("AdamW", {"lr": 0.1}, "AdamW", {"lr": 0.2}),
    "betas": ("AdamW", {}, "AdamW", {"betas": (0.8, 0.999)}),
    "rule": ("AdamW", {}, "Lion", {}),
    "states": ("AdamW", {"states": "8bit", "min_elements": 0}, "AdamW", {}),
    "seed": ("AdamW", {"weights": "stochastic", "seed": 1}, "AdamW", {"weights": "stochastic"}),
    "guards": ("AdamW", {"clip_norm": 1.0}, "AdamW", {}),
}
"""An optimizer of the first process, and of the others."""


def refusal(optimizer: Any, places: Sequence[Place]) -> str:
    """Return what is said of a step that changes nothing."""
    params, entries = optimizer.param_groups[0]["params"], dict(optimizer.state)
    before = [_local(param).clone() for param in params]
    words = said(lambda: step(optimizer, places), StructureError)
    assert optimizer.state == entries
    assert all(
        torch.equal(*map(_local, pair)) for pair in zip(before, optimizer.param_groups[0]["params"], strict=True)
    )
    return words


def _local(tensor: Any) -> Tensor:
    found: Tensor = local_of(tensor).detach()
    return found


def disagreements(rank: int, rows: Place, whole: Place, wide: Place) -> dict[str, str]:
    """Return what is said where the first process has another optimizer than the others."""
    found = {}
    for name, (cls, options, other, others) in DISAGREEMENTS.items():
        kind, given = (other, others) if rank else (cls, options)
        dtype = torch.bfloat16 if "weights" in given else torch.float32
        found[name] = refusal(getattr(door, kind)([nn.Parameter(rows(torch.ones(6, 4, dtype=dtype)))], **given), [rows])
    found["plane"] = refusal(door.AdamW(params_of([wide], SHAPES[:1]), lr=0.1 if rank < 1 else 0.2), [wide])
    fewer, shapes = (2 if rank else 3), [(6, 4 if rank else 5)]
    found["count"] = refusal(door.AdamW(params_of([rows] * fewer, SHAPES[:fewer])), [rows] * fewer)
    found["shape"] = refusal(door.AdamW(params_of([rows], shapes)), [rows])
    way = whole if rank else rows
    found["placement"] = refusal(door.AdamW(params_of([way], SHAPES[:1])), [way])
    fresh, ahead = (door.AdamW(params_of([rows], SHAPES[:1])) for _ in range(2))
    step(ahead, [rows])
    if rank:
        fresh.load_state_dict(ahead.state_dict())
    found["steps"] = refusal(fresh, [rows])
    return found


def exchanges(rows: Place) -> list[int]:
    """Return how many objects processes have exchanged: after some steps, one after a load, and one of a new group."""
    calls, before = [], torch.distributed.all_gather_object

    def all_gather_object(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return before(*args, **kwargs)

    def counted(places: Sequence[Place], times: int = 1) -> int:
        for t in range(times):
            step(optimizer, places, t)
        optimizer.param_groups[0]["params"][0].grad = None
        optimizer.step()  # which is laid out anew
        return len(calls)

    optimizer = door.AdamW(params_of([rows] * 2, SHAPES[:2]), **GUARDED)
    torch.distributed.all_gather_object = all_gather_object
    try:
        found = [counted([rows] * 2, 3)]
        optimizer.load_state_dict(optimizer.state_dict())
        found.append(counted([rows] * 2))
        optimizer.add_param_group({"params": params_of([rows], SHAPES[2:])})
        return [*found, counted([rows] * 3)]
    finally:
        torch.distributed.all_gather_object = before


def meshes(rows: Place, wide: Place, first: Place) -> dict[str, Any]:
    """Return what comes of parameters over unlike meshes: of all processes, the same as a plane, of the first alone."""
    mixed = [rows, first, rows]
    return {
        **{cls: trained(cls, mixed, {"lr": 0.1}) for cls in ("AdamW", "Lamb")},
        "alike": trained("AdamW", [rows, wide, rows], GUARDED),
        "guarded": refusal(door.AdamW(params_of(mixed), clip_norm=1.0), mixed),
        "summed": refusal(door.Prodigy(params_of(mixed)), mixed),
    }


def parts(stage: int, stages: int, group: Any, own: Any, rows: Place) -> dict[str, Any]:
    """Return what comes of ``process_group``: plain parts, and DTensors of a mesh that is this process's."""
    from torch.distributed.tensor import Shard

    whole = numbers((2 * stages, 4), torch.float64, 0)
    part, staged = (
        nn.Parameter(made) for made in (mine(whole, stage).clone(), over(own, Shard(0))(mine(whole, stage)))
    )
    by_part: list[Any] = [door.AdamW([p], process_group=group, **GUARDED) for p in (part, staged)]
    by_part.append(door.Prodigy([nn.Parameter(mine(whole, stage).clone())], process_group=group))
    for t in range(STEPS):
        for optimizer in by_part:
            param = optimizer.param_groups[0]["params"][0]
            grad = mine(gradient_of_parts(stages, t, optimizer is not by_part[2]), stage)
            param.grad = over(own, Shard(0))(grad) if param is staged else grad.clone()
            optimizer.step()
    other = door.AdamW([nn.Parameter(torch.ones(stage + 1))], clip_norm=2.0 if stage else 1.0, process_group=group)
    both = door.AdamW(params_of([rows], SHAPES[:1]), clip_norm=1.0, process_group=group)
    return {
        "ends": [everything(optimizer) for optimizer in by_part],
        "skipped": [optimizer.skipped for optimizer in by_part[:2]],
        "nothing": said(lambda: door.AdamW([part], process_group=group), HyperparameterError),
        "options": refusal(other, [same]),
        "mesh": refusal(both, [rows]),
    }


def mine(whole: Tensor, stage: int) -> Tensor:
    return whole[2 * stage : 2 * stage + 2]


def gradient_of_parts(stages: int, t: int, spoilt: bool) -> Tensor:
    """Return a gradient that is not finite in the last part at step 1, and in the first at step 3."""
    grad = numbers((2 * stages, 4), torch.float64, 10 + t)
    if spoilt and t in (1, 3):
        grad[-1 if t == 1 else 0, 1] = torch.nan
    return grad


def destroyed(rank: int, rows: Place, folder: Path) -> dict[str, str]:
    """Return what is said of steps that come when their process group is no more, after which there is another."""
    world, world_size = torch.distributed.group.WORLD, torch.distributed.get_world_size()
    made: dict[str, Any] = {
        "guarded": door.AdamW(params_of([rows], SHAPES[:1]), clip_norm=1.0),
        "summed": door.Prodigy(params_of([rows], SHAPES[:1])),
        "group": door.AdamW(params_of([same], SHAPES[:1]), clip_norm=1.0, process_group=world),
    }
    for name, optimizer in made.items():
        step(optimizer, [same if name == "group" else rows])
    made["first"] = door.AdamW(params_of([rows], SHAPES[:1]))
    own = [optimizer.param_groups[0]["params"][0] for optimizer in made.values()]
    for param in own:
        param.grad = param.detach().clone()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    found = {}
    for param, (name, optimizer) in zip(own, made.items(), strict=True):
        before = _local(param).clone(), int(optimizer.state.get(param, {}).get("step", 0))
        found[name] = said(optimizer.step, StructureError)
        assert torch.equal(_local(param), before[0])
        assert int(optimizer.state.get(param, {}).get("step", 0)) == before[1]
    store = f"file://{folder}/again"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    found["again"] = said(made["group"].step, StructureError)
    return found


MIXED: dict[str, dict[str, Any]] = {"AdamW": GUARDED, "Prodigy": {}, "Lamb": {"lr": 0.1}}


def width_of(world: int) -> int:
    """Return how many processes have parts of a stage."""
    return 2 if world == 4 else 1


def work(rank: int, world: int, folder: Path) -> None:
    """Do all of it in one of ``world`` processes, and save what came of it."""
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
    from torch.distributed.tensor import Replicate, Shard

    width = width_of(world)
    mesh = init_device_mesh("cpu", (world,))
    plane = init_device_mesh("cpu", (world // width, width), mesh_dim_names=("stage", "part"))
    rows, whole, wide = over(mesh, Shard(0)), over(mesh, Replicate()), over(plane, Shard(0), Replicate())
    found: dict[str, Any] = {
        "disagreements": disagreements(rank, rows, whole, wide),
        "exchanges": exchanges(rows),
        "meshes": meshes(rows, wide, over(DeviceMesh("cpu", [0]), Shard(0))),
        "mixed": {cls: trained(cls, [rows, whole, same], options) for cls, options in MIXED.items()},
        "parts": parts(rank // width, world // width, plane["stage"].get_group(), plane["part"], rows),
        "destroyed": destroyed(rank, rows, folder),
    }
    torch.save(found, folder / f"{rank}.pt")
