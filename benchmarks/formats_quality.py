"""Does training end elsewhere when slots and weights are kept in fewer bits?

Runs come in pairs, from the same start over the same batches, and differ in what is kept between steps. Shown is the
mean difference of the logarithm of the final training loss (0.01 is 1%) with its standard error. The spread that any
change of rounding makes stands beside it: float32 from a start moved by about a last place, and 8 bits with other
random bits. Of differences that are chance alone, a third lies beyond one standard error, and a twentieth beyond two.

The gradient of a bfloat16 model is itself rounded to bfloat16, whatever is kept: so these formats are compared with
split32, which is exactly float32, as well as with a float32 model.

python -m benchmarks.formats_quality [SEEDS]
python -m benchmarks.formats_quality SEEDS "states 4bit" ...  # NumPy's runs alone; results are not kept
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ml_dtypes
import numpy as np
import torch
from examples.train_gpt import GPT, Config, groups, standard_library, validate
from examples.train_gpt import train as train_gpt
from numpy.typing import NDArray

import steprule as sr
import steprule.torch
from benchmarks.harness import report
from steprule.race.run import one_thread

Array = NDArray[Any]
MOVE = 2.0**-24
"""The standard deviation of the least change to a start: next to the largest weights about one last place."""
TYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Way:
    """How a run keeps its numbers: the type of its parameters, and the options of the optimizer."""

    parameter: str = "float32"
    states: str = "float32"
    weights: str = "nearest"
    other_bits: bool = False
    """Whether the bits that round by chance are others than those of the same run without this."""
    moved: bool = False
    """Whether the start is moved by next to nothing, to see what any change makes of a run."""

    def options(self, seed: int, min_elements: int | None) -> dict[str, Any]:
        """Return the options that an optimizer takes; those without effect would be errors."""
        options: dict[str, Any] = {}
        if self.states != "float32":
            options["states"] = self.states
            if min_elements is not None:
                options["min_elements"] = min_elements
        if self.parameter != "float32":
            options["weights"] = self.weights
        if self.states != "float32" or self.weights in ("stochastic", "split24"):
            options["seed"] = seed + 1000 * self.other_bits
        return options


FLOAT32, SPLIT32 = "float32", "bfloat16 split32"
WAYS = {
    FLOAT32: Way(),
    "float32, moved": Way(moved=True),
    "states bfloat16": Way(states="bfloat16"),
    "states 8bit": Way(states="8bit"),
    "states 8bit, other bits": Way(states="8bit", other_bits=True),
    "states 4bit": Way(states="4bit"),
    "bfloat16 nearest": Way("bfloat16"),
    "bfloat16 stochastic": Way("bfloat16", weights="stochastic"),
    "bfloat16 split24, states 8bit": Way("bfloat16", "8bit", "split24"),
    SPLIT32: Way("bfloat16", weights="split32"),
}
PAIRS = [
    *((way, FLOAT32) for way in WAYS if way not in (FLOAT32, "states 8bit, other bits")),
    ("states 8bit, other bits", "states 8bit"),
    *((way, SPLIT32) for way in ("bfloat16 nearest", "bfloat16 stochastic", "bfloat16 split24, states 8bit")),
]
"""A way, and the one that it is compared with."""


@dataclass(frozen=True)
class Study:
    """A problem with the learning rate of each rule, and how many seeds.

    ``min_elements`` is 0 where most matrices are smaller than those that have low-bit slots unless told.
    """

    rates: dict[str, float]
    seeds: int
    min_elements: int | None = None


STUDIES = {
    "digits-mlp": Study(
        {"adam": 3e-3, "adamw": 3e-3, "lion": 3e-4, "rmsprop": 3e-3, "amsgrad": 3e-3, "ademamix": 3e-3}, 12, 0
    ),
    "docs-bow": Study(
        {"adam": 1e-1, "adamw": 1e-1, "lion": 3e-2, "rmsprop": 1e-1, "amsgrad": 3e-2, "ademamix": 1e-1}, 5
    ),
    "small GPT": Study({"AdamW": 3e-3}, 5),
}
GPT_CONFIG, GPT_STEPS = Config(layers=2, heads=2, width=64), 300
NORM_RATE = 3e-4
NORM_WAYS = ("bfloat16 nearest", "bfloat16 stochastic", "bfloat16 split24", SPLIT32)


@dataclass(frozen=True)
class Case:
    """One run."""

    problem: str
    rule: str
    lr: float
    way: Way
    seed: int


def train(case: Case) -> float:
    """Return the logarithm of the training loss after the last epoch."""
    if case.problem not in PROBLEMS:
        return _train_gpt(case)
    problem = load(case.problem)
    with one_thread(), np.errstate(all="ignore"):
        params = start(problem, case)
        options = case.way.options(case.seed, STUDIES[case.problem].min_elements)
        optimizer = sr.Optimizer(params, case.rule, lr=case.lr, **options)
        for epoch in range(problem.epochs):
            for batch in problem.batches(np.random.default_rng([case.seed, 1, epoch])):
                _, grads = problem.loss_and_grad(as_type(params, "float32"), batch)
                optimizer.step(as_type(grads, case.way.parameter))
        return math.log(problem.evaluate(as_type(params, "float32"))["train_loss"])


PROBLEMS = {"digits-mlp": "digits_mlp", "docs-bow": "docs_bow"}


@functools.cache
def load(name: str) -> Any:
    """Return a problem of the race; its data are read once a process."""
    return import_module(f"steprule.race.problems.{PROBLEMS[name]}").problem()


def start(problem: Any, case: Case) -> Any:
    """Return the parameters at the start, which depend on the seed alone, but for the last place."""
    params = problem.init(np.random.default_rng([case.seed, 0]))
    if case.way.moved:
        rng = np.random.default_rng([case.seed, 2])
        for array in params["weights"]:
            array += np.float32(MOVE) * rng.standard_normal(array.shape, np.float32)
    return as_type(params, case.way.parameter)


def as_type(params: Any, name: str) -> Any:
    """Return dicts of lists of arrays in another type, rounded to nearest; as they are if they have it."""
    return {key: [array.astype(TYPES[name], copy=False) for array in arrays] for key, arrays in params.items()}


@functools.cache
def _letters() -> torch.Tensor:
    return standard_library()


def _trained_gpt(case: Case) -> tuple[GPT, torch.optim.Optimizer]:
    """Return a small GPT after its steps; the rate rises and falls, and matrices decay, as in the example."""
    torch.set_num_threads(1)
    torch.manual_seed(case.seed)
    model = GPT(GPT_CONFIG)
    if case.way.moved:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(MOVE * torch.randn(parameter.shape))
    model.to(getattr(torch, case.way.parameter))
    kind = getattr(steprule.torch, case.rule)
    optimizer = kind(groups(model, kind, 0.1), lr=case.lr, **case.way.options(case.seed, None))
    with one_thread():
        train_gpt(model, optimizer, _letters(), GPT_STEPS, case.seed)
    return model, optimizer


def _train_gpt(case: Case) -> float:
    """Return the logarithm of the loss in float32 on fixed windows of what it was trained on."""
    model = _trained_gpt(case)[0].float()
    first, _ = _letters().tensor_split([len(_letters()) * 9 // 10])
    return math.log(validate(model, first))


def norms(case: Case) -> tuple[float, float, float]:
    """Return what became of the norms' weights: which share the model sees as 1, which is kept as 1, and how far away.

    The distance is the mean of |weight - 1| as it is kept.
    """
    model, optimizer = _trained_gpt(case)
    weights = [module.weight for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
    seen = torch.cat([weight.detach().float() for weight in weights])
    kept = torch.cat([_kept(weight.detach(), optimizer.state[weight]) for weight in weights])
    return (seen == 1).float().mean().item(), (kept == 1).float().mean().item(), (kept - 1).abs().mean().item()


def _kept(weight: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return a parameter with the bits that are kept beside it."""
    low = state.get("param_low")
    if low is None:
        return weight.float()
    return weight.float().view(torch.int32).add(low.int() << (8 if low.dtype == torch.int8 else 0)).view(torch.float32)


def mean_and_error(values: Array) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def in_processes(function: Any, cases: Iterable[Any]) -> dict[Any, Any]:
    """Return what a function gives for each case, computed on one thread in as many processes as processors."""
    cases = list(cases)
    # Spawned: a forked child of a process that has used torch's threads may wait for ever.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(cases, pool.map(function, cases, chunksize=4), strict=True))


def _cases(seeds: int | None, problems: Iterable[str] = STUDIES, ways: Iterable[str] = WAYS) -> list[Case]:
    return [
        Case(problem, rule, lr, WAYS[way], seed)
        for problem in problems
        for rule, lr in STUDIES[problem].rates.items()
        for seed in range(seeds or STUDIES[problem].seeds)
        for way in ways
    ]


def _differences(
    losses: dict[Case, float], problem: str, rule: str, pairs: Iterable[tuple[str, str]] = PAIRS
) -> dict[tuple[str, str], Array]:
    """Return the differences seed by seed, by the names of the two ways."""
    found = {
        name: np.array(
            [loss for case, loss in losses.items() if (case.problem, case.rule, case.way) == (problem, rule, way)]
        )
        for name, way in WAYS.items()
    }
    return {(name, other): found[name] - found[other] for name, other in pairs} | {(FLOAT32, ""): found[FLOAT32]}


def _row(run: str, name: str, other: str, differences: Array, spread: float) -> list[str]:
    mean, error = mean_and_error(differences)
    within = "yes" if abs(mean) <= error else f"no, {abs(mean) / error:.1f}"
    return [run, name, other, f"{mean:+.5f} ± {error:.5f}", within, str(len(differences)), f"{spread:.3f}"]


def _tally(all_runs: Iterable[dict[tuple[str, str], Array]]) -> list[list[str]]:
    """Return for each pair of ways how many runs are within one standard error, and how many within two."""
    rows, runs = [], list(all_runs)
    for name, other in PAIRS:
        errors = [abs(mean) / error for mean, error in (mean_and_error(run[name, other]) for run in runs)]
        within = [sum(size <= limit for size in errors) for limit in (1, 2)]
        rows.append(
            ["all", name, other, f"{within[1]} of {len(runs)} within two", f"{within[0]} of {len(runs)}", "", ""]
        )
    return rows


def _norm_rows(seeds: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Return what becomes of weights that start at 1 when steps are small."""
    ways = {name: Way("bfloat16", weights=name.split()[1]) for name in NORM_WAYS} | {FLOAT32: Way()}
    cases = [Case("small GPT", "AdamW", NORM_RATE, way, seed) for way in ways.values() for seed in range(seeds)]
    found = in_processes(norms, cases)
    rows, raw = [], {}
    for name, way in ways.items():
        raw[f"norms, {name}"] = numbers = [found[case] for case in cases if case.way == way]
        seen, kept, distance = np.mean(numbers, axis=0)
        shares = f"{seen:.1%} seen as 1, {kept:.1%} kept"
        rows.append([f"GPT's norms, lr {NORM_RATE}", name, "", shares, f"{distance:.4f} from 1", str(seeds), ""])
    return rows, raw


def _print_some(seeds: int, names: list[str]) -> None:
    """Print what some ways make of the runs in NumPy."""
    pairs = [(name, FLOAT32) for name in names]
    losses = in_processes(train, _cases(seeds, PROBLEMS, (FLOAT32, *names)))
    for problem in PROBLEMS:
        for rule in STUDIES[problem].rates:
            found = _differences(losses, problem, rule, pairs)
            for pair in pairs:
                print(*_row(f"{problem} {rule}", *pair, found[pair], float(found[FLOAT32, ""].std(ddof=1))), sep=" | ")


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else None
    if sys.argv[2:]:
        _print_some(int(sys.argv[1]), sys.argv[2:])
        return
    losses = in_processes(train, _cases(seeds))
    runs = {
        f"{problem} {rule}": _differences(losses, problem, rule)
        for problem, study in STUDIES.items()
        for rule in study.rates
    }
    rows: list[list[str]] = []
    raw: dict[str, Any] = {}
    for run, differences in runs.items():
        spread = float(differences[FLOAT32, ""].std(ddof=1))
        rows += [_row(run, *pair, differences[pair], spread) for pair in PAIRS]
        raw |= {f"{run}, {name} - {other}": values.tolist() for (name, other), values in differences.items()}
    norm_rows, norm_raw = _norm_rows(min(seeds or 2, 2))
    headings = ["run", "kept as", "minus", "log loss", "within one error", "seeds", "float32's spread"]
    report("What formats do to training", headings, rows + _tally(runs.values()) + norm_rows, raw | norm_raw)


if __name__ == "__main__":
    main()
