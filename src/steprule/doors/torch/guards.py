"""Guarded steps of the PyTorch door: the options, and the gradients of a step as a decision looks at them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from steprule.doors.torch.formats import FormatOptions, names_of
from steprule.doors.torch.keys import PROCESS_GROUP
from steprule.doors.torch.modes import number_of
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.processes import ProcessSums
from steprule.doors.torch.rows import state_dtype
from steprule.errors import HyperparameterError
from steprule.launch.guards import GUARDS, Guards, NonFinite, scaled_squares

__all__ = ["GuardOptions", "Options", "TensorGradients", "guards_of", "squares"]


class GuardOptions(TypedDict, total=False):
    """What is done about gradients that are too large or not finite, for all groups together.

    Attributes:
        clip_norm: scale the gradients so that their norm is at most this. Default None: not.
        clip_value: bring their elements into ``[-clip_value, clip_value]``, before the norm is taken. Default None.
        nonfinite: for infinite or NaN elements: ``"propagate"`` (default), ``"skip"`` the step, or ``"raise"``.
        max_skips: after so many skipped steps in a row the next one raises. Default 10.
        update_clip: divide the learning rate of each tensor by ``max(1, RMS)`` of ``g / sqrt(max(v_hat, eps**2))``.
        process_group: of processes whose optimizers hold different parts of one model, as plain tensors or as DTensors
            of other meshes: norms, decisions and sums over all tensors are those of all. Processes that share the
            same DTensors need no such group.
    """

    clip_norm: float | None
    clip_value: float | None
    nonfinite: str
    max_skips: int | None
    update_clip: bool
    process_group: Any


class Options(FormatOptions, GuardOptions, total=False):
    """The options that every class has beside torch's."""


def guards_of(defaults: dict[str, Any]) -> Guards:
    """Take the options out of the defaults of an optimizer.

    Raises:
        HyperparameterError: for a value out of range, or an option that does nothing.
    """
    group = defaults.pop(PROCESS_GROUP, None)
    guards = Guards(**{name: defaults.pop(name) for name in GUARDS if name in defaults})
    if group is not None:
        if not isinstance(group, getattr(torch.distributed, "ProcessGroup", ())):
            raise HyperparameterError(
                f"process_group is what torch.distributed.new_group returns, or dist.group.WORLD; got {group!r}"
            )
        guards.share = ProcessSums(group)
    if defaults.get("differentiable") and (guards.measures or guards.update_clip):
        raise HyperparameterError(
            "differentiable=True cannot be combined with clip_norm, nonfinite and update_clip, whose factors have no "
            "gradient; scale the gradients before the step"
        )
    return guards


def squares(grad: Tensor, options: GroupOptions) -> list[float]:
    """Return what kernels of the kind ``norm`` sum, for a gradient that no kernel reads. DTensors count whole."""
    # In the type of the arithmetic: without its scale, a float16 gradient would lose its last bits, or all of them.
    guard, reals = options.values.guard, _reals(grad.to(state_dtype(grad.dtype)))
    kind = torch.float32 if grad.device.type == "mps" else torch.float64
    given = [guard.measured(reals, options.numbers)]
    given += [guard.unscaled(reals, options.numbers)] if guard.clips_value else []
    norms = [torch.linalg.vector_norm(tensor, dtype=kind) for tensor in given]
    return [_whole(norm) ** 2 for norm in norms]


def _whole(tensor: Tensor) -> float:
    """Return a number; of a sharded tensor, that of all shards together."""
    return number_of(_full(tensor), "clip_norm and nonfinite decide by the gradients' numbers")


def _reals(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _full(tensor: Tensor) -> Tensor:
    gathered = getattr(tensor, "full_tensor", None)  # of a DTensor
    return tensor if gathered is None else gathered()


class TensorGradients:
    """The gradients of a step, as ``Guards.decide`` looks at them.

    Args:
        options: the groups.
        grads: of all parameters, None where there is none.
        read: returns a gradient as it is read.
        size: ``clip_value``.
    """

    def __init__(
        self,
        options: Sequence[GroupOptions],
        grads: Sequence[Tensor | None],
        read: Callable[[Tensor, Mapping[str, Any]], Tensor],
        size: float | None,
    ) -> None:
        self._options, self._grads, self._read = options, grads, read
        self._size = math.inf if size is None else size

    def nonfinite(self) -> list[NonFinite]:
        """Return the gradients that have elements that are not finite, once the scale is taken out."""
        counts = [(name, _whole((~torch.isfinite(grad)).sum()), grad.numel()) for name, grad in self._all()]
        return [NonFinite(name, int(count), size) for name, count, size in counts if count]

    def squares(self) -> float:
        """Return the sum of squares of all gradients times ``SQUARE_SCALE``."""
        clipped = [(_reals(grad).to(torch.float64)).clamp(-self._size, self._size) for _, grad in self._all()]
        return scaled_squares([np.asarray(_full(grad).cpu()) for grad in clipped])

    def _all(self) -> Iterator[tuple[str, Tensor]]:
        """Return the gradients by name, as the step takes them, but not clipped."""
        names = [(name, own) for i, own in enumerate(self._options) for name in names_of(own.group, i)]
        params = [param for own in self._options for param in own.group["params"]]
        seen: set[int] = set()
        for (name, own), param, grad in zip(names, params, self._grads, strict=True):
            if grad is not None and id(param) not in seen:  # one that stands in two places has one gradient
                seen.add(id(param))
                read = self._read(grad.detach(), own.group)
                read = read.coalesce().values() if read.is_sparse else read
                yield name, read if own.scale == 1 else read.to(state_dtype(read.dtype)) / own.scale
