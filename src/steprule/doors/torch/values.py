"""The hyperparameters of a group in a device's memory, for kernels that compute scalars."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steprule.doors.torch import devices
from steprule.doors.torch.options import GroupOptions
from steprule.rules.guard import GRAD_SCALE

__all__ = ["Values"]


class Values:
    """Numbers by name, in float64: as the group has them, and copied from tensors that lie on the device.

    Args:
        options: the group's.
        device: where they are read.
    """

    def __init__(self, options: GroupOptions, device: torch.device) -> None:
        self._options, self._device = options, device
        self._homes: dict[tuple[str, ...], Tensor] = {}
        self._sent: dict[tuple[str, ...], list[float]] = {}

    def address(self, names: Sequence[str]) -> int:
        """Return where the numbers of these names lie, one after the other."""
        key = tuple(names)
        if key not in self._homes:
            self._homes[key] = torch.zeros(max(1, len(key)), dtype=torch.float64, device=self._device)
            self._sent[key] = []
        return self._homes[key].data_ptr()

    def send(self) -> None:
        """Copy to the device what has changed; what lies there already is copied every time."""
        options = self._options
        tensors = options.on_device(self._device)
        numbers = {**options.values, **options.guards.numbers(1.0 if GRAD_SCALE in tensors else options.scale)}
        for names, home in self._homes.items():
            given = [_number(0.0 if name in tensors else numbers.get(name)) for name in names]
            if given != self._sent[names]:
                devices.to_device(torch.tensor(given, dtype=torch.float64, device="cpu"), home[: len(given)])
                self._sent[names] = given
            for index, name in enumerate(names):
                if name in tensors:
                    home[index].copy_(tensors[name].detach().reshape(()), non_blocking=True)


def _number(value: object) -> float:
    """Return a number of a group; what is none (an option) is no argument of what kernels compute."""
    return float(value) if isinstance(value, (int, float)) else 0.0
