"""What all optimizers of the PyTorch door share: one step, by whatever rule the class names."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from steprule.doors.foreign.optim import check_dict
from steprule.doors.torch.arguments import check_implementation, documented
from steprule.doors.torch.extent import check_process_group
from steprule.doors.torch.formats import DEFAULTS, check_formats, described
from steprule.doors.torch.grouping import Grouping
from steprule.doors.torch.guards import guards_of
from steprule.doors.torch.loading import (
    check_options,
    decoded_state_dict,
    loaded_groups,
    loaded_state,
)
from steprule.doors.torch.options import tupled
from steprule.doors.torch.positions import check_params, without_gradient
from steprule.formats import CODING
from steprule.launch.guards import Guards
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Base", "Number", "Params"]

Params = torch_optimizer.ParamsT
Number = float | Tensor
_AS_ALWAYS: Mapping[str, str] = {}


class Base(Grouping):
    """A torch optimizer that steps by a rule. Subclasses say which, and what torch calls its parts.

    Tensors on the CPU are stepped in one launch, in place; so are those on a GPU where Triton is installed. On other
    devices, for tensor subclasses, with ``differentiable=True`` and while a ``TorchDispatchMode`` is active the rule
    itself runs on torch's tensors, one parameter after the other.
    """

    def __init_subclass__(cls, meanings: Mapping[str, str] = _AS_ALWAYS, **options: Any) -> None:
        super().__init_subclass__(**options)
        is_class_of_torch = "__init__" in vars(cls) and cls.__name__ != "Optimizer"
        if cls.__module__.startswith("steprule.") and is_class_of_torch:
            cls.__doc__ = documented(cls, meanings)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self._forget()
        check_params(params)
        self.guards: Guards = guards_of(defaults)
        """``clip_norm``, ``nonfinite`` and the other options of guarded steps."""
        if any(name in defaults for name in DEFAULTS):
            defaults = {**DEFAULTS, **defaults, "coding": CODING}
        defaults |= tupled(defaults, self._naming)
        self._option_names, self.defaults = tuple(defaults), defaults
        self._check(defaults, "")  # first, as torch does, and before parameters that cannot be optimized
        super().__init__(params, defaults)
        options = self._options_of(self.param_groups)
        check_formats(options, defaults)
        check_process_group(options, self.guards)
        check_implementation(defaults)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _step_uncompiled(self, closure: Callable[[], Any] | None) -> Any:
        # Not by step: a subclass's own has called this, and within torch.export torch is compiling here, too.
        return self._step_hooked(closure)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: evaluates the model again and returns the loss, which is returned.

        Raises:
            StructureError, StateError, HyperparameterError, RuntimeError: for gradients, states and options that do
                not fit; then nothing was changed.
            NonFiniteError: as ``nonfinite`` says. (What a monitor's writer raises comes after the step was taken.)
        """
        if torch.compiler.is_compiling():
            return self._step_uncompiled(closure)
        return self._step_hooked(closure)

    def _step_hooked(self, closure: Callable[[], Any] | None) -> Any:
        if self._has_hooks() and not self._is_hooked:
            return self._step_with_hooks() if closure is None else self._step_with_hooks(closure)
        return self._step(closure)

    # torch would wrap step in its profiling and hooks, which take 6 microseconds even where there are none.
    step.hooked = True  # type: ignore[attr-defined]

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether the step takes the scale out of the gradients itself: so it is for ``GradScaler``, which asks.

        Others (Lightning) take it for a reason to refuse clipping by norm, which here there is not.
        """
        return sys._getframe(1).f_globals.get("__name__") == "torch.amp.grad_scaler"

    def _has_hooks(self) -> bool:
        return bool(
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or torch._C._autograd._profiler_enabled()
        )

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            self._check_training()
            with torch.enable_grad():
                loss = closure()
        self._advance()
        return loss

    _step_with_hooks = torch.optim.Optimizer.profile_hook_step(_step)
    _is_hooked = False
    """Whether a subclass's own step is under way, around which hooks run."""

    def _patch_step_function(self) -> None:
        """Let hooks run around the step of a subclass, as torch does, and then not again around the one within it."""
        if not getattr(type(self).step, "hooked", False):
            type(self).step = _hooked(type(self).step)  # type: ignore[method-assign]
        super()._patch_step_function()

    def _read(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        """Return a gradient as it can be read: with a sign or conjugation that is due carried out, a copy."""
        if grad.layout is not torch.strided:
            return self._takes_sparse(grad, group)
        return self._takes_dense(grad).resolve_conj().resolve_neg()

    def _takes_dense(self, grad: Tensor) -> Tensor:
        return grad

    def _takes_sparse(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        """Return what stands for a sparse gradient: itself, or a dense one.

        Raises:
            RuntimeError: when the rule has no meaning for rows that were not touched.
        """
        raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        self._settle()
        return {**super().__getstate__(), "guards": self.guards, "_option_names": self._option_names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickle's, a copy's or a state dict's parts, with defaults for options it does not have."""
        super().__setstate__(state)
        self._forget()
        for group in self.param_groups:
            for name, value in self._needed(group).items():
                group.setdefault(name, value)

    def _without_gradient(self) -> list[tuple[str, bool]]:
        """Return the names of parameters that have no gradient, and whether they may get one."""
        return without_gradient(self.param_groups)

    def __repr__(self) -> str:
        """Return the groups, as torch tells them, and how many steps were skipped, if any were."""
        skipped = self.skipped
        told = f"skipped: {skipped:,} steps whose gradients were not finite\n" if skipped else ""
        return f"{super().__repr__()[:-1]}{told})"

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def load_state_dict(self, state_dict: dict[str, Any], *, convert: bool = False) -> None:
        """Go on from a ``state_dict()``, of this class or of torch's of the same name.

        Slots are copied, and keep their own type (torch casts them to the parameter's): a narrower one is widened,
        which loses nothing. Options of groups come from the state dict, formats (``states``, ``weights``,
        ``min_elements``) do not: they stay those that this optimizer was made with, and a state in others is refused.

        Args:
            state_dict: what ``state_dict`` returned.
            convert: take slots in other formats, too: decoded, and rounded to nearest. The seed of random rounding,
                which else comes with the state, stays as it is here.

        Raises:
            StateError: a ValueError, when it does not belong to this optimizer; then nothing is changed.
        """
        take = self._prepared(state_dict, convert)
        with uninterrupted():
            take()
        self._call_load_hooks()

    def _prepared(
        self, state_dict: dict[str, Any], convert: bool, added: Sequence[Mapping[str, Any]] = ()
    ) -> Callable[[], None]:
        """Return what goes on from a state dict. It only puts in place, so that it can be kept from being interrupted.

        Args:
            state_dict, convert: as ``load_state_dict`` has them.
            added: further options, a dict a group.
        """
        self._refuse_reentry("load_state_dict()")
        state_dict = dict(state_dict) if isinstance(state_dict, Mapping) else state_dict
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            result = hook(self, state_dict)
            state_dict = state_dict if result is None else result
        check_dict(state_dict)
        state_dict = self._with_mode(self._translated(state_dict))
        self._check_saved(state_dict["param_groups"])
        groups = loaded_groups(
            self.param_groups, state_dict["param_groups"], self._known, self._needed, self._check, convert
        )
        options = self._options_of(groups)
        state = loaded_state(state_dict, options, convert)
        check_options(self.param_groups, state_dict["param_groups"], self.defaults)
        for group, more in zip(groups, added, strict=False):
            group.update(more)
        self._settle()

        def take() -> None:
            self.__setstate__({"state": state, "param_groups": groups})

        return take

    def _translated(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a state dict as this library lays it out."""
        return state_dict

    def _call_load_hooks(self) -> None:
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def float32_state_dict(self) -> dict[str, Any]:
        """Return ``state_dict()`` with all states as float32 and no options of formats, for torch.optim and others."""
        self._refresh()
        return decoded_state_dict(self.state_dict(), self._options)

    def describe(self) -> str:
        """Return what each parameter really uses, as a table: shape, type, formats and bytes."""
        self._refresh()
        return described(self._options, f"{type(self).__name__}")


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return the step of a subclass with hooks around it, where there are any."""
    with_hooks = torch.optim.Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def outer(self: Base, *args: Any, **kwargs: Any) -> Any:
        if self._is_hooked or torch.compiler.is_compiling() or not self._has_hooks():
            return step(self, *args, **kwargs)
        self._is_hooked = True
        try:
            return with_hooks(self, *args, **kwargs)
        finally:
            self._is_hooked = False

    outer.hooked = True  # type: ignore[attr-defined]
    return outer
