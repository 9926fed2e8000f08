"""How fast is one AdamW step of 20 million parameters in every memory format, and how near to what the memory allows?

python -m benchmarks.formats_large

Through PyTorch, one tensor of 4,000 x 5,000, beside torch's fused AdamW and, where installed, torchao's AdamW8bit.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import steprule.torch
from benchmarks.harness import Timing, measure, ratio, report
from benchmarks.streaming import beside_limit

SHAPE = (4_000, 5_000)
N = SHAPE[0] * SHAPE[1]
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
OURS: dict[str, tuple[torch.dtype, dict[str, str]]] = {
    "float32": (FLOAT32, {}),
    "float32, states bfloat16": (FLOAT32, {"states": "bfloat16"}),
    "float32, states 8bit": (FLOAT32, {"states": "8bit"}),
    "float32, states 4bit": (FLOAT32, {"states": "4bit"}),
    "bfloat16 nearest": (BFLOAT16, {}),
    "bfloat16 stochastic": (BFLOAT16, {"weights": "stochastic"}),
    "bfloat16 split24": (BFLOAT16, {"weights": "split24"}),
    "bfloat16 split32": (BFLOAT16, {"weights": "split32"}),
    "bfloat16 split24, states bfloat16": (BFLOAT16, {"weights": "split24", "states": "bfloat16"}),
    "bfloat16 stochastic, states 8bit": (BFLOAT16, {"weights": "stochastic", "states": "8bit"}),
    "bfloat16 split24, states 8bit": (BFLOAT16, {"weights": "split24", "states": "8bit"}),
    "bfloat16 split24, states 4bit": (BFLOAT16, {"weights": "split24", "states": "4bit"}),
}
_STATE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "8bit": 1.0 + 1 / 128, "4bit": 0.5 + 1 / 128}
_LOW_BYTES = {"split24": 1.0, "split32": 2.0}


def _parameter(dtype: torch.dtype) -> Tensor:
    torch.manual_seed(0)
    param = torch.nn.Parameter((0.02 * torch.randn(SHAPE)).to(dtype))
    param.grad = (1e-3 * torch.randn(SHAPE)).to(dtype)
    return param


def _kept(dtype: torch.dtype, options: dict[str, str]) -> float:
    """Return the bytes of a parameter and what is kept with it."""
    states = _STATE_BYTES[options.get("states", "float32")]
    return dtype.itemsize + _LOW_BYTES.get(options.get("weights", ""), 0.0) + 2 * states


def _others() -> dict[str, tuple[Callable[[], Any], float]]:
    """Return what others have: a step, and the bytes of a parameter with its states."""
    others: dict[str, tuple[Callable[[], Any], float]] = {}
    for name, dtype in (("torch fused, float32", FLOAT32), ("torch fused, bfloat16", BFLOAT16)):
        optimizer = torch.optim.AdamW([_parameter(dtype)], fused=True)
        others[name] = optimizer.step, 3.0 * dtype.itemsize
    # torchao says on standard error which of its GPU libraries it could not load.
    with contextlib.suppress(ImportError), contextlib.redirect_stderr(io.StringIO()):
        from torchao.optim import AdamW8bit  # type: ignore[import-untyped, import-not-found, unused-ignore]

        others["torchao AdamW8bit, float32"] = AdamW8bit([_parameter(FLOAT32)]).step, 4.0 + 2 * (1 + 4 / 256)
    return others


def main() -> None:
    steps = {}
    for name, (dtype, options) in OURS.items():
        optimizer = steprule.torch.AdamW([_parameter(dtype)], **options)  # type: ignore[arg-type]
        steps[name] = (optimizer.step, _kept(dtype, options), dtype.itemsize)
    # The limit streams what a float32 step moves: four arrays read, three of them written.
    arrays = [np.ones(N, np.float32) for _ in range(4)]
    step_of = {name: step for name, (step, _, _) in steps.items()}
    limit, fast = beside_limit(step_of, arrays, [True, False, True, True], turns=21)
    others = _others()
    base = "bfloat16 split24, states 8bit"
    slow = measure({"base": steps[base][0], **{name: step for name, (step, _) in others.items()}}, turns=5)
    bandwidth = 28 * N / limit.timing.median
    named = f"streaming limit ({limit.name})"
    rows = [[named, "", "28", *_times(limit.timing), f"{bandwidth / 1e9:.0f}", "1.00", "", ""]]
    for name, (_, kept, width) in steps.items():
        timing, moved = fast[name], 2 * kept + width
        share = ratio(limit.timing, timing) * moved / 28
        rows.append(
            [
                name,
                f"{kept:.2f}",
                f"{moved:.1f}",
                *_times(timing),
                f"{moved * N / timing.median / 1e9:.0f}",
                f"{share:.2f}",
                f"{ratio(timing, fast['float32']):.2f}",
                "",
            ]
        )
    for name, (_, kept) in others.items():
        timing = slow[name]
        rows.append([name, f"{kept:.2f}", "", *_times(timing), "", "", "", f"{ratio(timing, slow['base']):.1f}"])
    headings = [
        "",
        "bytes kept",
        "moved",
        "best ms",
        "median ms",
        "GB/s",
        "of the limit",
        "x float32",
        "x split24 8bit",
    ]
    report(f"One AdamW step, {N:,} parameters, in every format", headings, rows, {named: limit.timing, **fast, **slow})


def _times(timing: Timing) -> tuple[str, str]:
    return f"{timing.best * 1e3:.1f}", f"{timing.median * 1e3:.1f}"


if __name__ == "__main__":
    main()
