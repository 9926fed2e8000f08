"""Does a GPU give the CPU's bits, and how near to the speed of its memory is a step, beside other optimizers?

PYTHONPATH=src python -m benchmarks.gpu_step

Needs torch, triton, numpy and llvmlite alone, and less than eight minutes. ``--device cpu --small`` tries the script.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
import torch

import steprule as sr
from benchmarks.gpu_bits import Outcome, compare
from benchmarks.gpu_models import FUSED, LOW, OURS, PLAIN, STATES_32, cases
from benchmarks.gpu_times import Meter, Result, Results, measure_all
from benchmarks.machine import RESULTS, slug

QUESTION = "AdamW on a GPU: how near to the bandwidth of a copy, and how fast beside others?"
HEADINGS = [
    "case", "format", "optimizer", "ms", "ms by events", "ms of the host", "bytes kept", "bytes moved", "GB/s",
    "of the copy", "times torch's speed", "remark",
]  # fmt: skip
SECONDS, SMALL_SECONDS = 420.0, 30.0
SHARE_OF_BITS = 0.35
Key = tuple[str, str, str]


def speed(results: Results, key: Key, other: Key) -> float | None:
    """Return how many times faster the first is than the second; None where one is missing."""
    mine, theirs = results.get(key), results.get(other)
    return theirs.median / mine.median if mine and theirs and mine.samples and theirs.samples else None


def row(result: Result, results: Results, *, wrong_bits: bool) -> list[str]:
    """Return a row of the table."""
    contestant = result.contestant
    key = (result.case, contestant.format, contestant.name)
    if not result.samples:
        return [*key, *[""] * (len(HEADINGS) - 4), result.remark]
    times = [f"{1e3 * seconds:.3f}" for seconds in (result.median, result.middle("events"), result.middle("host"))]
    remarks = [result.remark, "wrong bits" if wrong_bits and contestant.is_ours else ""]
    if not contestant.steps:
        return [*key, *times, *[""] * (len(HEADINGS) - 7), result.remark]
    rate = result.moved * result.elements / result.median / 1e9
    figures = [f"{result.kept:.2f}", f"{result.moved:.2f}", f"{rate:.0f}", f"{result.share:.3f}"]
    ratio = speed(results, key, (result.case, contestant.rival, FUSED))
    slower = speed(results, (result.case, PLAIN, contestant.name), key)
    if slower is not None and contestant.is_variation:
        remarks.append(f"{slower:.2f} of its plain step's time")
    return [*key, *times, *figures, "" if ratio is None else f"{ratio:.2f}", "; ".join(filter(None, remarks))]


def goals(results: Results, names: Sequence[str]) -> list[list[str]]:
    """Return what was to be reached, the figure, and whether it was."""
    found: list[list[str]] = []

    def add(what: str, figure: float | None, least: float, strictly: bool = False) -> None:
        if figure is None:
            found.append([what, "", "not measured"])
        else:
            reached = figure > least if strictly else figure >= least
            found.append([what, f"{figure:.3f}", "reached" if reached else "missed"])

    for name in (name for name in names if name != "many"):
        for format_, least in ((PLAIN, 0.92), (STATES_32, 0.92), (LOW, 0.85)):
            ours = results.get((name, format_, OURS))
            add(f"{name}, {format_}: {least} of the copy", ours.share if ours and ours.samples else None, least)
    for name in names:
        for key, result in results.items():
            rival = (name, result.contestant.rival, FUSED)
            if key[0] != name or not result.contestant.is_ours:
                continue
            ratio, what = speed(results, key, rival), "faster than torch fused"
            if key[1] == STATES_32:  # torch keeps bfloat16 states beside bfloat16 parameters: other bytes
                what += ", per byte moved"
                ratio = None if ratio is None else ratio * result.moved / results[rival].moved
            add(f"{name}, {key[1]}: {what}", ratio, 1.0, strictly=True)
    if "gpt" in names:
        ratio = speed(results, ("gpt", LOW, OURS), ("gpt", LOW, "flashoptim"))
        add(f"gpt, {LOW}: 1.5 times as fast as flashoptim", ratio, 1.5)
    return found


def machine(device: torch.device) -> dict[str, str]:
    """Return what the figures depend on."""
    found = {"device": platform.processor() or platform.machine()}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found = {"device": about.name, "memory": f"{about.total_memory / 2**30:.0f} GiB"}
        found["cuda"] = torch.version.cuda or f"hip {torch.version.hip}"
    try:
        triton = importlib.import_module("triton").__version__
    except ImportError:
        triton = "not installed"
    return {
        **found,
        "torch": torch.__version__,
        "triton": triton,
        "numpy": np.__version__,
        "llvmlite": llvmlite.__version__,
        "python": platform.python_version(),
        "steprule": sr.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def raw_timings(results: Results) -> dict[str, Any]:
    """Return the seconds of every turn, and the bytes a second of the copy beside it."""
    found: dict[str, Any] = {}
    for key, result in results.items():
        parts = {way: [getattr(sample, way) for sample in result.samples] for way in ("events", "host", "wall")}
        seconds = {"name": result.contestant.name, "seconds": result.seconds, **parts, "copies": result.copies}
        found[", ".join(key)] = seconds
    return found


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for line in (headings, ["-" * width for width in widths], *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_step", description=QUESTION)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script")
    parser.add_argument("--seconds", type=float, help=f"time for all; {SECONDS:.0f}, {SMALL_SECONDS:.0f} with --small")
    parser.add_argument("--out", type=Path, help="the JSON; results/GPU/gpu_step.json for a whole run on a GPU")
    parser.add_argument("--only", nargs="+", choices=list(cases(True)), help="the cases to measure")
    parser.add_argument("--bits-only", action="store_true", help="measure no times; all of the time for the bits")
    parser.add_argument("--small", action="store_true", help="tiny tensors and few checks, to try the script")
    return parser.parse_args(argv)


def device_of(name: str) -> torch.device | None:
    """Return the device, or None where there is none of that name."""
    try:
        device = torch.device(name)
    except RuntimeError:
        return None
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return torch.device("cuda", device.index or 0)
    return device if device.type == "cpu" else None


def report(options: argparse.Namespace, device: torch.device, outcome: Outcome, results: Results) -> None:
    """Print the tables and the goals, and keep all as JSON."""
    rows = [row(result, results, wrong_bits=bool(outcome.wrong)) for result in results.values()]
    reached = goals(results, options.only or list(cases(options.small))) if results else []
    copies = [copy for result in results.values() for copy in result.copies]
    copied = {"copy": f"{statistics.median(copies) / 1e9:,.0f} GB/s"} if copies else {}
    trial = options.small or device.type != "cuda"
    if rows:
        show(HEADINGS, rows)
        print(f"\na copy moves {copied.get('copy', 'nothing')}, bytes read and bytes written\n")
        show(["goal", "figure", "verdict"], reached)
    about = machine(device) | copied
    kept = RESULTS / slug(about["device"]) / "gpu_step.json"
    path = options.out or (None if trial or options.only or options.bits_only else kept)
    if path is None:
        return
    raw = {
        "question": QUESTION + (" (a trial of the script: the figures mean nothing)" if trial else ""),
        "machine": about,
        "headings": HEADINGS,
        "rows": rows,
        "goals": reached,
        "bits": {"planned": outcome.planned, "checked": outcome.done, "wrong": outcome.wrong},
        "timings": raw_timings(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw, indent=1) + "\n")
    print(f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare bits, measure, report.

    Returns:
        0; 1 where bits differ or a step of ours failed; 2 where there is no such device.
    """
    start, options = time.monotonic(), arguments(argv)
    device = device_of(options.device)
    if device is None:
        print(f"no device {options.device!r} here; nothing was measured. Try the script by --device cpu --small")
        return 2
    budget = options.seconds or (SMALL_SECONDS if options.small else SECONDS)

    def tell(words: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {words}", flush=True)

    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)  # tensors this small only make threads wait for each other
    tell(", ".join(f"{key} {value}" for key, value in machine(device).items()))
    outcome = compare(device, start + budget * (1 if options.bits_only else SHARE_OF_BITS), small=options.small)
    tell(f"{outcome.done} of {outcome.planned} checks of bits done, {len(outcome.wrong)} found wrong bits")
    results: Results = {}
    if not options.bits_only:
        chosen = {name: case for name, case in cases(options.small).items() if name in (options.only or [name])}
        results = measure_all(chosen, Meter(device, options.small), start + budget, tell)
    report(options, device, outcome, results)
    failed = any(result.failed for result in results.values() if result.contestant.is_ours)
    return int(bool(outcome.wrong) or failed)


if __name__ == "__main__":
    sys.exit(main())
