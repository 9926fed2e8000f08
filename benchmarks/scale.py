"""What do a rule's formats take for models of 8, 70 and 405 billion parameters, by the number of ranks?

python -m benchmarks.scale [--rule adamw] [--bandwidth 3350] [--ranks 1,8,64,512]

Arithmetic, in Markdown: nothing is measured, no array is made. Bytes are those of ``describe()`` for a large
matrix, and those that ``steprule emit`` says a step moves; norms and biases, which keep float32 states, are less than a
thousandth of such models. A rank keeps its share of every parameter, as with FSDP2's ``fully_shard``; with data
parallelism alone it keeps what the table says of one rank. A step takes at least the time in which memory moves its
bytes; products of matrices, and what ranks send to each other (sums over tensors, norms of gradients), come on top.
Gradients have their parameter's type. A checkpoint holds the parameters and states of all ranks together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from steprule.backends.passes import bytes_moved, passes
from steprule.doors.describe import line
from steprule.engine import codecs_of, plan
from steprule.errors import StepruleError
from steprule.formats import FORMATS, MIN_ELEMENTS, Formats
from steprule.rules import Rule, load

MODELS = {"8 B": 8e9, "70 B": 70e9, "405 B": 405e9}
"""Parameters of models, those of Llama 3 (arXiv:2407.21783)."""
CHOICES = (
    ("float32", "nearest", "float32"),
    ("float32", "nearest", "bfloat16"),
    ("float32", "nearest", "8bit"),
    ("float32", "nearest", "4bit"),
    ("bfloat16", "nearest", "float32"),
    ("bfloat16", "split32", "float32"),
    ("bfloat16", "split24", "bfloat16"),
    ("bfloat16", "split24", "8bit"),
    ("bfloat16", "split24", "4bit"),
    ("bfloat16", "stochastic", "4bit"),
)
"""The type of parameters, ``weights=`` and ``states=``."""
BANDWIDTH = 3350.0
"""GB/s of the memory of an H100 SXM, by NVIDIA's data sheet; an A100 of 80 GB has 2039, an H200 4800."""
RANKS = (1, 8, 64, 512)
_SHAPE = (8192, 8192)


@dataclass(frozen=True)
class Costs:
    """Bytes a parameter: kept by the optimizer with the parameter itself, of its gradient, and moved by a step."""

    kept: float
    gradient: float
    moved: float

    def checkpoint(self, parameters: float) -> float:
        """Return the GB of a checkpoint with parameters and states."""
        return parameters * self.kept / 1e9

    def on_rank(self, parameters: float, ranks: int) -> float:
        """Return the GB that a rank keeps during a step, its gradients included."""
        return parameters * (self.kept + self.gradient) / ranks / 1e9

    def step(self, parameters: float, ranks: int, bandwidth: float) -> float:
        """Return the milliseconds that the memory of a rank, in GB/s, takes for what a step moves."""
        return parameters * self.moved / ranks / bandwidth / 1e6


def costs(rule: Rule, parameter: str, weights: str, states: str) -> Costs:
    """Return the bytes of a rule with its default options, as ``describe()`` has them."""
    variant = rule.variant(rule.resolve({}))
    trace, kind = rule.trace(variant), FORMATS[parameter]
    formats = Formats.of(states, weights, MIN_ELEMENTS, tuple(trace.slots), points=rule.points)
    storage = formats.storage(kind, _SHAPE, trace.slots, parameter)
    own = prod(_SHAPE) * np.dtype(storage.of_parameter().planes[0].dtype).itemsize
    found = line("", _SHAPE, parameter, own, codecs_of(rule, variant, storage), rule, storage, tuple(trace.per_tensor))
    moved = sum(map(bytes_moved, passes(plan(rule, variant, storage)).values()))
    return Costs(found.nbytes / found.elements, found.grad / found.elements, moved)


def choices(rule: Rule) -> dict[str, Costs]:
    """Return the costs of the formats that do something for a rule, by their words."""
    has_slots = any(slot not in rule.points for slot in rule.trace().slots)
    return {
        f"{parameter}{'' if weights == 'nearest' else f' {weights}'}, {states}": costs(rule, parameter, weights, states)
        for parameter, weights, states in CHOICES
        if has_slots or states == "float32"
    }


def tables(rule: Rule, bandwidth: float, ranks: Sequence[int]) -> Iterable[str]:
    """Yield the lines of the page: bytes a parameter, then a table for each model."""
    found = choices(rule)
    yield f"Bytes a parameter of `{rule.name}`, by the parameters' format and the states':\n"
    yield from _table(
        ["parameters, states", "kept", "kept, with gradients", "moved by a step"],
        [[words, *map(_short, (one.kept, one.kept + one.gradient, one.moved))] for words, one in found.items()],
    )
    for model, parameters in MODELS.items():
        yield f"\n{model} parameters; a rank's memory with gradients, and its step at {bandwidth:,.0f} GB/s:\n"
        headings = ["parameters, states", "checkpoint", *(f"{count} rank{'s' * (count > 1)}" for count in ranks)]
        yield from _table(
            headings, [[words, *_cells(one, parameters, bandwidth, ranks)] for words, one in found.items()]
        )


def _cells(one: Costs, parameters: float, bandwidth: float, ranks: Sequence[int]) -> Iterable[str]:
    yield f"{_digits(one.checkpoint(parameters))} GB"
    for count in ranks:
        memory, time = one.on_rank(parameters, count), one.step(parameters, count, bandwidth)
        yield f"{_digits(memory)} GB, {_digits(time)} ms"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    for cells in (headings, ["---"] * len(headings), *rows):
        yield f"| {' | '.join(cells)} |"


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _digits(number: float) -> str:
    """Return a number with three digits, or all of its whole ones."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables for the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rule", default="adamw", help="a rule as `steprule rules` takes it; adamw")
    parser.add_argument(
        "--bandwidth", type=_positive, default=BANDWIDTH, help=f"GB/s of a rank's memory; {BANDWIDTH:g}"
    )
    parser.add_argument("--ranks", type=_counts, default=RANKS, help=f"numbers of ranks; {','.join(map(str, RANKS))}")
    options = parser.parse_args(argv)
    try:
        rule = load(options.rule)
    except StepruleError as error:
        parser.error(str(error))
    print("\n".join(tables(rule, options.bandwidth, options.ranks)))


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return number


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"must be whole numbers of at least 1, got {text}")
    return counts


if __name__ == "__main__":
    main()
