"""One parameter with its gradient and state, and how a kernel may walk it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule import formats
from steprule.doors.layout import is_dense, same_walk
from steprule.doors.torch.options import GroupOptions
from steprule.engine import Kernel, kernel
from steprule.errors import StructureError

__all__ = ["Row", "Slots", "as_array", "check_gradient", "is_plain", "make_row", "state_dtype"]

Array = NDArray[Any]

_STORAGE = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
    torch.complex64: "float32",
    torch.complex128: "float64",
}
_STATE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


@dataclass(eq=False)
class Slots:
    """The state of one parameter by the rule's names.

    Attributes:
        slots: the element slots, like the parameter.
        scalars: the scalar slots, of no dimension.
        step: the step count, where torch keeps one.
        t: the steps taken.
    """

    slots: dict[str, Tensor]
    scalars: dict[str, Tensor]
    step: Tensor | None
    t: int


@dataclass(eq=False)
class Row:
    """A parameter that a kernel steps.

    Attributes:
        place: its place among all parameters of the optimizer.
        options: its group's.
        t: the steps taken.
        step: where that is kept, if it is.
        scalars: the scalar slots, by the rule's names.
        arrays: the parameter, the gradient and the slots as arrays of real numbers.
        is_direct: whether element i of the memory is element i of them all.
    """

    param: Tensor
    place: int
    options: GroupOptions
    kernel: Kernel
    t: int
    step: Tensor | None
    scalars: dict[str, Tensor]
    arrays: list[Array]
    is_direct: bool


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the slots of a parameter of that type."""
    return _STATE.get(dtype, dtype)


def is_plain(tensor: Tensor) -> bool:
    """Whether the tensor's numbers lie in this machine's memory as they are."""
    plain = (
        tensor.device.type == "cpu"
        and tensor.dtype in _STORAGE
        and type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        and tensor.layout is torch.strided
        and not (tensor.is_conj() or tensor.is_neg())
    )
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def as_array(tensor: Tensor) -> Array:
    """Return the memory of a plain tensor as an array of real numbers; bfloat16 as its bits."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    elif tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy()


def make_row(param: Tensor, grad: Tensor, place: int, options: GroupOptions, state: Slots) -> Row:
    """Lay out one parameter.

    Raises:
        RuntimeError: when elements of the parameter share memory.
    """
    chosen = kernel(options.rule, options.values.variant, formats.FORMATS[_STORAGE[param.dtype]])
    arrays = [as_array(tensor) for tensor in (param, grad, *(state.slots[name] for name in chosen.slots))]
    if param.numel() and any(
        stride == 0 and n > 1 for stride, n in zip(arrays[0].strides, arrays[0].shape, strict=True)
    ):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
            "Please clone() the tensor before performing the operation."
        )
    is_direct = is_dense(arrays[0]) and all(same_walk(arrays[0], array) for array in arrays[1:])
    is_direct = is_direct and all(array.flags.aligned for array in arrays)
    return Row(param, place, options, chosen, state.t, state.step, state.scalars, arrays, is_direct)


def check_gradient(param: Tensor, grad: Tensor) -> None:
    """Check that a gradient is of its parameter's shape and type.

    Raises:
        StructureError: when it is not.
    """
    if grad.shape != param.shape or grad.dtype != param.dtype:
        raise StructureError(
            f"a parameter of shape {tuple(param.shape)} and type {param.dtype} has a gradient of shape "
            f"{tuple(grad.shape)} and type {grad.dtype}; nothing was stepped. A gradient has one number, of the same "
            "type, for every number of its parameter"
        )
