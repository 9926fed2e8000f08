"""How far are healthy runs, and runs made ill on purpose, from the thresholds of `Monitor.diagnose`?

A score of 1 is a diagnosis. Shown is the highest score of each illness at any reading of a run: of a healthy run all
must stay below 1, of an ill one its own must not.

python -m benchmarks.monitor_runs  # writes the table of docs/monitor.md
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from examples.train_gpt import GPT, Config, standard_library
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

import steprule as sr
import steprule.torch
from steprule.monitor.illnesses import ILLNESSES
from steprule.monitor.judge import groups, look_back, overall, scores
from steprule.race.data import digits
from steprule.race.network import init_network, loss_and_grad
from steprule.report.table import markdown_table

PAGE = Path(__file__).parent.parent / "docs" / "monitor.md"
NAMES = tuple(illness.name for illness in ILLNESSES)


@dataclass
class Training:
    """What is trained: the optimizer, and one step of number t that returns the loss."""

    optimizer: Any
    step: Callable[[int], float]


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: what it is.
        start: makes it.
        illness: what it is made to have; empty: it is healthy.
        also: what else follows from that, and may be found as well.
    """

    name: str
    start: Callable[[], Training]
    illness: str = ""
    also: tuple[str, ...] = ()
    steps: int = 300
    every: int = 10


@dataclass
class Outcome:
    """What the monitor said of a run.

    Attributes:
        highest: the highest score of each illness, over all readings.
        found: the illnesses found, each with the first step at which it was.
        last: the diagnoses at the end.
    """

    highest: dict[str, float]
    found: dict[str, int]
    last: Sequence[sr.monitor.Diagnosis]
    loss: float
    monitor: sr.Monitor = field(repr=False)


def watch(run: Run) -> Outcome:
    """Train, and look at every reading."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny networks: a second thread costs more than it brings
    try:
        training = run.start()
        monitor = sr.Monitor(training.optimizer, run.every)
        highest, found, loss = dict.fromkeys(NAMES, 0.0), dict[str, int](), math.nan
        for t in range(1, run.steps + 1):
            is_due = monitor.is_due()
            loss = training.step(t)
            if is_due:
                _look(monitor, highest)
                for diagnosis in monitor.diagnose():
                    found.setdefault(diagnosis.illness, t)
        return Outcome(highest, found, monitor.diagnose(), loss, monitor)
    finally:
        torch.set_num_threads(before)


def _look(monitor: sr.Monitor, highest: dict[str, float]) -> None:
    seen = look_back(monitor._window, monitor._peaks, False)
    for illness in ILLNESSES:
        for group in groups(illness, seen):
            highest[illness.name] = max(highest[illness.name], overall(illness, scores(illness, group)))


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    data = digits()
    return torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)


def network(*, norm: bool = False, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return a network of two hidden layers for the digits."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((64, 128), (128, 64)):
        layers += [nn.Linear(inputs, outputs), *([nn.LayerNorm(outputs)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10)).to(dtype)


def _trained(net: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, param) for name, param in net.named_parameters() if param.requires_grad]


Change = Callable[[int, Tensor], Tensor]


def on_digits(
    kind: str,
    batch: int | None = 64,
    *,
    model: Callable[[], nn.Sequential] = network,
    schedule: Callable[[Any], Any] | None = None,
    inputs: Change = lambda t, x: x,
    loss: Change = lambda t, value: value,
    **options: Any,
) -> Callable[[], Training]:
    """Return what starts the training of a network on the digits, in batches of a size, or on all at once."""

    def start() -> Training:
        net = model()
        optimizer = getattr(steprule.torch, kind)(_trained(net), **options)
        scheduler = schedule(optimizer) if schedule else None
        generator = torch.Generator().manual_seed(1)
        x, y = _digits()
        dtype = next(net.parameters()).dtype

        def step(t: int) -> float:
            picked = torch.randint(len(x), (batch,), generator=generator) if batch else slice(None)
            value = functional.cross_entropy(net(inputs(t, x[picked].to(dtype))).float(), y[picked])
            optimizer.zero_grad()
            loss(t, value).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            return value.item()

        return Training(optimizer, step)

    return start


def on_words(kind: str, *, sparse: bool = False, **options: Any) -> Callable[[], Training]:
    """Return what starts the training of an embedding of 2,000 words, of which few are frequent (Zipf's law)."""

    def start() -> Training:
        torch.manual_seed(0)
        embedding = nn.EmbeddingBag(2000, 32, sparse=sparse)
        head = torch.randn(32, 5)
        optimizer = getattr(steprule.torch, kind)(embedding.named_parameters(), **options)
        generator = torch.Generator().manual_seed(1)
        weights = 1.0 / torch.arange(1, 2001)
        classes = torch.randint(5, (2000,), generator=generator)

        def step(t: int) -> float:
            words = torch.multinomial(weights, 64 * 8, replacement=True, generator=generator).view(64, 8)
            value = functional.cross_entropy(embedding(words) @ head, classes[words[:, 0]])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return value.item()

        return Training(optimizer, step)

    return start


def on_letters(**options: Any) -> Callable[[], Training]:
    """Return what starts the training of a small GPT."""

    def start() -> Training:
        torch.manual_seed(0)
        config = Config(context=32, layers=2, width=64)
        net, letters = GPT(config), standard_library()
        optimizer = steprule.torch.AdamW(net.named_parameters(), **options)
        warmup = LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / 50))
        generator = torch.Generator().manual_seed(1)

        def step(t: int) -> float:
            starts = torch.randint(len(letters) - config.context - 1, (8,), generator=generator)
            places = starts[:, None] + torch.arange(config.context)
            value = net.loss(letters[places], letters[places + 1])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            warmup.step()
            return value.item()

        return Training(optimizer, step)

    return start


def in_numpy(rule: str, hidden: Sequence[int] = (), batch: int | None = None, **options: Any) -> Callable[[], Training]:
    """Return what starts the training of a NumPy network on the digits."""

    def start() -> Training:
        data = digits()
        params = init_network(np.random.default_rng(0), (64, *hidden, 10))
        optimizer = sr.Optimizer(params, rule, **options)
        rng = np.random.default_rng(1)

        def step(t: int) -> float:
            picked = rng.integers(len(data.train_x), size=batch) if batch else slice(None)
            value, grads = loss_and_grad(params, data.train_x[picked], data.train_y[picked], l2=1e-4)
            optimizer.step(grads)
            return value

        return Training(optimizer, step)

    return start


def _half_dead() -> nn.Sequential:
    """Return a network most of whose first units never fire."""
    net = network()
    with torch.no_grad():
        next(net.children()).get_parameter("bias")[:110] = -20.0
    return net


class _Adapter(nn.Module):
    """A layer that stays as it is, with a low-rank product beside it that starts at zero."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, layer.in_features) / 8)
        self.up = nn.Parameter(torch.zeros(layer.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output with what is learnt added."""
        out: Tensor = self.layer(x) + x @ self.down.T @ self.up.T
        return out


def _adapted() -> nn.Sequential:
    """Return a network of which only adapters are trained."""
    layers = [_Adapter(layer) if isinstance(layer, nn.Linear) else layer for layer in network()]
    return nn.Sequential(*layers)


def _warmup_cosine(optimizer: Any) -> LambdaLR:
    return LambdaLR(optimizer, lambda t: min(t / 50, 0.5 + 0.5 * math.cos(math.pi * t / 300)))


_bf16 = functools.partial(network, dtype=torch.bfloat16)
_normed = functools.partial(network, norm=True)
HEALTHY = (
    Run("Adam", on_digits("Adam")),
    Run("Adam, reading every 50", on_digits("Adam"), steps=500, every=50),
    Run("Adam, all at once", on_digits("Adam", None), steps=500, every=20),
    Run("Adam, lr=0.01", on_digits("Adam", lr=0.01)),
    Run("Adam, beta2=0.95", on_digits("Adam", lr=3e-3, betas=(0.9, 0.95)), steps=500),
    Run("Adam, amsgrad, batches of 16", on_digits("Adam", 16, amsgrad=True)),
    Run("Adam, LayerNorm", on_digits("Adam", model=_normed)),
    Run("AdamW, lr=0.003", on_digits("AdamW", lr=3e-3), steps=500),
    Run("AdamW, cosine", on_digits("AdamW", None, lr=3e-3, schedule=lambda o: CosineAnnealingLR(o, 300))),
    Run("AdamW, warm-up, cosine", on_digits("AdamW", lr=3e-3, schedule=_warmup_cosine), steps=300),
    Run("AdamW, 8-bit states", on_digits("AdamW", states="8bit", min_elements=0)),
    Run("AdamW, bfloat16 split24", on_digits("AdamW", model=_bf16, weights="split24")),
    Run("AdamW, bfloat16 stochastic", on_digits("AdamW", model=_bf16, weights="stochastic")),
    Run("NAdam", on_digits("NAdam")),
    Run("Yogi", on_digits("Yogi")),
    Run("SGD, lr=0.3", on_digits("SGD", lr=0.3)),
    Run("SGD, momentum", on_digits("SGD", lr=0.1, momentum=0.9)),
    Run("SGD, momentum, all at once", on_digits("SGD", None, lr=0.1, momentum=0.9), steps=500, every=20),
    Run("Lion", on_digits("Lion", lr=3e-4)),
    Run("ADOPT, clipped", on_digits("ADOPT", clip=True)),
    Run("AdEMAMix", on_digits("AdEMAMix")),
    Run("AdaBelief", on_digits("AdaBelief")),
    Run("RMSprop", on_digits("RMSprop", lr=1e-3), steps=500),
    Run("Adagrad", on_digits("Adagrad"), steps=500),
    Run("Adadelta", on_digits("Adadelta")),
    Run("embedding, Adam", on_words("Adam", lr=1e-2)),
    Run("embedding, SparseAdam", on_words("SparseAdam", lr=1e-2, sparse=True)),
    Run("embedding, Adagrad, sparse", on_words("Adagrad", lr=0.1, sparse=True)),
    Run("GPT, AdamW", on_letters(lr=1e-3), steps=150),
    Run("low-rank adapters", on_digits("AdamW", model=_adapted, lr=1e-3)),
    Run("NumPy, logistic, Adam", in_numpy("adam", lr=1e-2)),
    Run("NumPy, momentum", in_numpy("momentum", (64,), 64, lr=0.05)),
)
ILL = (
    Run("an infinite loss", on_digits("Adam", loss=lambda t, x: x * math.inf if t == 200 else x), NAMES[0]),
    Run("Adam, lr=0.1", on_digits("Adam", lr=0.1), "learning rate too high", ("dead parameters",)),
    Run("AdamW, lr=1", on_digits("AdamW", None, lr=1.0), "learning rate too high", ("dead parameters",)),
    Run("LayerNorm, lr=0.3", on_digits("Adam", model=_normed, lr=0.3), "learning rate too high", ("dead parameters",)),
    Run("NumPy, SGD, lr=100", in_numpy("sgd", lr=100.0), "learning rate too high"),
    Run("Adam, lr=1e-6", on_digits("Adam", lr=1e-6), "learning rate too low"),
    Run("Adam, lr=1e-6, all at once", on_digits("Adam", None, lr=1e-6), "learning rate too low"),
    Run("Adam, eps=0.01", on_digits("Adam", eps=0.01), "epsilon too large"),
    Run("a loss of 1e-7", on_digits("Adam", loss=lambda t, x: x * 1e-7), "epsilon too large"),
    Run("bfloat16, lr=1e-4", on_digits("AdamW", model=_bf16, lr=1e-4), "weights frozen by rounding"),
    Run("bfloat16, SGD", on_digits("SGD", model=_bf16, lr=1e-2), "weights frozen by rounding"),
    Run("dead units", on_digits("Adam", model=_half_dead), "dead parameters"),
    Run("dead units, SGD", on_digits("SGD", model=_half_dead, lr=10.0), "dead parameters", ("learning rate too high",)),
    Run("gradients grow by 10%", on_digits("Adam", loss=lambda t, x: x * 1.1**t), "v still warming up"),
    Run(
        "inputs grow tenfold",
        on_digits("Adam", inputs=lambda t, x: x * (10.0 if t > 1000 else 1.0)),
        "loss spikes ahead",
        steps=1100,
        every=20,
    ),
    Run(
        "8 bits, a loss of 1e-16",
        on_digits("AdamW", states="8bit", min_elements=0, loss=lambda t, x: x * 1e-16),
        "slot precision too low",
        ("epsilon too large", "learning rate too low"),
    ),
)


def table(outcomes: Mapping[Run, Outcome]) -> str:
    """Return the table of the page."""
    short = ("not finite", "too high", "too low", "epsilon", "frozen", "dead", "warming", "spikes", "bits")
    lines = []
    for run, outcome in outcomes.items():
        cells = [_cell(name, outcome.highest[name], run) for name in NAMES]
        found = ", ".join(f"{name} ({t})" for name, t in outcome.found.items()) or "–"
        lines.append([run.name, *cells, found])
    return markdown_table(["run", *short, "found"], lines)


def _cell(name: str, score: float, run: Run) -> str:
    text = "> 99" if score > 99 else "0" if score < 0.001 else f"{score:.2g}"
    return f"**{text}**" if name == run.illness else text


def main() -> None:
    only = sys.argv[1:]
    outcomes = {run: watch(run) for run in (*HEALTHY, *ILL) if not only or run.name in only}
    for run, outcome in outcomes.items():
        wrong = set(outcome.found) - {run.illness, *run.also} or ({run.illness} - {""}) - set(outcome.found)
        print(f"{'WRONG ' if wrong else ''}{run.name}: loss {outcome.loss:.3g}")
        print(sr.monitor.Diagnoses(outcome.last))
    text = table(outcomes)
    print(text)
    if not only:
        before, rest = PAGE.read_text().split("<!-- runs -->")
        _, after = rest.split("<!-- /runs -->")
        PAGE.write_text(f"{before}<!-- runs -->\n{text}\n<!-- /runs -->{after}")


if __name__ == "__main__":
    main()
