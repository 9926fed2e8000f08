"""Whether torch's operations are intercepted or recorded as they run: a kernel would be missed."""

from __future__ import annotations

import torch
from torch import Tensor

from steprule.errors import StructureError

__all__ = ["is_intercepted", "number_of"]

_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_is_recorded = torch._C._is_tracing


def is_intercepted() -> bool:
    """Whether a ``TorchDispatchMode`` is active (``make_fx``, ``FakeTensorMode``, counters), or ``torch.jit.trace``.

    A step by a kernel would be missing from the graph that is traced, and its results be constants of it. Asked before
    every step, so the cheapest question comes first. Modes for torch's functions are no reason: they change what
    functions are given and return, as ``torch.device`` does as a context, and a kernel calls none.
    """
    return bool(_dispatch_modes() or _is_recorded() or (_function_modes() and _traces_before_dispatch()))


def _traces_before_dispatch() -> bool:
    """Whether ``torch.export`` is at work above autograd; where it is, there is a mode for functions as well."""
    count = getattr(torch._ops, "_len_torch_dispatch_stack_pre_dispatch", None)
    return count is not None and bool(count())


def number_of(tensor: Tensor, why: str) -> float:
    """Return the number in a tensor.

    Args:
        tensor: of one element.
        why: who wants to know, for the message.

    Raises:
        StructureError: when it has none, or in a graph would be a constant.
    """
    cause: RuntimeError | None = None
    try:
        if not _is_recorded():
            return float(tensor.item())
    except RuntimeError as error:
        if not is_intercepted():
            raise
        cause = error
    raise StructureError(
        f"{why}, which a step that is traced (make_fx, torch.jit.trace) or fake (FakeTensorMode) does not have; "
        "nothing was stepped. Step without these options there, or outside of it"
    ) from cause
