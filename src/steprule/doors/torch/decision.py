"""What a device decides about steps, without the host waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steprule.backends import triton_decide
from steprule.doors.torch import devices
from steprule.errors import NonFiniteError
from steprule.launch.guards import Guards

__all__ = ["Decision"]


class Decision:
    """The factor of ``clip_norm``, whether a step is taken, and the counts of those that were not.

    Args:
        guards: the options, and the counts to go on from.
        device: where it is decided.

    Attributes:
        numbers: on the device, in float64: factor, taken, skipped, skipped in a row, clip_norm, the sum of squares.
        looking: a decision not to take a step, for kernels that only look: they count nothing.
    """

    def __init__(self, guards: Guards, device: torch.device) -> None:
        self._guards = guards
        self.numbers: Tensor = torch.zeros(len(triton_decide.DECISION), dtype=torch.float64, device=device)
        self.not_taken: Tensor = torch.zeros_like(self.numbers)
        self._copy = torch.zeros_like(self.numbers, device="cpu", pin_memory=device.type in devices.KINDS_WITH_STREAMS)
        self._coming: tuple[Any] | None = None
        self.upload()

    @property
    def taken(self) -> Tensor:
        """Whether the step is taken: a number on the device."""
        return self.numbers[1:]

    def share_factor(self) -> None:
        """Let kernels that only look know the factor."""
        self.not_taken[:1].copy_(self.numbers[:1])

    def upload(self) -> None:
        """Let the device go on from the host's counts."""
        guards, self._coming = self._guards, None
        clip_norm = 0.0 if guards.clip_norm is None else guards.clip_norm
        given = [1.0, 1.0, guards.skipped, guards.in_a_row, clip_norm, 0.0]
        devices.to_device(torch.tensor(given, dtype=torch.float64, device="cpu"), self.numbers)

    def download(self) -> None:
        """Take over the device's counts. Waits for it."""
        self._set_counts(self.numbers.cpu())

    def request(self) -> None:
        """Ask the device to tell its counts when it gets there, if it has told what it was asked before.

        Where the host is ahead by several steps, the counts of the last one would never have come.
        """
        if self._coming is not None or devices.is_capturing(self.numbers.device):
            return
        if self._guards.nonfinite == "skip":
            self._coming = (devices.from_device(self.numbers, self._copy),)

    def check(self) -> None:
        """Raise if too many steps in a row were skipped, as far as the device has told.

        Raises:
            NonFiniteError: with the number of steps.
        """
        if self._coming is None or devices.is_capturing(self.numbers.device):
            return
        if not devices.is_complete(self._coming[0]):
            return
        self._set_counts(self._copy)
        self._coming = None
        guards = self._guards
        if guards.nonfinite == "skip" and guards.in_a_row > guards.max_skips:
            raise NonFiniteError(
                f"the gradients of {guards.in_a_row} steps in a row were not finite, and these steps were skipped "
                f"(max_skips={guards.max_skips}); this one was not taken. The run does not recover: go back to a "
                "checkpoint, with a lower learning rate"
            )

    def _set_counts(self, numbers: Tensor) -> None:
        _, _, skipped, in_a_row, _, _ = numbers.tolist()
        self._guards.skipped, self._guards.in_a_row = int(skipped), int(in_a_row)
