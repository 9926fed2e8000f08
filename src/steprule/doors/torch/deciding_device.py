"""Where a step is decided, and where its step counts lie: in this machine's memory, or on the parameters' device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steprule.doors.torch import devices
from steprule.doors.torch.device_table import TRITON
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.positions import Item
from steprule.doors.torch.rows import backend_of
from steprule.launch.guards import Guards

__all__ = ["deciding_device_of"]


def deciding_device_of(
    options: Sequence[GroupOptions], items: Sequence[Item], guards: Guards, scaler: Sequence[Tensor | None]
) -> torch.device | None:
    """Return the device on which a step is decided; None for this machine.

    On a device, if all that is stepped lies on one, and its numbers depend on what only the device knows: guards,
    what ``GradScaler`` told, or step counts that a captured graph must find there.

    Args:
        options: the groups.
        items: the parameters.
        guards: the options.
        scaler: what ``GradScaler`` told: the scale, and whether gradients are not finite.
    """
    pairs = [(param, grad) for _, grad, param, _ in items if grad is not None]
    if not pairs:
        return None
    device = pairs[0][0].device
    if not devices.has_kernels(device) or not _needs_device(options, guards, device, scaler):
        return None
    if any(own.group.get("differentiable") for own in options):
        return None
    alike = all(backend_of((param, grad)) is TRITON and param.device == device for param, grad in pairs)
    return device if alike else None


def _needs_device(
    options: Sequence[GroupOptions], guards: Guards, device: torch.device, scaler: Sequence[Tensor | None]
) -> bool:
    """Whether the numbers of a step depend on what the device knows, and this machine has no say in them."""
    if guards.nonfinite == "raise" or not guards.is_local:
        return False
    given = [tensor for tensor in scaler if tensor is not None]
    if any(tensor.device != device for tensor in given):
        return False
    plans = [own.values.plan("step") for own in options]
    asks = (own.group.get("capturable") or plan.before or plan.totals for own, plan in zip(options, plans, strict=True))
    return bool(given) or guards.measures or any(asks)
