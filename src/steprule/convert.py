"""States of other libraries, for optimizers of this one and back: torch.optim, optax, bitsandbytes.

None of them is imported. Each function returns a state that the other side loads by its own means::

    optimizer.load_state_dict(steprule.convert.from_optax(state, optimizer))
"""

from steprule.doors.foreign.bitsandbytes import from_bitsandbytes, to_bitsandbytes
from steprule.doors.foreign.optax import from_optax, to_optax
from steprule.doors.foreign.optim import from_torch, to_torch

__all__ = ["from_bitsandbytes", "from_optax", "from_torch", "to_bitsandbytes", "to_optax", "to_torch"]
