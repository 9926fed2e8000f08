"""What is kept of one parameter in a state, for an optimizer: as it is, or converted from other formats on request."""

from __future__ import annotations

from collections.abc import Mapping
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

__all__ = ["REMEDY", "Target", "beside", "differences"]


def beside(ways: Mapping[str, Kept], parameter: str) -> dict[str, Kept]:
    """Return how each value is kept that has planes beside the parameter."""
    return {name: way for name, way in ways.items() if name != parameter or len(way.parts) > 1}


@dataclass(frozen=True)
class Target:
    """A parameter that a state is for.

    Attributes:
        what: what messages call it.
        shape: its shape.
        kind: how it is computed with; of complex numbers, each of their parts.
        ways: how each value is kept that has planes beside it.
        parameter: what the rule calls it.
        is_complex: whether its numbers, and those of its slots, are complex.
        called: what messages call planes, where that is not their name.
    """

    what: str
    shape: tuple[int, ...]
    kind: Format
    ways: Mapping[str, Kept]
    parameter: str
    is_complex: bool = False
    called: Mapping[str, str] = field(default_factory=dict)

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
        ways = beside(ways_of(rule, variant, storage), rule.parameter)
        return cls(what, shape, storage.parameter, ways, rule.parameter, is_complex)

    @property
    def formats(self) -> dict[str, str]:
        """What a state tells of the formats of its values."""
        return {value: way.id for value, way in self.ways.items()}

    def names(self, ways: Mapping[str, Kept]) -> list[str]:
        """Return the names of the planes beside the parameter, of values that are kept so."""
        return [plane for value, way in ways.items() for plane in self._parts(value, way)]

    def fitted(self, own: ParameterState, convert: bool) -> dict[str, Array]:
        """Return the planes to take over for the parameter, by name. Changes nothing.

        Args:
            own: its state.
            convert: whether values in another format are decoded, and rounded to nearest in the parameter's own.

        Raises:
            StateError: when they do not fit.
        """
        was, saved = {value: self.way(value, id_) for value, id_ in own.formats.items()}, own.arrays
        slots = self.ways.keys() - {self.parameter}
        if not slots <= was.keys() or set(saved) != set(self.names(was)):
            raise StateError(
                f"{self.what}: the state has the slots {sorted(saved)}, expected {sorted(self.names(self.ways))}"
            )
        differing = differences(was, self.ways)
        if differing and not convert:
            raise StateError(f"{self.what}: {differing[0]}. {REMEDY}")
        for value, way in was.items():
            self._check(value, way, saved)
        new: dict[str, Array] = {}
        for value, way in self.ways.items():
            if value not in was or was[value].id != way.id:
                new |= self._converted(value, was.get(value), saved)
            else:
                new |= {plane: saved[plane] for plane in self._parts(value, way)}
        return new

    def _parts(self, value: str, way: Kept) -> dict[str, Part]:
        parts = {plane_name(value, part.suffix): part for part in way.parts}
        return {plane: part for plane, part in parts.items() if plane != self.parameter}

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
        for plane, part in self._parts(value, way).items():
            array, shape, dtype = saved[plane], shape_of(part, self.shape), self._dtype(part)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                is_array = type(array) is np.ndarray
                got = f"{array.dtype} of shape {array.shape}" if is_array else f"a {type(array).__name__}"
                name = self.called.get(plane, f"slot {plane} of the state")
                raise StateError(f"{self.what}: {name} is {got}, expected {dtype} of shape {shape}")

    def _dtype(self, part: Part) -> str:
        return _COMPLEX.get(part.dtype, part.dtype) if self.is_complex else part.dtype

    def _converted(self, value: str, was: Kept | None, saved: Mapping[str, Any]) -> dict[str, Array]:
        """Return the planes of a value that was kept in another way."""
        way = self.ways[value]
        if was is None or value == self.parameter:  # what was beside another kind of parameter means nothing here
            parts = self._parts(value, way).items()
            return {plane: np.zeros(shape_of(part, self.shape), part.dtype) for plane, part in parts}
        numbers = numbers_of(was, value, saved, self.shape)
        return {plane_name(value, suffix): plane for suffix, plane in encode(way, numbers).items()}


_COMPLEX = {"float32": "complex64", "float64": "complex128"}
REMEDY = "Make the optimizer with the same states and weights, or load with convert=True, which rounds"
"""What helps against a state in other formats."""


def differences(was: Mapping[str, Kept], here: Mapping[str, Kept]) -> list[str]:
    """Return, for each value that is kept in another way than it was, both ways in words."""
    both = {value: (_id(was, value), _id(here, value)) for value in sorted({*was, *here})}
    return [
        f"{value} is kept as {now} here, but the state has it as {then}"
        for value, (then, now) in both.items()
        if then != now
    ]


def _id(ways: Mapping[str, Kept], value: str) -> str:
    return ways[value].id if value in ways else "nearest"
