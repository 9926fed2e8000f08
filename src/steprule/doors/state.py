"""The state of an optimizer, of whatever door: values by the rule's own names, with their formats and planes.

State dicts of the doors, checkpoint files and other libraries' states are views of it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steprule.checkpoint import Json, Stored, short
from steprule.coding import decode, plane_name
from steprule.errors import StateError
from steprule.formats import CODING, EARLIER_CODING, FORMATS, Codec, saved_codec

__all__ = [
    "MOST_STEPS",
    "SCHEDULE",
    "TRAINED",
    "GroupState",
    "ParameterState",
    "State",
    "compute_of",
    "is_named",
    "labels_of",
    "names_apart",
    "numbers_of",
    "steps_of",
]

SCHEDULE = {"schedule": True}
"""What stands for a hyperparameter that is a schedule."""

TRAINED = "trained"
"""What stands, among the values of a parameter, for the parameter itself while it is the evaluated point."""

MOST_STEPS = 2**63 - 2
"""The steps that can be counted: one more is to come."""


@dataclass(frozen=True)
class GroupState:
    """One group of parameters.

    Attributes:
        rule: what it steps by, in full: ``decoupled(adam)`` for ``adamw``.
        hyperparameters: by the rule's names; ``SCHEDULE`` where there is a schedule.
        seed: of random rounding; None where there is none.
        first_row: where its arrays begin in larger ones.
        options: of PyTorch's groups, in its own names, encoded.
        coding: how codes and scales are to be read.
        t: the steps taken, and
        scalars: the scalar slots, of a group without parameters, whose states would tell both.
    """

    rule: str
    hyperparameters: Mapping[str, Any]
    seed: int | None = None
    first_row: int = 0
    options: Mapping[str, Json] | None = None
    coding: str = CODING
    t: int | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ParameterState:
    """One parameter and what is kept of it.

    Attributes:
        name: what the optimizer calls it; None where it has no names.
        shape: its shape.
        dtype: its type, as NumPy or torch names it.
        group: the place of its group.
        t: the steps taken; None where they are not counted.
        scalars: its slots that are numbers: of its group, or its own.
        formats: how each value is kept that has planes, by the ``id`` of its format.
        planes: what is kept, by name: arrays, or what has one when asked; none before the first step where slots are
            made in it.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: str
    group: int
    t: int | None
    scalars: Mapping[str, float] = field(default_factory=dict)
    formats: Mapping[str, Any] = field(default_factory=dict)
    planes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, Any]:
        """The planes, as arrays."""
        return {name: one.array() if isinstance(one, Stored) else one for name, one in self.planes.items()}

    def decoded(self) -> ParameterState:
        """Return it with every slot as the numbers that it holds, and nothing beside the parameter."""
        kind, arrays = FORMATS[compute_of(self.dtype)], self.arrays
        known = {slot: saved_codec(id_, kind, is_slot=True) for slot, id_ in self.formats.items()}
        if known.get(TRAINED, kind) is None:
            known[TRAINED] = saved_codec(self.formats[TRAINED], FORMATS[self.dtype], is_slot=False)
        codecs = {slot: codec for slot, codec in known.items() if codec is not None}  # else it is the parameter's own
        numbers = {
            slot: np.array(arrays[slot]) if codec.is_plain else numbers_of(codec, slot, arrays, self.shape)
            for slot, codec in codecs.items()
        }
        if TRAINED in numbers and self.dtype == "float16":  # whose type is not that of slots
            numbers[TRAINED] = numbers[TRAINED].astype(kind.name)
        return replace(self, formats=dict.fromkeys(codecs, kind.name), planes=numbers)


@dataclass(frozen=True)
class State:
    """What an optimizer keeps.

    Attributes:
        made_by: the optimizer's class.
        rule: what it steps by; of several groups the first's.
        groups, parameters: in order.
        mode: ``"train"``, or ``"eval"`` where the parameters are the evaluated point: then each that has been stepped
            keeps what is trained as the value ``TRAINED``, in planes of the parameter's own format.
        others: what others keep whose state this one is nested in, by its place there.
    """

    made_by: str
    rule: str
    groups: Sequence[GroupState]
    parameters: Sequence[ParameterState]
    others: Mapping[str, Stored] = field(default_factory=dict)
    mode: str = "train"

    @property
    def names(self) -> list[str | None]:
        """What the parameters are called."""
        return [own.name for own in self.parameters]

    @property
    def labels(self) -> list[str]:
        """What the arrays of each parameter are called: its name, or its place."""
        return labels_of(self.names)

    @property
    def t(self) -> int | None:
        """The steps taken, if all parameters have taken as many."""
        counts = {own.t for own in self.parameters or self.groups}
        return counts.pop() if len(counts) == 1 else None

    def is_earlier(self, own: ParameterState) -> bool:
        """Whether it is of when tensors of one dimension kept float32 slots, whatever was asked for."""
        return self.groups[own.group].coding == EARLIER_CODING and len(own.shape) < 2

    def one_t(self, what: str) -> int:
        """Return the step count, for ``what`` has one for all.

        Raises:
            StateError: when parameters have been stepped a different number of times.
        """
        if not self.parameters:
            return next((own.t for own in self.groups if own.t is not None), 0)
        # Where nothing is counted, a parameter that has slots has been stepped, and no rule asks how often.
        counts = [int(bool(own.planes)) if own.t is None else own.t for own in self.parameters]
        if len(set(counts)) > 1:
            (least, first), (most, last) = ((n, self.labels[counts.index(n)]) for n in (min(counts), max(counts)))
            raise StateError(
                f"parameter {first} has been stepped {least} times, {last} {most} times: {what} has one count for all. "
                "Load it in steprule.torch, or give such parameters an optimizer of their own"
            )
        return counts[0]

    def scalars_of(self, group: int, what: str, apart: Collection[str] = ()) -> Mapping[str, float]:
        """Return the scalar slots of a group, in which its parameters must agree; none before the first step.

        Args:
            group: its place.
            what: what has one of each.
            apart: the slots that are a number of each parameter.

        Raises:
            StateError: when they do not agree.
        """
        of_group = [own.scalars for own in self.parameters if own.scalars and own.group == group]
        begun = [{name: value for name, value in own.items() if name not in apart} for own in of_group]
        for own in begun[1:]:
            if _bits(own) != _bits(begun[0]):
                raise StateError(
                    f"parameters of group {group} differ in scalar slots, {dict(begun[0])} and {dict(own)}: {what} has "
                    "one of each for a group"
                )
        return begun[0] if begun else self.groups[group].scalars


def _bits(scalars: Mapping[str, float]) -> dict[str, bytes]:
    return {name: struct.pack("<d", value) for name, value in sorted(scalars.items())}


def is_named(names: Sequence[str | None]) -> bool:
    """Whether all parameters have a name, of their own."""
    return None not in names and len(set(names)) == len(names)


def names_apart(names: Sequence[str | None]) -> list[str | None]:
    """Return the names of parameters; none where two are the same."""
    return list(names) if len(set(names)) == len(names) else [None] * len(names)


def labels_of(names: Sequence[str | None]) -> list[str]:
    """Return a name for every parameter: names if all have one of their own, else places."""
    return list(map(str, names if is_named(names) else range(len(names))))


def compute_of(dtype: str) -> str:
    """Return the type that slots of a parameter of this type are computed in; of complex ones their parts."""
    return "float64" if dtype in ("float64", "complex128") else "float32"


def steps_of(value: Any, what: str, most: int = MOST_STEPS) -> int:
    """Return a step count that a state tells, which may be a float or an array of one number.

    Args:
        value: the count.
        what: what messages call it.
        most: the largest that can be taken over.

    Raises:
        StateError: when it is not a count, or too large: rounded or cut off, the run would go on at another step.
    """
    try:
        count = int(value)
        is_count = bool(count == value) and not isinstance(value, (bool, np.bool_)) and 0 <= count <= most
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        is_count = False
    if not is_count:
        raise StateError(f"{what} must be an integer from 0 to {most}, got {short(value)}")
    return count


def numbers_of(codec: Codec, value: str, planes: Mapping[str, Any], shape: Sequence[int]) -> Any:
    """Return the numbers that the planes of a value of this shape hold, as float32."""
    return decode(codec, {spec.suffix: planes[plane_name(value, spec.suffix)] for spec in codec.planes}, shape)
