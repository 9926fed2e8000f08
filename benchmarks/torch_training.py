"""What does a whole training step of GPTs and of plain layers take: forward, backward, and the step right after?

Right after matters: torch's OpenMP threads still spin for some milliseconds after a backward pass, on the
processors that the step's own threads need; beside it stands a step after a pause, when all are asleep.

python -m benchmarks.torch_training
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import mean

import torch
from examples.train_gpt import GPT, Config

import steprule.torch
from benchmarks.harness import Timing, ratio, report

TURNS, TURN = 15, 0.4
PAUSE = 0.05
LAYERS, WIDTH, ROWS = 12, 768, 64
Model = tuple[torch.nn.Module, Callable[[], torch.Tensor]]
"""A model, and what computes its loss."""


def _gpt(config: Config) -> Model:
    model = GPT(config)
    tokens = torch.randint(config.vocabulary, (config.batch, config.context + 1))
    return model, lambda: model.loss(tokens[:, :-1], tokens[:, 1:])


def _layers() -> Model:
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    rows = torch.randn(ROWS, WIDTH)
    return model, lambda: model(rows).square().mean()


MODELS: dict[str, Callable[[], Model]] = {
    "small GPT": partial(_gpt, Config(vocabulary=97)),
    "wide GPT": partial(_gpt, Config(vocabulary=97, context=64, layers=6, width=512, heads=8, batch=2)),
    f"{LAYERS} layers of {WIDTH} x {WIDTH}, {ROWS} rows": _layers,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "steprule": steprule.torch.AdamW,
    "torch, fused": partial(torch.optim.AdamW, fused=True),
    "torch, default": torch.optim.AdamW,
}
PHASES = ("forward and backward", "step right after", "whole", "step after a pause")
COMPARED = ("step right after", "step after a pause", "whole")


@dataclass
class Contestant:
    """A model with its optimizer, and the seconds a step of each phase, turn by turn."""

    model: Callable[[], Model]
    make: Callable[..., torch.optim.Optimizer]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {phase: [] for phase in PHASES})

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        module, self.loss = self.model()
        self.optimizer = self.make(module.parameters(), lr=1e-4)

    def train(self, pause: float = 0.0) -> tuple[float, float]:
        """Take a training step; return the seconds up to the gradients, and those of the optimizer."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss())
        ready = time.perf_counter()
        if pause:
            time.sleep(pause)
        begin = time.perf_counter()
        self.optimizer.step()
        return ready - start, time.perf_counter() - begin

    def turn(self, steps: int) -> None:
        """Train for some steps on end, then with pauses, and note the mean seconds of each phase."""
        time.sleep(PAUSE)
        self.train()
        gradients, moves = zip(*(self.train() for _ in range(steps)), strict=True)
        paused = [self.train(PAUSE)[1] for _ in range(3)]
        for phase, seconds in zip(PHASES, (gradients, moves, gradients + moves, paused), strict=True):
            self.seconds[phase].append(sum(seconds) / len(seconds) * (2 if phase == "whole" else 1))


def _race(model: Callable[[], Model]) -> dict[str, dict[str, Timing]]:
    """Train with every optimizer, in turns whose order goes round."""
    entrants = {name: Contestant(model, make) for name, make in OPTIMIZERS.items()}
    for entrant in entrants.values():
        entrant.train()
    slowest = mean(map(sum, (entrant.train() for entrant in entrants.values())))
    order = list(entrants.values())
    for _ in range(TURNS):
        for entrant in order:
            entrant.turn(max(3, int(TURN / slowest)))
        order.append(order.pop(0))
    return {
        name: {phase: Timing(phase, seconds) for phase, seconds in entrant.seconds.items()}
        for name, entrant in entrants.items()
    }


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    processors = torch.get_num_threads()
    for threads in sorted({1, processors}, reverse=True):
        torch.set_num_threads(threads)
        for name, model in MODELS.items():
            measured = _race(model)
            for optimizer, phases in measured.items():
                case = f"{name}, {threads} thread{'s' * (threads > 1)}, {optimizer}"
                ours = measured["steprule"]
                times = [f"{ratio(phases[phase], ours[phase]):.3f}" for phase in COMPARED]
                rows.append([case, *(f"{phases[phase].median * 1e3:.2f}" for phase in PHASES), *times])
                timings |= {f"{case}, {phase}": timing for phase, timing in phases.items()}
    torch.set_num_threads(processors)
    headings = ["model, optimizer", *(f"{phase}, ms" for phase in PHASES)]
    headings += [f"{phase}, times steprule's" for phase in COMPARED]
    report("Training steps with AdamW", headings, rows, timings)


if __name__ == "__main__":
    main()
