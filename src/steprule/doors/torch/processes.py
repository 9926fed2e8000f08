"""Sums over the processes of a job that hold parts of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from steprule.errors import StructureError

__all__ = ["ProcessSums", "job_size"]


def job_size() -> int:
    """Return how many processes the job has; 1 where ``torch.distributed`` is not initialized."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


@dataclass(frozen=True)
class ProcessSums:
    """Adds up numbers over processes: one reduction of a process group, and of each dimension of a mesh.

    Attributes:
        over: a process group, or a ``DeviceMesh``.
    """

    over: Any

    def __call__(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums, in the same bits on all processes.

        Raises:
            StructureError: when a process group was destroyed.
        """
        groups = self.groups()
        sums = torch.tensor(numbers, dtype=torch.float64, device=_device_of(self.over))
        for group in groups:
            torch.distributed.all_reduce(sums, group=group)
        found: list[float] = sums.tolist()
        return found

    def groups(self) -> list[Any]:
        """Return the process groups, after asking whether they still are.

        Raises:
            StructureError: when one was destroyed.
        """
        over = self.over
        try:
            groups = [over.get_group(axis) for axis in range(over.ndim)] if _is_mesh(over) else [over]
            for group in groups:
                torch.distributed.get_backend(group)
        except (RuntimeError, ValueError) as error:  # torch: "Could not resolve the process group registered under ..."
            raise StructureError(
                "the step adds up numbers over processes, and their process group was destroyed (or never made); "
                "nothing was stepped. Take the last step before destroy_process_group(); after a new "
                f"init_process_group() make what it was part of anew. torch says: {error}"
            ) from error
        return groups

    def check(self) -> None:
        """Raise what taking sums would raise: for those that are taken when the step no longer can fail."""
        self.groups()

    def __deepcopy__(self, memo: object) -> ProcessSums:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an optimizer with process_group= cannot be pickled: a process group belongs to its process. Save its "
            "state_dict(), or by steprule.save"
        )


def _is_mesh(over: Any) -> bool:
    return not isinstance(over, torch.distributed.ProcessGroup)


def _device_of(over: Any) -> str:
    """Return the kind of device whose tensors processes exchange."""
    if _is_mesh(over):
        return str(over.device_type)
    return "cuda" if torch.distributed.get_backend(over) == "nccl" else "cpu"
