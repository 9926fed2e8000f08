"""One parameter with its gradient and state, as a row of a launch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steprule.doors.torch import devices
from steprule.doors.torch.device_table import TRITON
from steprule.doors.torch.formats import STORAGE
from steprule.doors.torch.memory import KINDS, tensor_memory
from steprule.doors.torch.modes import is_intercepted
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.products import TORCH
from steprule.errors import StructureError
from steprule.formats import FORMATS, Storage
from steprule.launch.backend import Backend
from steprule.launch.machine import MACHINE
from steprule.launch.row import WHOLE, Row, ScalarGroup, Shard, Touched

__all__ = [
    "Slots",
    "Stepped",
    "backend_of",
    "check_parameter",
    "is_plain",
    "make_row",
    "readable",
    "state_dtype",
]

_STRIDED = torch.strided
_dispatch = Tensor.__torch_dispatch__
_functorch = getattr(torch._C, "_functorch", None)
# Whether torch.func is at work on a tensor, which then has no memory of its own.
_is_wrapped = (lambda tensor: False) if _functorch is None else _functorch.is_functorch_wrapped_tensor


@dataclass(eq=False)
class Slots:
    """The state of one parameter by the rule's names.

    Attributes:
        slots: the planes of the slots, and what is kept beside the parameter. Those of plain numbers are like it.
        scalars: the slots that are numbers, of the group or of the parameter: tensors of no dimension.
        step: the step count, where torch keeps one.
        t: the steps taken.
        storage: the formats.
        keys: what torch calls the planes and the scalar slots.
    """

    slots: dict[str, Tensor]
    scalars: dict[str, Tensor]
    step: Tensor | None
    t: int
    storage: Storage
    keys: Mapping[str, str]


class Stepped(NamedTuple):
    """A parameter that a kernel steps.

    Attributes:
        row: as a launch sees it.
        param: the parameter; of a DTensor the part that is here.
        grad: its gradient, likewise.
        state: its state, likewise.
        entry: where the optimizer keeps that.
        options: its group's.
        whole: the parameter as the optimizer has it.
    """

    row: Row
    param: Tensor
    grad: Tensor
    state: Slots
    entry: dict[str, Any]
    options: GroupOptions
    whole: Tensor


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the slots of a parameter of that type."""
    if dtype.is_complex:
        return torch.complex128 if dtype is torch.complex128 else torch.complex64
    return torch.float64 if dtype is torch.float64 else torch.float32


def is_plain(tensor: Tensor) -> bool:
    """Whether the tensor's numbers lie in this machine's memory as they are."""
    return tensor.is_cpu and _is_plain_memory(tensor)


def backend_of(tensors: Sequence[Tensor]) -> Backend | None:
    """Return what steps tensors together: the processors' machine code, Triton, or none.

    None where torch's operations are intercepted or recorded: then the step is made of them.
    """
    device = tensors[0].device
    if is_intercepted():
        return None
    for tensor in tensors:
        if tensor.device != device or not _is_plain_memory(tensor):
            return None
    if devices.has_kernels(device):
        return TRITON
    return MACHINE if device.type == "cpu" else None


def _is_plain_memory(tensor: Tensor) -> bool:
    return (
        tensor.dtype in KINDS
        and type(tensor).__torch_dispatch__ is _dispatch
        and tensor.layout is _STRIDED
        and not (tensor.is_neg() or tensor.is_conj() or _is_wrapped(tensor))
    )


def make_row(
    param: Tensor,
    grad: Tensor,
    place: int,
    group: ScalarGroup,
    state: Slots,
    backend: Backend,
    touched: Touched | None = None,
    shard: Shard = WHOLE,
) -> Row:
    """Lay out one parameter, with a gradient of the type that ``readable`` returns; ``touched`` are its slices."""
    storage = state.storage
    if grad.dtype != param.dtype:
        storage = replace(storage, gradient=FORMATS[STORAGE[grad.dtype]])
    chosen = group.kernel(storage, backend, "step")
    memories = [*map(tensor_memory, (param, grad, *(state.slots[plane.name] for plane in chosen.state_planes)))]
    dtype, shape = _name(param.dtype), tuple(param.shape)
    return Row(
        place, group, backend, storage, memories, dtype, shape, shard, param.device, touched=touched, library=TORCH
    )


@functools.cache
def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def check_parameter(param: Tensor, grad: Tensor) -> None:
    """Check that a parameter can be stepped, along a gradient of its shape; both real, or both complex.

    Raises:
        RuntimeError: in torch's words, when its elements share memory.
        StructureError: otherwise.
    """
    if not (param.is_floating_point() or param.is_complex()):
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)} has the type {param.dtype}, on which no rule steps; nothing "
            "was stepped. Leave it out of the optimizer's parameters"
        )
    is_spread = param.layout is torch.strided and not param.is_contiguous() and param.numel()
    if is_spread and any(stride == 0 and n > 1 for stride, n in zip(param.stride(), param.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
    is_number = grad.is_complex() if param.is_complex() else grad.is_floating_point()
    if grad.shape != param.shape or not is_number:
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)} and type {param.dtype} has a gradient of shape "
            f"{tuple(grad.shape)} and type {grad.dtype}; nothing was stepped. A gradient has one number for every "
            "number of its parameter: a complex one for a complex one, else one of a floating-point type"
        )


def readable(grad: Tensor, param: Tensor) -> Tensor:
    """Return a gradient as a kernel reads it beside its parameter: itself, or a copy in the type of the arithmetic.

    Kernels read float16, bfloat16 and float32 beside each of these.
    """
    if grad.dtype is param.dtype:
        return grad
    kind = state_dtype(param.dtype)
    read = (torch.float16, torch.bfloat16, torch.float32) if kind is torch.float32 else (kind,)
    return grad if grad.dtype in read else grad.to(kind)
