"""What is shown of measured results: docs/benchmarks.md, and the figures that other pages name.

Results lie in benchmarks/results/PROCESSOR/NAME.json. The page shows a table for each processor; a figure is the range
over the processors on which its benchmark has been run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steprule.bench.compare import Comparison
from steprule.bench.report import markdown
from steprule.report.table import markdown_table

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
COMPARED = Path(__file__).parent / "gpt_optimizers.json"
Write = Callable[[float], str]

_BENCHMARKS = """# Benchmarks

Generated from `benchmarks/results/` by `docs/generate.py`; do not edit. Contestants take turns within one run, and a
ratio is the median of the ratios of all turns, because these machines are shared and noisy: milliseconds say little,
ratios much more. The streaming limit reads and writes the same arrays and computes next to nothing: it is the fastest
of several loops in C (`benchmarks/streaming.py`), measured in the same turns, and tables say which one (those that
do not are older, and have one loop alone, which OpenMP shares in equal parts).

Every table names its processor, and results of two processors are never in one table. `python -m benchmarks` runs all
of them on yours, and keeps the results in a folder of their own.
"""

_REMARKS = {
    "one_large": "The limit reads four arrays and writes three: 28 bytes an element.\n",
    "rules": "Each rule is compared with a limit that has the same number of reads and writes.\n",
    "sums_large": (
        "A matrix of 4,000 x 5,000. The limit is a loop for each pass: of `4, 4 + 3` one that reads four arrays, and\n"
        "one that reads four and writes three. A pass with divisions and a root may be bound by these.\n"
    ),
    "threads": (
        "One array, by one thread and by two, in steps on end and after pauses, in which workers fall asleep. Beside\n"
        "arrays that a cache holds, two threads of a loop in C, of which a bare futex wakes the second.\n"
    ),
    "wake_up": (
        "From the launching thread's call to the first instruction of a worker's kernel, beside a C thread that does\n"
        "nothing but wait on a futex; both run on another processor than the launching thread. A worker looks around\n"
        "for some microseconds before it sleeps.\n"
    ),
    "chunks": "Larger chunks would not divide evenly among threads; see docs/decisions/machine-code.md.\n",
    "small": "With little data to move, what remains is the overhead of Python and the launch.\n",
    "sums_small": (
        "LAMB and LARS go twice over all tensors, Adafactor three times, CAME four times. Of a vector, Adafactor and\n"
        "CAME keep a number of each element, as of columns, which are summed in float64.\n"
    ),
    "sums_memory": (
        "Through PyTorch. The paper promises Adafactor 8,000 bytes of state for a matrix of 4,000,000 bytes. No step\n"
        "makes anything of the size of a matrix.\n"
    ),
    "peers_large": (
        "Through PyTorch, and optax jitted and donated. A sweep over one large matrix goes to memory; of 20 matrices\n"
        "each fits a cache, which serves those who step one after the other.\n"
    ),
    "peers": "Who they are, what is measured, and more of it: [beside other libraries](peers.md).\n",
    "schedule_free_large": (
        "Four arrays are read, three written. The authors' package steps the same arrays, in both of its modes. The\n"
        "switch to the point of evaluation reads two arrays and writes two, and the way back, which is exact, copies\n"
        "one. Bytes a parameter: what is kept while in evaluation.\n"
    ),
    "muon_gpt": (
        "The matrices of a GPT-2 half as wide as the small one: a quarter of its elements. `torch.optim` multiplies\n"
        "in bfloat16 on every processor, which is slow where there are no instructions for it. The limit is a loop\n"
        "that reads two arrays and writes one, and one that reads four and writes two.\n"
    ),
    "agreement": (
        "Noisy gradients that lead to a target, the same for both; at the point of evaluation, where there are two.\n"
        "In float64 what is left is rounding. `torch.optim` multiplies in bfloat16; its own code in other types shows\n"
        "what of the difference that is. `optax` adds its eps of 1e-8 to norms, which here are at least that.\n"
    ),
    "zero_gradients": "Slots below the smallest normal number are stored as zero, so these steps keep their speed.\n"
    "Steps over parameters that weight decay has shrunk that far take longer ([formats](formats.md)).\n",
    "minimize": "With the loss of the best point kept, as `minimize` does.\n",
    "start_up": "Nothing is cached on disk: every process compiles what it uses.\n",
    "memory": "There are no temporaries of the size of a parameter.\n",
    "formats_large": (
        "Through PyTorch. Moved: bytes that must be read and written, with a gradient of the parameter's dtype.\n"
        "A format that stays below the memory limit is bound by arithmetic.\n"
    ),
    "formats_memory": "Each row runs in processes of its own. Gradients take 4 bytes per parameter (2 in bfloat16).\n",
    "formats_quality": (
        "Difference in the logarithm of the final training loss to float32 (or as the row says), with paired seeds.\n"
    ),
    "formats_codes": (
        "Why these codes, and why stochastic rounding: slots of Adam encoded and decoded after every step, in NumPy.\n"
    ),
    "formats_four_bits": 'Why these codes of 4 bits: as above, for the rows of `states="4bit"` and its rivals.\n',
    "torch_large": "Through PyTorch. Torch's optimizers step the same parameters and slots.\n",
    "torch_odd": "Through PyTorch, one tensor of a thousand odd. Only what is odd is looked at anew in every step.\n",
    "torch_small": "Through PyTorch. What remains is checking whether any tensor has changed its place or layout.\n",
    "torch_guards": (
        "Through PyTorch. The norm reads 4 bytes an element in addition to the step's 28, update_clip 8. Torch reads\n"
        "4 for the norm, and reads and writes 4 to scale the gradients.\n"
    ),
    "monitor": (
        "A step that is read adds up about 25 more numbers an element. The last column is with every=50 and a\n"
        "backward.\n"
    ),
    "checkpoints": "A save checks every byte, syncs and renames; the copy only writes, syncs and renames.\n",
    "torch_zero_gradients": (
        "How much torch's fused implementation slows down on subnormal numbers depends on the processor.\n"
    ),
    "torch_memory": "The two slots are created in these steps. A transposed gradient is read without a copy.\n",
    "sharded": (
        "Each of the two processes has a core, half of the elements and half of the memory's speed. Plain tensors are\n"
        "the same parts without their wrapping.\n"
    ),
    "jax_large": "XLA makes three loops of an Adam step: 7 arrays read and 3 written, where one pass reads 4.\n",
    "jax_compile": "Without any cache. Leaves of the same shape are traced once; XLA compiles each.\n",
    "lab_frames": "Including charts, which are drawn in turn. At 60 frames a second a frame has 16.7 ms in all.\n",
    "torch_training": (
        "Forward and backward are torch's, and vary by more than a step takes. The step right after a backward\n"
        "shares the processors with OpenMP's threads, which still spin; after a pause they sleep.\n"
    ),
    "gpu_step": "On a GPU ([how](gpu.md)).\n",
}


def results(name: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the results of a benchmark, one for each processor, in the order of their folders."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{name}.json"))]


def page(folder: Path = RESULTS) -> str:
    """Return docs/benchmarks.md."""
    if unknown := {path.stem for path in folder.glob("*/*.json")} - set(_REMARKS):
        raise ValueError(f"results of {sorted(unknown)} have no remark in docs/figures.py, which orders the page")
    sections = [_section(name, remark, results(name, folder)) for name, remark in _REMARKS.items()]
    return "\n".join([_BENCHMARKS, *sections])


def _section(name: str, remark: str, found: Sequence[dict[str, Any]]) -> str:
    """Return what the page says of a benchmark: its question, as the latest run asked it, and a table a processor."""
    if not found:
        return f"## {name}\n\n{remark}\nIt has not been run on any processor yet: `python -m benchmarks.{name}`.\n"
    question = max(found, key=lambda raw: str(raw["machine"]["date"]))["question"]
    return "\n".join([f"## {question}\n", remark, *(_table(name, raw) for raw in found)])


def _table(name: str, raw: dict[str, Any]) -> str:
    """Return a table below the name of its processor, and above what else its figures depend on."""
    rest = ", ".join(f"{key} {value}" for key, value in raw["machine"].items() if key not in ("processor", "device"))
    table = markdown_table(raw["headings"], raw["rows"])
    return "\n".join([f"**{_processor(raw)}**\n", table, f"\n`python -m benchmarks.{name}`; {rest}.\n"])


def _processor(raw: dict[str, Any]) -> str:
    """Return the name of what the benchmark ran on, a processor or a GPU."""
    about = raw["machine"]
    return str(about.get("processor") or about["device"])


def compared(path: Path = COMPARED) -> str:
    """Return the table of the optimizers that examples/gpt_optimizers.py has compared."""
    raw = json.loads(path.read_text())
    return f"\n{markdown_table(raw['headings'], raw['rows'])}\n"


def peers(folder: Path = RESULTS) -> str:
    """Return the tables of docs/peers.md, of the processor on which the comparison was run last."""
    found = results("peers", folder)
    if not found:
        return "\nIt has not been run on any processor yet: `python -m benchmarks.peers`.\n"
    raw = max(found, key=lambda one: str(one["machine"]["date"]))
    return f"\n{markdown(Comparison.of(raw['timings']['comparison']), level=3)}"


def figures(folder: Path = RESULTS) -> dict[str, str]:
    """Return the figures that pages name, as text."""

    def of(name: str, row: str, heading: str, write: Write) -> str:
        return span([_cell(name, raw, row, heading) for raw in _some(name, folder)], write)

    def beside_torch(name: str, row: str) -> str:
        fused = of(name, row, "times faster than fused", "{:.1f}".format)
        return f"{fused} times as fast ({of(name, row, 'times faster than default', '{:.0f}'.format)} times)"

    share = of("one_large", "share of the limit (limit / steprule)", "best ms", lambda value: f"{100 * value:.0f}")
    many = of("small", "1,000 x 1,000, the same gradients", "best us", lambda value: f"{value / 1000:.1f}")
    return {
        "times": of("one_large", "times faster than NumPy", "best ms", "{:.0f}".format),
        "share": f"{share} %",
        "tiny": of("small", "1 x 10", "best us", "{:.0f}".format) + " microseconds",
        "many": f"{many} ms",
        "torch_large": beside_torch("torch_large", "Adam"),
        "adamw_error": of("peers", "steprule torch", "error, ulp", "{:.1f}".format),
        "torch_error": of("peers", "torch fused", "error, ulp", "{:.0f}".format),
        "torch_many": beside_torch("torch_small", "Adam, 1,000 x 1,000"),
        "guards": _guards(folder),
        **{name: _of_optax(name, folder) for name in ("jax_large", "jax_compile")},
    }


def span(values: Sequence[float], write: Write) -> str:
    """Return the least and the largest value, or one of them where both are written alike."""
    least, largest = write(min(values)), write(max(values))
    return least if least == largest else f"{least} to {largest}"


def _some(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return the results of a benchmark, of at least one processor."""
    if found := results(name, folder):
        return found
    raise ValueError(f"a figure needs results of {name}; run: python -m benchmarks.{name}")


def _cell(name: str, raw: dict[str, Any], row: str, heading: str) -> float:
    """Return a number of a table."""
    for cells in raw["rows"]:
        if cells[0] == row and heading in raw["headings"]:
            return float(cells[raw["headings"].index(heading)])
    where = f"{name} on {_processor(raw)}"
    raise ValueError(f"{where} has no {heading!r} of {row!r}; run it there again: python -m benchmarks.{name}")


def _guards(folder: Path) -> str:
    """Return what clipping by the norm takes, as a share of torch's time, for one tensor and for many."""
    found = [raw["rows"] for raw in _some("torch_guards", folder)]
    shares = zip(*([float(row[-1]) for row in rows if row[1] == "clip_norm"] for rows in found), strict=True)
    large, many = (span(each, "{:.2f}".format) for each in shares)
    return f"{large} (20 million in one tensor) and {many} (a thousand of a thousand)"


def _of_optax(name: str, folder: Path) -> str:
    """Return the shares of optax's time, from the least to the largest."""
    rows = [row for raw in _some(name, folder) for row in raw["rows"]]
    return span([float(row[-1]) for row in rows if not row[0].startswith("optax")], "{:.2f}".format)
