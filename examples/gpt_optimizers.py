"""Which optimizer learns most: AdamW with a schedule, Muon with the same, or schedule-free AdamW?

Run it in a checkout of steprule with

    pip install '.[torch,race]'
    python -m examples.gpt_optimizers           # ten minutes on two cores

Each optimizer trains a small GPT (train_gpt.py) with every learning rate of one grid, from the same weights on the
same batches; that with the lowest validation loss is the optimizer's. With it follow runs of other seeds, of which each
gives all optimizers the same weights and batches: so runs of a seed are a pair, and what is compared is the difference
within pairs. Everything but the learning rate is at its default.

Each run is a file of the output's folder. A command that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from examples.train_gpt import GPT, Config, entrants, standard_library, train
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

CONFIG = Config(layers=2, heads=4, width=64)
OPTIMIZERS = ("adamw", "muon", "schedule_free_adamw")
TITLES = {
    "adamw": "AdamW, cosine",
    "muon": "Muon and AdamW, cosine",
    "schedule_free_adamw": "schedule-free AdamW, no schedule",
}
LOOKS = [("#0072B2", "-"), ("#D55E00", "--"), ("#1b1f24", "-.")]
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
TUNED_WITH = 1000
"""The seed of the runs that choose the learning rate. Those that are compared have others."""


@dataclass(frozen=True)
class Case:
    """One run."""

    optimizer: str
    lr: float
    seed: int
    steps: int
    every: int
    weight_decay: float

    def path(self, folder: Path) -> Path:
        """Return the file of the run."""
        return folder / f"{self.optimizer}-lr{self.lr:g}-seed{self.seed}-steps{self.steps}.json"


def run(case: Case) -> dict[str, Any]:
    """Train, by one thread, and return the case with its validation losses by step."""
    torch.set_num_threads(1)
    make = entrants(case.optimizer, compare=False)["steprule.torch"]
    torch.manual_seed(case.seed)
    model = GPT(CONFIG)
    optimizer = make(model, case.lr, case.weight_decay, case.steps)
    found = train(model, optimizer, standard_library(), case.steps, case.seed, every=case.every)
    return {**asdict(case), "validation": found.validation}


def kept(case: Case, folder: Path) -> dict[str, Any] | None:
    """Return a run that an earlier command has finished.

    Raises:
        ValueError: if its file is that of another run.
    """
    path = case.path(folder)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    if {name: found.get(name) for name in asdict(case)} != asdict(case):
        raise ValueError(f"{path} is a run with other settings; choose another --output, or delete it")
    return found


def runs(cases: Sequence[Case], folder: Path, jobs: int, console: Console) -> dict[Case, dict[str, Any]]:
    """Return the runs of all cases, in their order: those that are kept, and the others anew."""
    found = {case: kept(case, folder) for case in cases}
    missing = [case for case in cases if found[case] is None]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run, case): case for case in missing}
        for number, future in enumerate(as_completed(waiting), 1):
            case, path = waiting[future], waiting[future].path(folder)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(future.result()) + "\n")
            partial.replace(path)
            found[case] = done = json.loads(path.read_text())
            console.print(f"{number} of {len(missing)}: {path.stem}: {last(done):.4f}")
    return {case: own for case, own in found.items() if own is not None}


def last(own: dict[str, Any]) -> float:
    """Return the validation loss at the end of a run; infinity where it diverged."""
    loss = float(own["validation"][str(own["steps"])])
    return loss if math.isfinite(loss) else math.inf


def tune(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the learning rate of each optimizer with which its run ended lowest."""
    best: dict[str, dict[str, Any]] = {}
    for own in found:
        if own["optimizer"] not in best or last(own) < last(best[own["optimizer"]]):
            best[own["optimizer"]] = own
    return {name: float(own["lr"]) for name, own in best.items()}


def of(optimizer: str, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs of an optimizer."""
    return [own for own in found if own["optimizer"] == optimizer]


def draw_runs(axes: Axes, found: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Draw the median validation loss over the seeds, and the band from the lowest to the highest."""
    for name, (color, dashes) in zip(names, LOOKS, strict=True):
        own = of(name, found)
        steps = [int(step) for step in own[0]["validation"]]
        losses = list(zip(*(each["validation"].values() for each in own), strict=True))
        axes.fill_between(steps, [*map(min, losses)], [*map(max, losses)], color=color, alpha=0.18, linewidth=0)
        axes.plot(steps, [*map(statistics.median, losses)], dashes, color=color, linewidth=1.6, label=TITLES[name])
    axes.set(xlabel="step", ylabel="nats a letter", yscale="log")
    axes.set_title("validation loss: median and range of the seeds", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)


def draw_rates(axes: Axes, found: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Draw where the runs that choose the learning rate ended."""
    for name, (color, dashes) in zip(names, LOOKS, strict=True):
        ends = sorted((own["lr"], last(own)) for own in of(name, found) if last(own) < math.inf)
        axes.plot(*zip(*ends, strict=True), dashes, color=color, linewidth=1.6, marker="o", markersize=4)
    axes.set(xlabel="learning rate", xscale="log", ylabel="nats a letter")
    rates = sorted({own["lr"] for own in found})
    axes.set_xticks(rates, [f"{lr:g}" for lr in rates])
    axes.set_xticks([], minor=True)
    axes.set_title("validation loss at the end, by learning rate (one seed)", loc="left", fontsize=10)


def draw(tuned: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], names: Sequence[str], path: Path) -> None:
    """Draw both, one above the other."""
    figure = Figure(figsize=(6.4, 6.6), layout="constrained")
    top, low = figure.subplots(2, height_ratios=[4, 3])
    draw_runs(top, found, names)
    draw_rates(low, tuned, names)
    for panel in (top, low):
        panel.yaxis.set_minor_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", which="both", color="#e3e6ea", linewidth=0.8)
    figure.savefig(path, dpi=120)


def differences(name: str, other: str, found: Sequence[dict[str, Any]]) -> list[float]:
    """Return by how much an optimizer ended lower than the other, seed by seed."""
    theirs = {own["seed"]: last(own) for own in of(other, found)}
    return [theirs[own["seed"]] - last(own) for own in of(name, found)]


def rows(rates: dict[str, float], found: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield what to say of each optimizer, beside the first."""
    first = next(iter(rates))
    for name, lr in rates.items():
        ends = [last(own) for own in of(name, found)]
        gains = differences(name, first, found)
        gain = f"{statistics.median(gains):+.4f} ({min(gains):+.4f} to {max(gains):+.4f})"
        lower = f"{sum(each > 0 for each in gains)} of {len(gains)}"
        beside = ["", ""] if name == first else [gain, lower]
        spread = f"{min(ends):.4f} to {max(ends):.4f}"
        yield [TITLES[name], f"{lr:g}", f"{statistics.median(ends):.4f}", spread, *beside]


HEADINGS = ["", "lr", "median loss", "range", "lower than the first by", "in seeds"]


def main(
    steps: Annotated[int, typer.Option(min=2, help="Steps of a run.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each optimizer with its learning rate.")] = 3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Of matrices.")] = 0.1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, each by one thread.")] = 2,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of runs.")] = Path("gpt-optimizers"),
) -> None:
    """Compare AdamW, Muon and schedule-free AdamW on a small GPT, each with its best learning rate."""
    console, every = Console(highlight=False), max(1, steps // 16)
    output.mkdir(parents=True, exist_ok=True)

    def case(name: str, lr: float, seed: int) -> Case:
        return Case(name, lr, seed, steps, every, weight_decay)

    tuning = [case(name, lr, TUNED_WITH) for name in OPTIMIZERS for lr in RATES]
    tuned = list(runs(tuning, output, jobs, console).values())
    rates = tune(tuned)
    compared = [case(name, rates[name], seed) for seed in range(seeds) for name in OPTIMIZERS]
    found = list(runs(compared, output, jobs, console).values())
    table = Table(*HEADINGS, box=SIMPLE)
    for row in rows(rates, found):
        table.add_row(*row)
    console.print(table)
    draw(tuned, found, OPTIMIZERS, output / "gpt_optimizers.png")
    results = {"headings": HEADINGS, "rows": [*rows(rates, found)], "tuned": tuned, "compared": found}
    (output / "gpt_optimizers.json").write_text(json.dumps(results, indent=1) + "\n")
    console.print(f"Picture: {output / 'gpt_optimizers.png'}")


if __name__ == "__main__":
    typer.run(main)
