"""Why this code of 8 bits and not another?

A float32 Adam whose slots are rounded to each candidate after every step (``benchmarks.codes``), against one whose
slots are left alone: the same start, the same batches. "steprule's own" is the library's 8 bits, in the kernels.

Shown are the mean difference of the logarithm of the final training loss with its standard error; the root mean
square of that difference after each epoch; and, at the end, sqrt(v) as a multiple of what float32 makes of the same
gradients: what the step is divided by.

python -m benchmarks.formats_codes [SEEDS]
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

import steprule as sr
from benchmarks.codes import SCHEMES, Array
from benchmarks.formats_quality import FLOAT32, STUDIES, in_processes, load, mean_and_error
from benchmarks.harness import report
from steprule.race.run import one_thread

RULE = "adam"
SEEDS = {"digits-mlp": 10, "docs-bow": 4}
OURS = "steprule's own"
NAMES = (*SCHEMES, OURS)
NON_NEGATIVE = ("v", "v_max")


@dataclass(frozen=True)
class Task:
    """One run."""

    problem: str
    scheme: str
    seed: int
    rule: str = RULE


@dataclass(frozen=True)
class Result:
    """The logarithm of the training loss after each epoch, and percentiles of sqrt(v) over that of float32."""

    losses: list[float]
    ratios: list[float]


def run(task: Task) -> Result:
    """Train, rounding the slots after every step, with float32's second moment of the same gradients beside it."""
    problem, study = load(task.problem), STUDIES[task.problem]
    with one_thread(), np.errstate(all="ignore"):
        params = problem.init(np.random.default_rng([task.seed, 0]))
        options: dict[str, Any] = (
            {"states": "8bit", "min_elements": 0, "seed": task.seed} if task.scheme == OURS else {}
        )
        optimizer = sr.Optimizer(params, task.rule, lr=study.rates[task.rule], **options)
        reference = [np.zeros_like(array) for array in params["weights"]]
        rng, losses = np.random.default_rng([task.seed, 3]), []
        for epoch in range(problem.epochs):
            for batch in problem.batches(np.random.default_rng([task.seed, 1, epoch])):
                _, grads = problem.loss_and_grad(params, batch)
                optimizer.step(grads)
                _average(reference, grads["weights"])
                if task.scheme in SCHEMES:
                    _round(optimizer, task.scheme, rng)
            losses.append(math.log(problem.evaluate(params)["train_loss"]))
        return Result(losses, _ratios(optimizer, reference))


def _average(reference: list[Array], gradients: list[Array]) -> None:
    """Move averages of squares on, by Adam's default."""
    for average, gradient in zip(reference, gradients, strict=True):
        average *= np.float32(0.999)
        average += np.float32(0.001) * gradient * gradient


def _round(optimizer: sr.Optimizer, scheme: str, rng: np.random.Generator) -> None:
    """Put into the slots of matrices what a scheme keeps of them."""
    signed, positive = SCHEMES[scheme]
    if scheme == FLOAT32:
        return
    for name, slot in optimizer.slots.items():
        for array in slot["weights"]:
            array[...] = (positive if name in NON_NEGATIVE else signed)(array, rng)


def _ratios(optimizer: sr.Optimizer, reference: list[Array]) -> list[float]:
    """Return the median, the 1st and the 99th percentile over all weights that ever had a gradient."""
    if "v" not in optimizer.slots:
        return []
    kept = np.concatenate([array.ravel() for array in optimizer.slots["v"]["weights"]])
    exact = np.concatenate([array.ravel() for array in reference])
    seen = exact > np.finfo(np.float32).smallest_normal
    return [float(value) for value in np.percentile(np.sqrt(kept[seen] / exact[seen]), [50, 1, 99])]


def _row(problem: str, scheme: str, found: list[Result], exact: list[Result]) -> tuple[list[str], dict[str, Any]]:
    """Return the row of a scheme, and the numbers that it is made of."""
    differences = np.array([run.losses for run in found]) - np.array([run.losses for run in exact])
    mean, error = mean_and_error(differences[:, -1])
    over_run = float(np.sqrt(np.mean(differences**2)))
    median, low, high = np.mean([run.ratios for run in found], axis=0)
    row = [problem, scheme, f"{mean:+.5f} ± {error:.5f}", f"{over_run:.5f}", f"{median:.3f} ({low:.3f} to {high:.3f})"]
    return [*row, str(len(found))], {"differences": differences.tolist(), "ratios": [run.ratios for run in found]}


def main() -> None:
    seeds = {problem: int(sys.argv[1]) if len(sys.argv) > 1 else number for problem, number in SEEDS.items()}
    tasks = [Task(problem, name, seed) for problem in SEEDS for seed in range(seeds[problem]) for name in NAMES]
    results = in_processes(run, tasks)
    rows: list[list[str]] = []
    raw: dict[str, Any] = {}
    for problem in SEEDS:
        found = {name: [results[Task(problem, name, seed)] for seed in range(seeds[problem])] for name in NAMES}
        for name in NAMES[1:]:
            row, raw[f"{problem}, {name}"] = _row(problem, name, found[name], found[FLOAT32])
            rows.append(row)
    headings = ["problem", "slots m and v kept as", "log loss", "over the run", "sqrt(v), of float32's", "seeds"]
    report("Candidates for a code of 8 bits, with Adam", headings, rows, raw)


if __name__ == "__main__":
    main()
