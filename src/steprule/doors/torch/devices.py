"""Devices whose tensors kernels step: where Triton runs, which stream is at work, whether a graph is captured."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Follower",
    "Mirror",
    "address_of",
    "from_device",
    "has_kernels",
    "is_capturing",
    "is_complete",
    "keep_alive",
    "on",
    "sent",
    "stream_of",
    "to_device",
]

KINDS = {"cuda", "xpu"}
"""What torch calls the devices that Triton has a backend for; AMD's are ``cuda``, too."""
KINDS_WITH_STREAMS = ("cuda", "xpu")
"""Those of them with streams, and with memory apart from this machine's."""
_OLDEST = (7, 0)
"""Of NVIDIA's GPUs: the compute capability that Triton needs."""
_OLDEST_TRITON = (3, 6)
_OLDEST_ON_AMD = (3, 7)
"""Before, roots of numbers below 2**-96 were not exact there."""
_captured: dict[int, Tensor] = {}


def has_kernels(device: torch.device) -> bool:
    """Whether kernels step tensors on the device; warns once where they could, if Triton were there."""
    if device.type not in KINDS or not _is_new_enough(device):
        return False
    lacking = _lacking()
    if lacking:
        _warn(device.type, lacking)
    return not lacking


@functools.cache
def _lacking() -> str:
    """Return what is wrong with Triton here; looking for it takes as long as stepping a small tensor."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    version: str = importlib.import_module("triton").__version__
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    oldest = _OLDEST_TRITON if torch.version.hip is None else _OLDEST_ON_AMD
    return f"Triton {version} is older than {oldest[0]}.{oldest[1]}" if numbers < oldest else ""


@functools.cache
def _is_new_enough(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(device) >= _OLDEST


@functools.cache
def _warn(kind: str, lacking: str) -> None:
    warnings.warn(
        f"parameters on {kind!r} are stepped by torch operations, one after the other: {lacking}. "
        "Install the one that belongs to a torch of today (pip install triton) for one fused launch",
        UserWarning,
        stacklevel=2,
    )


def address_of(tensor: Tensor) -> int:
    """Return where a tensor's numbers lie, as 64 bits with a sign: Intel's devices use the highest bit."""
    address = tensor.data_ptr()
    return address - 2**64 if address >= 2**63 else address


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


def keep_alive(*tensors: Tensor | None) -> None:
    """Keep what a CUDA graph reads for as long as the process lives: nobody tells when the graph ends."""
    _captured.update({id(tensor): tensor for tensor in tensors if tensor is not None})


class Follower:
    """Lets work on tensors of one device go on from stream to stream."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, stream_of(device)

    def follow(self, *tensors: Tensor) -> None:
        """Let the stream at work wait for what the last one has done; their memory is not given away before it is done.

        Before a capture torch has waited for the whole device, and a graph must not wait for what is outside it.
        """
        stream = stream_of(self._device)
        if stream == self._stream:
            return
        if not is_capturing(self._device):
            stream.wait_stream(self._stream)
            for tensor in tensors:
                tensor.record_stream(stream)
        self._stream = stream


def to_device(numbers: Tensor, out: Tensor) -> None:
    """Copy numbers of this machine's memory to a device, without waiting for it.

    From memory that the device can read by itself; torch gives it to nobody else before the copy is done.
    """
    out.copy_(numbers.pin_memory() if out.device.type in KINDS_WITH_STREAMS else numbers.clone(), non_blocking=True)


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Return a copy of numbers of this machine's memory on a device, as ``to_device`` makes it."""
    out = torch.empty(numbers.shape, dtype=numbers.dtype, device=device)
    to_device(numbers, out)
    return out


class Mirror:
    """Numbers that the host keeps, and their copy on a device, which is brought up to date by parts.

    A captured graph copies the whole at every replay, and the host does not see replays: so after a capture every step
    copies all, too. The memory that a captured copy reads is made before, since it cannot be had while a graph is
    captured.

    Args:
        host: the numbers, of eight bytes each.
        device: where the copy is.

    Attributes:
        there: the copy.
    """

    def __init__(self, host: Tensor, device: torch.device) -> None:
        self.host = host
        self.there = torch.zeros(host.shape, dtype=host.dtype, device=device)
        self._pins, self._is_captured = device.type in KINDS_WITH_STREAMS, False
        self._spare = self._new()
        self._read: Tensor | None = None

    @property
    def always(self) -> bool:
        """Whether all must be copied in every step."""
        return self._is_captured or is_capturing(self.there.device)

    def send(self, start: int, end: int) -> None:
        """Copy the numbers from ``start`` to ``end``, or all."""
        if is_capturing(self.there.device):
            self._is_captured = True
            self.there.copy_(self._staged(), non_blocking=True)
            keep_alive(self.there)
            return
        if self._is_captured:
            start, end = 0, len(self.host)
        self._spare = self._new() if self._spare is None else self._spare
        to_device(self.host[start:end], self.there[start:end])

    def _staged(self) -> Tensor:
        """Return memory with the numbers, for a graph to read at every replay."""
        if self._read is not None and torch.equal(self._read, self.host):
            return self._read
        self._read = self.host.pin_memory() if self._spare is None else self._spare.copy_(self.host)
        self._spare = None
        keep_alive(self._read)
        return self._read

    def _new(self) -> Tensor | None:
        """Return memory that the device can read by itself."""
        shape, dtype = self.host.shape, self.host.dtype
        return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=self._pins) if len(self.host) else None


def from_device(numbers: Tensor, copy: Tensor) -> Any:
    """Begin to copy numbers of a device to this machine's memory, and return what tells when they have come."""
    copy.copy_(numbers, non_blocking=True)
    if numbers.device.type not in KINDS_WITH_STREAMS:
        return None
    event = getattr(torch, numbers.device.type).Event()
    event.record(stream_of(numbers.device))
    return event


def is_complete(event: Any) -> bool:
    """Whether the copy of ``from_device`` is complete."""
    return event is None or bool(event.query())
