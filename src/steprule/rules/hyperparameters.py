"""Hyperparameters: their ranges, their kinds, and the check of a value."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import numpy as np

from steprule.errors import HyperparameterError, RuleError, suggest

__all__ = [
    "Count",
    "Decay",
    "FirstMoment",
    "Fraction",
    "Hyperparameter",
    "NonNegative",
    "PerColumn",
    "PerRow",
    "PerTensor",
    "Positive",
    "Range",
    "Rate",
    "Role",
    "Scalar",
    "SecondMoment",
    "Value",
    "check_element",
    "role_of",
]

_SCHEDULE = (
    ". What changes from step to step is a schedule, a callable of the step number t: "
    "steprule.schedules.step_drop(0.1, [1000]), say, or lambda t: ..."
)
Value: TypeAlias = "float | bool | str | None"


@dataclass(frozen=True)
class Range:
    """An interval of finite numbers: ``low <= x < high``.

    ``open_low`` leaves ``low`` out, ``closed_high`` takes ``high`` in. ``whole``: it has whole numbers alone.
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    closed_high: bool = False
    whole: bool = False

    def __contains__(self, x: float) -> bool:
        above = x > self.low if self.open_low else x >= self.low
        below = x <= self.high if self.closed_high else x < self.high
        return above and below and math.isfinite(x) and not (self.whole and x != int(x))

    def __str__(self) -> str:
        if self.whole:
            return f"a whole number of at least {self.low:g}" + (
                "" if self.high == math.inf else f", below {self.high:g}"
            )
        if self.low == -math.inf and self.high == math.inf:
            return "a finite number"
        if self.high == math.inf and self.open_low:
            return "a positive number" if self.low == 0 else f"a number above {self.low:g}"
        if self.high == math.inf:
            return f"a number of at least {self.low:g}"
        left, right = "(" if self.open_low else "[", "]" if self.closed_high else ")"
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"


Rate = Annotated[float, Range(0.0), "learning rate"]
"""A learning rate: 0 or more (0 freezes the parameters and lets the slots go on)."""
Decay = Annotated[float, Range(0.0, 1.0)]
"""A decay of an exponential average: in [0, 1)."""
Fraction = Annotated[float, Range(0.0, 1.0, closed_high=True)]
"""A share of something: in [0, 1]."""
NonNegative = Annotated[float, Range(0.0)]
"""A number of at least 0."""
Positive = Annotated[float, Range(0.0, open_low=True)]
"""A number above 0."""
Count = Annotated[float, Range(1.0, 100.0, whole=True)]
"""How many there are of something: a whole number of at least 1, below 100."""


Scalar = Annotated[Any, "scalar slot"]
"""Annotation of a slot that is one number of the optimizer (of each group), computed in float64.

It may depend on hyperparameters, t, other Scalars and sums over all tensors.
"""
PerTensor = Annotated[Any, "slot of a tensor"]
"""Annotation of a slot that is one number of each tensor, kept and computed in float64.

It may depend on what a Scalar depends on, on sums over the tensor and on other slots of this kind.
"""
PerRow = Annotated[Any, "slot of rows"]
"""Annotation of a slot that is one number of each row of a tensor seen as matrices, kept in the type of other slots.

It may depend on what a PerTensor depends on, on sums over rows (``over="row"``), on sums of these over columns, and on
other slots of this kind.
"""
PerColumn = Annotated[Any, "slot of columns"]
"""Annotation of a slot that is one number of each column, as a ``PerRow`` is of each row."""


class Role(Enum):
    """What a slot is to the rule, by the name of its annotation."""

    FIRST_MOMENT = "FirstMoment"
    SECOND_MOMENT = "SecondMoment"


FirstMoment = Annotated[Any, Role.FIRST_MOMENT]
"""Annotation of the slot that averages gradients, along which a step goes."""
SecondMoment = Annotated[Any, Role.SECOND_MOMENT, Range(0.0)]
"""Annotation of the slot that averages squares of gradients, by whose root a step divides. It is never below zero."""


def role_of(annotation: Any) -> Role | None:
    """Return the role that the annotation of a slot declares, if it declares one.

    Raises:
        RuleError: for an annotation that says more than that, since the rest would be ignored.
    """
    role = next(_roles_in(annotation), None)
    if role is not None and annotation not in (FirstMoment, SecondMoment):
        raise RuleError(
            f"is annotated {role.value} and more, but {role.value} stands alone: it is no Scalar, since a moment has a "
            "number for each element; a SecondMoment is non-negative by itself; and a variant without it returns None"
        )
    return role


_NAMES: Sequence[tuple[str, Any]] = (
    *(("Rate", Rate), ("Decay", Decay), ("Fraction", Fraction), ("NonNegative", NonNegative), ("Positive", Positive)),
    ("Count", Count),
    *(("Scalar", Scalar), ("PerTensor", PerTensor), ("FirstMoment", FirstMoment), ("SecondMoment", SecondMoment)),
    *(("PerRow", PerRow), ("PerColumn", PerColumn)),
)
_EXTENTS = (Scalar, PerTensor, PerRow, PerColumn)
_OF_SLOTS = (FirstMoment, SecondMoment, NonNegative, *_EXTENTS)
_NUMBERS = tuple(mark for extent in _EXTENTS for mark in get_args(extent)[1:])
"""What marks slots that have not a number for each element."""


def check_element(annotation: Any, what: str) -> None:
    """Check the annotation of a rule's argument that is not a hyperparameter: what says nothing there is a mistake.

    Types of arrays and numbers are for type checkers, and are not looked at.

    Args:
        annotation: None where there is none.
        what: ``"slot"``, or what else the argument is.

    Raises:
        RuleError: for an annotation that would be ignored.
    """
    is_slot = what == "slot"
    if (is_slot and annotation in _OF_SLOTS) or not any(map(_is_ours, _parts_of(annotation))):
        return
    names = "FirstMoment, SecondMoment, NonNegative, Scalar, PerTensor, PerRow, PerColumn or nothing"
    of_slot = f"write {names}, and put a hyperparameter after the *"
    remedy = of_slot if is_slot else "leave the annotation away"
    raise RuleError(f"is annotated {_written(annotation)}, which says nothing about a {what}; {remedy}")


def _written(annotation: Any) -> str:
    """Return an annotation as one writes it."""
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(map(_written, get_args(annotation)))
    if annotation is types.NoneType:
        return "None"
    known = next((name for name, other in _NAMES if annotation == other), None)
    return known or (annotation.__name__ if isinstance(annotation, type) else repr(annotation))


def _is_ours(part: Any) -> bool:
    """Whether a part of an annotation is one that rules give a meaning to."""
    is_choice = part is bool or get_origin(part) is Literal
    return is_choice or isinstance(part, Range | Role) or part in _NUMBERS


def _parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _parts_of(part)


def _roles_in(annotation: Any) -> Iterator[Role]:
    return (part for part in _parts_of(annotation) if isinstance(part, Role))


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword of a rule: its default and what values it takes.

    Numbers have a ``range`` and may be schedules; ``optional`` ones may be None. Booleans and
    choices (``choices``), and whether an optional number is None, are fixed when a rule is traced.
    """

    name: str
    default: Value
    range: Range = Range()
    choices: tuple[bool | str, ...] = ()
    optional: bool = False

    @property
    def is_static(self) -> bool:
        """Whether the value is fixed when tracing: a boolean or a choice."""
        return bool(self.choices)

    @property
    def kind(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return " or ".join(map(repr, self.choices))
        return f"{self.range}{' or None' if self.optional else ''}"

    def static(self, value: object) -> Value:
        """Return the part of ``value`` that selects a variant of the rule's trace."""
        if self.choices:
            return value  # type: ignore[return-value]  # checked to be one of the choices
        return None if value is None else "number"

    def statics(self) -> tuple[Value, ...]:
        """Return every value that ``static`` may take."""
        if self.choices:
            return self.choices
        return (None, "number") if self.optional else ("number",)

    def check(self, value: Any, where: str = "") -> Value:
        """Return ``value`` as a Python float, bool, str or None.

        A NumPy float64 scalar would promote float32 arrays, so it is turned into a float here.

        Raises:
            HyperparameterError: when it is of another type or outside the range.
        """
        if isinstance(value, np.bool_):
            value = bool(value)
        if self.choices:
            if any(value is choice or (isinstance(choice, str) and value == choice) for choice in self.choices):
                return value  # type: ignore[no-any-return]
            hint = suggest(value, [c for c in self.choices if isinstance(c, str)]) if isinstance(value, str) else ""
            raise HyperparameterError(f"{self.name} must be {self.kind}, got {value!r}{where}.{hint}")
        if value is None and self.optional:
            return None
        number = _as_float(value)
        if number is None or number not in self.range:
            hint = _SCHEDULE if isinstance(value, list | tuple) or getattr(value, "shape", ()) != () else ""
            raise HyperparameterError(f"{self.name} must be {self.kind}, got {value!r}{where}{hint}")
        return number


def _as_float(value: Any) -> float | None:
    """Return a number or a zero-dimensional array as a float; None for anything else."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or getattr(value, "shape", ()) != ():
        return None
    # Booleans and texts of array libraries have a float, too.
    if not any(kind in str(getattr(value, "dtype", "float")) for kind in ("float", "int")):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuleError):
        return None


def declare(name: str, annotation: Any, default: Any) -> Hyperparameter:
    """Return the hyperparameter that an annotated keyword declares.

    Raises:
        RuleError: for an annotation that is none of bool, Literal[...], float or Annotated[float, Range].
        HyperparameterError: for a default outside the range.
    """
    annotation, optional = _strip_none(annotation)
    limits = Range()
    choices: tuple[bool | str, ...] = ()
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if not all(isinstance(choice, str) for choice in choices):
            raise RuleError(f"hyperparameter {name!r} has the choices {choices}; choices are strings")
    elif annotation in _EXTENTS or any(_roles_in(annotation)):
        kind = next((role.value for role in _roles_in(annotation)), _written(annotation))
        raise RuleError(f"hyperparameter {name!r} is annotated {kind}, which is for slots: put it before the *")
    elif annotation is bool or isinstance(default, bool):
        choices = (False, True)
    elif get_origin(annotation) is Annotated:
        limits = next((extra for extra in get_args(annotation) if isinstance(extra, Range)), limits)
    elif annotation not in (float, int, Any):
        raise RuleError(
            f"hyperparameter {name!r} has the annotation {annotation!r}; use float, Rate, Decay, NonNegative, "
            "Positive, Annotated[float, Range(low, high)], bool or Literal[...]"
        )
    if default is None and not optional:
        raise RuleError(f"hyperparameter {name!r} is None by default: say in its annotation that it may be, `X | None`")
    declared = Hyperparameter(name, None, limits, choices, optional)
    return Hyperparameter(name, declared.check(default, " as its default"), limits, choices, optional)


def _strip_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    members = [member for member in get_args(annotation) if member is not types.NoneType]
    if len(members) != 1 or len(get_args(annotation)) != 2:
        raise RuleError(f"annotation {annotation!r} is a union of several types; only `X | None` has a meaning")
    return members[0], True
