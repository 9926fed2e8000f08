"""optax's functions, said by rules: their arguments in their order, with their defaults, from one table of names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import optax
import optax.contrib

from steprule.doors.foreign.names import slot_names
from steprule.doors.jax import adapted
from steprule.doors.jax.stepper import Stepper
from steprule.doors.jax.transformation import by_slot, of_stepper, transformation
from steprule.doors.jax.values import check_names, checked
from steprule.errors import HyperparameterError, suggest
from steprule.rules import CATALOGUE, Rule, decoupled, find, l2, schedule_free
from steprule.rules.hyperparameters import Role
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.dadapt_adam import dadapt_adam
from steprule.rules.papers.novograd import novograd
from steprule.rules.papers.prodigy import prodigy

__all__ = ["NAMES", "meant", "named", "theirs_of"]

_OURS = {
    "learning_rate": "lr",
    "b1": "beta1",
    "b2": "beta2",
    "b3": "beta3",
    "decay": "rho",
    "eps_in_sqrt": "eps_inside",
    "initial_accumulator_value": "initial_accumulator",
    "threshold": "rho_min",
    "min_step_size": "delta_min",
    "max_step_size": "delta_max",
}
"""Arguments of optax by hyperparameters of rules, where the names differ."""
_MASKS = ("mask", "weight_decay_mask")
_TYPES = ("mu_dtype", "accumulator_dtype", "dtype_momentum", "state_dtype")
_WAYS = ("states", "min_elements", "seed")
_MOMENT_TYPES = ("float32", "bfloat16", "float64", "complex64", "complex128")
"""What moments may be kept in, each for some parameters."""


@dataclass(frozen=True)
class _Alias:
    """Which rule a function of optax means.

    Attributes:
        plain: the rule.
        other: another one, where the argument ``switch`` is on: neither None, False nor, for weight decay, 0.
        means: hyperparameters that optax's function stands for, where they are not given.
        names: what is called otherwise here alone.
        adapt: changes hyperparameters that are said in another way.
        module: where optax has the function.
        moment: the slot whose type optax's argument chooses, where the rule declares no first moment.
    """

    plain: Rule
    other: Rule | None = None
    switch: str = ""
    means: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    adapt: Callable[[dict[str, Any]], None] | None = None
    module: str = "optax"
    moment: str | None = None

    def rule(self, values: Mapping[str, Any]) -> Rule:
        """Return the rule that these hyperparameters ask for."""
        value = values.get(self.switch)
        is_off = value is None or value is False or (self.switch == "weight_decay" and adapted.is_zero(value))
        return self.plain if self.other is None or is_off else self.other


def _adam(plain: Rule, nesterov: Rule) -> _Alias:
    return _Alias(plain, nesterov, "nesterov", {"psi": None}, adapt=adapted.zero_is_none("eps_root"))


_OF_ESTIMATES = {"estim_lr0": "d0", "estim_lr_coef": "d_coef"}
_NADAMW = decoupled("nadam", name="nadamw")
NAMES: dict[str, _Alias] = {
    # Muon is two rules in optax: see ``muon.py``.
    **{name: _Alias(rule) for name, rule in CATALOGUE.items() if name != "muon"},
    "sgd": _Alias(CATALOGUE["sgd"], CATALOGUE["momentum"], "mu", names={"momentum": "mu"}),
    "adagrad": _Alias(CATALOGUE["adagrad"], means={"eps_inside": True}),
    "adadelta": _Alias(CATALOGUE["adadelta"], l2("adadelta"), "weight_decay"),
    "adam": _adam(CATALOGUE["adam"], CATALOGUE["nadam"]),
    "nadam": _adam(CATALOGUE["adam"], CATALOGUE["nadam"]),
    "adamw": _adam(CATALOGUE["adamw"], _NADAMW),
    "nadamw": _adam(CATALOGUE["adamw"], _NADAMW),
    "adamax": _Alias(CATALOGUE["adamax"], adapt=adapted.zero_is_none("eps")),
    "adamaxw": _Alias(decoupled("adamax", name="adamaxw"), adapt=adapted.zero_is_none("eps")),
    "amsgrad": _Alias(CATALOGUE["amsgrad"], means={"correction": None}, adapt=adapted.amsgrad),
    "radam": _Alias(CATALOGUE["radam"], adapt=adapted.zero_is_none("eps_root")),
    "yogi": _Alias(CATALOGUE["yogi"], means={"bias_correction": True}),
    "lion": _Alias(CATALOGUE["lion"], decoupled("lion"), "weight_decay"),
    "adan": _Alias(CATALOGUE["adan"], adapt=adapted.zero_is_none("eps_root")),
    "lars": _Alias(CATALOGUE["lars"], means={"norm_of_sum": True}),
    "lamb": _Alias(CATALOGUE["lamb"], adapt=adapted.zero_is_none("eps_root")),
    "novograd": _Alias(novograd, adapt=adapted.zero_is_none("eps_root")),
    "adafactor": _Alias(
        adafactor,
        means={"relative_step": False},
        names={"momentum": "beta1", "clipping_threshold": "clip_threshold", "eps": "eps1"},
        adapt=adapted.adafactor,
        moment="m",
    ),
    "schedule_free_sgd": _Alias(
        CATALOGUE["schedule_free_sgd"],
        schedule_free(l2("sgd")),
        "weight_decay",
        names={"b1": "beta"},
        adapt=adapted.none_is_zero("warmup_steps"),
        module="optax.contrib",
        moment="z",
    ),
    "schedule_free_adamw": _Alias(
        CATALOGUE["schedule_free_adamw"],
        adapt=adapted.none_is_zero("warmup_steps"),
        module="optax.contrib",
        moment="z",
    ),
    "prodigy": _Alias(
        prodigy, means={"bias_correction": True}, names=_OF_ESTIMATES, adapt=adapted.betas, module="optax.contrib"
    ),
    "dadapt_adamw": _Alias(
        dadapt_adam,
        means={"bias_correction": True, "decoupled_decay": True},
        names=_OF_ESTIMATES,
        adapt=adapted.betas,
        module="optax.contrib",
    ),
}
"""By name in ``steprule.jax``: every rule of the catalogue, and what optax has besides that rules say."""


def theirs_of(name: str) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of optax's function; none where optax has no such function."""
    function = getattr(optax.contrib if NAMES[name].module == "optax.contrib" else optax, name, None)
    return inspect.signature(function).parameters if callable(function) else {}


@functools.cache
def _signature(name: str) -> inspect.Signature:
    """Return optax's arguments, then those that the rule has besides, and the rule's own names of both."""
    alias, theirs = NAMES[name], theirs_of(name)
    rate = inspect.Parameter("learning_rate", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
    given = theirs.get("learning_rate", rate).default
    found = {"learning_rate": rate if given is rate.empty else rate.replace(default=given)}
    found |= {key: argument for key, argument in theirs.items() if key != "learning_rate"}
    ours = {**_OURS, **alias.names}
    known = {ours.get(key, key): argument.default for key, argument in found.items()}
    hypers = alias.rule(known).hyperparameters
    if not theirs:
        found |= {key: _keyword(key) for key, own in _OURS.items() if own in hypers and key in ("b1", "b2", "b3")}
    found |= {own: _keyword(own) for own in (*known, *(("beta1", "beta2") if "betas" in found else ()))} | found
    for key, hyper in hypers.items():
        found.setdefault(key, _keyword(key, alias.means.get(key, hyper.default)))
    for key in _WAYS:
        found[key] = inspect.signature(transformation).parameters[key]
    # optax's annotations, resolved, are a line each in help.
    shown = [argument.replace(annotation=inspect.Parameter.empty) for argument in found.values()]
    return inspect.Signature(shown, return_annotation=optax.GradientTransformationExtraArgs)


def _keyword(name: str, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def _given(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return every argument by the rule's name for it: what was given, and defaults."""
    signature, alias = _signature(name), NAMES[name]
    if args and isinstance(args[0], Mapping | list | tuple):
        raise HyperparameterError(
            f"the first argument of {name} is the learning rate, got a {type(args[0]).__name__}. Parameters are given "
            f"to init: tx = {name}(1e-3); state = tx.init(params)"
        )
    # An argument of other rules that this name may mean is in the signature.
    check_names(alias.plain, (key for key in options if key not in signature.parameters), signature.parameters)
    bound = signature.bind(*args, **options).arguments
    ours = {**_OURS, **alias.names}
    values: dict[str, Any] = {}
    for key, argument in signature.parameters.items():
        own = ours.get(key, key)
        if own != key and key in bound and bound[key] is not None and bound.get(own) is not None:
            default = own if argument.default is None else key
            raise HyperparameterError(
                f"{key} and {own} are one argument of {name}, got {bound[key]!r} and {bound[own]!r}; give one of them. "
                f"optax.inject_hyperparams gives all that have a default: {default} here"
            )
        if values.get(own) is None or bound.get(key) is not None:
            values[own] = bound.get(key, argument.default)
    return values


def _meant(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Rule, dict[str, Any], dict[str, Any]]:
    """Return the rule, its hyperparameters, and the other arguments."""
    values, alias = _given(name, args, options), NAMES[name]
    others = {key: values.pop(key, None) for key in (*_MASKS, *_TYPES, *_WAYS)}
    if alias.adapt is not None:
        alias.adapt(values)
    rule = alias.rule(values)
    for key in [key for key in values if key not in rule.hyperparameters]:
        if key != alias.switch:
            _check_default(name, rule, key, values[key])
        del values[key]
    for key, value in alias.means.items():
        if key in rule.hyperparameters:
            values.setdefault(key, value)
    return rule, {key: value for key, value in values.items() if key != "lr" or value is not None}, others


def _check_default(name: str, rule: Rule, key: str, value: Any) -> None:
    """Refuse an argument that this rule does not have, unless it is the default, which asks for nothing."""
    default = _signature(name).parameters[key].default
    if value is not default and not (isinstance(value, (bool, str)) and value == default):
        raise HyperparameterError(
            f"{key}={value!r} means nothing to rule {rule.name!r}, which these arguments ask for; leave it out"
            + (f", or use {NAMES[name].module}.{name}" if key in theirs_of(name) else "")
        )


def meant(name: str, options: Mapping[str, Any]) -> tuple[Rule, dict[str, Any]]:
    """Return the rule that ``steprule.jax.NAME(**options)`` steps by, and its hyperparameters.

    Raises:
        RuleError: when there is no such name.
        HyperparameterError: for what is unknown, given twice, or means nothing.
    """
    if name not in NAMES:
        return find(name), dict(options)  # says what is unknown
    rule, values, _ = _meant(name, (), options)
    return rule, values


def _made(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    rule, values, others = _meant(name, args, options)
    mask = next((others[key] for key in _MASKS if others[key] is not None), None)
    states, min_elements, seed = (others[key] for key in _WAYS)
    defaults = _signature(name).parameters
    dtype = next(
        ((k, others[k]) for k in _TYPES if others[k] is not None and others[k] is not defaults[k].default), None
    )
    kept = None if dtype is None else _kept(rule, values, NAMES[name].moment, *dtype)
    if kept is not None and kept[1] == "bfloat16":
        if states != "float32" or min_elements is not None:
            raise HyperparameterError(f"states={states!r} says how {kept[0]!r} is kept, too; leave one of them out")
        states, min_elements = {kept[0]: "bfloat16"}, 0
    stepper = Stepper.of(
        rule,
        by_slot(rule, states),
        min_elements,
        seed,
        values,
        mask if "weight_decay" in rule.hyperparameters else None,
    )
    return of_stepper(stepper, kept)


def _kept(rule: Rule, values: Mapping[str, Any], moment: str | None, key: str, dtype: Any) -> tuple[str, str]:
    """Return the moment of a rule, and the type that it is to be kept in."""
    named = {name: slot for slot, name in slot_names(rule, "optax").items()}
    slot = moment or rule.slot_of(Role.FIRST_MOMENT) or named.get("trace")
    if slot is None or slot not in rule.trace(rule.variant(checked(rule, values))).slots:
        raise HyperparameterError(
            f"{key} has no effect: rule {rule.name!r} keeps no moment with these options; leave it out"
        )
    try:
        kept = str(jax.dtypes.canonicalize_dtype(dtype))
    except TypeError:
        kept = str(dtype)
    if kept not in _MOMENT_TYPES:
        raise HyperparameterError(
            f"{key} must be one of {', '.join(_MOMENT_TYPES)}, got {kept!r}.{suggest(kept, _MOMENT_TYPES)}"
        )
    return slot, kept


def named(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Return the function that stands in the place of optax's: its arguments, the rule's, then how states are kept."""

    def make(*args: Any, **options: Any) -> optax.GradientTransformationExtraArgs:
        return _made(name, args, options)

    signature = _signature(name)
    rule = NAMES[name].rule({key: argument.default for key, argument in signature.parameters.items()})
    path = f"{NAMES[name].module}.{name}"
    theirs = f"The arguments and defaults are those of ``{path}``; beside" if theirs_of(name) else "Beside"
    make.__name__ = make.__qualname__ = name
    make.__module__ = "steprule.jax"
    make.__doc__ = (
        f"Return {name} as a transformation of optax.\n\n{theirs} optax's names there are those of the rule, and "
        f"its own options.\nWhat is kept, and how: see ``transformation``.\n\n{rule.doc}\n\nSource: {rule.paper}."
    )
    make.__signature__ = signature  # type: ignore[attr-defined]
    return make
