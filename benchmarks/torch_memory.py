"""How much memory do steps of 20 million float32 need through PyTorch, beyond parameter, gradient and slots?

python -m benchmarks.torch_memory
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import report

N = 20_000_000
SHAPE = (4_000, 5_000)
MODES = ("steprule", "fused", "default", "foreach")
GRADIENTS = ("as it is", "transposed", "a DTensor")

_PEAK = """
import resource, sys
import torch, steprule.torch
rows, columns, mode, gradient = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
place = lambda tensor: tensor
if gradient == "a DTensor":  # of a group of one process: its part is the whole
    from torch.distributed.tensor import DTensor, Shard, init_device_mesh
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    place = lambda tensor: DTensor.from_local(tensor, mesh, [Shard(0)])
adam = steprule.torch.Adam if mode == "steprule" else torch.optim.Adam
options = {mode: True} if mode in ("fused", "foreach") else {}
def optimizer(*shape):
    param = torch.nn.Parameter(place(torch.ones(shape)))
    param.grad = place(torch.ones(shape[::-1]).t() if gradient == "transposed" else torch.ones(shape))
    return adam([param], **options)
optimizer(3, 2).step()  # what is loaded or compiled at the first step is no memory of a step
large = optimizer(rows, columns)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(3):
    large.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _growth(mode: str, gradient: str) -> int:
    command = [sys.executable, "-c", _PEAK, *map(str, SHAPE), mode, gradient]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


def main() -> None:
    grown = {f"{mode}, gradient {how}": _growth(mode, how) for how in GRADIENTS for mode in MODES}
    slots = 2 * 4 * N
    rows = [
        [how, f"{bytes_ / 1e6:.1f}", f"{(bytes_ - slots) / 1e6:.1f}", f"{(bytes_ - slots) / (4 * N):.3f}"]
        for how, bytes_ in grown.items()
    ]
    headings = ["Adam", "peak memory grows by, MB", "beyond the two slots, MB", "in sizes of the parameter"]
    report(f"Peak memory of three Adam steps through PyTorch, {N:,} float32", headings, rows, grown)


if __name__ == "__main__":
    main()
