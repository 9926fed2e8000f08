"""Devices whose tensors kernels step: where Triton runs, which stream is at work, whether a graph is captured."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Spare",
    "from_device",
    "has_come",
    "has_kernels",
    "is_capturing",
    "keep_alive",
    "on",
    "stream_of",
    "to_device",
]

KINDS = {"cuda", "xpu"}
"""What torch calls the devices that Triton has a backend for; AMD's are ``cuda``, too."""
KINDS_WITH_STREAMS = ("cuda", "xpu")
_OLDEST = (7, 0)
"""Of NVIDIA's GPUs: the compute capability that Triton needs."""
_captured: list[object] = []


def has_kernels(device: torch.device) -> bool:
    """Whether kernels step tensors on the device; warns once where they could, if Triton were there."""
    if device.type not in KINDS or not _is_new_enough(device):
        return False
    if importlib.util.find_spec("triton") is None:
        _warn(device.type)
        return False
    return True


@functools.cache
def _is_new_enough(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(device) >= _OLDEST


@functools.cache
def _warn(kind: str) -> None:
    warnings.warn(
        f"parameters on {kind!r} are stepped by torch operations, one after the other: Triton is not installed. "
        "Install the one that belongs to this torch (pip install triton) for one fused launch",
        UserWarning,
        stacklevel=2,
    )


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which the device is the current one, as launches need it."""
    module = getattr(torch, device.type)
    context: AbstractContextManager[Any] = module.device(device) if hasattr(module, "device") else nullcontext()
    return context


def stream_of(device: torch.device) -> Any:
    """Return the stream that work on the device goes to; None where there are no streams."""
    module = getattr(torch, device.type)
    return module.current_stream(device) if device.type in KINDS_WITH_STREAMS else None


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched is not run but kept in a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def keep_alive(*things: object) -> None:
    """Keep what a CUDA graph reads for as long as the process lives: nobody tells when the graph ends."""
    _captured.extend(things)


def to_device(numbers: Tensor, home: Tensor) -> None:
    """Copy numbers of this machine's memory to a device, without waiting for it.

    From memory that the device can read by itself; torch gives it to nobody else before the copy is done. A graph that
    is captured copies it at every replay.
    """
    Spare(0, home.device).send(numbers, home)


class Spare:
    """Memory for a copy that is captured in a CUDA graph, made before: it cannot be had while a graph is captured.

    Args:
        size: how many 64-bit integers a copy has at most.
        device: where they go.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._size, self._pins = size, device.type in KINDS_WITH_STREAMS
        self._memory = self._new()

    def send(self, numbers: Tensor, home: Tensor) -> None:
        """Copy numbers as ``to_device`` does."""
        if not is_capturing(home.device):
            self._memory = self._new() if self._memory is None else self._memory
            home.copy_(numbers.pin_memory() if self._pins else numbers.clone(), non_blocking=True)
            return
        memory = self._memory
        staged = memory[: len(numbers)].copy_(numbers) if memory is not None else numbers.pin_memory()
        self._memory = None
        home.copy_(staged, non_blocking=True)
        keep_alive(staged)

    def _new(self) -> Tensor | None:
        return torch.empty(self._size, dtype=torch.int64, pin_memory=True) if self._pins and self._size else None


def from_device(numbers: Tensor) -> tuple[Tensor, Any]:
    """Begin to copy numbers of a device to this machine's memory; return the copy, and what tells when it has come."""
    if numbers.device.type not in KINDS_WITH_STREAMS:
        return numbers.clone(), None
    copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    copy.copy_(numbers, non_blocking=True)
    event = getattr(torch, numbers.device.type).Event()
    event.record(stream_of(numbers.device))
    return copy, event


def has_come(event: Any) -> bool:
    """Whether the copy of ``from_device`` is complete."""
    return event is None or bool(event.query())
