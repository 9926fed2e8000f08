"""How fast are checkpoints beside a plain copy of the same bytes, and how much memory do they take?

python -m benchmarks.checkpoints

The state of AdamW on 125 million float32 parameters in matrices, 1 GB, saved and loaded in turns with a copy that
writes the same arrays to a new file, syncs it and puts it in the place of the old one, and with one that reads them.
Pages of memory that a virtual machine has to ask its host for take several times as long as others, and whom they meet
is chance: so the best turn counts beside the median one. Figures of memory are of processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import steprule as sr
from benchmarks.harness import Timing, ratio, report

LAYERS, WIDTH, TURNS = 20, 2_500, 12
N = LAYERS * WIDTH * WIDTH

_PEAK = """
import sys
import numpy as np, steprule as sr
layers, width, path, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
def now():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
if how.startswith("safetensors"):
    from safetensors.numpy import save_file
optimizer = sr.Optimizer([np.ones((width, width), np.float32) for _ in range(layers)], "adamw")
arrays = [array for slot in ("m", "v") for array in optimizer.slots[slot]]
for array in arrays:
    array += 1
sr.save(path, sr.Optimizer(np.ones(3), "adamw"))
open("/proc/self/clear_refs", "w").write("5")
before = now()
if how == "load":
    sr.load(path + ".whole")
elif how.startswith("safetensors"):
    save_file({str(i): array for i, array in enumerate(arrays)}, path)
else:
    handle = sr.save(path, optimizer, background=how == "background")
    if handle:
        handle.result()
print((peak() - before) / sum(array.nbytes for array in arrays))
"""


def _copy(arrays: list[Any], path: Path) -> None:
    new = path.with_name("new")
    with open(new, "wb", buffering=0) as file:
        for array in arrays:
            file.write(array)
        os.fsync(file.fileno())
    os.replace(new, path)


def _read(arrays: list[Any], path: Path) -> list[Any]:
    with open(path, "rb", buffering=0) as file:
        new: list[Any] = [np.empty_like(array) for array in arrays]
        for array in new:
            file.readinto(array)
    return new


def _timed(contestants: dict[str, Callable[[], object]]) -> dict[str, Timing]:
    """Let the contestants take turns, each the first in every other; what the last one left to the disk is synced."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(TURNS + 1):
        for name, function in list(contestants.items())[:: -1 if turn % 2 else 1]:
            os.sync()
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(name, values) for name, values in seconds.items()}


def _peak(path: Path, how: str) -> float:
    command = [sys.executable, "-c", _PEAK, str(LAYERS), str(WIDTH), str(path), how]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _share(other: Timing, own: Timing) -> str:
    return f"{other.best / own.best:.2f} by the best turns, {ratio(other, own):.2f} turn by turn"


def main() -> None:
    optimizer = sr.Optimizer([np.ones((WIDTH, WIDTH), np.float32) for _ in range(LAYERS)], "adamw")
    optimizer.step([np.full((WIDTH, WIDTH), i, np.float32) for i in range(LAYERS)])
    arrays = [array for slot in ("m", "v") for array in optimizer.slots[slot]]
    size = sum(array.nbytes for array in arrays)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCHMARK_DIR")) as directory:
        path, plain = Path(directory) / "checkpoint", Path(directory) / "copy"
        # Apart, since writing leaves memory that takes longer to be given out again.
        times = _timed({"save": lambda: sr.save(path, optimizer), "copy, with sync": lambda: _copy(arrays, plain)})
        times |= _timed({"load": lambda: sr.load(path), "read": lambda: _read(arrays, plain)})
        whole = path.with_name("checkpoint.whole")
        path.rename(whole)
        memory = {how: _peak(path, how) for how in ("save", "background", "load", "safetensors' save_file")}
    rows = [[name, f"{size / t.best / 1e9:.2f}", f"{size / t.median / 1e9:.2f}", ""] for name, t in times.items()]
    rows[0][3] = _share(times["copy, with sync"], times["save"])
    rows[2][3] = _share(times["read"], times["load"])
    rows += [[f"memory beyond the state: {how}", "", "", f"{share:.3f} of the state"] for how, share in memory.items()]
    headings = ["", "GB/s, best turn", "GB/s, median turn", "share of the speed in the row below, or of the state"]
    report(f"Checkpoints of {size / 1e9:.1f} GB of AdamW's state", headings, rows, {**times, "memory": memory})


if __name__ == "__main__":
    main()
