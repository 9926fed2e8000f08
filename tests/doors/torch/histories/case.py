"""What a history begins with: a class, its options and its parameters, drawn from a seed."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)

OPTIONS: dict[str, dict[str, list[Any]]] = {
    "SGD": {"momentum": [0, 0.9], "dampening": [0, 0.3], "weight_decay": [0, 0.05], "nesterov": [False, True]},
    "RMSprop": {"alpha": [0.9, 0.99], "weight_decay": [0, 0.05], "momentum": [0, 0.5], "centered": [False, True]},
    "Adagrad": {"lr_decay": [0, 0.1], "weight_decay": [0, 0.05], "initial_accumulator_value": [0, 0.1]},
    "Adadelta": {"rho": [0.9, 0.8], "weight_decay": [0, 0.05]},
    "Adam": {"weight_decay": [0, 0.05], "amsgrad": [False, True], "decoupled_weight_decay": [False, True]},
    "AdamW": {"weight_decay": [0, 0.05], "amsgrad": [False, True]},
    "Adamax": {"weight_decay": [0, 0.05]},
    "NAdam": {"momentum_decay": [0.004, 0.01], "weight_decay": [0, 0.05], "decoupled_weight_decay": [False, True]},
    "RAdam": {"weight_decay": [0, 0.05], "decoupled_weight_decay": [False, True]},
    "Rprop": {"etas": [(0.5, 1.2), (0.4, 1.3)], "step_sizes": [(1e-6, 50), (1e-3, 0.5)]},
    "ASGD": {"lambd": [1e-4, 0.01], "alpha": [0.75, 0.6], "t0": [1e6, 4], "weight_decay": [0, 0.05]},
    "SparseAdam": {},
    "Adafactor": {"beta2_decay": [-0.8, -0.6], "d": [1.0, 1.5], "weight_decay": [0, 0.05], "eps": [(1e-6, 1e-3)]},
}
"""What the options of a class are drawn from, beside those that all have."""
BETAS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam")
SHAPES: list[tuple[int, ...]] = [(), (1,), (3,), (0,), (4, 3), (0, 3), (2, 3, 2), (5, 7), (33, 9)]


class Case:
    """What a seed makes: a class, its options and its parameters."""

    def __init__(self, seed: int) -> None:
        r = random.Random(seed)
        self.name = list(OPTIONS)[seed % len(OPTIONS)]
        self.dtype = r.choice([torch.float32] * 3 + [torch.float64] * 2 + [*HALF])
        if self.name in ("SparseAdam", "Adafactor"):  # torch's Adafactor sums 16 bits in 16 bits
            self.dtype = r.choice([torch.float32, torch.float64])
        self.default = r.choice([torch.float32, self.dtype if self.dtype not in HALF else torch.float32])
        self.options = self.drawn_options(r)
        self.foreach = r.choice([None, False, True]) if self.name != "SparseAdam" else None
        if self.name == "SGD" and self.foreach:
            self.foreach = False  # torch's form for several tensors writes to the gradients where nesterov is chosen
        if self.foreach is not None:
            self.options["foreach"] = self.foreach
        self.is_named = r.random() < 0.2
        self.groups = [self.drawn_group(r, number) for number in range(r.choice([1, 1, 2, 3]))]

    def drawn_options(self, r: random.Random) -> dict[str, Any]:
        """Return options of the class that go together."""
        options = {key: r.choice(values) for key, values in OPTIONS[self.name].items()}
        if options.get("nesterov"):
            options |= {"momentum": 0.9, "dampening": 0}
        if self.name in BETAS:
            options["betas"] = r.choice([(0.9, 0.999), (0.8, 0.95)])
        if self.dtype in HALF and self.name not in ("SGD", "Rprop", "ASGD"):
            # torch's of a 16-bit state is zero otherwise, and 0 / 0 is NaN
            options["eps"] = 1e-3
        options["maximize"] = r.random() < 0.3
        options["lr"] = r.choice([0.03, 0.1] if self.dtype in HALF else [1e-3, 0.01, 0.03])
        return options

    def drawn_group(self, r: random.Random, number: int) -> dict[str, Any]:
        """Return a group of parameters, with options of its own except for the first."""
        own = {} if number == 0 else self.drawn_options(r)
        own.pop("initial_accumulator_value", None)  # torch.optim.Adagrad gives every group that of the constructor
        params = [self.parameter(r) for _ in range(r.choice([1, 2, 3]))]
        named = [(f"p{r.getrandbits(32)}", p) for p in params]
        return {"params": named if self.is_named else params, **own}

    def parameter(self, r: random.Random) -> Tensor:
        """Return a parameter of a random shape and layout."""
        # Of a tensor of one element, and a stride that is not 1, torch loses what it adds as a sparse one.
        # Of one without elements torch's Adafactor takes a mean.
        least = {"SparseAdam": 2, "Adafactor": 1}.get(self.name, 0)
        shape = r.choice([s for s in SHAPES if math.prod(s) >= least])
        return nn.Parameter(laid(r, numbers(r, shape, self.dtype)))

    def __repr__(self) -> str:
        return f"{self.name}({self.options}), {self.dtype}, default {self.default}"


def numbers(r: random.Random, shape: Any, dtype: torch.dtype) -> Tensor:
    """Return numbers of both signs, of an order of magnitude, the same for every type but for rounding."""
    generator = torch.Generator().manual_seed(r.getrandbits(32))
    size = 0.2 + 1.8 * torch.rand(shape, generator=generator, dtype=torch.float64)
    return (size * torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0)).to(dtype)


def laid(r: random.Random, x: Tensor) -> Tensor:
    """Return the same numbers in some layout: contiguous, transposed, a part of a larger tensor."""
    kind = r.choice(["contiguous", "contiguous", "transposed", "part"])
    if kind == "transposed" and x.dim() > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if kind == "part" and x.dim():
        whole = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7.0)
        return whole[..., 1::2].copy_(x)
    return x
