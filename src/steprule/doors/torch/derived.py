"""Classes of rules that torch.optim does not have: all that torch's manner asks of one follows from the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Unpack

from steprule.doors.torch.arguments import init_options
from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, with_decay_and_sign
from steprule.rules import CATALOGUE, Rule
from steprule.rules.hyperparameters import Hyperparameter

__all__ = ["annotation", "class_of", "derived"]

Places = Mapping[str, str | tuple[str, int]]
"""Options by hyperparameter, or their places in a tuple."""
_WRITTEN = (
    *("sgd", "momentum", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "amsgrad", "adamw", "nadam", "radam"),
    *("rprop", "asgd", "adafactor", "muon"),
    *("schedule_free_sgd", "schedule_free_adamw"),
)
"""The rules whose classes are written: of torch.optim, and of the schedulefree package."""
_LEFT = {"adabelief": ("eps_root",), "adan": ("bias_correction", "eps_root")}
"""Hyperparameters that a class leaves to ``Optimizer``: none but these."""
_CALLED = {"beta": "momentum"}
_DECAY = ("weight_decay: float = 0.0", "*", "decoupled_weight_decay: bool = True")
_MANNER = (
    *("maximize: bool = False", "differentiable: bool = False", "foreach: bool | None = None"),
    *("fused: bool | None = None", "capturable: bool = False", "**options: Unpack[Options]"),
)
_CLASS = """\
class {title}(Base, meanings=meanings):
    __doc__ = doc
    _naming = naming

    def __init__(self, params: Params, {arguments}) -> None:
        super().__init__(params, init_options(locals()))

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        return with_decay_and_sign(rule, group), {{}}
"""
"""Run for each rule, so that its arguments are those of a function that somebody has written."""
_NAMES = {
    **{kind.__name__: kind for kind in (Base, Mapping, Options)},
    "Any": Any,
    "Choice": Choice,
    "Literal": Literal,
    "Number": Number,
    "Params": Params,
    "Unpack": Unpack,
    "with_decay_and_sign": with_decay_and_sign,
    "init_options": init_options,
}


def derived(module: str) -> dict[str, type[Base]]:
    """Return a class for each rule of the catalogue that has no written class, to stand in a module."""
    rules = [rule for name, rule in CATALOGUE.items() if name not in _WRITTEN]
    made = [class_of(rule, module) for rule in rules]
    return {kind.__name__: kind for kind in made}


def class_of(rule: Rule, module: str) -> type[Base]:
    """Return a class that steps by a rule, as if it were written in a module."""
    title = rule.title or "".join(word.capitalize() for word in rule.name.split("_"))
    options = _options(rule)
    naming = Naming.of(rule, options=options)
    own = {"rule": rule, "naming": naming, "doc": _doc(title, rule, naming), "meanings": _meanings(rule, options)}
    names = {**_NAMES, **own, "__name__": module}
    source = _CLASS.format(title=title, arguments=", ".join(_arguments(rule, options)))
    exec(compile(source, f"<steprule.torch.{title}>", "exec"), names)
    return names[title]  # type: ignore[return-value]


def _options(rule: Rule) -> Places:
    """Return torch's names of all hyperparameters that a class takes: beta1, beta2, ... are ``betas``."""
    hypers = rule.hyperparameters
    own = {name: name for name in hypers if name not in _LEFT.get(rule.name, ())}
    several = [beta for i in range(len(hypers)) if (beta := f"beta{i + 1}") in own and not hypers[beta].optional]
    if len(several) > 1 and several == [f"beta{i + 1}" for i in range(len(several))]:
        return {**own, **{beta: ("betas", i) for i, beta in enumerate(several)}}
    return {**own, **{name: option for name, option in _CALLED.items() if name in own and option not in own}}


def _grouped(rule: Rule, options: Places) -> dict[str, list[Hyperparameter]]:
    """Return the hyperparameters that each option holds, in the rule's order."""
    held: dict[str, list[Hyperparameter]] = {}
    for name, option in options.items():
        held.setdefault(option if isinstance(option, str) else option[0], []).append(rule.hyperparameters[name])
    return held


def _arguments(rule: Rule, options: Places) -> list[str]:
    """Return the arguments of a class after ``params``."""
    own = []
    for option, hypers in _grouped(rule, options).items():
        default = hypers[0].default if len(hypers) == 1 else tuple(hyper.default for hyper in hypers)
        kind = _type(hypers[0]) if len(hypers) == 1 else f"tuple[{', '.join(map(_type, hypers))}]"
        own.append(f"{option}: {kind} = {default!r}")
    return [*own, *(("*",) if "weight_decay" in options else _DECAY), *_MANNER]


def _type(hyper: Hyperparameter) -> str:
    return annotation(hyper, "Number" if hyper.name == "lr" else "float", hyper.optional)


def annotation(hyper: Hyperparameter, number: str, optional: bool) -> str:
    """Return the type of an argument for a hyperparameter, given what a number is."""
    if hyper.choices:
        return "bool" if hyper.choices == (False, True) else f"Literal[{', '.join(map(repr, hyper.choices))}]"
    return f"{number} | None" if optional else number


def _meanings(rule: Rule, options: Places) -> dict[str, str]:
    """Return what the options are, but the learning rate, which all classes have."""
    told = {}
    for option, hypers in _grouped(rule, options).items():
        kinds = dict.fromkeys(hyper.kind for hyper in hypers)
        names = ", ".join(f"``{hyper.name}``" for hyper in hypers if hyper.name != option)
        told[option] = f"{names}{': ' if names else ''}{'; '.join(kinds)}."
    return {option: kind for option, kind in told.items() if option != "lr"}


def _doc(title: str, rule: Rule, naming: Naming) -> str:
    """Return what a class says of itself before its arguments."""
    state = ", ".join(f"``{naming.slots.get(slot, slot)}``" for slot in ("step", *rule.slots))
    decay = "" if "weight_decay" in rule.hyperparameters else " Weight decay is decoupled."
    left = ", ".join(f"``{name}``" for name in _LEFT.get(rule.name, ()))
    without = f" ``Optimizer`` takes {left}, too." if left else ""
    return f"{title}: rule ``{rule.name}``.\n\n{rule.doc}\n\nState: {state}.{decay}{without}\n\nSource: {rule.paper}."
