"""How far are 50 steps of Muon and of schedule-free from those of torch.optim, optax and the authors' package?

python -m benchmarks.agreement

Each pair steps the same matrices and a vector, whose gradients lead to a target and are noisy: a difference in one step
is one in all that follow. Shown is the largest difference of an element after the last step, as a share of the largest
distance that one has moved. Of Muon, torch.optim multiplies in bfloat16; its own code in wider types shows what of the
difference that is.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import optax
import torch
from numpy.typing import NDArray

import steprule.jax
import steprule.torch
from benchmarks.harness import report

STEPS = 50
MATRICES = [(24, 16), (16, 40), (12, 12)]
VECTORS = [(30,)]
MUON: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1}
FREE: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.05, "warmup_steps": 10, "r": 0.5}
FREE_SGD: dict[str, Any] = {**FREE, "lr": 0.5}
HEADINGS = ["", "beside", "numbers", "largest difference, of the distance moved"]
Points = list[NDArray[np.float64]]
Path = Callable[[str], Points]
"""Returns where parameters of a type are after the steps."""


def _start(shapes: Sequence[tuple[int, ...]]) -> Points:
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(shape) for shape in shapes]


def _gradients(now: Points, step: int) -> Points:
    """Return noisy gradients of the squared distance to a target."""
    target, noise = np.random.default_rng(1), np.random.default_rng([2, step])
    return [own - target.standard_normal(own.shape) + noise.standard_normal(own.shape) for own in now]


def through_torch(make: Callable[[list[torch.nn.Parameter]], Any], shapes: Sequence[tuple[int, ...]]) -> Path:
    """Return the path of an optimizer of PyTorch; where it has two points, that of evaluation."""

    def walk(kind: str) -> Points:
        params = [torch.nn.Parameter(torch.tensor(own, dtype=getattr(torch, kind))) for own in _start(shapes)]
        optimizer = make(params)
        if hasattr(optimizer, "train"):
            optimizer.train()
        for step in range(STEPS):
            now = [param.detach().double().numpy() for param in params]
            for param, gradient in zip(params, _gradients(now, step), strict=True):
                param.grad = torch.tensor(gradient, dtype=param.dtype)
            optimizer.step()
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        return [param.detach().double().numpy() for param in params]

    return walk


def through_jax(
    transformation: Any, shapes: Sequence[tuple[int, ...]], evaluated: Callable[[Any, Any], Any] | None = None
) -> Path:
    """Return the path of a transformation of optax's kind; ``evaluated`` returns the point of evaluation."""

    def walk(kind: str) -> Points:
        params = [jax.numpy.asarray(own, kind) for own in _start(shapes)]
        state, update = transformation.init(params), jax.jit(transformation.update)
        for step in range(STEPS):
            now = [np.asarray(param, np.float64) for param in params]
            gradients = [jax.numpy.asarray(own, kind) for own in _gradients(now, step)]
            updates, state = update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return [np.asarray(own, np.float64) for own in (evaluated(state, params) if evaluated else params)]

    return walk


def difference(ours: Points, theirs: Points, shapes: Sequence[tuple[int, ...]]) -> float:
    """Return the largest difference as a share of the largest distance from the start."""
    start = _start(shapes)
    moved = max(float(np.abs(own - begin).max()) for own, begin in zip(theirs, start, strict=True))
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)) / moved


@contextmanager
def wide_products() -> Iterator[None]:
    """Let torch.optim.Muon, which would go over to bfloat16, stay in the type of the gradient."""
    usual = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.bfloat16 = usual  # type: ignore[method-assign]


def of_muon() -> Iterator[list[str]]:
    """Yield the rows of Muon beside torch.optim's."""
    for words, options in (
        ("Muon", MUON),
        ("Muon, nesterov=False", {**MUON, "nesterov": False}),
        ("Muon, match_rms_adamw", {**MUON, "adjust_lr_fn": "match_rms_adamw"}),
    ):
        ours, theirs = (
            through_torch(functools.partial(made, **options), MATRICES)
            for made in (steprule.torch.Muon, torch.optim.Muon)
        )
        yield row(words, "torch.optim.Muon, as it is", "float32", ours, theirs, MATRICES)
        with wide_products():
            for kind in ("float32", "float64"):
                yield row(words, "torch.optim.Muon, products in this type", kind, ours, theirs, MATRICES)


def row(words: str, beside: str, kind: str, ours: Path, theirs: Path, shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """Return a row of the table."""
    return [words, beside, kind, f"{difference(ours(kind), theirs(kind), shapes):.1e}"]


def of_schedule_free() -> Iterator[list[str]]:
    """Yield the rows of schedule-free beside the authors' package, at the point of evaluation."""
    shapes = [*MATRICES, *VECTORS]
    try:
        package = importlib.import_module("schedulefree")
    except ImportError as error:
        print(f"schedulefree is left out: {error}")
        return
    for name, options in (("AdamWScheduleFree", FREE), ("SGDScheduleFree", FREE_SGD)):
        ours, theirs = (
            through_torch(functools.partial(getattr(library, name), **options), shapes)
            for library in (steprule.torch, package)
        )
        for kind in ("float32", "float64"):
            yield row(name, "schedulefree", kind, ours, theirs, shapes)


def of_optax() -> Iterator[list[str]]:
    """Yield the rows of the functions of optax.contrib beside these."""
    muon: dict[str, Any] = {"learning_rate": 0.02, "weight_decay": 0.1}
    free: dict[str, Any] = {"learning_rate": 0.02, "weight_decay": 0.05}
    shapes = [*MATRICES, *VECTORS]
    for kind in ("float32", "float64"):
        pair = through_jax(steprule.jax.muon(**muon), shapes), through_jax(optax.contrib.muon(**muon), shapes)
        yield row("jax.muon, with a vector for Adam", "optax.contrib.muon", kind, *pair, shapes)
        pair = (
            through_jax(steprule.jax.schedule_free_adamw(**free), shapes, steprule.jax.schedule_free_eval_params),
            through_jax(optax.contrib.schedule_free_adamw(**free), shapes, optax.contrib.schedule_free_eval_params),
        )
        yield row("jax.schedule_free_adamw", "optax.contrib.schedule_free_adamw", kind, *pair, shapes)


def main() -> None:
    torch.set_num_threads(1)  # of matrices this small
    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    rows = [*of_muon(), *of_schedule_free(), *of_optax()]
    report(f"Muon and schedule-free: {STEPS} steps beside other libraries", HEADINGS, rows, {})


if __name__ == "__main__":
    main()
