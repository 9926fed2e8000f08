"""What is kept of one parameter in a state, for an optimizer: as it is, or converted from other formats on request."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np

from steprule.checkpoint import short
from steprule.coding import encode, plane_name
from steprule.doors.state import TRAINED, ParameterState, numbers_of
from steprule.errors import StateError
from steprule.formats import Codec, Format, PlaneSpec, saved_codec, shape_of

__all__ = ["Target", "difference", "other_keys"]

REMEDY = "Make the optimizer with the states= and weights= of the state, or load it with convert=True, which rounds"
"""What helps against a state in other formats."""


class Plane(NamedTuple):
    """A plane of a value.

    Attributes:
        key: what messages call it.
        spec: of the value's format.
        expected: what a target's ``look`` returns of one that fits.
    """

    key: str
    spec: PlaneSpec
    expected: tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Target:
    """A parameter that a state is for.

    Attributes:
        what: what messages call it.
        shape: its shape.
        kind: how it is computed with; of complex numbers, each of their parts.
        codecs: of the parameter and each of its slots.
        parameter: what the rule calls it.
        is_complex: whether its numbers, and those of its slots, are complex.
        called: what messages call values, where that is not their name.
        remedy: what helps against other formats.
        other_shape: what helps against another shape; empty where nothing does.
    """

    what: str
    shape: tuple[int, ...]
    kind: Format
    codecs: Mapping[str, Codec]
    parameter: str
    is_complex: bool = False
    called: Mapping[str, str] = field(default_factory=dict)
    remedy: str = REMEDY
    other_shape: str = ""

    @functools.cached_property
    def formats(self) -> dict[str, str]:
        """What a state tells of the formats of its values: of those that have planes beside the parameter."""
        return {value: codec.id for value, codec in self.codecs.items() if self.planes(value, codec)}

    @property
    def evaluated(self) -> Self:
        """The same where the parameter is the evaluated point: what is trained is a value of its own then."""
        return replace(self, codecs={**self.codecs, TRAINED: self.codecs[self.parameter]})

    @functools.cached_property
    def _known(self) -> dict[tuple[str, str], dict[str, Plane]]:
        return {}

    def planes(self, value: str, codec: Codec) -> dict[str, Plane]:
        """Return the planes of a value that is kept so, beside the parameter, by name."""
        found = self._known.get((value, codec.id))
        if found is None:
            specs = [spec for spec in codec.planes if spec.suffix or value != self.parameter]
            found = self._known[value, codec.id] = {
                plane_name(value, spec.suffix): Plane(
                    self.key_of(value, codec, spec), spec, (self.dtype(spec), shape_of(spec, self.shape))
                )
                for spec in specs
            }
        return found

    def fitted(self, own: ParameterState, convert: bool) -> dict[str, Any]:
        """Return the planes to take over for the parameter, by name. Changes nothing.

        Args:
            own: its state.
            convert: whether values in another format are decoded, and rounded to nearest in the parameter's own.

        Raises:
            StateError: when they do not fit.
        """
        was, saved = {value: self.codec(value, id_) for value, id_ in own.formats.items()}, own.arrays
        self._check_names(was, saved)
        words = self._difference(was)
        if words and not convert:
            raise StateError(f"{self.what}: {words}. {self.remedy}")
        for value, codec in was.items():
            self._check(self.planes(value, codec), saved)
        new: dict[str, Any] = {}
        for value, codec in self.codecs.items():
            planes = self.planes(value, codec)
            if not planes or (value in was and was[value].id == codec.id):
                new |= {plane: saved[plane] for plane in planes}
            else:
                new |= self._converted(value, was.get(value), saved)
        return new

    def key_of(self, value: str, codec: Codec, spec: PlaneSpec) -> str:
        """Return what messages call a plane of a value that is kept so."""
        return plane_name(value, spec.suffix)

    def _named(self, value: str) -> str:
        return self.called.get(value, value)

    def _check_names(self, was: Mapping[str, Codec], saved: Mapping[str, Any]) -> None:
        saved_planes = {value: self.planes(value, codec) for value, codec in was.items()}
        keys = {plane: one.key for planes in saved_planes.values() for plane, one in planes.items()}
        is_whole = all(value in was for value in self.codecs if value != self.parameter)
        if is_whole and saved.keys() == keys.keys():
            return
        has = [keys.get(plane, plane) for plane in saved]
        if not is_whole or not saved.keys() <= keys.keys():
            expected = [one.key for value, codec in self.codecs.items() for one in self.planes(value, codec).values()]
            raise StateError(f"{self.what}: {other_keys(has, expected)}")
        plane = next(plane for plane in keys if plane not in saved)
        value = next(value for value, planes in saved_planes.items() if plane in planes)
        raise StateError(
            f"{self.what}: the state has the slots {sorted(has)}, and no {keys[plane]}, which belongs to "
            f"{self._named(value)} in the format {was[value].name}"
        )

    def _difference(self, was: Mapping[str, Codec]) -> str:
        """Return the first value that is kept in another way than it was, and both ways; empty if there is none."""
        for value in sorted({*was, *self.codecs}):
            then, now = (self._id(value, codecs.get(value)) for codecs in (was, self.codecs))
            # Of a parameter with nothing beside it a state need not tell.
            if then != now and (value in was or self.planes(value, self.codecs[value])):
                return difference(self._named(value), then, now)
        return ""

    def _id(self, value: str, codec: Codec | None) -> str:
        return "nearest" if codec is None or (value == self.parameter and codec.is_plain) else codec.id

    def codec(self, value: str, id_: object) -> Codec:
        """Return what a state means by a format of a value.

        Raises:
            StateError: when this version does not know it.
        """
        here = self.codecs.get(value)
        is_here = here is not None and here.id == id_
        codec = here if is_here else saved_codec(str(id_), self.kind, is_slot=value != self.parameter)
        if codec is None and value == TRAINED:  # the parameter itself, beside the evaluated point
            codec = saved_codec(str(id_), self.kind, is_slot=False)
        if codec is None:
            raise StateError(
                f"{self.what}: the state has {value} in the format {short(id_)}, which this version cannot read"
            )
        return codec

    def _check(self, planes: Mapping[str, Plane], saved: Mapping[str, Any]) -> None:
        for plane, (key, _, expected) in planes.items():
            found = self.look(saved[plane])
            if found != expected:
                kind = f"a {type(saved[plane]).__name__}"
                got = kind if found is None else f"{found[0]} of shape {found[1]}"
                raise StateError(
                    f"{self.what}: slot {key} is {got}, expected {expected[0]} of shape {expected[1]}{self.other_shape}"
                )

    def look(self, plane: Any) -> tuple[str, tuple[int, ...]] | None:
        """Return the type and the shape of a plane; None for what is none."""
        return (str(plane.dtype), plane.shape) if type(plane) is np.ndarray else None

    def dtype(self, spec: PlaneSpec) -> str:
        """Return the type that ``look`` returns of a plane that fits."""
        return COMPLEX.get(spec.dtype, spec.dtype) if self.is_complex else spec.dtype

    def _converted(self, value: str, was: Codec | None, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Return the planes of a value that was kept in another way."""
        codec = self.codecs[value]
        if was is None or value == self.parameter:  # what was beside another kind of parameter means nothing here
            specs = {plane: one.spec for plane, one in self.planes(value, codec).items()}
            return {plane: np.zeros(shape_of(spec, self.shape), spec.dtype) for plane, spec in specs.items()}
        numbers = numbers_of(was, value, saved, self.shape)
        return {plane_name(value, suffix): plane for suffix, plane in encode(codec, numbers).items()}


COMPLEX = {"float32": "complex64", "float64": "complex128"}


def difference(what: str, then: str, now: str) -> str:
    """Return what is wrong where a state has a value in one format, and it is kept in another; empty if it is not."""
    return "" if then == now else f"{what} is kept as {now} here, but the state has it as {then}"


def other_keys(has: Iterable[str], expected: Iterable[str]) -> str:
    """Return what is wrong with a state that has other things than are expected."""
    return (
        f"the state has the slots {sorted(has)}, expected {sorted(expected)}: is it from another optimizer, or from "
        "other options?"
    )
