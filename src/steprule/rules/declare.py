"""Declaring a rule: from a plain function and its signature to a checked ``Rule``."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from steprule.errors import HyperparameterError, RuleError
from steprule.language.matrices import View
from steprule.language.sums import ALL, ALL_SIZE, COLUMN, HOISTED, PRODUCT, ROW, SIZES, TOTAL
from steprule.language.tracing import explain
from steprule.rules.guard import CLIP_FACTOR, CLIP_VALUE, GRAD_SCALE
from steprule.rules.hyperparameters import (
    Hyperparameter,
    NonNegative,
    PerColumn,
    PerRow,
    PerTensor,
    Role,
    Scalar,
    check_element,
    declare,
    role_of,
)
from steprule.rules.rule import ARGUMENTS, Rule

__all__ = ["rule"]

_OWN = (*SIZES, ALL_SIZE, GRAD_SCALE, CLIP_VALUE, CLIP_FACTOR)
"""What preludes take besides hyperparameters, and sums over a tensor."""
_OWN_WORDS = (TOTAL, ROW, COLUMN, f"{ALL}{TOTAL}", HOISTED, PRODUCT)
"""How names of sums begin, and of planes of numbers of rows and columns, and of products."""


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(
    *,
    paper: str = "",
    name: str | None = None,
    title: str = "",
    init: Mapping[str, float | str] | None = None,
    evaluated: Callable[..., Any] | None = None,
    matrices: View | None = None,
) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(
    function: Callable[..., Any] | None = None,
    /,
    *,
    paper: str = "",
    name: str | None = None,
    title: str = "",
    init: Mapping[str, float | str] | None = None,
    evaluated: Callable[..., Any] | None = None,
    matrices: View | None = None,
) -> Rule | Callable[[Callable[..., Any]], Rule]:
    """Make a rule of a function ``(parameter, gradient, *slots, *, t, **hyperparameters)``.

    The signature is the declaration: first the parameter, then the gradient, then the slots
    (annotated ``FirstMoment`` for the average of gradients along which a step goes, ``SecondMoment`` for the
    average of their squares by whose root it divides, ``NonNegative`` for others that are never below zero,
    which low-precision formats make use of, ``PerRow`` and ``PerColumn`` for one number of each row or column,
    ``PerTensor`` for one of the tensor, ``Scalar`` for one of all tensors); keyword-only names are hyperparameters with
    default and range; ``t``, if named, is the step number. It returns the new parameter
    and slots; a slot returned as None is not kept.

    The name of a slot does not matter. Its role determines what a ``Monitor`` reads from it, whether
    ``update_clip`` is possible, and what torch.optim and optax call it.

    The function is run on symbols when the rule is defined, not when it steps. It may call ``sqrt``,
    ``maximum``, ``minimum``, ``where`` and ``sign`` of steprule, and ``total``, ``mean``, ``norm``, ``rms`` and
    ``size``, which make one number of all elements; on such numbers, hyperparameters and ``t`` also the functions of
    ``math``; and other functions that use only these. Constants from elsewhere are read once, at that time. It must be
    a function of its arguments: one that draws a random number, reads a clock or counts its calls would use one
    constant forever. So each variant is run twice, and the rule is refused if the two runs differ.

    Args:
        paper: where the rule comes from.
        name: default: the function's name.
        title: how its authors write it (``"AdEMAMix"``), if that is not just the capitalized name; it is the name of
            the class of a catalogue rule in ``steprule.torch``.
        init: the values of slots before the first step, each a number, a hyperparameter's name, or that of the
            parameter (the slot begins as a copy of it). Default 0.
        evaluated: the point that the model is evaluated at, where that is not the parameter itself: a function that
            names what it depends on, of the parameter, slots with a number for each element, kept numbers and
            hyperparameters, ``lambda average: average`` for one. Where a variant does not keep a slot, it gets None
            for it, and may return None: then the parameter is evaluated itself.
        matrices: which the rows and columns of a tensor are, for a rule that sees them. ``"first"`` (default): rows
            are along the first axis, columns along all others. ``"last"``: they are along the last two axes, and the
            axes before these count matrices. A vector is one row.

    Raises:
        RuleError: at once, with the source line, when the rule is wrong, or two runs of it differ.
        HyperparameterError: when a default is outside its range.
    """
    if title and not title.isidentifier():
        raise RuleError(f"the title of a rule is what a class may be called, 'AdEMAMix' for one, got {title!r}")
    if function is None:
        return lambda decorated: _declare(decorated, paper, name, title, init or {}, evaluated, matrices)
    return _declare(function, paper, name, title, init or {}, evaluated, matrices)


def _declare(
    function: Callable[..., Any],
    paper: str,
    name: str | None,
    title: str,
    init: Mapping[str, float | str],
    evaluated: Callable[..., Any] | None,
    matrices: View | None,
) -> Rule:
    if not isinstance(function, types.FunctionType):
        raise RuleError(f"a rule is made of a plain function (def or lambda), got {function!r}")
    name = name or function.__name__
    if not name.isprintable():
        raise RuleError(f"the name of a rule is printable text, got {name!r}")
    hints = _hints(function, name)
    elements, hyperparameters = _signature(function, name, hints)
    roles = _roles(function, name, {slot: hints.get(slot) for slot in elements[2:]})
    _check_annotations(function, name, elements, hints)
    is_squared = {slot for slot, role in roles.items() if role is Role.SECOND_MOMENT}
    return Rule(
        function=function,
        name=name,
        title=title,
        slots=tuple(elements[2:]),
        hyperparameters=hyperparameters,
        paper=paper,
        doc=inspect.getdoc(function) or "",
        scalars=frozenset(slot for slot in elements[2:] if hints.get(slot) == Scalar),
        per_tensor=frozenset(slot for slot in elements[2:] if hints.get(slot) == PerTensor),
        per_row=frozenset(slot for slot in elements[2:] if hints.get(slot) == PerRow),
        per_column=frozenset(slot for slot in elements[2:] if hints.get(slot) == PerColumn),
        matrices=matrices,
        non_negative=frozenset(slot for slot in elements[2:] if slot in is_squared or hints.get(slot) == NonNegative),
        roles=roles,
        init=init,
        evaluated=evaluated,
        parameter=elements[0],
        gradient=elements[1],
        uses_t="t" in inspect.signature(function).parameters,
    )


def _hints(function: types.FunctionType, title: str) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise explain(function, title, f"unknown annotation: {error}; import its name at the top of the file") from None


def _signature(
    function: types.FunctionType, title: str, hints: Mapping[str, Any]
) -> tuple[list[str], dict[str, Hyperparameter]]:
    """Return the names of the elements, and the hyperparameters."""
    elements: list[str] = []
    hyperparameters: dict[str, Hyperparameter] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in _OWN or parameter.name.startswith(_OWN_WORDS):
            raise explain(function, title, f"{parameter.name!r} is a number of the step's own; give it another name")
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty:
            elements.append(parameter.name)
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            plain = parameter.replace(annotation=parameter.empty)
            raise explain(
                function, title, f"{plain} is not allowed: slots are plain names, hyperparameters come after *"
            )
        elif parameter.name in ARGUMENTS:
            raise explain(
                function, title, f"{parameter.name!r} is an argument of Optimizer; give the hyperparameter another name"
            )
        elif parameter.name != "t":
            hyperparameters[parameter.name] = _hyperparameter(function, title, parameter, hints)
    if len(elements) < 2:
        raise explain(function, title, f"takes {elements}, expected at least the parameter and the gradient")
    if elements[0] in ("self", "cls"):
        raise explain(function, title, "a rule is a plain function, not a method: it has no self")
    if "t" in elements:
        raise explain(function, title, "t is the step number: name it after the *, and the slot otherwise")
    return elements, hyperparameters


def _check_annotations(
    function: Callable[..., Any], title: str, elements: Sequence[str], hints: Mapping[str, Any]
) -> None:
    """Refuse annotations that say nothing where they stand."""
    parameter, gradient, *slots = elements
    others = {parameter: "parameter", gradient: "gradient", "t": "step number"}
    for name, what in {**others, **dict.fromkeys(slots, "slot")}.items():
        try:
            check_element(hints.get(name), what)
        except RuleError as error:
            raise explain(function, title, f"{name!r} {error}") from None


def _roles(function: Callable[..., Any], title: str, annotations: Mapping[str, Any]) -> dict[str, Role]:
    """Return the roles of the slots that declare one."""
    roles: dict[str, Role] = {}
    for slot, annotation in annotations.items():
        try:
            role = role_of(annotation)
        except RuleError as error:
            raise explain(function, title, f"slot {slot!r} {error}") from None
        if role is None:
            continue
        other = next((known for known, taken in roles.items() if taken is role), None)
        if other is not None:
            remedy = ", NonNegative if it is never below zero" if role is Role.SECOND_MOMENT else ""
            raise explain(
                function,
                title,
                f"slots {other!r} and {slot!r} are both {role.value}, and a rule has one: of two averages the one that "
                f"follows the gradient faster; leave the other without a role{remedy}",
            )
        roles[slot] = role
    return roles


def _hyperparameter(
    function: Callable[..., Any], title: str, parameter: inspect.Parameter, hints: Mapping[str, Any]
) -> Hyperparameter:
    if parameter.default is parameter.empty:
        raise explain(function, title, f"hyperparameter {parameter.name!r} has no default")
    try:
        return declare(parameter.name, hints.get(parameter.name, float), parameter.default)
    except (RuleError, HyperparameterError) as error:
        raise type(error)(str(explain(function, title, str(error)))) from None
