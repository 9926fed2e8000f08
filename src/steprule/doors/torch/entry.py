"""The state of a parameter as dicts of torch lay it out: the one place that knows their keys, and reads an entry."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.doors.planes import COMPLEX, REMEDY, Target
from steprule.doors.state import ParameterState
from steprule.doors.torch.checkpoint_tensors import stored_array, tensor_of
from steprule.doors.torch.formats import DEFAULTS, storage_of
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import GroupOptions
from steprule.doors.torch.shards import RESHARD, is_sharded, local_of
from steprule.engine import codecs_of
from steprule.errors import StateError
from steprule.formats import SLOT_FORMATS, Codec, PlaneSpec, Storage, shape_of
from steprule.formats.codec import plain
from steprule.formats.weights import WEIGHTS
from steprule.rules import Rule

__all__ = ["Entry", "coded_keys", "entry_of", "is_coded_key"]

_PARAM, _LOW = "param", "low"
"""What keys call the parameter itself, and what may be kept beside it."""


def _key_of(key: str, codec: Codec, suffix: str) -> str:
    """Return the key of a plane.

    Codes have a key of their own, by the name of the format: torch.optim would take them for numbers.
    """
    ending = suffix or (codec.name if codec.is_coded else "")
    return f"{key}_{ending}" if ending else key


def _type_of(spec: PlaneSpec, *, is_complex: bool = False) -> torch.dtype:
    """Return torch's type of a plane."""
    kind: torch.dtype = getattr(torch, COMPLEX.get(spec.kind, spec.kind) if is_complex else spec.kind)
    return kind


_CODECS = {sign: [one.codec(non_negative=sign) for one in SLOT_FORMATS.values()] for sign in (False, True)}
_CODED = {sign: [codec for codec in codecs if codec.is_coded] for sign, codecs in _CODECS.items()}
_NUMBERS: dict[bool, dict[Any, Codec]] = {
    sign: {_type_of(one.planes[0]): one for one in codecs if not one.is_coded} for sign, codecs in _CODECS.items()
}
_ENDINGS = tuple(dict.fromkeys(_key_of("", codec, spec.suffix) for codec in _CODED[False] for spec in codec.planes))
"""How slots are kept in few bits, whether they are never negative or not: in codes, and as numbers of a narrow type."""


@functools.cache
def coded_keys(key: str) -> tuple[str, ...]:
    """Return all keys that a slot has where it is kept in codes, in whatever format."""
    return tuple(f"{key}{ending}" for ending in _ENDINGS)


def is_coded_key(key: str) -> bool:
    """Whether a key of a slot is one that it has in codes alone."""
    return key.endswith(_ENDINGS)


@dataclass(frozen=True)
class Entry(Target):
    """A parameter whose state is an entry of a dict.

    Attributes:
        rule: what it is stepped by.
        naming: torch's names.
        storage: its formats.
        scalars: the keys of its slots that are numbers.
        idle: how its slots are kept that say nothing and are not in the entry.
        is_counted: whether its steps are counted.
    """

    rule: Rule = field(kw_only=True)
    naming: Naming = field(kw_only=True)
    storage: Storage = field(kw_only=True)
    scalars: Mapping[str, str] = field(kw_only=True)
    idle: Mapping[str, Codec] = field(kw_only=True)
    is_counted: bool = field(kw_only=True)

    @functools.cached_property
    def slots(self) -> list[str]:
        """The slots that have planes."""
        return [value for value in self.codecs if value != self.parameter]

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """The keys of all planes, by plane."""
        return {k: one.key for name, codec in self.codecs.items() for k, one in self.planes(name, codec).items()}

    @functools.cached_property
    def vectors(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the slots that have numbers for rows or columns."""
        found = {name: codec.planes[0] for name, codec in self.codecs.items() if not codec.is_elementwise}
        return {name: shape_of(spec, self.shape) for name, spec in found.items()}

    def with_idle(self, planes: Mapping[str, Tensor], param: Tensor) -> dict[str, Tensor]:
        """Return the planes of an entry, and those of slots that say nothing, as kernels ask for them."""
        specs = {slot: codec.planes[0] for slot, codec in self.idle.items()}
        like = param.detach()
        return {
            **planes,
            **{s: like.new_zeros(shape_of(x, self.shape), dtype=self.type_of(x)) for s, x in specs.items()},
        }

    def whole(self, own: ParameterState) -> ParameterState:
        """Return a state with the slots that say nothing here, as files and other doors have it."""
        planes = {slot: np.zeros(shape_of(c.planes[0], self.shape), c.planes[0].dtype) for slot, c in self.idle.items()}
        formats = {slot: codec.id for slot, codec in self.idle.items()}
        return replace(own, formats={**own.formats, **formats}, planes={**own.planes, **planes})

    def bare(self, own: ParameterState) -> ParameterState:
        """Return a state without the slots that say nothing here."""
        formats = {value: id_ for value, id_ in own.formats.items() if value not in self.idle}
        return replace(own, formats=formats, planes={k: v for k, v in own.planes.items() if k not in self.idle})

    @functools.cached_property
    def all_keys(self) -> dict[str, str]:
        """The keys of all planes and scalar slots."""
        return {**self.keys, **self.scalars}

    @property
    def known(self) -> set[str]:
        """Every key that its values may have, in whatever format."""
        keys = {key for slot in self.slots for key in (self.called[slot], *coded_keys(self.called[slot]))}
        return {*keys, f"{_PARAM}_{_LOW}"}

    def off(self, given: Mapping[str, Any]) -> set[str]:
        """Return the keys of slots that the class may keep, and that the options of now do without (momentum=0)."""
        off = set(self.naming.slots.values()) - self.naming.known(self.rule)
        return given.keys() & {*off, *(coded for key in off for coded in coded_keys(key))}

    def is_begun(self, given: Mapping[str, Any]) -> bool:
        """Whether an entry has something of its parameter's steps, in whatever format: more than a caller's notes."""
        known = self.naming.known(self.rule)
        own = {*known, *(coded for key in known for coded in coded_keys(key)), f"{_PARAM}_{_LOW}"}
        return not own.isdisjoint(given)

    def key_of(self, value: str, codec: Codec, spec: PlaneSpec) -> str:
        """Return the key of a plane of a value that is kept so."""
        return _key_of(self._named(value), codec, spec.suffix)  # a document may name any value

    def read(self, entry: Mapping[str, Any], group: Mapping[str, Any] | None = None) -> ParameterState:
        """Return the state that an entry tells, in whatever formats; planes are its own tensors.

        Slots of a narrower type are widened, which loses nothing.

        Args:
            entry: of a dict, or of an optimizer.
            group: of the dict, where its formats are to be believed.

        Raises:
            StateError: for a value in two formats.
        """
        told = None if group is None or DEFAULTS.keys().isdisjoint(group) else {**DEFAULTS, **group}
        formats: dict[str, str] = {}
        planes: dict[str, Any] = {}
        for value in self.codecs:
            if value != self.parameter:
                codec = self._slot(entry, value, tells=told is not None)
            elif told is not None and self.kind.name in WEIGHTS:
                codec = self._weights(value, told["weights"])
            else:
                codec = self._low(entry)
            if codec is not None:
                formats[value] = codec.id
                for plane, (key, spec, _) in self.planes(value, codec).items():
                    if entry.get(key) is not None:
                        planes[plane] = self._wide(entry[key], spec) if codec.is_plain else entry[key]
        return ParameterState(None, self.shape, self.kind.name, 0, None, formats=formats, planes=planes)

    def _weights(self, value: str, how: Any) -> Codec:
        """Return how a parameter of 16 bits is kept where a group says so: by the option, which is no format's id."""
        known = WEIGHTS[self.kind.name].get(how) if isinstance(how, str) else None
        return self.codec(value, how) if known is None else known

    def _slot(self, entry: Mapping[str, Any], slot: str, *, tells: bool) -> Codec | None:
        """Return how an entry has a slot; None if it has none."""
        key, here, sign = self.called[slot], self.codecs[slot], slot in self.rule.non_negative
        number, has = entry.get(key), [name for name in coded_keys(key) if entry.get(name) is not None]
        if number is None and not has:
            return None
        if not here.is_elementwise:
            return here  # which has no other format
        # Formats share the key of scales: it is the codes that tell.
        codecs = [codec for codec in _CODED[sign] if _key_of(key, codec, "") in has] if has else []
        if number is not None:
            # Numbers in few bits are those of a format where one is told; torch.optim has them in the parameter's type.
            low = _NUMBERS[sign].get(getattr(number, "dtype", None))
            codecs.append(low if low and (tells or low.id == here.id) else plain(self.kind.compute, flushes=True))
            has.append(key)
        codecs = codecs or [codec for codec in (here, *_CODED[sign]) if codec.is_coded]
        codec = next((codec for codec in codecs if codec.id == here.id), codecs[0])
        if len(has) > 1 and not {*has} <= {one.key for one in self.planes(slot, codec).values()}:
            raise StateError(
                f"{self.what}: the state has {', '.join(sorted(has))}, which are of two formats, and {key} is kept as "
                f"{here.name} here"
            )
        return codec

    def _low(self, entry: Mapping[str, Any]) -> Codec | None:
        """Return how an entry has what is beside the parameter; None if there is nothing."""
        low = entry.get(f"{_PARAM}_{_LOW}")
        if low is None:
            return None
        kind = str(getattr(low, "dtype", ""))
        weights = WEIGHTS.get(self.kind.name, {}).values()
        known = {one: str(_type_of(one.planes[1])) for one in weights if one.planes[1:]}
        return min(known, key=lambda codec: (known[codec] != kind, codec.id), default=None)

    def _wide(self, value: Any, spec: PlaneSpec) -> Any:
        """Return plain numbers of a narrower type in that of slots; what cannot be widened as it is."""
        kind = self.type_of(spec)
        if not isinstance(value, Tensor) or (value.dtype == kind and not value.is_sparse):
            return value
        same_kind = value.dtype.is_complex == kind.is_complex and (value.is_floating_point() or value.is_complex())
        if not same_kind or torch.promote_types(value.dtype, kind) != kind:
            return value
        return (value.to_dense() if value.is_sparse else value).to(kind)

    def type_of(self, spec: PlaneSpec) -> torch.dtype:
        """Return torch's type of a plane."""
        return _type_of(spec, is_complex=self.is_complex)

    def has_all(self, own: ParameterState) -> bool:
        """Whether there are slots, and a state has every one, in whatever format."""
        return bool(self.slots) and all(slot in own.formats for slot in self.slots)

    def look(self, plane: Any) -> tuple[str, tuple[int, ...]] | None:
        """Return the type and the shape of a tensor; None for what is none."""
        return (str(plane.dtype), tuple(plane.shape)) if isinstance(plane, Tensor) else None

    def dtype(self, spec: PlaneSpec) -> str:
        """Return the type that ``look`` returns of a plane that fits."""
        return str(self.type_of(spec))

    def _converted(self, value: str, was: Codec | None, saved: Mapping[str, Any]) -> dict[str, Any]:
        planes = {} if was is None else {plane: saved[plane] for plane in self.planes(value, was)}
        arrays = {plane: stored_array(tensor, "a slot").array() for plane, tensor in planes.items()}
        return {plane: tensor_of(array) for plane, array in super()._converted(value, was, arrays).items()}

    def written(self, own: ParameterState) -> dict[str, Any]:
        """Return the planes of a state by their keys, as tensors."""
        arrays = own.arrays
        codecs = {value: self.codec(value, id_) for value, id_ in own.formats.items()}
        keys = {plane: one.key for value, codec in codecs.items() for plane, one in self.planes(value, codec).items()}
        return {key: tensor_of(arrays[plane]) for plane, key in keys.items()}


def entry_of(
    param: Tensor,
    options: GroupOptions,
    what: str,
    *,
    remedy: str = REMEDY,
    codecs: Mapping[str, Codec] | None = None,
) -> Entry:
    """Return how a parameter's state is laid out.

    Args:
        param, options: the parameter, of a DTensor the part that is here, and its group.
        what: what messages call it.
        remedy: what helps against other formats.
        codecs: of its values, if not as the group says.
    """
    rule, variant, naming = options.rule, options.values.variant, options.naming
    storage = storage_of(options.formats, param, rule, variant)
    codecs = codecs_of(rule, variant, storage) if codecs is None else codecs
    axes = param.dim()
    idle = {slot: codecs[slot] for slot in naming.idle if axes < 2 and slot in codecs}
    codecs = {value: codec for value, codec in codecs.items() if value not in idle}
    called = {value: _PARAM if value == rule.parameter else naming.called(value, axes) for value in codecs}
    scalars = {slot: naming.called(slot, axes) for slot in rule.trace(variant).numbers}
    return Entry(
        what,
        tuple(local_of(param).shape),
        storage.parameter,
        codecs,
        rule.parameter,
        param.is_complex(),
        called,
        remedy,
        f", this process's part of a DTensor. {RESHARD}" if is_sharded(param) else "",
        rule=rule,
        naming=naming,
        storage=storage,
        scalars=scalars,
        idle=idle,
        is_counted=naming.counted(options.formats),
    )
