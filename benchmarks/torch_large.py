"""How long is one step of 20 million float32 through PyTorch, beside torch.optim's own optimizers?

python -m benchmarks.torch_large [CLASS ...]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import torch

import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report

N = 20_000_000
CLASSES = ("Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam")
FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
"""Those of which torch has a fused form for the CPU."""
MODES = ("fused", "default", "foreach")
OPTIONS = {"SGD": {"lr": 1e-3, "momentum": 0.9}}


def contestants(name: str, params: Sequence[torch.Tensor]) -> dict[str, torch.optim.Optimizer]:
    """Return the class of steprule and torch's in every mode, over the same parameters and the same slots.

    In memory of their own they might also differ by where it lies.
    """
    options = OPTIONS.get(name, {})
    theirs = getattr(torch.optim, name)
    found: dict[str, torch.optim.Optimizer] = {"steprule": getattr(steprule.torch, name)(params, **options)}
    if name in FUSED:
        found["fused"] = theirs(params, fused=True, **options)
    found["default"] = theirs(params, **options)
    found["foreach"] = theirs(params, foreach=True, **options)
    for optimizer in found.values():
        optimizer.step()
        for param in params:
            own, shared = optimizer.state[param], found["steprule"].state[param]
            own.update({key: slot for key, slot in shared.items() if slot.numel() > 1})
    return found


def row(name: str, timings: Mapping[str, Timing], unit: float) -> list[str]:
    """Return a row: the best time of each mode, and how many times faster steprule is than it."""
    ours = timings["steprule"]
    best = [f"{timings[mode].best * unit:.2f}" if mode in timings else "" for mode in ("steprule", *MODES)]
    return [name, *best, *(f"{ratio(timings[mode], ours):.2f}" if mode in timings else "" for mode in MODES)]


def headings(unit: str) -> list[str]:
    modes = ("steprule", *MODES)
    return ["", *(f"{mode}, {unit}" for mode in modes), *(f"times faster than {mode}" for mode in MODES)]


def _one(name: str) -> dict[str, Timing]:
    torch.manual_seed(0)
    param = torch.nn.Parameter(torch.randn(N))
    param.grad = torch.randn(N)
    return measure({mode: optimizer.step for mode, optimizer in contestants(name, [param]).items()}, turns=11)


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for name in sys.argv[1:] or CLASSES:
        measured = _one(name)
        rows.append(row(name, measured, 1e3))
        timings |= {f"{name} {mode}": timing for mode, timing in measured.items()}
    report(f"One step of {N:,} float32 through PyTorch", headings("best ms"), rows, timings)


if __name__ == "__main__":
    main()
