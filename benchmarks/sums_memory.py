"""How much memory do Adafactor and its like take on 20 matrices of 1000 x 1000, kept and in a step?

python -m benchmarks.sums_memory

Each row is a process of its own, which takes three steps through PyTorch. What is kept are the optimizer's tensors;
what a step adds is the peak of resident memory during it over what it was before, once the state is there.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.harness import report

LAYERS, WIDTH = 20, 1_000
MODES = {
    "adamw": "steprule.torch.AdamW(params)",
    "lamb": 'steprule.torch.Optimizer(params, "lamb")',
    "adafactor": "steprule.torch.Optimizer(params, adafactor)",
    "adafactor, beta1=0.9": "steprule.torch.Optimizer(params, adafactor, beta1=0.9)",
    "came": "steprule.torch.Optimizer(params, came)",
    "adam_mini": "steprule.torch.Optimizer(params, adam_mini)",
    "torch.optim.Adafactor, foreach": "torch.optim.Adafactor(params, foreach=True)",
    "torch.optim.Adafactor, for-loop": "torch.optim.Adafactor(params, foreach=False)",
}

_PEAK = """
import json, sys
import torch, steprule.torch
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
layers, width, made = *map(int, sys.argv[1:3]), sys.argv[3]
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
def optimizer(layers, width):
    params = [torch.nn.Parameter(torch.randn(width, width)) for _ in range(layers)]
    for param in params:
        param.grad = torch.randn(width, width)
    return eval(made), params
small, _ = optimizer(2, 8)
for _ in range(2):
    small.step()  # what is loaded or compiled at the first step is no memory of a step
own, params = optimizer(layers, width)
own.step()
kept = sum(slot.numel() * slot.element_size() for state in own.state.values() for slot in state.values() if slot.ndim)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
for _ in range(3):
    own.step()
print(json.dumps({"kept": kept, "step": peak() - before}))
"""


def _measured(made: str) -> dict[str, int]:
    command = [sys.executable, "-c", _PEAK, str(LAYERS), str(WIDTH), made]
    found: dict[str, int] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> None:
    raw = {name: _measured(made) for name, made in MODES.items()}
    matrix = 4 * WIDTH * WIDTH
    rows = [
        [name, f"{own['kept']:,}", f"{own['kept'] / (LAYERS * matrix / 4):.3f}", f"{own['step'] / matrix:.2f}"]
        for name, own in raw.items()
    ]
    headings = ["", "bytes of state", "a parameter", "three steps add, in sizes of a matrix"]
    report(f"Memory on {LAYERS} matrices of {WIDTH} x {WIDTH} float32", headings, rows, raw)


if __name__ == "__main__":
    main()
