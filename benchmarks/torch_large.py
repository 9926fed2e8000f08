"""How long is one step of 20 million float32 through PyTorch, beside torch.optim's own optimizers?

Those that torch has a fused form of also step right after a backward pass, whose threads still spin, and by one thread.

python -m benchmarks.torch_large [CLASS ...]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report

N = 20_000_000
CLASSES = ("Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam")
FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
"""Those of which torch has a fused form for the CPU."""
MODES = ("fused", "default", "foreach")
OPTIONS = {"SGD": {"lr": 1e-3, "momentum": 0.9}}
TURNS = 15


@dataclass(frozen=True)
class Condition:
    """When a step is timed, and by how many threads.

    Attributes:
        words: how a row says it.
        before: what comes right before each step.
        threads: of torch and of steprule; None: as many as there are.
    """

    words: str
    before: Callable[[], object] | None = None
    threads: int | None = None

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        """Let torch, and steprule with it, use so many threads."""
        usual = torch.get_num_threads()
        torch.set_num_threads(self.threads or usual)
        try:
            yield
        finally:
            torch.set_num_threads(usual)


def _backward() -> Callable[[], object]:
    """Return a short backward pass that all threads take part in, of a layer that no optimizer here steps."""
    layer, x = torch.nn.Linear(768, 768), torch.randn(64, 768)
    return lambda: layer(x).square().mean().backward()


CONDITIONS = (
    Condition(", right after a backward", _backward()),
    Condition(", 1 thread", threads=1),
    Condition(", 1 thread, right after a backward", _backward(), 1),
)
"""Beside the usual one: steps on end, by all threads."""


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


def measured(
    name: str, steps: Mapping[str, Callable[[], object]], case: str = ""
) -> Iterator[tuple[str, dict[str, Timing]]]:
    """Time steps on end, and those of us and of torch's fused form under other conditions; yield them by row."""
    yield name + case, measure(steps, turns=TURNS)
    if name not in FUSED:
        return
    for condition in CONDITIONS:
        with condition.set():
            both = {mode: step for mode, step in steps.items() if mode not in ("default", "foreach")}
            yield name + case + condition.words, measure(both, turns=TURNS, before=condition.before)


def _steps(name: str) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    param = torch.nn.Parameter(torch.randn(N))
    param.grad = torch.randn(N)
    return {mode: optimizer.step for mode, optimizer in contestants(name, [param]).items()}


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for name in sys.argv[1:] or CLASSES:
        for case, found in measured(name, _steps(name)):
            rows.append(row(case, found, 1e3))
            timings |= {f"{case}, {mode}": timing for mode, timing in found.items()}
    report(f"One step of {N:,} float32 through PyTorch", headings("best ms"), rows, timings)


if __name__ == "__main__":
    main()
