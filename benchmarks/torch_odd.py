"""What does one odd tensor cost among 1,000 of 1,000 through PyTorch, and what a sparse gradient alone?

python -m benchmarks.torch_odd [KIND ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

import steprule.torch as door
from benchmarks.harness import Timing, measure, report
from benchmarks.torch_large import headings, row

COUNT, AT = 1000, 500
SHAPE = (25, 40)
MODES = ("steprule", "fused", "default")
ROWS, TOUCHED, WIDTH = 10_000, 512, 32

Kind = Callable[[torch.nn.Parameter, int], torch.Tensor | None]
KINDS: dict[str, Kind] = {
    "none odd": lambda param, t: torch.randn(SHAPE),
    "transposed gradient": lambda param, t: torch.randn(SHAPE[::-1]).t(),
    "expanded gradient": lambda param, t: torch.randn(SHAPE[0], 1).expand(SHAPE),
    "strided parameter": lambda param, t: torch.randn(SHAPE),
    "gradient absent every other step": lambda param, t: torch.randn(SHAPE) if t % 2 else None,
}
CLASSES: dict[str, dict[str, Any]] = {"AdamW": {"lr": 1e-3}, "SGD": {"lr": 1e-3, "momentum": 0.9}}
SPARSE: dict[str, dict[str, Any]] = {"SGD": {"lr": 0.1}, "Adagrad": {"lr": 0.1}, "SparseAdam": {"lr": 0.1}}


def _parameters(kind: str) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    tensors = [torch.randn(SHAPE) for _ in range(COUNT)]
    if kind == "strided parameter":
        tensors[AT] = torch.randn(SHAPE[0], 2 * SHAPE[1])[:, ::2]
    params = [torch.nn.Parameter(tensor) for tensor in tensors]
    for param in params:
        param.grad = torch.randn(SHAPE)
    return params


def _stepper(name: str, mode: str, kind: str) -> Callable[[], object]:
    """Return a step of parameters of its own, with what makes one of them odd."""
    params, options = _parameters(kind), CLASSES[name]
    ours = mode == "steprule"
    optimizer = getattr(door, name)(params, **options) if ours else _torch(name, params, mode)
    gradients = [KINDS[kind](params[AT], t) for t in range(2)]
    turn = 0

    def step() -> None:
        nonlocal turn
        turn = 1 - turn
        params[AT].grad = gradients[turn]
        optimizer.step()

    return step


def _torch(name: str, params: list[torch.nn.Parameter], mode: str) -> torch.optim.Optimizer:
    fused = {"fused": True} if mode == "fused" else {}
    optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(params, **CLASSES[name], **fused)
    return optimizer


def _anew(name: str) -> Callable[[], object]:
    """Return a step that is laid out anew each time."""
    params = _parameters("none odd")
    optimizer = getattr(door, name)(params, **CLASSES[name])

    def step() -> None:
        optimizer._launch = None
        optimizer.step()

    return step


def _sparse(name: str, is_coalesced: bool) -> dict[str, Timing]:
    torch.manual_seed(0)
    indices = torch.randperm(ROWS)[:TOUCHED][None]
    grad = torch.sparse_coo_tensor(indices, torch.randn(TOUCHED, WIDTH), (ROWS, WIDTH))
    steps: dict[str, Callable[[], object]] = {}
    for mode, module in (("steprule", door), ("default", torch.optim)):
        param = torch.nn.Parameter(torch.randn(ROWS, WIDTH))
        param.grad = grad.coalesce() if is_coalesced else grad
        steps[mode] = getattr(module, name)([param], **SPARSE[name]).step
    return measure(steps, turns=15)


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}

    def add(what: str, measured: dict[str, Timing]) -> None:
        rows.append(row(what, measured, 1e6))
        timings.update({f"{what}, {mode}": timing for mode, timing in measured.items()})

    for kind in sys.argv[1:] or KINDS:
        for name in CLASSES:
            add(f"{name}, {kind}", measure({mode: _stepper(name, mode, kind) for mode in MODES}, turns=15))
    if not sys.argv[1:]:
        for name in CLASSES:
            others = {mode: _stepper(name, mode, "none odd") for mode in MODES[1:]}
            add(f"{name}, laid out anew each step", measure({"steprule": _anew(name), **others}, turns=15))
        for name in SPARSE:
            for is_coalesced in (True, False):
                what = "coalesced" if is_coalesced else "as a backward leaves them"
                add(f"{name}, {TOUCHED} sparse rows of {WIDTH}, {what}", _sparse(name, is_coalesced))
    report("One odd tensor among others through PyTorch", headings("best us"), rows, timings)


if __name__ == "__main__":
    main()
