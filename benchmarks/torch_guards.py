"""What guarded steps cost, against clipping before the step as PyTorch does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report
from steprule.doors.torch.guards import Options

CASES = {"20 M in one tensor": [20_000_000], "1,000 x 1,000": [1_000] * 1_000}
GUARDS: dict[str, Options] = {
    "no guard": {},
    "clip_norm": {"clip_norm": 1.0},
    "clip_norm, skip": {"clip_norm": 1.0, "nonfinite": "skip"},
    "clip_norm, skip, update_clip": {"clip_norm": 1.0, "nonfinite": "skip", "update_clip": True},
}


def _params(sizes: Sequence[int]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(0.1 * torch.randn(n, generator=generator)) for n in sizes]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    return params


def _clipped(params: Sequence[torch.nn.Parameter], step: Callable[[], object]) -> Callable[[], None]:
    def both() -> None:
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        step()

    return both


def _time(sizes: Sequence[int]) -> dict[str, Timing]:
    params = _params(sizes)
    contestants: dict[str, Callable[[], object]] = {
        "torch": _clipped(params, torch.optim.AdamW(params, fused=True).step)
    }
    for name, guards in GUARDS.items():
        contestants[name] = steprule.torch.AdamW(_params(sizes), **guards).step
    return measure(contestants)


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for case, sizes in CASES.items():
        found = _time(sizes)
        timings |= {f"{case}, {name}": timing for name, timing in found.items()}
        rows.append([case, "clip_grad_norm_, then torch's fused step", f"{1e3 * found['torch'].median:.2f}", "1.00"])
        for name in GUARDS:
            share = ratio(found[name], found["torch"])
            rows.append([case, name, f"{1e3 * found[name].median:.2f}", f"{share:.2f}"])
    headings = ["parameters", "AdamW with", "ms", "share of torch's time"]
    report("What do guarded steps cost?", headings, rows, timings)


if __name__ == "__main__":
    main()
