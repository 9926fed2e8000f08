"""What does a step cost where tensors are small: 1,000 of 1,000, and one of 10, through PyTorch?

Those that torch has a fused form of also step right after a backward pass, whose threads still spin, and by one thread.

python -m benchmarks.torch_small [CLASS ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from benchmarks.harness import Timing, report
from benchmarks.torch_large import CLASSES, contestants, headings, measured, row

COUNT, SIZE = 1000, 1000


def _parameters(count: int, size: int) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(size)) for _ in range(count)]
    _give(params, _gradients(params))
    return params


def _gradients(params: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.randn(param.shape) for param in params]


def _give(params: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> None:
    for param, g in zip(params, gradients, strict=True):
        param.grad = g


def _elsewhere(params: Sequence[torch.Tensor], step: Callable[[], object]) -> Callable[[], None]:
    """Return a step whose gradients lie elsewhere each time, as after ``zero_grad`` and a backward pass."""
    gradients, turn = [_gradients(params) for _ in range(2)], 0

    def with_others() -> None:
        nonlocal turn
        turn = 1 - turn
        _give(params, gradients[turn])
        step()

    return with_others


def _steps(name: str, count: int, size: int, moving: bool) -> dict[str, Callable[[], object]]:
    params = _parameters(count, size)
    steps: dict[str, Callable[[], object]] = {
        mode: optimizer.step for mode, optimizer in contestants(name, params).items()
    }
    if moving:
        steps = {mode: _elsewhere(params, step) for mode, step in steps.items()}
        steps["giving the gradients alone"] = _elsewhere(params, lambda: None)
    return steps


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    cases = [
        (f"{COUNT:,} x {SIZE:,}", COUNT, SIZE, False),
        (f"{COUNT:,} x {SIZE:,}, gradients elsewhere each step", COUNT, SIZE, True),
        ("1 x 10", 1, 10, False),
    ]
    for name in sys.argv[1:] or CLASSES:
        for what, count, size, moving in cases:
            for case, found in measured(name, _steps(name, count, size, moving), f", {what}"):
                rows.append(row(case, found, 1e6))
                timings |= {f"{case}, {mode}": timing for mode, timing in found.items()}
    report("One step of small tensors through PyTorch", headings("best us"), rows, timings)


if __name__ == "__main__":
    main()
