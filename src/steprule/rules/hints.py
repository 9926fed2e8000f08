"""What was meant by a hyperparameter that a rule does not have, and what is wrong with a schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from steprule.errors import HyperparameterError, suggest

__all__ = ["check_schedule", "hint"]

# What other libraries call a hyperparameter.
_CALLED = {
    "learning_rate": ("lr",),
    "step_size": ("lr",),
    "epsilon": ("eps",),
    "betas": ("beta1", "beta2"),
    "b1": ("beta1",),
    "b2": ("beta2",),
    "b3": ("beta3",),
}
# Where it is to be found.
_ELSEWHERE = {
    "weight_decay": "steprule.decoupled(rule) adds it (adamw is decoupled(adam)), or steprule.l2(rule).",
    "maximize": "steprule.maximize(rule) does that.",
    "momentum": "The rule 'momentum' has it, as mu.",
    "amsgrad": "That is a rule of its own, 'amsgrad'.",
}


def hint(name: str, known: Iterable[str], options: Iterable[str]) -> str:
    """Return a sentence, after a space, about a name that is neither among the ``known`` nor among other options."""
    known = list(known)
    names = [*known, *options]
    if not names:
        return " It has none."
    called = _CALLED.get(name, ())
    if called and all(own in known for own in called):
        return f" {'They are' if len(called) > 1 else 'It is'} called {' and '.join(map(repr, called))}."
    return f" {_ELSEWHERE[name]}" if name in _ELSEWHERE else suggest(name, names)


def check_schedule(name: str, schedule: Callable[..., Any], where: str) -> None:
    """Check that a schedule can be called with the step number alone."""
    try:
        inspect.signature(schedule).bind(1)
    except TypeError as error:
        message = f"{name} must be a number or a schedule, a callable of the step number t; {schedule!r}"
        raise HyperparameterError(f"{message} cannot be called with t alone{where}: {error}") from None
    except ValueError:  # a callable without a signature
        return
