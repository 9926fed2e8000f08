"""What other libraries call the slots of each rule: the one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steprule.doors.checkpoint.content import Group
from steprule.errors import StateError

__all__ = ["NAMES", "Library", "Names", "names_for"]

Library = Literal["torch", "optax", "bitsandbytes"]


@dataclass(frozen=True)
class Names:
    """The names of the slots of one rule, by slot; None where a library has none that means the same.

    Attributes:
        torch: in state dicts of torch.optim and of steprule.torch.
        optax: the fields of a named tuple. ``count``, where there is one, is the step count.
        bitsandbytes: in its state dicts; slots of one name are stacked there, in this order.
        options: what these states mean, by library, where that is an option of the rule.
    """

    torch: Mapping[str, str] | None = None
    optax: Mapping[str, str] | None = None
    bitsandbytes: Mapping[str, str] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
_MU_NU = {"m": "mu", "v": "nu"}
NAMES: dict[str, Names] = {
    "sgd": Names({}),
    "momentum": Names({"b": "momentum_buffer"}, {"b": "trace"}, {"b": "state1"}),
    "adagrad": Names({"G": "sum"}, {"G": "sum_of_squares"}, {"G": "state1"}),
    "adadelta": Names({"E_g2": "square_avg", "E_dx2": "acc_delta"}, {"E_g2": "e_g", "E_dx2": "e_x"}),
    "rmsprop": Names(
        {"v": "square_avg", "g_avg": "grad_avg", "b": "momentum_buffer"},
        {"v": "nu", "g_avg": "mu", "b": "trace"},
        {"v": "state1"},
    ),
    "adam": Names(_MOMENTS, _MU_NU, {"m": "state1", "v": "state2"}),
    "adamax": Names({"m": "exp_avg", "u": "exp_inf"}, {"m": "mu", "u": "nu"}),
    "amsgrad": Names(
        {**_MOMENTS, "v_max": "max_exp_avg_sq"},
        {**_MU_NU, "v_max": "nu_max"},
        options={"torch": {"correction": "after_max"}, "optax": {"correction": "before_max"}},
    ),
    "nadam": Names(_MOMENTS, _MU_NU, options={"optax": {"psi": None}}),
    "radam": Names(_MOMENTS, _MU_NU),
    "rprop": Names({"g_prev": "prev", "delta": "step_size"}),
    "asgd": Names({}, options={"torch": {"lagged": True}}),
    "lion": Names({"m": "exp_avg"}, {"m": "mu"}, {"m": "state1"}),
    "yogi": Names(_MOMENTS, _MU_NU),
    "adabelief": Names({"m": "exp_avg", "s": "exp_avg_var"}, {"m": "mu", "s": "nu"}),
    "adan": Names({"m": "exp_avg", "v": "exp_avg_diff", "n": "exp_avg_sq", "g_prev": "previous_grad"}),
    "adopt": Names(_MOMENTS),
    "ademamix": Names(
        {"m1": "exp_avg", "m2": "exp_avg_slow", "v": "exp_avg_sq"},
        bitsandbytes={"m1": "state1", "m2": "state1", "v": "state2"},
    ),
    "signum": Names({"m": "exp_avg"}, {"m": "ema"}),
}
"""By rule of the catalogue; slots that are not named are called as they are. Weight decay changes no slot."""


def names_for(group: Group, library: Library) -> Mapping[str, str]:
    """Return a library's names for the slots of a group's rule.

    Raises:
        StateError: when the library has no such rule, or means another option by it.
    """
    rule = group.rule.rpartition("(")[2].rstrip(")")
    known = NAMES.get(rule)
    found: Mapping[str, str] | None = getattr(known, library) if known else None
    if known is None or found is None:
        have = ", ".join(name for name, names in NAMES.items() if getattr(names, library) is not None)
        raise StateError(f"{library} has no state that means the same as that of rule {rule!r}; it has those of {have}")
    for name, value in known.options.get(library, {}).items():
        if group.hyperparameters.get(name) != value:
            raise StateError(
                f"a state of {library} means {name}={value!r}, and this optimizer has "
                f"{name}={group.hyperparameters.get(name)!r}. Make it with {name}={value!r}"
            )
    return found
