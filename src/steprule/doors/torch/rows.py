"""One parameter with its gradient and state, and how a kernel may walk it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.doors.layout import fill_a_run, same_walk
from steprule.doors.leaf import words_of
from steprule.doors.torch import devices
from steprule.doors.torch.formats import STORAGE
from steprule.doors.torch.modes import sees_operations
from steprule.doors.torch.options import GroupOptions
from steprule.engine import Kernel, Task, kernel
from steprule.errors import StructureError
from steprule.formats import FORMATS, Storage, stream

__all__ = ["Memory", "Row", "Slots", "backend_of", "check_parameter", "is_plain", "make_row", "readable", "state_dtype"]

_KIND = {
    torch.float16: "<f2",
    torch.bfloat16: "<i2",
    torch.float32: "<f4",
    torch.float64: "<f8",
    torch.complex64: "<f4",
    torch.complex128: "<f8",
    torch.uint8: "|u1",
    torch.int8: "|i1",
    torch.int16: "<i2",
}


@dataclass(eq=False)
class Slots:
    """The state of one parameter by the rule's names.

    Attributes:
        slots: the planes of the slots, and what is kept beside the parameter. Those of plain numbers are like it.
        scalars: the scalar slots, of no dimension.
        step: the step count, where torch keeps one.
        t: the steps taken.
        storage: the formats.
    """

    slots: dict[str, Tensor]
    scalars: dict[str, Tensor]
    step: Tensor | None
    t: int
    storage: Storage


class Memory:
    """Where the numbers of a plain tensor lie, as real numbers; bfloat16 as its bits. On a device, in its memory.

    Attributes:
        shape, strides: those of the real numbers; strides in numbers, as torch's are, not in bytes.
    """

    __slots__ = ("address", "itemsize", "kind", "shape", "size", "strides")

    def __init__(self, tensor: Tensor) -> None:
        self.kind = _KIND[tensor.dtype]
        self.itemsize = int(self.kind[2:])
        self.address, self.size = devices.address_of(tensor), tensor.numel()
        self.shape: tuple[int, ...] = tuple(tensor.shape)
        self.strides: tuple[int, ...] = tensor.stride()
        if tensor.dtype.is_complex:
            self.size *= 2
            self.shape, self.strides = (*self.shape, 2), (*[2 * stride for stride in self.strides], 1)

    @property
    def nbytes(self) -> int:
        """The bytes of the elements alone."""
        return self.size * self.itemsize

    @property
    def bounds(self) -> tuple[int, int]:
        """The addresses where it begins, and where it ends."""
        if not self.size:
            return self.address, self.address
        last = sum([stride * (n - 1) for stride, n in zip(self.strides, self.shape, strict=True)])
        return self.address, self.address + (last + 1) * self.itemsize

    @property
    def is_dense(self) -> bool:
        """Whether the elements fill one run of aligned memory."""
        return self.address % self.itemsize == 0 and fill_a_run(self.shape, self.strides, 1)

    def array(self) -> NDArray[Any]:
        """Return the memory as an array, for as long as the tensor lives.

        Not by ``tensor.numpy()``: it makes the storage one that cannot be resized, as sharding frees parameters.
        """
        return np.asarray(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        data, strides = (self.address, False), tuple([stride * self.itemsize for stride in self.strides])
        return {"data": data, "shape": self.shape, "strides": strides, "typestr": self.kind, "version": 3}


@dataclass(eq=False)
class Row:
    """A parameter that a kernel steps.

    Attributes:
        place: its place among all parameters of the optimizer.
        options: its group's.
        t: the steps taken.
        step: where that is kept, if it is.
        scalars: the scalar slots, by the rule's names.
        memories: of the parameter, the gradient and the planes that are kept.
        words: what the kernel needs to know of the places of elements.
        is_direct: whether element i of the memory is element i of them all.
        storage: the formats.
    """

    param: Tensor
    grad: Tensor
    place: int
    options: GroupOptions
    kernel: Kernel
    t: int
    step: Tensor | None
    scalars: dict[str, Tensor]
    memories: list[Memory]
    words: list[int]
    is_direct: bool
    storage: Storage

    @property
    def is_placed(self) -> bool:
        """Whether it lies on a device, and is stepped there."""
        return self.kernel.function is not None

    def kernel_of(self, task: Task) -> Kernel:
        """Return the kernel of another task, over the same memories."""
        values = self.options.values
        backend = "triton" if self.is_placed else "llvm"
        return kernel(self.options.rule, values.variant, self.storage, backend, values.guard, task)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the slots of a parameter of that type."""
    if dtype.is_complex:
        return torch.complex128 if dtype is torch.complex128 else torch.complex64
    return torch.float64 if dtype is torch.float64 else torch.float32


def is_plain(tensor: Tensor) -> bool:
    """Whether the tensor's numbers lie in this machine's memory as they are."""
    return tensor.device.type == "cpu" and _is_as_it_lies(tensor)


def backend_of(tensors: Sequence[Tensor]) -> str:
    """Return which kernels walk tensors together: ``"llvm"``, ``"triton"``, or none.

    None where torch's operations are looked at or recorded: then the step is made of them.
    """
    device = tensors[0].device
    if sees_operations() or not all(tensor.device == device and _is_as_it_lies(tensor) for tensor in tensors):
        return ""
    if devices.has_kernels(device):
        return "triton"
    return "llvm" if device.type == "cpu" else ""


def _is_as_it_lies(tensor: Tensor) -> bool:
    plain = (
        tensor.dtype in _KIND
        and type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        and tensor.layout is torch.strided
        and not (tensor.is_conj() or tensor.is_neg())
    )
    return plain and not _is_wrapped(tensor)


def _is_wrapped(tensor: Tensor) -> bool:
    """Whether torch.func is at work on the tensor, which then has no memory of its own."""
    functorch = getattr(torch._C, "_functorch", None)
    return functorch is not None and bool(functorch.is_functorch_wrapped_tensor(tensor))


def make_row(param: Tensor, grad: Tensor, place: int, options: GroupOptions, state: Slots, backend: str) -> Row:
    """Lay out one parameter, with a gradient of the type that ``readable`` returns."""
    storage = state.storage
    if grad.dtype != param.dtype:
        storage = replace(storage, gradient=FORMATS[STORAGE[grad.dtype]])
    chosen = kernel(options.rule, options.values.variant, storage, backend, options.values.guard, "step")
    memories = [Memory(tensor) for tensor in (param, grad, *(state.slots[plane.name] for plane in chosen.kept))]
    own = memories[0]
    # Planes of codes are not the parameter's shape; they are contiguous, and so must be whatever goes with them.
    alike = [m for m, plane in zip(memories[1:], chosen.plan.planes[1:], strict=True) if plane.per == "element"]
    direct = own.is_dense and all(same_walk(own, other) and other.address % other.itemsize == 0 for other in alike)
    direct = direct and (param.is_contiguous() or not chosen.needs_order)
    words = words_of(chosen, param.shape, (0, stream(place)))
    return Row(
        param, grad, place, options, chosen, state.t, state.step, state.scalars, memories, words, direct, storage
    )


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
    axes = zip(param.stride(), param.shape, strict=True) if param.layout is torch.strided and param.numel() else ()
    if any(stride == 0 and n > 1 for stride, n in axes):
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
    kind = state_dtype(param.dtype)
    read = (torch.float16, torch.bfloat16, torch.float32) if kind is torch.float32 else (kind,)
    return grad if grad.dtype == param.dtype or grad.dtype in read else grad.to(kind)
