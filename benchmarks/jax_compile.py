"""How long does JAX take to trace and to compile a step over 1,000 leaves, beside optax's own optimizers?

python -m benchmarks.jax_compile [TURNS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import steprule.jax
from benchmarks.harness import Timing, report

LEAVES, SHAPES = 1000, 50
WAYS: dict[str, optax.GradientTransformation] = {
    "steprule.jax adam": steprule.jax.transformation("adam", lr=1e-3),
    "optax adam": optax.adam(1e-3),
    "steprule.jax adamw": steprule.jax.transformation("adamw", lr=1e-3),
    "optax adamw": optax.adamw(1e-3, weight_decay=0.01),
}


def step_of(transformation: optax.GradientTransformation) -> Callable[..., Any]:
    def step(params: Any, grads: Any, state: Any) -> Any:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def seconds(transformation: optax.GradientTransformation) -> tuple[float, float]:
    """Return how long tracing and compiling take, with nothing remembered."""
    params = [jnp.zeros((10 + index % SHAPES, 7)) for index in range(LEAVES)]
    state = transformation.init(params)
    jax.clear_caches()  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    lowered = jax.jit(step_of(transformation)).lower(params, params, state)
    traced = time.perf_counter()
    lowered.compile()
    return traced - start, time.perf_counter() - traced


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(turns):
        for name, transformation in WAYS.items():
            measured[name].append(seconds(transformation))
    rows: list[list[str]] = []
    for name, pairs in measured.items():
        beside = measured[name.replace("steprule.jax", "optax")]
        share = statistics.median(sum(own) / sum(other) for own, other in zip(pairs, beside, strict=True))
        best = [min(values) for values in (*zip(*pairs, strict=True), [sum(pair) for pair in pairs])]
        rows.append([name, *(f"{value:.2f}" for value in best), f"{share:.2f}"])
    headings = ["", "trace and lower, best s", "compile, best s", "both, best s", "of optax's (median of turns)"]
    timings = {name: Timing(name, [sum(pair) for pair in pairs]) for name, pairs in measured.items()}
    report(f"A step over {LEAVES:,} leaves of {SHAPES} shapes: time to trace and to compile", headings, rows, timings)


if __name__ == "__main__":
    main()
