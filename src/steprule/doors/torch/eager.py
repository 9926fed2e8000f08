"""The rule itself on torch's tensors: other devices, subclasses, gradients through the step, modes that look at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from steprule import formats
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.rows import Slots, state_dtype
from steprule.rules.evaluated import arguments_of

__all__ = ["differentiable_step", "eager_step", "evaluated_point"]


def eager_step(param: Tensor, grad: Tensor, options: GroupOptions, state: Slots) -> Callable[[], None]:
    """Return what steps one parameter."""
    values = dict(options.values)

    def step() -> None:
        with torch.no_grad():
            new, slots, scalars = _computed(options, values, param, grad, state)
            param.copy_(_like(param, new))
            for name, value in slots.items():
                state.slots[name].copy_(_like(state.slots[name], value))
            _count(state, scalars)

    return step


def differentiable_step(
    param: Tensor, grad: Tensor, options: GroupOptions, state: Slots, inner: dict[str, Any], names: Mapping[str, str]
) -> Callable[[], None]:
    """Compute the step of one parameter with a graph, and return what takes it over.

    Hyperparameters that are tensors stay tensors. The slots in ``inner`` are replaced, since the graph holds the old;
    so are scalar slots that are part of it.

    Raises:
        RuntimeError: when the parameter is a leaf that wants a gradient: then no graph can go through it.
    """
    if param.is_leaf and param.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    values = {**options.values, **options.tensors()}
    new, slots, scalars = _computed(options, values, param.clone(), grad, state)

    def step() -> None:
        param.copy_(_like(param, new))
        for name, value in slots.items():
            inner[names.get(name, name)] = _like(state.slots[name], value)
        graphed = {n for n, value in scalars.items() if _has_graph(value) or _has_graph(state.scalars[n])}
        for name in graphed:
            inner[names.get(name, name)] = torch.as_tensor(scalars[name], dtype=torch.float64).reshape(())
        with torch.no_grad():
            _count(state, {name: value for name, value in scalars.items() if name not in graphed})

    return step


def evaluated_point(param: Tensor, options: GroupOptions, state: Slots) -> Tensor:
    """Return the point that a parameter is evaluated at, in its own type."""
    rule, kind = options.rule, _real(state_dtype(param.dtype))
    with torch.no_grad():
        kept: dict[str, Any] = {name: _reals(slot) for name, slot in state.slots.items()}
        kept |= {name: scalar.item() for name, scalar in state.scalars.items()}
        kept = {**options.values, **kept, rule.parameter: _reals(param).to(kind)}
        function = rule.evaluated
        point = None if function is None else function(**{name: kept.get(name) for name in arguments_of(function)})
        return _like(param, kept[rule.parameter] if point is None else point).clone()


def _computed(
    options: GroupOptions, values: dict[str, Any], param: Tensor, grad: Tensor, state: Slots
) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
    """Return the new parameter, slots and scalar slots, all as real numbers; scalar slots with a graph as tensors."""
    rule = options.rule
    compute = state_dtype(param.dtype)
    kept: dict[str, Any] = {name: _reals(slot) for name, slot in state.slots.items()}
    # Tracers and fake tensors have no number for what was summed; a tensor elsewhere may not be met by those of here.
    tensors = rule.per_tensor if grad.device.type == "cpu" and not hasattr(grad, "full_tensor") else ()
    kept |= {
        name: scalar if scalar.requires_grad or name in tensors else scalar.item()
        for name, scalar in state.scalars.items()
    }
    given = options.values.guard.gradient(_reals(grad).to(_real(compute)), options.numbers)
    elements = [_reals(param).to(_real(compute)), given]
    new, *rest = rule.compute([*elements, *(kept.get(slot) for slot in rule.slots)], state.t + 1, values)
    results = dict(zip(rule.slots, rest, strict=True))
    name_of = str(_real(compute)).removeprefix("torch.")
    slots = {slot: formats.flush(_everywhere(results[slot], kept[slot]), name_of) for slot in state.slots}
    found = {name: _whole(results[name]) for name in state.scalars}
    return new, slots, {n: x if _has_graph(x) or n in tensors else float(x) for n, x in found.items()}


def _whole(value: Any) -> Any:
    """Return a number; of a ``DTensor``, which may hold this process's part of a sum, all of it."""
    gathered = getattr(value, "full_tensor", None)
    return value if gathered is None else gathered()


def _has_graph(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _everywhere(result: Any, like: Tensor) -> Tensor:
    """Return a slot's new value as a tensor: of hyperparameters and t alone it is one number for all elements."""
    return torch.as_tensor(result, dtype=like.dtype, device=like.device).broadcast_to(like.shape)


def _count(state: Slots, scalars: Mapping[str, Any]) -> None:
    if state.step is not None:
        state.step.fill_(state.t + 1)
    for name, value in scalars.items():
        state.scalars[name].fill_(value)


def _reals(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj().resolve_neg()) if tensor.is_complex() else tensor


def _like(kept: Tensor, reals: Tensor) -> Tensor:
    """Return numbers as what is kept has them.

    Of its type already: ``copy_`` of float32 into a float16 tensor with a sign that is due loses the sign (torch 2.13).
    """
    return torch.view_as_complex(reals.contiguous()) if kept.is_complex() else reals.to(kept.dtype)


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real() if dtype.is_complex else dtype
