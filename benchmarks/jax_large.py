"""How long is one jitted step of 20 million float32 in JAX, beside optax's own optimizers?

python -m benchmarks.jax_large [RULE ...]
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import steprule.jax
from benchmarks.harness import Timing, measure, ratio, report

N = 20_000_000
PAIRS: dict[str, tuple[optax.GradientTransformation, optax.GradientTransformation]] = {
    "adam": (steprule.jax.transformation("adam", lr=1e-3), optax.adam(1e-3)),
    "adamw": (steprule.jax.transformation("adamw", lr=1e-3), optax.adamw(1e-3, weight_decay=0.01)),
    "momentum": (steprule.jax.transformation("momentum", lr=1e-3), optax.sgd(1e-3, momentum=0.9)),
    "rmsprop": (steprule.jax.transformation("rmsprop", lr=1e-3), optax.rmsprop(1e-3, decay=0.99)),
    "lion": (steprule.jax.transformation("lion", lr=1e-4), optax.lion(1e-4, weight_decay=0.0)),
    "nadam": (steprule.jax.transformation("nadam", lr=1e-3), optax.nadam(1e-3)),
}


def stepping(
    transformation: optax.GradientTransformation, shapes: Sequence[tuple[int, ...]] = ((N,),)
) -> Callable[[], None]:
    """Return a call that takes one step in place: parameters and state are donated."""

    @functools.partial(jax.jit, donate_argnums=(0, 2))
    def step(params: Any, grads: Any, state: Any) -> Any:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    grads = [jnp.full(shape, 1e-3) for shape in shapes]
    held = ([*map(jnp.zeros, shapes)], transformation.init([*map(jnp.zeros, shapes)]))

    def run() -> None:
        nonlocal held
        held = jax.block_until_ready(step(held[0], grads, held[1]))  # type: ignore[no-untyped-call]

    return run


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, Timing] = {}
    for name in sys.argv[1:] or PAIRS:
        ours, theirs = PAIRS[name]
        measured = measure({"steprule": stepping(ours), "optax": stepping(theirs)}, turns=25)
        share = ratio(measured["steprule"], measured["optax"])
        rows.append([name, *(f"{measured[key].best * 1e3:.1f}" for key in ("steprule", "optax")), f"{share:.3f}"])
        timings |= {f"{name} {key}": timing for key, timing in measured.items()}
    headings = ["", "steprule.jax, best ms", "optax, best ms", "time of optax's (median of turns)"]
    report(f"One jitted step of {N:,} float32 in JAX, donated", headings, rows, timings)


if __name__ == "__main__":
    main()
