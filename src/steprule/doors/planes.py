"""What is kept of one parameter in a state, for an optimizer: as it is, or converted from other formats on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steprule.checkpoint import short
from steprule.coding import encode, plane_name
from steprule.doors.layout import Array
from steprule.doors.state import ParameterState, numbers_of
from steprule.engine import ways_of
from steprule.errors import StateError
from steprule.formats import Format, Kept, Part, Storage, saved_way, shape_of
from steprule.rules import Rule
from steprule.rules.rule import Variant

__all__ = ["Target", "other_keys"]

REMEDY = "Make the optimizer with the states= and weights= of the state, or load it with convert=True, which rounds"
"""What helps against a state in other formats."""


@dataclass(frozen=True)
class Target:
    """A parameter that a state is for.

    Attributes:
        what: what messages call it.
        shape: its shape.
        kind: how it is computed with; of complex numbers, each of their parts.
        ways: how it and each of its slots is kept.
        parameter: what the rule calls it.
        is_complex: whether its numbers, and those of its slots, are complex.
        called: what messages call values, where that is not their name.
        remedy: what helps against other formats.
    """

    what: str
    shape: tuple[int, ...]
    kind: Format
    ways: Mapping[str, Kept]
    parameter: str
    is_complex: bool = False
    called: Mapping[str, str] = field(default_factory=dict)
    remedy: str = REMEDY

    @classmethod
    def of(
        cls,
        what: str,
        shape: tuple[int, ...],
        rule: Rule,
        variant: Variant,
        storage: Storage,
        is_complex: bool = False,
    ) -> Target:
        """Return what a parameter of a rule is kept in."""
        return cls(what, shape, storage.parameter, ways_of(rule, variant, storage), rule.parameter, is_complex)

    @property
    def formats(self) -> dict[str, str]:
        """What a state tells of the formats of its values: of those that have planes beside the parameter."""
        return {value: way.id for value, way in self.ways.items() if self.parts(value, way)}

    def fitted(self, own: ParameterState, convert: bool) -> dict[str, Any]:
        """Return the planes to take over for the parameter, by name. Changes nothing.

        Args:
            own: its state.
            convert: whether values in another format are decoded, and rounded to nearest in the parameter's own.

        Raises:
            StateError: when they do not fit.
        """
        was, saved = {value: self.way(value, id_) for value, id_ in own.formats.items()}, own.arrays
        self._check_names(was, saved)
        difference = self._difference(was)
        if difference and not convert:
            raise StateError(f"{self.what}: {difference}. {self.remedy}")
        for value, way in was.items():
            self._check(value, way, saved)
        new: dict[str, Any] = {}
        for value, way in self.ways.items():
            if value not in was or was[value].id != way.id:
                new |= self._converted(value, was.get(value), saved)
            else:
                new |= {plane: saved[plane] for plane in self.parts(value, way)}
        return new

    def parts(self, value: str, way: Kept) -> dict[str, Part]:
        """Return the planes of a value that is kept so, beside the parameter."""
        own = value == self.parameter
        return {plane_name(value, part.suffix): part for part in way.parts if part.suffix or not own}

    def keys_of(self, value: str, way: Kept) -> dict[str, str]:
        """Return what messages call the planes of a value that is kept so."""
        return {plane: plane for plane in self.parts(value, way)}

    def _named(self, value: str) -> str:
        return self.called.get(value, value)

    def _check_names(self, was: Mapping[str, Kept], saved: Mapping[str, Any]) -> None:
        keys = {plane: key for value, way in was.items() for plane, key in self.keys_of(value, way).items()}
        has = [keys.get(plane, plane) for plane in saved]
        if not self.ways.keys() - {self.parameter} <= was.keys() or not saved.keys() <= keys.keys():
            expected = [key for value, way in self.ways.items() for key in self.keys_of(value, way).values()]
            raise StateError(f"{self.what}: {other_keys(has, expected)}")
        for value, way in was.items():
            for plane, key in self.keys_of(value, way).items():
                if plane not in saved:
                    raise StateError(
                        f"{self.what}: the state has the slots {sorted(has)}, and no {key}, which belongs to "
                        f"{self._named(value)} in the format {way.name}"
                    )

    def _difference(self, was: Mapping[str, Kept]) -> str:
        """Return the first value that is kept in another way than it was, and both ways; empty if there is none."""
        for value in sorted({*was, *self.ways}):
            then, now = (ways[value].id if value in ways else "nearest" for ways in (was, self.ways))
            # Of a parameter with nothing beside it a state need not tell.
            if then != now and (value in was or self.parts(value, self.ways[value])):
                return f"{self._named(value)} is kept as {now} here, but the state has it as {then}"
        return ""

    def way(self, value: str, id_: object) -> Kept:
        """Return what a state means by a format of a value.

        Raises:
            StateError: when this version does not know it.
        """
        way = saved_way(str(id_), self.kind, is_slot=value != self.parameter)
        if way is None:
            raise StateError(
                f"{self.what}: the state has {value} in the format {short(id_)}, which this steprule cannot read"
            )
        return way

    def _check(self, value: str, way: Kept, saved: Mapping[str, Any]) -> None:
        keys = self.keys_of(value, way)
        for plane, part in self.parts(value, way).items():
            array, expected = saved[plane], (self.dtype(part), shape_of(part, self.shape))
            found = self.look(array)
            if found != expected:
                got = f"a {type(array).__name__}" if found is None else f"{found[0]} of shape {found[1]}"
                raise StateError(
                    f"{self.what}: slot {keys[plane]} is {got}, expected {expected[0]} of shape {expected[1]}"
                )

    def look(self, plane: Any) -> tuple[str, tuple[int, ...]] | None:
        """Return the type and the shape of a plane; None for what is none."""
        return (str(plane.dtype), plane.shape) if type(plane) is np.ndarray else None

    def dtype(self, part: Part) -> str:
        """Return the type that ``look`` returns of a plane that fits."""
        return COMPLEX.get(part.dtype, part.dtype) if self.is_complex else part.dtype

    def _converted(self, value: str, was: Kept | None, saved: Mapping[str, Any]) -> dict[str, Array]:
        """Return the planes of a value that was kept in another way."""
        way = self.ways[value]
        if was is None or value == self.parameter:  # what was beside another kind of parameter means nothing here
            parts = self.parts(value, way).items()
            return {plane: np.zeros(shape_of(part, self.shape), part.dtype) for plane, part in parts}
        numbers = numbers_of(was, value, saved, self.shape)
        return {plane_name(value, suffix): plane for suffix, plane in encode(way, numbers).items()}


COMPLEX = {"float32": "complex64", "float64": "complex128"}


def other_keys(has: Iterable[str], expected: Iterable[str]) -> str:
    """Return what is wrong with a state that has other things than are expected."""
    return (
        f"the state has the slots {sorted(has)}, expected {sorted(expected)}: is it of another optimizer, or of other "
        "options?"
    )
