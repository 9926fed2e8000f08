"""PyTorch's optimizers, with the rules of steprule: ``from steprule.torch import AdamW``.

Names, arguments, defaults, errors and state dicts are those of torch.optim. ``foreach=`` and ``fused=`` are accepted
without effect: a step is one fused pass over all parameters that kernels can step in place, on the CPU and on a GPU
(for the others see docs/torch.md). ``capturable=`` is for CUDA graphs, and has no effect on the CPU. States are float32
for float16 and bfloat16 parameters, or as ``states=`` says.
``lr_scheduler`` and ``swa_utils`` are torch's own.

    import torch
    from steprule.torch import AdamW

    model = torch.nn.Linear(3, 1)
    optimizer = AdamW(model.parameters(), lr=3e-4)
"""

from typing import Any

from steprule.install import how_to_install

try:
    from torch.optim import lr_scheduler as lr_scheduler
    from torch.optim import swa_utils as swa_utils
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"steprule.torch needs PyTorch. Install: {how_to_install('torch')}", name=error.name
    ) from None

from steprule.doors.torch.adams import Adam, Adamax, AdamW, NAdam, RAdam, SparseAdam
from steprule.doors.torch.classic import ASGD, SGD, Adadelta, Adagrad, RMSprop, Rprop
from steprule.doors.torch.factored import Adafactor
from steprule.doors.torch.more import DERIVED as _DERIVED
from steprule.doors.torch.more import Optimizer
from steprule.doors.torch.muon import Muon
from steprule.doors.torch.release import step_in_backward
from steprule.doors.torch.schedule_free import AdamWScheduleFree, SGDScheduleFree

globals().update(_DERIVED)

__all__ = [
    "ASGD",
    "SGD",
    "SGDScheduleFree",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "step_in_backward",
    *_DERIVED,
]
__all__.sort()


def __getattr__(name: str) -> Any:
    """Say where to find what torch.optim has and this module has not."""
    import torch.optim

    from steprule.errors import suggest

    hint = f"; use torch.optim.{name}" if hasattr(torch.optim, name) else f".{suggest(name, __all__)}"
    raise AttributeError(f"steprule.torch has no {name!r}{hint}", name=name)
