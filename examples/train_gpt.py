"""Train a small GPT, letter by letter, on the sources of Python's standard library.

Run it with

    pip install '.[torch,race]'                 # in a checkout of steprule
    python examples/train_gpt.py                # --device cuda on a GPU

It trains with an optimizer of steprule.torch, then with torch.optim's of that name, plain and fused, from the
same weights on the same batches: two minutes on two cores (``--no-compare`` trains once). It shows where the
time went, lets the model write, and draws the losses. What differs in rounding at first has grown to a
percent later, between torch's own two optimizers as well.

With ``--optimizer muon`` or ``normuon`` AdamW steps all but the matrices of the blocks; ``schedule_free_adamw`` has no
schedule but its warm-up, and is compared with the package of its authors. Which of them learns most is another
question, which one run does not answer: see gpt_optimizers.py.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn
from rich.syntax import Syntax
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

import steprule.torch

LETTERS = 2_000_000
CLIP = 1.0
VALIDATE_EVERY, VALIDATION_BATCHES = 100, 16
# Not SparseAdam: it wants the gradients of sparse embeddings.
CLASSES = {name for name in steprule.torch.__all__ if isinstance(getattr(steprule.torch, name), type)}
OPTIMIZERS = sorted(CLASSES - {"Optimizer", "SparseAdam"})
RULES = {"schedule_free_adamw": "AdamWScheduleFree", "schedule_free_sgd": "SGDScheduleFree"}
"""Rules whose class is called otherwise than they are."""
Make = Callable[[nn.Module, float, float, int], torch.optim.Optimizer]
"""What makes an optimizer of a model, a learning rate, a weight decay, and the number of steps to come."""


@dataclass(frozen=True)
class Config:
    """The size of the model and of its batches; letters are ASCII."""

    vocabulary: int = 128
    context: int = 64
    layers: int = 4
    heads: int = 4
    width: int = 128
    batch: int = 8


@dataclass
class Run:
    """The loss of each step, that of the validation by its step, and where the time went."""

    losses: list[float] = field(default_factory=list)
    validation: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    in_optimizer: float = 0.0


def standard_library() -> Tensor:
    """Return the letters of the standard library's modules, as numbers."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    sources = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return torch.tensor(list(sources[:LETTERS].encode("ascii", "replace")))


class Block(nn.Module):
    """Attention to what came before, then a network for each position; both are added to what comes in."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (batch, position, width) with what the block adds."""
        query, key, value = self.attend(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        thought: Tensor = self.narrow(functional.gelu(self.widen(self.norm_2(x))))
        return x + thought


class GPT(nn.Module):
    """A decoder like GPT-2, with one matrix for the letters at both ends."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.letters = nn.Embedding(config.vocabulary, config.width)
        self.places = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # 2 * layers of these add up: the sum should start as large as one would.
                added = name.endswith(("mix.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers) if added else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores (batch, position, letter) of what follows each of ``tokens``."""
        x = self.blocks(self.letters(tokens) + self.places[: tokens.shape[1]])
        return functional.linear(self.norm(x), self.letters.weight)

    def loss(self, tokens: Tensor, following: Tensor) -> Tensor:
        """Return the mean cross entropy, in nats a letter."""
        return functional.cross_entropy(self(tokens).flatten(0, 1), following.flatten())


def batches(tokens: Tensor, config: Config, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield windows at random places, the same ones on every device, and those windows one letter further on."""
    generator, window = torch.Generator().manual_seed(seed), torch.arange(config.context + 1)
    while True:
        starts = torch.randint(len(tokens) - config.context, (config.batch, 1), generator=generator)
        chosen = tokens[(starts + window).to(tokens.device)]
        yield chosen[:, :-1], chosen[:, 1:]


def groups(model: nn.Module, kind: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups, of which only the first, the matrices, decays."""
    matrices: dict[str, Any] = {"params": [parameter for parameter in model.parameters() if parameter.ndim >= 2]}
    others: dict[str, Any] = {"params": [parameter for parameter in model.parameters() if parameter.ndim < 2]}
    if "weight_decay" in inspect.signature(kind).parameters:
        matrices["weight_decay"], others["weight_decay"] = weight_decay, 0.0
    return [matrices, others]


def muon_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the matrices of the blocks, which Muon is for, and the others for AdamW; vectors do not decay.

    Muon's steps are made as large as AdamW's, so that one learning rate is for both.
    """
    inside = {id(own) for name, own in model.named_parameters() if name.startswith("blocks.") and own.ndim == 2}
    matrices, others = groups(model, torch.optim.AdamW, weight_decay)
    chosen = [own for own in matrices["params"] if id(own) in inside]
    outside = [own for own in matrices["params"] if id(own) not in inside]
    return [{**matrices, "params": chosen, "adjust_lr_fn": "match_rms_adamw"}, {**matrices, "params": outside}, others]


class Both(torch.optim.Optimizer):
    """Two optimizers as one: torch.optim.Muon takes matrices alone."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Any = None) -> Any:
        """Step both."""
        return [part.step() for part in self.parts]


def torch_muon(model: nn.Module, lr: float, weight_decay: float, steps: int) -> Both:
    """Return torch.optim.Muon for the matrices of the blocks, and AdamW for all else."""
    matrices, *others = muon_groups(model, weight_decay)
    return Both(torch.optim.Muon([matrices], lr=lr), torch.optim.AdamW(others, lr=lr))


def our_muon(model: nn.Module, lr: float, weight_decay: float, steps: int) -> torch.optim.Optimizer:
    """Return the same as one optimizer of steprule."""
    matrices, *others = muon_groups(model, weight_decay)
    made: torch.optim.Optimizer
    made = steprule.torch.Muon([matrices, *({"rule": "adamw", "lr": lr, **own} for own in others)], lr=lr)
    return made


def our_normuon(model: nn.Module, lr: float, weight_decay: float, steps: int) -> torch.optim.Optimizer:
    """Return NorMuon for the matrices of the blocks, and AdamW for all else, as one optimizer of steprule."""
    matrices, *others = muon_groups(model, weight_decay)
    del matrices["adjust_lr_fn"]  # NorMuon's own choice is that of AdamW's size
    made: torch.optim.Optimizer
    made = steprule.torch.Optimizer([{"rule": "normuon", "lr": lr, **matrices}, *others], rule="adamw", lr=lr)
    return made


def of(kind: Any) -> Make:
    """Return what makes optimizers of a class. One that knows how to warm up by itself needs no schedule."""

    def make(model: nn.Module, lr: float, weight_decay: float, steps: int) -> torch.optim.Optimizer:
        warmup = {"warmup_steps": max(1, steps // 10)} if "warmup_steps" in inspect.signature(kind).parameters else {}
        made: torch.optim.Optimizer = kind(groups(model, kind, weight_decay), lr=lr, **warmup)
        return made

    return make


@contextmanager
def evaluating(optimizer: Any) -> Iterator[None]:
    """Let the parameters be those to evaluate, of an optimizer that trains at other ones."""
    if not hasattr(optimizer, "eval"):
        yield
        return
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()


def warmup_cosine(optimizer: torch.optim.Optimizer, steps: int) -> SequentialLR:
    """Let the learning rate rise over the first tenth of the steps, and fall to zero over the others."""
    warmup = max(1, steps // 10)
    rise = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
    fall = CosineAnnealingLR(optimizer, T_max=max(1, steps - warmup))
    return SequentialLR(optimizer, [rise, fall], milestones=[warmup])


@torch.no_grad()
def validate(model: GPT, tokens: Tensor) -> float:
    """Return the mean loss of a few batches, always the same ones."""
    some = batches(tokens, model.config, seed=0)
    return sum(model.loss(*next(some)).item() for _ in range(VALIDATION_BATCHES)) / VALIDATION_BATCHES


def now(device: torch.device) -> float:
    """Return the time when the device has done what it was told so far."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()


def train(
    model: GPT, optimizer: torch.optim.Optimizer, tokens: Tensor, steps: int, seed: int = 0,
    watch: Callable[[Run], None] = lambda run: None, every: int = VALIDATE_EVERY,
) -> Run:  # fmt: skip
    """Train on the first nine tenths of ``tokens``, validate with the rest; ``watch`` is told after each step."""
    first, rest = tokens.tensor_split([len(tokens) * 9 // 10])
    run, stream = Run(), batches(first, model.config, seed)
    schedule = None if "warmup_steps" in optimizer.param_groups[0] else warmup_cosine(optimizer, steps)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for step in range(1, steps + 1):
        begin = now(tokens.device)
        loss = model.loss(*next(stream))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        before = now(tokens.device)
        optimizer.step()
        run.in_optimizer += now(tokens.device) - before
        if schedule:
            schedule.step()
        run.losses.append(loss.item())
        run.seconds += now(tokens.device) - begin
        if step % every == 0 or step == steps:
            with evaluating(optimizer):
                run.validation[step] = validate(model, rest)
        watch(run)
    return run


@torch.no_grad()
def sample(model: GPT, length: int = 500, temperature: float = 0.7) -> str:
    """Return a function as the model writes it."""
    tokens, generator = torch.tensor(list(b"def ")), torch.Generator().manual_seed(0)
    for _ in range(length):
        scores = model(tokens[None, -model.config.context :].to(model.places.device))[0, -1].cpu()
        following = torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, following])
    return bytes(tokens.tolist()).decode()


def differences(run: Run, reference: Run) -> list[float]:
    """Return how far apart the losses are at each step, as a share of the reference's."""
    return [abs(a - b) / b for a, b in zip(run.losses, reference.losses, strict=True)]


def smooth(values: Sequence[float], width: int = 20) -> list[float]:
    """Return running means."""
    return [sum(part) / len(part) for end in range(1, len(values) + 1) if (part := values[max(0, end - width) : end])]


def draw(runs: dict[str, Run], optimizer: str, path: Path) -> None:
    """Draw the losses and, below, how far they are from those of the other library."""
    both, other = len(runs) > 1, list(runs)[:2][-1]
    figure = Figure(figsize=(6.4, 5.4 if both else 3.6), layout="constrained")
    top, *below = figure.subplots(1 + both, sharex=True, squeeze=False, height_ratios=[5, 3][: 1 + both])[:, 0]
    looks = [("#56B4E9", 4.5, "-"), ("#1b1f24", 1.2, "-"), ("#D55E00", 1.2, "--")]
    for (name, run), (color, width, dashes) in zip(runs.items(), looks, strict=False):
        steps = range(1, len(run.losses) + 1)
        top.plot(steps, smooth(run.losses), dashes, color=color, linewidth=width, label=name)
        top.plot(*zip(*run.validation.items(), strict=True), "o", color=color, markersize=2 + width)
        for panel in below if name != other else ():
            panel.plot(steps, smooth(differences(run, runs[other])), color=color, linewidth=1.2, label=name)
    top.set(ylabel="nats a letter")
    top.set_title(f"{optimizer}: training loss (mean of 20 steps), validation loss (dots)", loc="left", fontsize=10)
    for panel in below:
        panel.set_yscale("symlog", linthresh=1e-7)
        panel.set_title(f"relative difference from {other}'s (mean of 20 steps)", loc="left", fontsize=10)
    for panel in (top, *below):
        panel.legend(frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    panel.set_xlabel("step")
    figure.savefig(path, dpi=120)


def report(runs: dict[str, Run], console: Console) -> None:
    """Show where the runs ended, how far their losses were from the other library's, and where their time went."""
    table = Table("", "training", "validation", "apart", "seconds", "in steps", box=SIMPLE)
    for name, run in runs.items():
        ends = f"{smooth(run.losses)[-1]:.4f}", f"{run.validation[len(run.losses)]:.4f}"
        apart = f"{max(differences(run, list(runs.values())[:2][-1])):.1e}"
        table.add_row(name, *ends, apart, f"{run.seconds:.1f}", f"{run.in_optimizer:.2f}")
    console.print(table)


def watching(progress: Progress, name: str, steps: int, letters: int) -> Callable[[Run], None]:
    """Return a function that shows a run as a line of ``progress``; a step reads ``letters``."""
    task = progress.add_task(name, total=steps, state="")

    def watch(run: Run) -> None:
        validation = "".join(f", validation {loss:.3f}" for loss in list(run.validation.values())[-1:])
        speed = f"{letters * len(run.losses) / run.seconds:,.0f} letters/s"
        progress.update(task, completed=len(run.losses), state=f"loss {run.losses[-1]:.3f}{validation}, {speed}")

    return watch


def find_class(name: str) -> str:
    """Return the name of a class of steprule.torch, given that or its rule's.

    Raises:
        ValueError: if there is none of that name.
    """
    for found in OPTIMIZERS:
        if name in (found, found.lower()) or RULES.get(name) == found:
            return found
    raise ValueError(f"no optimizer {name} for this model; there are {', '.join(OPTIMIZERS)}")


def entrants(name: str, compare: bool) -> dict[str, Make]:
    """Return what makes the optimizers to train with.

    Raises:
        ValueError: if there is none of that name, or nothing to compare it with.
    """
    name = find_class(name)
    ours = {"Muon": our_muon, "NorMuon": our_normuon}.get(name)
    found = {"steprule.torch": ours or of(getattr(steprule.torch, name))}
    return found | theirs(name) if compare else found


def theirs(name: str) -> dict[str, Make]:
    """Return what makes the optimizers of that name that others have.

    Raises:
        ValueError: if there is none.
    """
    if name in RULES.values():
        try:
            return {"schedulefree": of(getattr(importlib.import_module("schedulefree"), name))}
        except ImportError:
            raise ValueError(f"{name} is compared with schedulefree: install it, or add --no-compare") from None
    if not hasattr(torch.optim, name):
        raise ValueError(f"torch.optim has no {name} to compare with; add --no-compare")
    if name == "Muon":
        return {"torch.optim": torch_muon}
    kind = getattr(torch.optim, name)
    fused = "fused" in inspect.signature(kind).parameters
    return {"torch.optim": of(kind)} | ({"torch.optim, fused": of(partial(kind, fused=True))} if fused else {})


def find_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        ValueError: if there is none from which a number can be read.
    """
    try:
        torch.ones(1, device=name).item()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f"no device {name!r} here ({cause}); use --device cpu, or install a torch for it") from None
    return torch.device(name)


def main(
    optimizer: Annotated[str, typer.Option(help="A class of steprule.torch, or its rule: adamw, muon.")] = "AdamW",
    compare: Annotated[bool, typer.Option(help="Train with the other library, too.")] = True,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a run.")] = 1500,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 3e-3,
    weight_decay: Annotated[float, typer.Option(help="Of matrices, where the optimizer knows it.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and the batches.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: as many as torch takes.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or that of a GPU: cuda, cuda:1, ...")] = "cpu",
    output: Annotated[Path, typer.Option(file_okay=False, help="Folder of the picture.")] = Path("gpt-results"),
) -> None:
    """Train a small GPT on the sources of Python's standard library."""
    jobs, runs, config = {}, {}, Config()
    try:
        place = find_device(device)
        output.mkdir(parents=True, exist_ok=True)
        for name, make in entrants(optimizer, compare).items():
            torch.manual_seed(seed)
            model = GPT(config).to(place)
            jobs[name] = model, make(model, lr, weight_decay, steps)
    except (OSError, RuntimeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    torch.set_num_threads(threads or torch.get_num_threads())
    console, tokens, letters = Console(), standard_library().to(place), config.batch * config.context
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")) as progress:
        for name, job in jobs.items():
            runs[name] = train(*job, tokens, steps, seed, watching(progress, name, steps, letters))
    report(runs, console)
    model, trained = jobs["steprule.torch"]
    with evaluating(trained):
        console.print(Panel(Syntax(sample(model), "python"), title="It writes", width=80))
    draw(runs, optimizer, output / "loss.png")
    console.print(f"Picture: {output / 'loss.png'}")


if __name__ == "__main__":
    typer.run(main)
