"""The hyperparameters of a group in a device's memory, for kernels that compute scalars."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from steprule.doors.torch import devices
from steprule.doors.torch.options import GroupOptions
from steprule.rules.guard import GRAD_SCALE

__all__ = ["DeviceHyperparameters"]


class DeviceHyperparameters:
    """Numbers by name, in float64: as the group has them, and copied from tensors that lie on the device.

    Args:
        options: the group's.
        device: where they are read.
    """

    def __init__(self, options: GroupOptions, device: torch.device) -> None:
        self._options, self._device = options, device
        self._mirrors: dict[tuple[str, ...], devices.Mirror] = {}

    def address(self, names: Sequence[str]) -> int:
        """Return where the numbers of these names lie, one after the other."""
        key = tuple(names)
        if key not in self._mirrors:
            none = torch.full((max(1, len(key)),), math.nan, dtype=torch.float64, device="cpu")
            self._mirrors[key] = devices.Mirror(none, self._device)
        return devices.address_of(self._mirrors[key].there)

    def send(self) -> None:
        """Copy to the device what has changed; what lies there already is copied every time."""
        options = self._options
        tensors = options.on_device(self._device)
        numbers = {**options.values, **options.guards.numbers(1.0 if GRAD_SCALE in tensors else options.scale)}
        for names, mirror in self._mirrors.items():
            given = [_number(0.0 if name in tensors else numbers.get(name)) for name in names]
            if mirror.always or given != mirror.host[: len(given)].tolist():
                mirror.host[: len(given)] = torch.tensor(given, dtype=torch.float64, device="cpu")
                mirror.send(0, len(mirror.host))
            for index, name in enumerate(names):
                if name in tensors:
                    mirror.there[index].copy_(tensors[name].detach().reshape(()), non_blocking=True)


def _number(value: object) -> float:
    """Return a number of a group; what is none (an option) is not an argument of what kernels compute."""
    return float(value) if isinstance(value, (int, float)) else 0.0
