"""How much memory do formats really take, and does a step or a backward pass hide a copy?

python -m benchmarks.formats_memory

Each row is a process of its own. "kept" is what `describe()` says of parameters and states; a step's growth is the peak
of resident memory during three steps over what it was before. With gradient release the peak of a whole
training step is compared: forward, backward, step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.harness import report

LAYERS, WIDTH = 20, 1_000
N = LAYERS * WIDTH * WIDTH
MODES: dict[str, tuple[str, dict[str, str]]] = {
    "float32": ("float32", {}),
    "bfloat16 split32": ("bfloat16", {"weights": "split32"}),
    "bfloat16 split24, states bfloat16": ("bfloat16", {"weights": "split24", "states": "bfloat16"}),
    "bfloat16 split24, states 8bit": ("bfloat16", {"weights": "split24", "states": "8bit"}),
}

_PEAK = """
import json, sys
import torch, steprule.torch
layers, width, dtype, options, releases = *map(int, sys.argv[1:3]), sys.argv[3], json.loads(sys.argv[4]), sys.argv[5]
torch.set_num_threads(1)
def reset():
    open("/proc/self/clear_refs", "w").write("5")
    return peak()
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
def made(layers, width):
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width, bias=False) for _ in range(layers)))
    model = model.to(getattr(torch, dtype))
    return model, steprule.torch.AdamW(model.parameters(), lr=1e-3, **options)
def train(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(1, model[0].in_features, dtype=getattr(torch, dtype))).sum().backward()
    optimizer.step()
train(*made(1, 128))  # what is loaded or compiled at the first step is no memory of a step
model, optimizer = made(layers, width)
handle = steprule.torch.step_in_backward(optimizer) if releases == "released" else None
train(model, optimizer)
optimizer.zero_grad()
empty = reset()
train(model, optimizer)
whole = peak() - empty
before = reset()
for _ in range(3):
    optimizer.step()
print(json.dumps({"text": optimizer.describe().splitlines()[0], "whole": whole, "step": peak() - before}))
"""


def _measured(dtype: str, options: dict[str, str], releases: bool) -> dict[str, float]:
    how = "released" if releases else "kept"
    command = [sys.executable, "-c", _PEAK, str(LAYERS), str(WIDTH), dtype, json.dumps(options), how]
    # Otherwise the C library keeps freed gradients for later, and a peak does not show them.
    world = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=world)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    rows, raw = [], {}
    for name, (dtype, options) in MODES.items():
        usual, released = _measured(dtype, options, False), _measured(dtype, options, True)
        raw[name] = {"usual": usual, "released": released}
        text = str(usual["text"])
        kept = text.split(" with optimizer state, ")[1].replace(" bytes per parameter", "")
        rows.append([name, kept, *(f"{n / 1e6:.1f}" for n in (usual["step"], usual["whole"], released["whole"]))])
    headings = [
        "",
        "bytes a parameter kept",
        "three steps add, MB",
        "a training step adds, MB",
        "with gradient release, MB",
    ]
    report(f"Memory of AdamW on {LAYERS} matrices of {WIDTH} x {WIDTH}", headings, rows, raw)


if __name__ == "__main__":
    main()
