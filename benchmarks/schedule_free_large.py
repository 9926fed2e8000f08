"""How near is a step of schedule-free AdamW to the streaming limit, and how far from the authors' package?

python -m benchmarks.schedule_free_large

All contestants step the same parameter and slots: four arrays are read, three written. Below: the switch between the
points of training and of evaluation, and what is kept meanwhile.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import steprule as sr
import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report
from benchmarks.streaming import Limit, beside_limit
from steprule.bench.machine import resident_bytes

N = 20_000_000
OPTIONS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01}
TURNS = 9
HEADINGS = ["", "best ms", "median ms", "share of the limit", "times steprule's through PyTorch", "bytes a parameter"]
Step = Callable[[], object]


def _packages(param: torch.nn.Parameter, state: dict[str, torch.Tensor]) -> Iterator[tuple[str, Any]]:
    """Yield the authors' optimizers over these tensors, in both of their modes."""
    try:
        package = importlib.import_module("schedulefree")
    except ImportError as error:
        print(f"schedulefree is left out: {error}")
        return
    for mode, foreach in (("foreach, the default", True), ("for-loop", False)):
        optimizer = package.AdamWScheduleFree([param], foreach=foreach, **OPTIONS)
        optimizer.train()
        optimizer.state[param].update(state)
        yield f"schedulefree, {mode}", optimizer


class Contestants:
    """The optimizers of both libraries over one parameter and its slots.

    In memory of their own they might also differ by where it lies. The authors' divide the gradient in place: they have
    one of their own.
    """

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        theta, self.g = (rng.standard_normal(N, np.float32) for _ in range(2))
        self.numpy = sr.Optimizer(theta, "schedule_free_adamw", **OPTIONS)
        self.numpy.step(self.g)
        slots = self.numpy.slots
        self.arrays = [theta, self.g, slots["z"], slots["v"]]
        state = {"z": torch.from_numpy(slots["z"]), "exp_avg_sq": torch.from_numpy(slots["v"])}
        ours, theirs = (torch.nn.Parameter(torch.from_numpy(theta)) for _ in range(2))
        ours.grad, theirs.grad = torch.from_numpy(self.g), torch.from_numpy(self.g.copy())
        self.torch = steprule.torch.AdamWScheduleFree([ours], **OPTIONS)
        self.torch.step()
        self.torch.state[ours].update(state)
        self.packages = dict(_packages(theirs, state))

    def steps(self) -> dict[str, Step]:
        """Return a step of each."""
        ours = {"steprule, NumPy": lambda: self.numpy.step(self.g), "steprule, PyTorch": self.torch.step}
        return {**ours, **{name: package.step for name, package in self.packages.items()}}


def of_steps(contestants: Contestants) -> tuple[list[list[str]], dict[str, Timing]]:
    """Return the rows of steps, beside the limit, and all timings."""
    written = [True, False, True, True]
    limit, found = beside_limit(contestants.steps(), contestants.arrays, written, turns=TURNS)
    rows = [row(name, timing, found["steprule, PyTorch"], limit) for name, timing in found.items()]
    limits = row(f"limit: {limit.name}", limit.timing, found["steprule, PyTorch"], limit)
    return [limits, *rows], {"limit": limit.timing, **found}


def row(name: str, timing: Timing, ours: Timing, limit: Limit | None = None, kept: str = "") -> list[str]:
    """Return a row: the times, the share of the limit, and how many times ours it takes."""
    share = f"{1 / ratio(timing, limit.timing):.3f}" if limit else ""
    times = f"{ratio(timing, ours):.2f}"
    return [name, f"{timing.best * 1e3:.2f}", f"{timing.median * 1e3:.2f}", share, times, kept]


def of_switches(contestants: Contestants) -> tuple[list[list[str]], dict[str, Timing]]:
    """Return the rows of the switch to the point of evaluation and back, and all timings.

    The switch there and back is timed as one: a mode that is there already would cost nothing.
    """
    every = {"steprule, NumPy": contestants.numpy, "steprule, PyTorch": contestants.torch, **contestants.packages}
    found = measure({name: functools.partial(_there_and_back, own) for name, own in every.items()}, turns=TURNS)
    kept = {name: f"{_grown(own) / N:.2f}" for name, own in every.items()}
    rows = [
        row(f"eval() and train(), {name}", timing, found["steprule, PyTorch"], kept=kept[name])
        for name, timing in found.items()
    ]
    return rows, {f"switch, {name}": timing for name, timing in found.items()}


def _there_and_back(optimizer: Any) -> None:
    optimizer.eval()
    optimizer.train()


def _grown(optimizer: Any) -> int:
    """Return by how many bytes the process grows while an optimizer is in evaluation."""
    before = resident_bytes()
    optimizer.eval()
    grown = resident_bytes() - before
    optimizer.train()
    return grown


def main() -> None:
    contestants = Contestants()
    steps, switches = of_steps(contestants), of_switches(contestants)
    rows = [*steps[0], *switches[0]]
    report(f"Schedule-free AdamW on {N:,} float32", HEADINGS, rows, steps[1] | switches[1])


if __name__ == "__main__":
    main()
