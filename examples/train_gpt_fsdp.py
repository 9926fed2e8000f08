"""Train the GPT of train_gpt.py in several processes (FSDP2), with checkpoints that any number of them goes on from.

Run it in a checkout of steprule with

    pip install '.[torch,race]'
    torchrun --nproc-per-node 2 -m examples.train_gpt_fsdp train --states 8bit --weights split24

The command goes on from the last whole checkpoint of its folder, also with another ``--nproc-per-node``, and after a
process was killed (``--kill-at`` does that, as a machine would that fails). Each process has a part of every parameter
and of its state, and takes its share of every batch, so all numbers of processes train on the same letters.

    python -m examples.train_gpt_fsdp compare       # some minutes on two cores

trains in 1, 2 and 4 processes, and in 4 of which one is killed, followed by 2; it draws the losses of all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed as dist
import typer
from examples.train_gpt import CLIP, GPT, Config, batches, groups, smooth, standard_library, warmup_cosine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from steprule.torch import AdamW

app = typer.Typer(add_completion=False)
CONFIG = Config(layers=2, heads=4, width=64)
LOSSES = "losses.jsonl"
FORMATS: dict[str, list[str]] = {
    "float32": [],
    "8bit states, split24 weights": ["--states", "8bit", "--weights", "split24"],
}
LOOKS = {"1": ("#56B4E9", 6.5, "-"), "2": ("#1b1f24", 3.6, "-"), "4": ("#009E73", 2.2, "-")}
KILLED, LOOK_OF_KILLED = "4, one killed; then 2", ("#D55E00", 1.2, "--")


@dataclass(frozen=True)
class Settings:
    """What a run is, in any number of processes."""

    output: Path
    states: str = "float32"
    weights: str = "nearest"
    steps: int = 150
    save_every: int = 30
    kill_at: int = 0
    lr: float = 4e-3
    config: Config = CONFIG


class Training(Stateful):
    """All that a run goes on from: a model in parts, what trains it, and how far it is."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(0)  # all processes begin with the same weights, of which each keeps its parts
        formats: dict[str, Any] = {} if settings.states == "float32" else {"states": settings.states}
        if settings.weights != "nearest":
            formats["weights"] = settings.weights
        self.model = GPT(settings.config).to(torch.bfloat16 if "weights" in formats else torch.float32)
        reduced = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        for block in self.model.blocks:
            fully_shard(block, mp_policy=reduced)
        fully_shard(self.model, mp_policy=replace(reduced, output_dtype=torch.float32))
        self.optimizer = AdamW(groups(self.model, AdamW, 0.1), lr=settings.lr, clip_norm=CLIP, **formats)
        self.schedule = warmup_cosine(self.optimizer, settings.steps)
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "schedule": self.schedule.state_dict(), "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        model, optimizer = state_dict["model"], state_dict["optimizer"]
        set_state_dict(self.model, self.optimizer, model_state_dict=model, optim_state_dict=optimizer)
        self.schedule.load_state_dict(state_dict["schedule"])
        self.step = state_dict["step"]

    def take(self, shown: Tensor, following: Tensor) -> float:
        """Take a step along the gradient of a batch, of which this process computes its share. Return the loss."""
        here, world = dist.get_rank(), dist.get_world_size()
        loss = self.model.loss(shown.tensor_split(world)[here], following.tensor_split(world)[here])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        mean = loss.detach().double() / world
        dist.all_reduce(mean)
        return float(mean)


def last_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that was saved to its end; None if there is none.

    Its metadata are written when all processes have written their parts, under another name first.
    """
    return max((path.parent for path in folder.glob("step-*/.metadata")), default=None)


def run(settings: Settings) -> None:
    """Train, in the processes of this group, from the last whole checkpoint on."""
    world, is_first = dist.get_world_size(), dist.get_rank() == 0
    if settings.config.batch % world:
        raise ValueError(f"{settings.config.batch} windows cannot be shared evenly by {world} processes")
    training, found = Training(settings), last_whole(settings.output)
    if found:
        load({"training": training}, checkpoint_id=found)
    letters = standard_library()
    stream = batches(letters[: len(letters) * 9 // 10], settings.config, seed=0)
    for batch in islice(stream, training.step, settings.steps):
        loss = training.take(*batch)
        if is_first:
            with (settings.output / LOSSES).open("a") as file:
                print(json.dumps({"step": training.step, "processes": world, "loss": loss}), file=file)
        if training.step == settings.kill_at and dist.get_rank() == world - 1 and not found:
            os.kill(os.getpid(), signal.SIGKILL)
        if training.step % settings.save_every == 0 or training.step == settings.steps:
            save({"training": training}, checkpoint_id=settings.output / f"step-{training.step:06}")


@app.command()
def train(
    states: Annotated[str, typer.Option(help="Format of the states: float32, bfloat16, 8bit, 4bit.")] = "float32",
    weights: Annotated[str, typer.Option(help="Of the weights; other than nearest: in bfloat16.")] = "nearest",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the run.")] = 150,
    save_every: Annotated[int, typer.Option(min=1, help="Steps from a checkpoint to the next.")] = 30,
    kill_at: Annotated[int, typer.Option(min=0, help="After this step the last process kills itself.")] = 0,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 4e-3,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of checkpoints and losses.")] = Path("gpt-fsdp"),
) -> None:
    """Train, or go on; by torchrun."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo")
    run(Settings(output, states, weights, steps, save_every, kill_at, lr))
    dist.destroy_process_group()


def losses(folder: Path) -> dict[int, float]:
    """Return the loss of each step of a run; what was taken again after a failure counts."""
    lines = (json.loads(line) for line in (folder / LOSSES).read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def launch(processes: int, output: Path, options: list[str]) -> None:
    """Run the command ``train`` in some processes, which may fail."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = ["-m", "examples.train_gpt_fsdp", "train", "--output", str(output), *options]
    subprocess.run([*torchrun, *command], check=False)


def all_runs(steps: int, save_every: int, output: Path, options: list[str]) -> Iterator[tuple[str, dict[int, float]]]:
    """Yield the losses of the runs with some formats, by the number of processes."""
    common = [*options, "--steps", str(steps), "--save-every", str(save_every)]
    for name in LOOKS:
        launch(int(name), output / name, common)
        yield name, losses(output / name)
    launch(4, output / "killed", [*common, "--kill-at", str(kill_step(steps, save_every))])
    launch(2, output / "killed", common)
    yield KILLED, losses(output / "killed")


def kill_step(steps: int, save_every: int) -> int:
    """Return a step in the middle of a run that comes after a checkpoint, and before the next."""
    return steps // 2 // save_every * save_every + (save_every + 1) // 2


def draw(axes: tuple[Axes, Axes], title: str, runs: dict[str, dict[int, float]], killed: int) -> None:
    """Draw the losses of runs and, below, how far they are from those of one process."""
    top, low = axes
    looks = {**LOOKS, KILLED: LOOK_OF_KILLED}
    for name, own in runs.items():
        color, width, dashes = looks[name]
        apart = [abs(loss - runs["1"][step]) / runs["1"][step] for step, loss in own.items()]
        top.plot([*own], smooth([*own.values()]), dashes, color=color, linewidth=width, label=name)
        if name != "1":
            low.plot([*own], smooth(apart), dashes, color=color, linewidth=width)
    low.set(yscale="log", ylim=(1e-8, 1e-1), xlabel="step")
    top.set_title(title, loc="left", fontsize=10)
    for panel in axes:
        panel.axvline(killed, color=LOOK_OF_KILLED[0], linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e3e6ea", linewidth=0.8)


@app.command()
def compare(
    steps: Annotated[int, typer.Option(min=8, help="Steps of a run.")] = 150,
    save_every: Annotated[int, typer.Option(min=2, help="Steps from a checkpoint to the next.")] = 30,
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of all.")] = Path("gpt-fsdp-compared"),
) -> None:
    """Train in 1, 2 and 4 processes, kill one of 4 and go on in 2, with both formats; draw the losses."""
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    panels = figure.subplots(2, len(FORMATS), sharex=True, sharey="row", squeeze=False, height_ratios=[5, 3])
    for column, (name, options) in enumerate(FORMATS.items()):
        runs = dict(all_runs(steps, save_every, output / name.replace(" ", "-").replace(",", ""), options))
        draw((panels[0, column], panels[1, column]), name, runs, kill_step(steps, save_every))
    panels[0, 0].set_ylabel("training loss, nats a letter")
    panels[1, 0].set_ylabel("relative difference\nfrom one process")
    panels[0, 0].legend(frameon=False, title="processes", alignment="left")
    figure.savefig(output / "gpt_fsdp.png", dpi=100)
    Console().print(f"Picture: {output / 'gpt_fsdp.png'}")


if __name__ == "__main__":
    app()
