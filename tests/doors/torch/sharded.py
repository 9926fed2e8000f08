"""What processes do that train DTensors together, and what one process does with whole tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.errors import CheckpointError, StateError, StructureError
from tests.doors.torch.processes import alive
from tests.doors.torch.tensors import numbers

Place = Callable[[Tensor], Tensor]
SHAPES = [(67, 130), (5, 4, 60), (300,), (2, 5000)]
"""Rows that no number of processes divides, a vector, and fewer rows than some processes."""
LOW: dict[str, Any] = {"min_elements": 512}


class Case(NamedTuple):
    """An optimizer, and the type of its parameters."""

    cls: str
    options: dict[str, Any]
    dtype: torch.dtype = torch.float32


EXACT = {
    "AdamW": Case("AdamW", {}),
    "AdamW amsgrad float64": Case("AdamW", {"amsgrad": True}, torch.float64),
    "8bit": Case("AdamW", {"states": "8bit", **LOW}),
    "4bit, split24": Case("AdamW", {"states": "4bit", "weights": "split24", **LOW}, torch.bfloat16),
    "stochastic": Case("Lion", {"weights": "stochastic"}, torch.bfloat16),
    "clip_value": Case("AdamW", {"clip_value": 0.5}),
    "schedule-free": Case("AdamWScheduleFree", {"states": "8bit", **LOW}),
}
"""By element: a part has the bits of the whole."""
GATHERED = {
    "Adafactor": Case("Adafactor", {}),
    "CAME 8bit": Case("CAME", {"states": "8bit", **LOW}),
    "AdamMini": Case("AdamMini", {}),
    "NorMuon": Case("NorMuon", {}),
    "Muon, clipped": Case("Muon", {"clip_norm": 0.1}, torch.float64),
}
"""Of rows and columns, or with products of matrices: all processes step the whole, with its bits."""
COLUMNS = ["AdamW", "8bit", "4bit, split24", "stochastic", "clip_value", "schedule-free"]
"""Those of ``EXACT`` that are run on parts that are no runs of rows, where formats are of the whole as well."""
MATRICES = [(67, 130), (2, 5000), (5, 300)]
SUMMED = {
    "clip_norm": Case("AdamW", {"clip_norm": 0.5, "nonfinite": "skip"}, torch.float64),
    "update_clip": Case("AdamW", {"update_clip": True}, torch.float64),
    "Lamb": Case("Lamb", {}, torch.float64),
    "LARS": Case("LARS", {}, torch.float64),
    "MARS": Case("MARS", {}, torch.float64),
    "NovoGrad": Case("NovoGrad", {}, torch.float64),
    "Prodigy": Case("Prodigy", {}, torch.float64),
}
"""With sums, which are added up in another order."""
STEPS = 5


def run(
    case: Case, place: Place, shapes: Sequence[tuple[int, ...]] = SHAPES, *, is_kept: bool = True
) -> door.Optimizer:
    """Return an optimizer that has stepped, whose tensors are placed by a function; a gradient is NaN once.

    Args:
        case: what it is.
        place: makes a tensor of a whole one.
        shapes: of the parameters.
        is_kept: whether its launch is to serve again.
    """
    params = [nn.Parameter(place(numbers(shape, case.dtype, 50 + i))) for i, shape in enumerate(shapes)]
    optimizer: Any = getattr(door, case.cls)(params, lr=0.01, **case.options)
    for t in range(STEPS):
        give(params, t, place, spoilt=t == 2 and "nonfinite" in case.options)
        optimizer.step()
        assert t == 0 or not is_kept or optimizer._launch is not None, "laid out anew in every step"
    made: door.Optimizer = optimizer
    return made


def give(params: Sequence[Tensor], t: int, place: Place, *, spoilt: bool = False) -> None:
    for i, param in enumerate(params):
        grad = numbers(tuple(param.shape), param.dtype, 1000 * (t + 1) + i)
        if spoilt and i == 1:
            grad[-1] = torch.nan
        param.grad = place(grad)


def everything(optimizer: Any) -> list[dict[str, Tensor]]:
    """Return the whole of each parameter and of its state; all processes must ask."""
    found = []
    for param in optimizer.param_groups[0]["params"]:
        values = {"param": param.detach(), **optimizer.state[param]}
        found.append({key: whole(value).clone() for key, value in values.items()})
    return found


def whole(tensor: Any) -> Tensor:
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found


def counted(step: Callable[[], object]) -> int:
    """Return how many reductions processes make."""
    calls, before = [], torch.distributed.all_reduce

    def all_reduce(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return before(*args, **kwargs)

    torch.distributed.all_reduce = all_reduce
    try:
        step()
    finally:
        torch.distributed.all_reduce = before
    return len(calls)


def monitored(place: Place) -> list[dict[str, Any]]:
    """Return the rows that a monitor writes of some steps."""
    rows: list[dict[str, Any]] = []
    params = [nn.Parameter(place(numbers(shape, torch.float64, 50 + i))) for i, shape in enumerate(SHAPES)]
    optimizer = door.AdamW(params, lr=0.01)
    sr.Monitor(optimizer, every=1, to=rows.append)
    for t in range(2):
        give(params, t, place)
        optimizer.step()
    return rows


def evaluated(place: Place, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[dict[str, Tensor]]:
    """Return what there is in evaluation mode, and after one more step."""
    optimizer: Any = run(EXACT["schedule-free"], place, shapes, is_kept=False)
    optimizer.eval()
    found = everything(optimizer)
    optimizer.train()
    give(optimizer.param_groups[0]["params"], STEPS, place)
    optimizer.step()
    return [*found, *everything(optimizer)]


def forwarded(fully_shard: Callable[[nn.Module], object], place: Place) -> list[Tensor]:
    """Return what a model makes of the evaluated point and of the trained one, each after a forward pass at the other.

    FSDP2 goes on with what it has gathered for a forward pass without a backward, unless it is told to gather anew.
    """
    model = model_of(fully_shard, torch.float32)
    optimizer = door.AdamWScheduleFree(model.parameters(), lr=0.01)
    found = []
    with torch.no_grad():
        for t in range(2):
            give([*model.parameters()], t, place)
            optimizer.step()
        x = numbers((3, 130), torch.float32, 7)
        model(x)
        for switch in (optimizer.eval, optimizer.train):
            switch()
            getattr(model, "reshard", lambda: None)()
            found.append(model(x).clone())
    return found


def loaded(place: Place) -> list[Any]:
    """Return an optimizer, one that has loaded its state dict, and one that has taken it over as float32."""
    kept = run(GATHERED["CAME 8bit"], place, MATRICES, is_kept=False)
    made: list[Any] = []
    options: dict[str, Any]
    for options in (LOW | {"states": "8bit"}, {}):
        params = [nn.Parameter(param.detach().clone()) for param in kept.param_groups[0]["params"]]
        made.append(door.CAME(params, **options))
        made[-1].load_state_dict(kept.state_dict(), convert=not options)
    for own in (kept, *made):
        give(own.param_groups[0]["params"], STEPS, place)
        own.step()
    return [kept, *made]


def model_of(fully_shard: Callable[[nn.Module], object], dtype: torch.dtype = torch.bfloat16) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(130, 67), nn.ReLU(), nn.Linear(67, 5)).to(dtype)
    for layer in (model[0], model[2], model):
        fully_shard(layer)
    return model


def optimizer_of(model: nn.Module) -> door.AdamW:
    return door.AdamW(model.parameters(), lr=0.01, states="8bit", weights="split24", min_elements=300)


def placed(mesh: Any, *placements: Any) -> Place:
    """Return what makes a DTensor of a tensor."""
    from torch.distributed.tensor import distribute_tensor

    return lambda tensor: distribute_tensor(tensor, mesh, list(placements))


def said(call: Callable[[], object], kind: type[Exception]) -> str:
    """Return the words of the error that a call raises."""
    try:
        call()
    except kind as error:
        return str(error)
    return "nothing was raised"


def refusals(mesh: Any, folder: Path) -> dict[str, str]:
    """Return what is said of what cannot be."""
    from torch.distributed.tensor import Replicate, Shard

    place = placed(mesh, Shard(1))
    param = nn.Parameter(place(torch.ones(8, 600)))
    graphed = door.AdamMini([param.clone()], differentiable=True)
    param.grad = graphed.param_groups[0]["params"][0].grad = place(torch.ones(8, 600))
    both = door.AdamW([param], clip_norm=1.0, process_group=torch.distributed.group.WORLD)
    saved, other = (run(EXACT["AdamW"], placed(mesh, way)) for way in (Shard(0), Replicate()))
    return {
        "differentiable": said(graphed.step, StructureError),
        "process_group": said(both.step, StructureError),
        "placements": said(lambda: other.load_state_dict(saved.state_dict()), StateError),
        "save": said(lambda: sr.save(folder / "x", saved), CheckpointError),
    }


def work(rank: int, world: int, folder: Path) -> None:
    """Do all of it in one of ``world`` processes, and save what came of it."""
    from torch.distributed.checkpoint.state_dict import get_state_dict
    from torch.distributed.checkpoint.state_dict_saver import save
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, Shard

    mesh, wide = init_device_mesh("cpu", (world,)), init_device_mesh("cpu", (world, 1))
    rows, columns, found = placed(mesh, Shard(0)), placed(mesh, Shard(1)), dict[str, Any]()
    for name, case in {**EXACT, **SUMMED}.items():
        alive()
        found[name] = everything(run(case, rows))
    for name, case in GATHERED.items():
        alive()
        found[name] = everything(run(case, rows, MATRICES, is_kept=False))
    for name in COLUMNS:
        alive()
        found[f"columns of {name}"] = everything(run(EXACT[name], columns, MATRICES, is_kept=False))
    alive()
    found["forwarded"] = forwarded(fully_shard, rows)
    found["columns, evaluated"] = evaluated(columns, MATRICES)
    found["loaded"] = [everything(one) for one in loaded(columns)]
    alive()
    found["replicas"] = everything(run(SUMMED["clip_norm"], placed(wide, Replicate(), Shard(0))))
    found["columns"] = everything(run(SUMMED["Lamb"], columns, [(5, 7, 3), (4, 2)]))
    for name, case in SUMMED.items():
        optimizer = run(case, rows)
        give(optimizer.param_groups[0]["params"], STEPS, rows)
        found[f"reductions of {name}"] = counted(optimizer.step)
    alive()
    found["monitored"], found["evaluated"] = monitored(rows), evaluated(rows)
    found["refusals"] = refusals(mesh, folder)
    model = model_of(fully_shard)
    trained = optimizer_of(model)
    model(torch.ones(2, 130, dtype=torch.bfloat16)).sum().backward()
    for t in range(3):
        give([*model.parameters()], t, rows)
        trained.step()
    of_model, of_optimizer = get_state_dict(model, trained)
    save({"model": of_model, "optimizer": of_optimizer}, checkpoint_id=folder / "saved")
    torch.save(found, folder / f"{rank}.pt")
