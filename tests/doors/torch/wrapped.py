"""What two processes do with torch's own wrappers: replicas, optimizers in parts, and FSDP1's flat parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import steprule.torch as door
from steprule.errors import StructureError
from tests.doors.torch.processes import alive
from tests.doors.torch.sharded import said
from tests.doors.torch.tensors import numbers

STEPS = 4
FORMATS: dict[str, dict[str, Any]] = {
    "8bit": {"states": "8bit", "min_elements": 0},
    "bfloat16": {"states": {"v": "bfloat16"}, "min_elements": 0},
    "split24": {"weights": "split24"},
}
"""What FSDP1 cannot save."""
Kind = Callable[..., torch.optim.Optimizer]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 31), nn.Tanh(), nn.Linear(31, 5))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = STEPS) -> None:
    """Take steps, for which all processes have the same batches: halves of equal gradients add up to them exactly."""
    for t in range(first, last):
        optimizer.zero_grad()
        model(numbers((7, 13), torch.float32, t)).square().sum().backward()
        optimizer.step()


def alone(kind: Kind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the parameters of one process, and the state of its optimizer."""
    own = model()
    optimizer = kind(own.parameters(), lr=0.01)
    train(own, optimizer)
    return own.state_dict(), optimizer.state_dict()


def replicas(kind: Kind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    own = model()
    wrapped = nn.parallel.DistributedDataParallel(own)
    optimizer = kind(wrapped.parameters(), lr=0.01)
    train(wrapped, optimizer)
    return own.state_dict(), optimizer.state_dict()


def zero(kind: Kind) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the same where each process keeps the states of its share of the parameters."""
    with warnings.catch_warnings(action="ignore"):  # it compiles a script, which torch is to do without
        from torch.distributed.optim import ZeroRedundancyOptimizer
    own = model()
    wrapped = nn.parallel.DistributedDataParallel(own)
    optimizer = ZeroRedundancyOptimizer(wrapped.parameters(), optimizer_class=kind, lr=0.01)  # type: ignore[arg-type]
    train(wrapped, optimizer)
    optimizer.consolidate_state_dict()
    state = optimizer.state_dict() if torch.distributed.get_rank() == 0 else {}
    return own.state_dict(), state


def flat(kind: Kind, *, use_orig_params: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the same of FSDP1; its states have names. From the middle on by a new optimizer, which loads them.

    Not so that of original parameters: on the CPU torch 2.13 saves the second moment as the first, of its own
    optimizers as well.
    """
    from torch.distributed.fsdp import FullyShardedDataParallel

    wrapped = _flat(model(), use_orig_params=use_orig_params)
    first, second = (kind(wrapped.parameters(), lr=lr) for lr in (0.01, 1.0))
    train(wrapped, first, last=STEPS // 2)
    found = FullyShardedDataParallel.optim_state_dict(wrapped, first)
    if use_orig_params:
        second = first
    else:
        second.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(wrapped, second, found))
    train(wrapped, second, first=STEPS // 2)
    with FullyShardedDataParallel.summon_full_params(wrapped):
        params = {name: value.clone() for name, value in wrapped.module.state_dict().items()}
    return params, FullyShardedDataParallel.optim_state_dict(wrapped, second)


def _flat(own: nn.Module, *, use_orig_params: bool) -> Any:
    from torch.distributed.fsdp import FullyShardedDataParallel

    here = torch.device("cpu")
    return FullyShardedDataParallel(own, use_orig_params=use_orig_params, device_id=here)


def refusals() -> list[str]:
    """Return what is said of formats on FSDP1's parts."""
    found = []
    for options in FORMATS.values():
        for use_orig_params in (False, True):
            wrapped = _flat(model().bfloat16(), use_orig_params=use_orig_params)
            found.append(said(lambda: door.AdamW(wrapped.parameters(), **options), StructureError))  # noqa: B023
    return found


WRAPPERS: dict[str, Callable[[Kind], tuple[dict[str, Tensor], dict[str, Any]]]] = {
    "DDP": replicas,
    "ZeRO": zero,
    "FSDP1": lambda kind: flat(kind, use_orig_params=False),
    "FSDP1, original parameters": lambda kind: flat(kind, use_orig_params=True),
}


def works(rank: int, world: int, folder: Path) -> None:
    """Train with each wrapper, by our optimizer and by torch's, and save what came of it."""
    found: dict[str, Any] = {"alone": alone(door.AdamW)}
    for name, wrapper in WRAPPERS.items():
        alive()
        found[name] = {"ours": wrapper(door.AdamW), "torch": wrapper(torch.optim.AdamW)}
    found["refusals"] = refusals()
    torch.save(found, folder / f"{rank}.pt")
