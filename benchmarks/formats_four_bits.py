"""Why this code of 4 bits and not another?

As ``formats_codes``: Adam in float32 whose slots m and v are rounded to each candidate after every step, against one
whose slots are left alone. Here a code is the list of its magnitudes, as parts of the power of two above the group's
largest number, or of that number itself. "steprule's own" is the library's 4 bits, and 8, in the kernels.

python -m benchmarks.formats_four_bits [SEEDS]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import steprule as sr
from benchmarks.codes import Array, Rounding, exactly
from benchmarks.formats_quality import FLOAT32, STUDIES, in_processes, load, mean_and_error
from benchmarks.harness import report
from steprule.race.run import one_thread

SEEDS = {"digits-mlp": 6, "docs-bow": 2}
OWN = {"steprule's own, 4 bits": "4bit", "steprule's own, 8 bits": "8bit"}


@dataclass(frozen=True)
class Levels:
    """A code by its magnitudes.

    Attributes:
        levels: the magnitudes, without zero.
        below: what is smaller than the first becomes: "zero", the "first", or "either" by chance.
        nearest: whether all is rounded to nearest instead of by chance.
        to_largest: whether magnitudes are parts of the group's largest number, not of the power of two above it.
        group: how many neighbours in a row share a scale.
    """

    levels: tuple[float, ...]
    below: str
    nearest: bool = False
    to_largest: bool = False
    group: int = 128

    def __call__(self, values: Array, rng: np.random.Generator) -> Array:
        """Return what is left of the numbers."""
        rows = values.reshape(len(values), -1)
        group = min(self.group, rows.shape[1])
        groups = np.pad(rows, ((0, 0), (0, -rows.shape[1] % group))).reshape(len(rows), -1, group)
        size = np.abs(groups).astype(np.float64)
        largest = size.max(-1, keepdims=True)
        scale = largest if self.to_largest else np.ldexp(1.0, np.frexp(largest)[1])
        kept = self._kept(size / np.where(scale > 0, scale, 1), rng) * scale
        rounded = np.copysign(kept, groups).astype(np.float32).reshape(len(rows), -1)
        result: Array = rounded[:, : rows.shape[1]].reshape(values.shape)
        return result

    def _kept(self, x: Array, rng: np.random.Generator) -> Array:
        levels = np.array([0.0, *self.levels])
        high = np.clip(np.searchsorted(levels, x, side="right"), 1, len(levels) - 1)
        under, over = levels[high - 1], levels[high]
        chance = 0.5 if self.nearest else rng.random(x.shape)
        kept = np.where(chance * (over - under) < x - under, over, under)
        if self.below == "first":
            return np.where(x > 0, np.maximum(kept, levels[1]), 0)
        return np.where(x < levels[1], 0, kept) if self.below == "zero" else kept


def root(size: int, times: int, first: int) -> tuple[float, ...]:
    """Return the magnitudes of ``codes.pseudo_root``, aligned."""
    one = 0x3F800000
    zero = one - (one >> times)
    y = ((np.arange(first, 2**size, dtype=np.float32) + 1) / np.float32(2**size)).view(np.int32).astype(np.int64)
    words = (((y - zero) << times) - ((one - zero) << times) + one).astype(np.int32)
    return tuple(words.view(np.float32).astype(float).tolist())


def octaves(count: int, halves: int = 0) -> tuple[float, ...]:
    """Return powers of two, ``halves`` of the last gaps halved: so many magnitudes in all."""
    powers = [2.0**-k for k in range(count - halves)]
    return tuple(sorted([*powers, *(1.5 * 2.0**-k for k in range(1, halves + 1))]))


DYNAMIC = (0.00325, 0.02125, 0.0775, 0.2125, 0.4375, 0.6625, 1.0)
LINEAR = tuple((k + 1) / 16 for k in range(16))
FOURTH = Levels(root(4, 2, 2), "first")
MIXED = Levels(octaves(14, 4), "first")
SCHEMES: dict[str, tuple[Rounding, Rounding]] = {
    "m dynamic, v linear; nearest (Li et al.)": (
        Levels(DYNAMIC, "either", True, True),
        Levels(LINEAR, "first", True, True),
    ),
    "m square root, v fourth root": (Levels(root(3, 1, 1), "zero"), FOURTH),
    "the same, small m stochastic": (Levels(root(3, 1, 1), "either"), FOURTH),
    "m and v fourth root": (Levels(root(3, 2, 1), "zero"), FOURTH),
    "the same, small m stochastic ": (Levels(root(3, 2, 1), "either"), FOURTH),
    "m and v powers of two": (Levels(octaves(7), "zero"), Levels(octaves(14), "first")),
    "the same, small m stochastic  ": (Levels(octaves(7), "either"), Levels(octaves(14), "first")),
    "m powers of two, v half octaves": (Levels(octaves(7), "either"), Levels(octaves(14, 7), "first")),
    "m powers of two, v half octaves from a 16th": (Levels(octaves(7), "either"), MIXED),
    "the same, groups of 64": (Levels(octaves(7), "either", group=64), Levels(octaves(14, 4), "first", group=64)),
    "the same, groups of 32": (Levels(octaves(7), "either", group=32), Levels(octaves(14, 4), "first", group=32)),
    "only m, powers of two": (Levels(octaves(7), "either"), exactly),
    "only v, half octaves from a 16th": (exactly, MIXED),
}


@dataclass(frozen=True)
class Task:
    """One run."""

    problem: str
    scheme: str
    seed: int


def run(task: Task) -> list[float]:
    """Return the logarithm of the training loss after each epoch."""
    problem, study = load(task.problem), STUDIES[task.problem]
    with one_thread(), np.errstate(all="ignore"):
        params = problem.init(np.random.default_rng([task.seed, 0]))
        kept: dict[str, Any] = {"min_elements": 0, "seed": task.seed}
        options = {**kept, "states": OWN[task.scheme]} if task.scheme in OWN else {}
        optimizer = sr.Optimizer(params, "adam", lr=study.rates["adam"], **options)
        rng, losses = np.random.default_rng([task.seed, 3]), []
        for epoch in range(problem.epochs):
            for batch in problem.batches(np.random.default_rng([task.seed, 1, epoch])):
                optimizer.step(problem.loss_and_grad(params, batch)[1])
                for rounding, slot in zip(SCHEMES.get(task.scheme, ()), ("m", "v"), strict=False):
                    for array in optimizer.slots[slot]["weights"]:
                        array[...] = rounding(array, rng)
            losses.append(math.log(problem.evaluate(params)["train_loss"]))
    return losses


def _row(problem: str, scheme: str, found: Sequence[list[float]], exact: Sequence[list[float]]) -> list[str]:
    differences = np.array(found) - np.array(exact)
    mean, error = mean_and_error(differences[:, -1])
    over_run = float(np.sqrt(np.mean(differences**2)))
    return [problem, scheme.strip(), f"{mean:+.4f} ± {error:.4f}", f"{over_run:.4f}", str(len(found))]


def main() -> None:
    seeds = {problem: int(sys.argv[1]) if len(sys.argv) > 1 else number for problem, number in SEEDS.items()}
    names = (FLOAT32, *SCHEMES, *OWN)
    tasks = [Task(problem, name, seed) for problem in SEEDS for seed in range(seeds[problem]) for name in names]
    results = in_processes(run, tasks)
    rows = []
    for problem in SEEDS:
        found = {name: [results[Task(problem, name, seed)] for seed in range(seeds[problem])] for name in names}
        rows += [_row(problem, name, found[name], found[FLOAT32]) for name in names[1:]]
    headings = ["problem", "slots m and v kept as", "log loss", "over the run", "seeds"]
    report("Candidates for a code of 4 bits, with Adam", headings, rows, {})


if __name__ == "__main__":
    main()
