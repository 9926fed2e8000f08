"""Do 1,100 steps with zero gradients change the time of a step through PyTorch?

Moments decay into subnormal numbers in torch's optimizers, on which processors compute slowly.

python -m benchmarks.torch_zero_gradients
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report

N = 5_000_000
STEPS = 1_100
ADAM: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "steprule": steprule.torch.Adam,
    "torch, fused": partial(torch.optim.Adam, fused=True),
}


def _optimizer(mode: str) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    param = torch.nn.Parameter(torch.randn(N))
    param.grad = torch.randn(N)
    optimizer = ADAM[mode]([param])
    optimizer.step()
    return param, optimizer


def main() -> None:
    torch.manual_seed(0)
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for mode in ADAM:
        _, fresh = _optimizer(mode)
        param, dead = _optimizer(mode)
        param.grad = torch.zeros(N)
        for _ in range(STEPS):
            dead.step()
        measured = measure({f"{mode}, before": fresh.step, f"{mode}, after": dead.step})
        timings |= measured
        before, after = measured.values()
        rows.append([mode, f"{before.best * 1e3:.2f}", f"{after.best * 1e3:.2f}", f"{ratio(after, before):.2f}"])
    headings = ["Adam", "random gradients, ms", f"after {STEPS:,} zero ones, ms", "after / before"]
    report(f"Steps of {N:,} float32 through PyTorch whose gradients stay zero", headings, rows, timings)


if __name__ == "__main__":
    main()
