"""What every benchmark says of its machine, and how its results are shown and kept.

Contestants are timed by ``steprule.bench.timing``: in turns, and ratios are taken turn by turn.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import steprule as sr
from benchmarks.machine import RESULTS, processor, slug
from steprule.bench.timing import Timing, measure, ratio

__all__ = ["Timing", "machine", "measure", "ratio", "report"]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": processor(),
        "threads": sr.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: sys.modules[name].__version__ for name in ("torch", "jax", "optax") if name in sys.modules},
        "steprule": sr.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def report(question: str, headings: list[str], rows: list[list[str]], timings: Mapping[str, Any]) -> None:
    """Print the table and, of a whole run, keep the raw figures as JSON in ``results/PROCESSOR/``."""
    table = Table(*headings, title=question)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    if sys.argv[1:]:
        print("A run of a part, or of other numbers than usual, is not kept.")
        return
    raw: dict[str, Any] = {
        "question": question,
        "machine": machine(),
        "headings": headings,
        "rows": rows,
        "timings": {name: asdict(value) if isinstance(value, Timing) else value for name, value in timings.items()},
    }
    path = RESULTS / slug(raw["machine"]["processor"]) / f"{Path(sys.argv[0]).stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw, indent=1) + "\n")
