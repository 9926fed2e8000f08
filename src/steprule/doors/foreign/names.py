"""What other libraries call the slots of each rule: by their roles, and the one table of what roles do not say."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steprule.errors import StateError
from steprule.rules import Rule
from steprule.rules.catalogue import CATALOGUE
from steprule.rules.hyperparameters import Role

__all__ = [
    "NAMES",
    "Library",
    "Names",
    "innermost",
    "is_counted",
    "names_for",
    "slot_names",
    "torch_keys",
    "with_few_axes",
]

Library = Literal["torch", "optax", "bitsandbytes"]
_ROLES: Mapping[Library, Mapping[Role, str]] = {
    "torch": {Role.FIRST_MOMENT: "exp_avg", Role.SECOND_MOMENT: "exp_avg_sq"},
    "optax": {Role.FIRST_MOMENT: "mu", Role.SECOND_MOMENT: "nu"},
    "bitsandbytes": {Role.FIRST_MOMENT: "state1", Role.SECOND_MOMENT: "state2"},
}
"""What each library calls moments, whatever the rule does."""


@dataclass(frozen=True)
class Names:
    """The names of slots of one rule that do not follow from their roles; None where a library has no such rule.

    Attributes:
        torch: in state dicts of torch.optim and of steprule.torch.
        optax: the fields of a named tuple. ``count``, where there is one, is the step count.
        bitsandbytes: in its state dicts; slots of one name are stacked there, in the rule's order.
        options: what these states mean, by library, where that is an option of the rule.
        counts: whether states of torch have a step count.
        few_axes: names in torch of slots of what has fewer than two axes, where they differ.
        idle: slots that say nothing there, and that torch does not have.
    """

    torch: Mapping[str, str] | None = None
    optax: Mapping[str, str] | None = None
    bitsandbytes: Mapping[str, str] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    counts: bool = True
    few_axes: Mapping[str, str] = field(default_factory=dict)
    idle: tuple[str, ...] = ()


_ESTIMATE = {"m": "exp_avg", "v": "exp_avg_sq", "s": "grad_sum", "r": "numerator_weighted", "d": "estim_lr"}
_AS_OPTAX = {"bias_correction": True, "decoupled_decay": True}
NAMES: dict[str, Names] = {
    "sgd": Names({}),
    "momentum": Names({"b": "momentum_buffer"}, {"b": "trace"}, {"b": "state1"}, counts=False),
    "momentum_ema": Names(),
    "adagrad": Names({"G": "sum"}, {"G": "sum_of_squares"}, {"G": "state1"}),
    "adadelta": Names({"E_g2": "square_avg", "E_dx2": "acc_delta"}, {"E_g2": "e_g", "E_dx2": "e_x"}),
    "rmsprop": Names(
        {"v": "square_avg", "g_avg": "grad_avg", "b": "momentum_buffer"},
        {"g_avg": "mu", "b": "trace"},
        {"v": "state1"},
    ),
    "adam": Names({}, {}, {}),
    "adamax": Names({"u": "exp_inf"}, {"u": "nu"}),
    "amsgrad": Names(
        {"v_max": "max_exp_avg_sq"},
        {"v_max": "nu_max"},
        options={"torch": {"correction": "after_max"}, "optax": {"correction": "before_max"}},
    ),
    "nadam": Names({}, {}, options={"optax": {"psi": None}}),
    "radam": Names({}, {}),
    "rprop": Names({"g_prev": "prev", "delta": "step_size"}),
    "asgd": Names({}, options={"torch": {"lagged": True}}),
    "lion": Names({}, {}, {}),
    "yogi": Names({}, {}),
    "adabelief": Names({"s": "exp_avg_var"}, {"s": "nu"}),
    "laprop": Names({"g_avg": "exp_mean_avg_beta2"}),
    "adan": Names({"v": "exp_avg_diff", "g_prev": "previous_grad"}),
    "adopt": Names({}),
    "ademamix": Names({"m2": "exp_avg_slow"}, bitsandbytes={"m2": "state1"}),
    "signum": Names({}, {"m": "ema"}),
    "lars": Names({"b": "momentum_buffer"}),
    "muon": Names({"m": "momentum_buffer"}, counts=False),
    "mars": Names({"v": "exp_avg_sq", "g_prev": "last_grad"}),
    "novograd": Names({"v": "exp_avg_sq"}, {"v": "nu"}),
    "prodigy": Names(
        {"v": "exp_avg_sq", "theta0": "p0"}, {**_ESTIMATE, "theta0": "params0"}, options={"optax": _AS_OPTAX}
    ),
    "dadapt_adam": Names({"v": "exp_avg_sq"}, _ESTIMATE, options={"optax": _AS_OPTAX}),
    "came": Names(
        {
            "m": "exp_avg",
            "r": "exp_avg_sq_row",
            "c": "exp_avg_sq_col",
            "r_s": "exp_avg_res_row",
            "c_s": "exp_avg_res_col",
        }
    ),
    "adafactor": Names(
        {"r": "row_var", "c": "col_var", "m": "exp_avg"},
        options={"torch": {"clamp": True}},
        few_axes={"c": "variance"},
        idle=("r",),
    ),
}
"""By rule of the catalogue. Of rules that are not here all libraries have the slots that have a role."""
_OF_ROLES = Names({}, {}, {})


def innermost(rule: Rule) -> Rule:
    """Return the rule that a rule is made of: weight decay and the like change no slot."""
    while rule.made_by:
        rule = rule.made_by[1][0]
    return rule


def slot_names(rule: Rule, library: Library) -> Mapping[str, str]:
    """Return a library's names for slots of a rule; slots that are not named are called as they are.

    None has a name that another slot has already, by which two would be one.
    """
    rule = innermost(rule)
    known: Mapping[str, str] | None = getattr(_names_of(rule), library)
    if known is None:
        return {}
    by_role = {slot: _ROLES[library][role] for slot, role in rule.roles.items()}
    found = {slot: name for slot in rule.slots if (name := known.get(slot) or by_role.get(slot))}
    taken = set(rule.slots) - set(found)
    return {slot: name for slot, name in found.items() if name not in taken}


@functools.cache
def torch_keys() -> frozenset[str]:
    """Return what torch calls slots of the catalogue's rules, where nobody else keeps something under such a name.

    That is any of two words; ``sum``, ``prev`` and the like may be anybody's, and where they are slots, others are
    missing.
    """
    keys = {slot_names(rule, "torch").get(slot, slot) for rule in CATALOGUE.values() for slot in rule.slots}
    return frozenset(key for key in keys if "_" in key)


def with_few_axes(rule: Rule) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return torch's other names of slots of what has fewer than two axes, and the slots that say nothing there."""
    own = _names_of(innermost(rule))
    return own.few_axes, own.idle


def is_counted(rule: Rule) -> bool:
    """Whether torch's states of a rule have a step count."""
    return _names_of(innermost(rule)).counts


def names_for(rule: Rule, hyperparameters: Mapping[str, Any], library: Library) -> Mapping[str, str]:
    """Return a library's names for the slots of a rule whose state is taken over or given away.

    Raises:
        StateError: when the library has no such rule, or means another option by it.
    """
    plain, found = innermost(rule), slot_names(rule, library)
    known = _names_of(plain)
    # A class of steprule.torch for a rule of the catalogue calls slots without a role as the rule does.
    if known is _OF_ROLES and not (library == "torch" and CATALOGUE.get(plain.name) is plain):
        _check_roles(plain, found, library)
    elif getattr(known, library) is None:
        have = ", ".join(name for name, names in NAMES.items() if getattr(names, library) is not None)
        raise StateError(
            f"{library} has no state that means the same as that of rule {plain.name!r}; it has those of {have}"
        )
    for name, value in known.options.get(library, {}).items():
        if hyperparameters.get(name) != value:
            raise StateError(
                f"a state of {library} means {name}={value!r}, and this optimizer has "
                f"{name}={hyperparameters.get(name)!r}. Make it with {name}={value!r}"
            )
    return found


def _names_of(plain: Rule) -> Names:
    return NAMES.get(plain.name, _OF_ROLES) if CATALOGUE.get(plain.name) is plain else _OF_ROLES


def _check_roles(plain: Rule, found: Mapping[str, str], library: Library) -> None:
    """Refuse a rule with a slot of which nobody else can know what it means."""
    unknown = [slot for slot in plain.slots if slot not in found]
    if unknown or not found:
        which = f"its {', '.join(unknown)}" if unknown else "a rule without slots"
        raise StateError(
            f"{library} has no state that means the same as that of rule {plain.name!r}: it knows moments, which the "
            f"rule declares by the annotations FirstMoment and SecondMoment, and not {which}"
        )
