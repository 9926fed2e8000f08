"""How long is a step of LAMB, LARS and Adafactor over 20 million float32, beside the same of other libraries?

python -m benchmarks.peers_large [RULE ...]

The others are pytorch_optimizer, timm, torch.optim and optax. What is not installed is left out, and said so.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report
from steprule.rules.papers.adafactor import adafactor

SHAPES = {"1 of 4,000 x 5,000": [(4_000, 5_000)], "20 of 1,000 x 1,000": [(1_000, 1_000)] * 20}
N = 20_000_000
Step = Callable[[], object]
Shapes = Sequence[tuple[int, int]]
Make = Callable[[Sequence[torch.Tensor]], torch.optim.Optimizer]
LAMB: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01}
LARS: dict[str, Any] = {"lr": 1.0, "momentum": 0.9, "weight_decay": 1e-4}
OURS: dict[str, Make] = {
    "lamb": lambda params: steprule.torch.Optimizer(params, "lamb", **LAMB),
    "lars": lambda params: steprule.torch.Optimizer(params, "lars", **LARS),
    "adafactor": lambda params: steprule.torch.Optimizer(params, adafactor),
}
TORCH: dict[str, list[tuple[str, str, str, dict[str, Any]]]] = {
    "lamb": [
        ("pytorch_optimizer", "pytorch_optimizer", "Lamb", {**LAMB, "max_grad_norm": 0.0}),
        ("timm", "timm.optim.lamb", "Lamb", {**LAMB, "max_grad_norm": None}),
    ],
    "lars": [
        ("pytorch_optimizer", "pytorch_optimizer", "LARS", LARS),
        ("timm", "timm.optim.lars", "Lars", LARS),
    ],
    "adafactor": [
        ("pytorch_optimizer", "pytorch_optimizer", "AdaFactor", {"betas": (None, 0.999)}),
        ("timm", "timm.optim.adafactor", "Adafactor", {}),
        ("torch.optim", "torch.optim", "Adafactor", {}),
    ],
}
"""What makes the others' optimizers of PyTorch: whose they are, the module, the class, and its arguments."""


def _class(module: str, name: str) -> Any:
    """Return a class of an optional library.

    timm is entered by the files of its optimizers: the package imports all its models, which need more.
    """
    library = module.partition(".")[0]
    if library == "timm" and library not in sys.modules:
        spec = importlib.util.find_spec(library)
        if spec is None:
            raise ImportError("timm is not installed")
        for package, below in (("timm", ""), ("timm.optim", "/optim")):
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [f"{path}{below}" for path in spec.submodule_search_locations or ()]
    return getattr(importlib.import_module(module), name)


def _parameters(shapes: Shapes) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for param in params:
        param.grad = torch.randn(param.shape)
    return params


def _of_torch(rule: str, shapes: Shapes) -> Iterator[tuple[str, Step]]:
    """Yield the others' steps through PyTorch, in every mode that they have."""
    for library, module, name, options in TORCH[rule]:
        try:
            made = _class(module, name)
        except ImportError as error:
            print(f"{library} is left out: {error}")
            continue
        for mode, extra in (("foreach", {"foreach": True}), ("for-loop", {"foreach": False})):
            with contextlib.suppress(TypeError):  # an optimizer that has no such modes
                yield f"{library}, {mode}", made(_parameters(shapes), **options, **extra).step
                continue
            if mode == "for-loop":
                yield library, made(_parameters(shapes), **options).step


def _of_optax(rule: str, shapes: Shapes) -> Iterator[tuple[str, Step]]:
    try:
        import optax

        from benchmarks.jax_large import stepping
    except ImportError as error:
        print(f"optax is left out: {error}")
        return
    made = {
        "lamb": lambda: optax.lamb(1e-3, weight_decay=0.01),
        "lars": lambda: optax.lars(1.0, weight_decay=1e-4, momentum=0.9),
        "adafactor": lambda: optax.adafactor(1e-2),
    }
    yield "optax, jitted and donated", stepping(made[rule](), shapes)


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for rule, (what, shapes) in itertools.product(sys.argv[1:] or OURS, SHAPES.items()):
        ours = {"steprule": OURS[rule](_parameters(shapes)).step}
        found = measure({**ours, **dict(_of_torch(rule, shapes)), **dict(_of_optax(rule, shapes))}, turns=7)
        for name, timing in found.items():
            times = f"{ratio(timing, found['steprule']):.1f}"
            rows.append([rule, what, name, f"{timing.best * 1e3:.1f}", f"{timing.median * 1e3:.1f}", times])
            timings[f"{rule}, {what}, {name}"] = timing
    headings = ["rule", "matrices", "", "best ms", "median ms", "times steprule's"]
    report(f"One step of {N:,} float32 beside other libraries", headings, rows, timings)


if __name__ == "__main__":
    main()
