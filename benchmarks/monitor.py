"""What does looking inside cost: a step that is read beside one that is not, and training with a monitor?

python -m benchmarks.monitor
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from examples.train_gpt import GPT, Config, standard_library
from torch import nn

import steprule as sr
import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report

EVERY = 50
HEADINGS = ["", "not read, ms", "read, ms", "read / not read", f"training step, ms (every={EVERY})", "added to it"]


def _steps(params: list[nn.Parameter], before: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """Return a step that is not read, one that is, and what comes before a step in training, with the step."""
    optimizer = steprule.torch.AdamW(params, lr=1e-6)
    monitor = sr.Monitor(optimizer, every=1)

    def read() -> None:
        optimizer._monitor = monitor
        optimizer.step()

    def not_read() -> None:
        optimizer._monitor = None
        optimizer.step()

    def train() -> None:
        before()
        not_read()

    return {"not read": not_read, "read": read, "training": train}


def _random(count: int, size: int) -> list[nn.Parameter]:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(size)) for _ in range(count)]
    for param in params:
        param.grad = torch.randn(size)
    return params


def _backward(params: list[nn.Parameter]) -> Callable[[], object]:
    """Return the cheapest backward pass there is: one product with each parameter."""
    factors = [torch.randn_like(param) for param in params]
    return lambda: torch.stack([p.dot(x) for p, x in zip(params, factors, strict=True)]).sum().backward()


def _gpt() -> tuple[list[nn.Parameter], Callable[[], object]]:
    torch.manual_seed(0)
    config = Config()
    net, letters = GPT(config), standard_library()
    places = torch.randint(len(letters) - 100, (config.batch,))[:, None] + torch.arange(config.context)

    def forward_backward() -> None:
        net.zero_grad()
        net.loss(letters[places], letters[places + 1]).backward()

    forward_backward()
    return list(net.parameters()), forward_backward


def _row(name: str, timings: Mapping[str, Timing]) -> list[str]:
    plain, read, training = timings["not read"], timings["read"], timings["training"]
    added = (ratio(read, training) - ratio(plain, training)) / EVERY
    times = [f"{timing.best * 1e3:.3g}" for timing in (plain, read)]
    return [name, *times, f"{ratio(read, plain):.2f}", f"{training.best * 1e3:.3g}", f"{added:.2%}"]


def main() -> None:
    large, small, (gpt, train_gpt) = _random(1, 20_000_000), _random(1000, 1000), _gpt()
    cases = {
        "1 x 20,000,000": (large, _backward(large)),
        "1,000 x 1,000": (small, _backward(small)),
        f"GPT, {len(gpt)} tensors, {sum(p.numel() for p in gpt):,} parameters": (gpt, train_gpt),
    }
    rows, timings = [], dict[str, Timing]()
    for name, (params, before) in cases.items():
        measured = measure(_steps(params, before), turns=11)
        rows.append(_row(name, measured))
        timings |= {f"{name}, {kind}": timing for kind, timing in measured.items()}
    report("Steps of AdamW that are read by a monitor", HEADINGS, rows, timings)


if __name__ == "__main__":
    main()
