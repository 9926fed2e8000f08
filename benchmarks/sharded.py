"""What does a step over DTensors cost: two processes, FSDP2, a GPT of some 20 M parameters, and a thousand small ones?

Each process has one thread. Plain tensors are the same parts without their wrapping.

python -m benchmarks.sharded
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

import steprule.torch as door
from benchmarks.harness import Timing, ratio, report

RANKS, TURNS, CALLS = 2, 15, 3
WIDTH, LAYERS = 512, 6
SMALL, SIZE = 1000, 32
Optimizers = dict[str, Callable[[Sequence[Tensor]], torch.optim.Optimizer]]
LARGE: Optimizers = {
    "steprule": lambda params: door.AdamW(params, lr=1e-6),
    "steprule, 8bit and split24": lambda params: door.AdamW(params, lr=1e-6, states="8bit", weights="split24"),
    "torch, fused": lambda params: torch.optim.AdamW(params, lr=1e-6, fused=True),
    "torch, foreach": lambda params: torch.optim.AdamW(params, lr=1e-6, foreach=True),
}


def _model(dtype: torch.dtype) -> nn.Module:
    """Return layers with the matrices of a GPT, each sharded by itself, with gradients."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_tensor

    torch.manual_seed(0)
    shapes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    layers = [nn.Sequential(*(nn.Linear(*shape) for shape in shapes)) for _ in range(LAYERS)]
    model = nn.Sequential(*layers).to(dtype)
    for layer in (*layers, model):
        fully_shard(layer)
    for param in model.parameters():
        param.grad = distribute_tensor(torch.randn(param.shape, dtype=dtype), param.device_mesh, param.placements)  # type: ignore[attr-defined]
    return model


def _plain(params: Sequence[Any]) -> list[Tensor]:
    """Return the parts that are here as plain tensors."""
    found = []
    for param in params:
        found.append(param.to_local().detach().clone())
        found[-1].grad = param.grad.to_local().clone()
    return found


def _contestants() -> dict[str, dict[str, Callable[[], object]]]:
    """Return the steps of each case."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    large = [*_model(torch.float32).parameters()]
    narrow = [*_model(torch.bfloat16).parameters()]
    steps: dict[str, Callable[[], object]] = {}
    for name, make in LARGE.items():
        steps[name] = make(narrow if "split24" in name else large).step
    steps["steprule, plain tensors"] = door.AdamW(_plain(large), lr=1e-6).step
    mesh = init_device_mesh("cpu", (RANKS,))
    small: list[Any] = []
    for _ in range(SMALL):
        small.append(nn.Parameter(distribute_tensor(torch.randn(SIZE, SIZE), mesh, [Shard(0)])))
        small[-1].grad = distribute_tensor(torch.randn(SIZE, SIZE), mesh, [Shard(0)])
    of_small: dict[str, Callable[[], object]] = {
        "steprule": door.AdamW(small, lr=1e-6).step,
        "steprule, plain tensors": door.AdamW(_plain(small), lr=1e-6).step,
        "torch, foreach": torch.optim.AdamW(small, lr=1e-6, foreach=True).step,
    }
    elements = sum(param.numel() for param in large)
    return {f"{elements / 1e6:.0f} M in {len(large)} tensors": steps, f"{SMALL:,} of {SIZE} x {SIZE}": of_small}


def _time(step: Callable[[], object]) -> float:
    """Return the seconds of a step that all processes take at once."""
    torch.distributed.barrier()
    start = time.perf_counter()
    for _ in range(CALLS):
        step()
    return (time.perf_counter() - start) / CALLS


def _measure(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    found: dict[str, dict[str, list[float]]] = {}
    for case, steps in _contestants().items():
        for step in steps.values():
            step()
            step()
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(TURNS):
            for name, step in steps.items():
                seconds[name].append(_time(step))
        found[case] = seconds
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def main() -> None:
    """Start the processes, and tell what the first of them measured."""
    with TemporaryDirectory() as folder:
        spawn(_measure, (folder,), nprocs=RANKS)
        found = torch.load(Path(folder) / "found.pt")
    rows, timings = [], {}
    for case, seconds in found.items():
        own = {name: Timing(name, values) for name, values in seconds.items()}
        for name, timing in own.items():
            times = f"{ratio(timing, own['steprule']):.2f}"
            rows.append([f"{case}, {name}", f"{timing.best * 1e3:.2f}", f"{timing.median * 1e3:.2f}", times])
            timings[f"{case}, {name}"] = timing
    headings = ["AdamW, two processes", "best ms", "median ms", "times steprule's"]
    report("One step of DTensors, FSDP2 on two processes", headings, rows, timings)


if __name__ == "__main__":
    main()
