"""Matrix products on a device, between the passes of a step: nothing waits for it, and a CUDA graph may have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steprule.compile import Product
from steprule.doors.torch import devices
from steprule.doors.torch.memory import tensor_memory
from steprule.doors.torch.products import has_bfloat16, iterate, room_of
from steprule.errors import HyperparameterError
from steprule.language.matrices import matrix_shape
from steprule.language.newton_schulz import Iteration
from steprule.launch.products import LIMIT, iteration_of, named
from steprule.launch.row import Row, ScalarGroup

__all__ = ["DeviceWork"]


@dataclass(frozen=True, eq=False)
class _Stack:
    """The work planes of rows of one group and one shape on a device, for one product: see ``launch.products``."""

    number: int
    product: Product
    group: ScalarGroup
    matrices: tuple[int, int, int]
    planes: Tensor

    def multiply(self) -> None:
        """Let each matrix be what the steps make of it, some matrices at a time."""
        batch, rows, columns = self.matrices
        iteration = iteration_of(self.product, _Numbers(self.group), rows, named(self.group))
        stack = self.planes.view(len(self.planes) * batch * iteration.parts, rows // iteration.parts, columns)
        is_double = stack.dtype is torch.float64
        kind = torch.bfloat16 if not is_double and has_bfloat16(stack.device) else stack.dtype
        size = room_of(1, *stack.shape[1:])
        count = min(len(stack), max(1, LIMIT // (size * kind.itemsize)))
        room = torch.empty(count * size, dtype=kind, device=stack.device)
        for part in stack.split(count):
            part.div_(_scale_of(part, iteration))
            iterate(part, iteration, room)


class DeviceWork:
    """The work planes of rows on devices, and the products in them.

    Args:
        rows: the parameters; memory for their work planes is added to theirs, before tables have its addresses.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        alike: dict[Any, list[Row]] = {}
        for row in rows:
            plan = row.kernel.plan
            if plan.work and row.memories[0].size:
                key = id(row.group), row.memories[0].shape, plan.compute, row.device
                alike.setdefault(key, []).append(row)
        self._stacks = [stack for own in alike.values() for stack in _stacks(own)]

    def multiply(self, number: int) -> None:
        """Take the products that come after a pass."""
        for stack in self._stacks:
            if stack.number == number and not stack.group.rests:
                with devices.on(stack.planes.device), torch.inference_mode():
                    stack.multiply()
                if devices.is_capturing(stack.planes.device):
                    devices.keep_alive(stack.planes)


def _stacks(rows: Sequence[Row]) -> list[_Stack]:
    """Return the stacks of rows that are alike, and let their memory be the work planes of these."""
    plan, shape, device = rows[0].kernel.plan, rows[0].memories[0].shape, rows[0].device
    kept = len(plan.kept_planes)
    with devices.on(device):
        kinds = [getattr(torch, plane.dtype) for plane in plan.work_planes]
        planes = [torch.zeros((len(rows), *shape), dtype=kind, device=device) for kind in kinds]
    for index, row in enumerate(rows):
        row.memories = [*row.memories[:kept], *(tensor_memory(plane[index], is_kept=True) for plane in planes)]
    matrices = matrix_shape(shape, plan.view or "first")
    return [
        _Stack(number, own, rows[0].group, matrices, planes[own.plane - kept])
        for number, before in enumerate(plan.before)
        for own in before.products
    ]


class _Numbers(Mapping[str, Any]):
    """The hyperparameters of a group that are numbers on this machine."""

    def __init__(self, group: ScalarGroup) -> None:
        self._values = group.values
        options = getattr(group, "options", None)
        self._tensors = {} if options is None else options.tensors()

    def __getitem__(self, name: str) -> Any:
        tensor = self._tensors.get(name)
        if tensor is None:
            return self._values[name]
        if tensor.device.type != "cpu":
            raise HyperparameterError(
                f"{name} is a tensor on {tensor.device}{self._values.place}, and says how matrices are multiplied, "
                "which this machine must know; nothing was stepped. Make it a number"
            )
        return tensor.item()

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _scale_of(stack: Tensor, iteration: Iteration) -> Tensor:
    """Return what each matrix is divided by: its norm, NaN where an element is not finite.

    Squares are those of parts of the largest element, which neither overflow nor vanish.
    """
    largest = stack.abs().amax((1, 2), keepdim=True)
    largest = torch.where(largest == 0, 1.0, largest)
    norms = (stack / largest).double().square().sum((1, 2), keepdim=True).sqrt() * largest * iteration.margin
    return norms.clamp(min=iteration.eps).to(stack.dtype)
