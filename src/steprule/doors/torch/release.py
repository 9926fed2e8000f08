"""Gradient release: each parameter is stepped as soon as its gradient is complete, and the gradient is freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.doors.torch.base import Base
from steprule.doors.torch.extent import sees_all
from steprule.doors.torch.processes import job_size
from steprule.doors.torch.shards import is_sharded, local_of, with_local

__all__ = ["Handle", "step_in_backward"]


class SpentGradient(torch.Tensor):
    """What stands in ``param.grad`` after its step: no memory, and an error for whoever would use it.

    None would be silence: ``clip_grad_norm_`` skips it, and a second backward would begin a new gradient.
    """

    @staticmethod
    def __new__(cls, grad: Tensor) -> SpentGradient:
        """Return a stand-in for a gradient."""
        made: SpentGradient = torch.Tensor._make_wrapper_subclass(cls, grad.shape, dtype=grad.dtype, device=grad.device)
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"<gradient of shape {tuple(self.shape)}, spent and freed by step_in_backward>"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(func).removeprefix("aten.").partition(".")[0]
        raise RuntimeError(
            f"{name} was called on a gradient that step_in_backward has used and freed: its parameter was stepped in "
            "the backward pass. Gradient accumulation, clipping by a global norm, GradScaler and zero_grad("
            "set_to_none=False) need all gradients at once. Call zero_grad() before every backward, or remove() the "
            "handle of step_in_backward and step as usual"
        )


class Handle:
    """Gradient release at work. ``remove()`` ends it; so does leaving a ``with`` statement."""

    def __init__(self, optimizer: Base) -> None:
        self._optimizer = optimizer
        self._params = [param for group in optimizer.param_groups for param in group["params"] if param.requires_grad]
        hook = self._hook()
        self._hooks = [param.register_post_accumulate_grad_hook(hook) for param in dict.fromkeys(self._params)]
        optimizer._released = SpentGradient

    def _hook(self) -> Callable[[Tensor], None]:
        # Parameters keep their hooks, and optimizers their parameters: neither would go with the model.
        kept = weakref.ref(self._optimizer)

        def step(param: Tensor) -> None:
            optimizer = kept()
            if optimizer is None:
                raise RuntimeError(
                    "step_in_backward is active for an optimizer that no longer exists; nothing was stepped. Keep "
                    "the optimizer, or the handle, as long as the model is trained, or remove() the handle before"
                )
            optimizer._step_alone(param)
            param.grad = with_local(param if param.grad is None else param.grad, SpentGradient)

        return step

    def remove(self) -> None:
        """Step in ``optimizer.step()`` again. Doing so twice does nothing more."""
        for hook in self._hooks:
            hook.remove()
        for param in self._params if self._hooks else ():
            if type(local_of(param.grad)) is SpentGradient:
                param.grad = None
        self._hooks = []
        self._optimizer._released = None

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def step_in_backward(optimizer: Base) -> Handle:
    """Step each parameter within ``backward()``, as soon as its gradient is complete, and free the gradient.

    So at any time only a few parameters have gradients. The loop stays as it is: ``optimizer.step()``
    steps whatever the backward pass has not, which is nothing, and ``zero_grad()`` is needed before the next backward.
    The numbers are those of the usual loop. Hooks of ``optimizer.step()`` are not called in the backward pass.

    The model does not keep the optimizer alive: keep it, or the handle, as long as you train the model.

    Args:
        optimizer: one of this module's.

    Returns:
        A handle whose ``remove()`` ends it.

    Raises:
        TypeError: for other optimizers.
        RuntimeError: where it would be wrong: with ``differentiable=True``, with guards that need all gradients
            (``clip_norm``, ``nonfinite``) and rules that do (sums over all tensors), when there already are gradients,
            and in a job of several processes for all but DTensors over all of them, as ``fully_shard`` makes them:
            other gradients are complete only later. In the backward pass: when a gradient is added to a used one, and
            when the optimizer no longer exists.
        StructureError: when processes disagree on options or parameters.

    Example:
        >>> import torch, steprule.torch
        >>> w = torch.nn.Parameter(torch.zeros(3))
        >>> optimizer = steprule.torch.Adam([w], lr=0.1)
        >>> handle = steprule.torch.step_in_backward(optimizer)
        >>> w.sum().backward()
        >>> w.data
        tensor([-0.1000, -0.1000, -0.1000])
    """
    if not isinstance(optimizer, Base):
        raise TypeError(f"step_in_backward takes an optimizer of steprule.torch, got a {type(optimizer).__name__}")
    if optimizer._released is not None:
        raise RuntimeError("step_in_backward is active on this optimizer already; remove() its handle first")
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise RuntimeError("step_in_backward does not work with differentiable=True: the graph needs the gradients")
    if optimizer.guards.measures:
        raise RuntimeError(
            "step_in_backward does not work with clip_norm and nonfinite='skip' or 'raise', which need all gradients "
            "before the step; use clip_value and update_clip, or step as usual"
        )
    if sees_all(optimizer._options_of(optimizer.param_groups)):
        raise RuntimeError(
            "step_in_backward does not work with a rule that sums over all tensors, whose gradients must all be there "
            "before the step; step as usual"
        )
    if optimizer._monitor is not None:
        raise RuntimeError("a Monitor reads whole steps, and step_in_backward has none; close() the monitor first")
    params = [param for group in optimizer.param_groups for param in group["params"]]
    if any(param.grad is not None for param in params):
        raise RuntimeError("there are gradients already, which a backward would add to; call zero_grad() first")
    _check_processes(params)
    optimizer._refresh()
    optimizer._agree()  # here, and not while gradients are being reduced
    return Handle(optimizer)


def _check_processes(params: Sequence[Any]) -> None:
    """Refuse parameters whose gradients are not complete yet where the backward pass has them.

    DDP and FSDP1 reduce them later, and what is a DTensor over some processes may have replicas on the others, whose
    gradients are still to be added. ``fully_shard`` calls hooks when it has reduced the gradient over its mesh.

    Raises:
        RuntimeError: saying which.
    """
    processes = job_size()
    for param in params if processes > 1 else ():
        if not is_sharded(param):
            raise RuntimeError(
                "step_in_backward steps along the gradients of this process, and those of a plain tensor of shape "
                f"{tuple(param.shape)} may still have to be summed over the {processes} processes of this job. Step as "
                "usual, or make DTensors of all parameters by fully_shard, which reduces gradients first"
            )
        if param.device_mesh.size() != processes:
            raise RuntimeError(
                f"step_in_backward steps along the gradients of a DTensor's own mesh, and those over "
                f"{param.device_mesh.size()} of the {processes} processes of this job may still have to be summed over "
                "the others; step as usual"
            )
