"""Run benchmarks one after the other, each in a process of its own, and keep their results.

    python -m benchmarks               # those of speed and memory, in the order of their importance
    python -m benchmarks rules threads # these
    python -m benchmarks --list        # what there is, and how long each takes

Nothing else should run meanwhile. One that fails does not stop the others: its name is repeated at the end, and the
exit status is 1. Then ``python docs/generate.py`` writes the pages anew.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPEED = {
    "threads": 60,
    "torch_training": 300,
    "torch_large": 150,
    "torch_odd": 80,
    "torch_small": 250,
    "sharded": 60,
    "one_large": 20,
    "small": 15,
    "wake_up": 30,
    "rules": 190,
    "sums_large": 50,
    "sums_small": 20,
    "sums_memory": 30,
    "peers_large": 60,
    "peers": 600,
    "schedule_free_large": 40,
    "muon_gpt": 150,
    "agreement": 30,
    "formats_large": 60,
    "torch_guards": 25,
    "monitor": 30,
    "chunks": 25,
    "jax_large": 60,
    "zero_gradients": 60,
    "torch_zero_gradients": 20,
    "jax_compile": 260,
    "start_up": 30,
    "checkpoints": 60,
    "minimize": 15,
    "memory": 10,
    "torch_memory": 60,
    "formats_memory": 60,
    "lab_frames": 60,
}
"""Benchmarks of speed and memory, and about how many seconds each takes on two cores."""
LOSSES = {"formats_quality": 3600, "formats_codes": 1800, "formats_four_bits": 1800}
"""Those of losses, which are the same on every processor: they run only if they are named."""


def chosen(words: Sequence[str]) -> dict[str, int]:
    """Return the benchmarks of these names, or those of speed and memory, with the seconds that each takes."""
    every = SPEED | LOSSES
    if unknown := [word for word in words if word not in every]:
        raise SystemExit(f"no benchmarks are called {', '.join(unknown)}; there are {', '.join(every)}")
    return {word: every[word] for word in words} or SPEED


def run(benchmarks: Mapping[str, int]) -> list[str]:
    """Run benchmarks and say how it goes; return the names of those that failed."""
    failed = []
    for number, (name, seconds) in enumerate(benchmarks.items(), 1):
        print(f"{number} of {len(benchmarks)}: {name}, about {seconds} s", flush=True)
        start = time.monotonic()
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=False).returncode
        outcome = f"failed with status {status}" if status else "done"
        print(f"{name} {outcome} after {time.monotonic() - start:.0f} s", flush=True)
        failed += [name] * bool(status)
    return failed


def main(words: Sequence[str]) -> int:
    """Run the benchmarks that are named; return the exit status."""
    if list(words) == ["--list"]:
        for name, seconds in (SPEED | LOSSES).items():
            print(f"{name:24}{seconds:6} s{'  only if named' * (name in LOSSES)}")
        print(f"{'without names':24}{sum(SPEED.values()):6} s")
        return 0
    failed = run(chosen(words))
    print(f"failed: {', '.join(failed)}" if failed else "All done; now: python docs/generate.py")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
