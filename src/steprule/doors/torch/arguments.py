"""What the arguments of all classes mean, said once and written into each class's docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steprule.doors.torch.formats import DEFAULTS
from steprule.doors.torch.keys import OF_GUARDS
from steprule.errors import HyperparameterError, suggest
from steprule.formats import STATES

__all__ = ["FOR_ALL_GROUPS", "OPTIONS", "check_flags", "check_implementation", "documented", "init_options"]

OPTIONS = (*DEFAULTS, *OF_GUARDS)
"""What every class takes besides torch's arguments."""
_STATES = ", ".join(f'"{name}"' for name in STATES)

FOR_ALL_GROUPS = (
    'for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` '
    "(10), `update_clip` and `process_group`: see docs/guards.md."
)
_MEANINGS = {
    "params": "tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.",
    "lr": "the learning rate, at least 0: a number, or a tensor of one number, which is read at every step.",
    "betas": "the decays of the averages, each in [0, 1).",
    "eps": "is added to the root that divides; at least 0.",
    "weight_decay": "at least 0. An L2 penalty in the gradient, or decoupled where the class says so.",
    "decoupled_weight_decay": "whether theta shrinks by lr weight_decay before the step, apart from the gradient.",
    "momentum": "how much of the running sum or average of gradients is kept; at least 0.",
    "dampening": "the share of a gradient, from the second on, that does not enter the momentum.",
    "nesterov": "whether to step along the gradient and the momentum after it.",
    "amsgrad": "whether to divide by the largest second moment so far.",
    "centered": "whether to divide by a variance, with the squared average of gradients subtracted.",
    "rho": "the decay of the averages of squares, in [0, 1].",
    "lr_decay": "divides lr by 1 + (t - 1) lr_decay; at least 0.",
    "initial_accumulator_value": "what the sums of squares start at; at least 0.",
    "momentum_decay": "psi: how fast the momentum warms up; at least 0.",
    "etas": "the factors of the step sizes: where the sign of g changed, in (0, 1), and where it did not, above 1.",
    "step_sizes": "the bounds of the step sizes.",
    "lambd": "the decay of theta, times the step size; at least 0.",
    "t0": "the step after which the average begins.",
    "maximize": "climb instead of descending.",
    "differentiable": "let autograd go through the step. Slow: the rule runs on tensors.",
    "foreach": "ignored: every step is one fused pass.",
    "fused": "ignored: every step is one fused pass.",
    "capturable": "keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU.",
    "options": (
        f"`states` ({_STATES}, or a dict of these by slot), `weights` of 16-bit parameters "
        '("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep '
        f"float32 states) and `seed` (0) of random rounding; and, {FOR_ALL_GROUPS}"
    ),
}
_END = """
Raises:
    HyperparameterError: a ValueError, in torch's words, for a value out of range.
"""


def documented(cls: type[Any], meanings: Mapping[str, str]) -> str:
    """Return the docstring of a class with its arguments, their defaults and its errors.

    ``meanings`` has those of its arguments that are its own, or mean something else there.
    """
    lines = [inspect.cleandoc(cls.__doc__ or ""), "", "Args:"]
    for name, parameter in inspect.signature(cls).parameters.items():
        meaning = meanings.get(name) or _MEANINGS[name]
        default = "" if parameter.default is parameter.empty else f" Default {parameter.default!r}."
        lines.append(f"    {name}: {meaning}{default}")
    return "\n".join([*lines, _END])


_CALLED = {"learning_rate": "lr", "step_size": "lr", "epsilon": "eps", "wd": "weight_decay", "mu": "momentum"}
"""What JAX, TensorFlow and scripts call an option of torch's."""


def init_options(arguments: Mapping[str, Any], known: Sequence[str] = OPTIONS) -> dict[str, Any]:
    """Return the options among the arguments of an ``__init__``, from its ``locals()``.

    Raises:
        TypeError: for one that is not among the ``known``.
    """
    own = {name: value for name, value in arguments.items() if name not in ("self", "params", "__class__", "options")}
    options = arguments.get("options", {})
    for name in options:
        if name not in known:
            kind = type(arguments["self"]).__name__
            called = _CALLED.get(name)
            hint = f" It is called {called!r}." if called in own else suggest(name, [*own, *known])
            raise TypeError(f"{kind} has no argument {name!r}.{hint}")
    return {**own, **options}


_FLAGS = (
    *("amsgrad", "capturable", "centered", "decoupled_weight_decay", "differentiable", "foreach", "fused"),
    *("maximize", "nesterov"),
)


def check_flags(options: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a text for what is on or off: every text would be on, ``"no"`` as well.

    Args:
        options: of a group, with its notes.
        known: the options among them, without those that the rule checks.
        where: how messages name the group.

    Raises:
        HyperparameterError: with the value.
    """
    for name in known:
        if name in _FLAGS and isinstance(options.get(name), str):
            raise HyperparameterError(f"{name} must be True or False, got {options[name]!r}{where}")


def check_implementation(options: Mapping[str, Any]) -> None:
    """Refuse what torch's classes refuse of ``fused``, though here it chooses nothing.

    Raises:
        RuntimeError: in torch's words.
    """
    if options.get("fused") and options.get("differentiable"):
        raise RuntimeError("`fused` does not support `differentiable`")
    if options.get("fused") and options.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
