"""What a checkpoint holds: the state of an optimizer, and what goes with it, as a document and named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steprule.checkpoint import Json, Stored, check_text, decode, encode, short, stored
from steprule.doors.state import GroupState, ParameterState, State, labels_of
from steprule.errors import CheckpointError
from steprule.formats import CODING, EARLIER_CODING

__all__ = ["Content", "document_of", "read_content"]

SCHEMA = 1
_KEYS = ("schema", "class", "rule", "groups", "parameters", "others", "params", "extra", "complex", "mode")


@dataclass
class Content:
    """What a checkpoint holds.

    Attributes:
        state: of the optimizer.
        params: the numbers of parameters that were asked for, by name.
        has_own: whether ``params`` are those of the optimizer.
        extra: what the caller added; arrays are ``Stored``.
        more: what further parts of the optimizer keep.
    """

    state: State
    params: dict[str, Stored] = field(default_factory=dict)
    has_own: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


def document_of(content: Content, other: Callable[[Any], Json | None]) -> tuple[dict[str, Json], dict[str, Stored]]:
    """Return the document of a checkpoint and its arrays.

    Args:
        content: what it holds.
        other: makes JSON of further values that have none of their own; None if it has none either.

    Raises:
        CheckpointError: for values that a document cannot hold.
    """
    for name in (*content.params, *content.extra):
        check_text(name, "a name")
    state, tensors = content.state, _tensors_of(content)
    values = {name: value for name, value in content.extra.items() if not isinstance(value, Stored)}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "class": state.made_by,
        "rule": state.rule,
        "groups": [_group_json(group, f"group {i}") for i, group in enumerate(state.groups)],
        "parameters": [_parameter_json(parameter) for parameter in state.parameters],
        "params": {"own": content.has_own, "names": list(content.params)} if content.params else None,
        "extra": {"values": encode(values, "extra", other), "arrays": [k for k in content.extra if k not in values]},
        "complex": [name for name, one in tensors.items() if one.is_complex],
    }
    document |= {"others": list(state.others)} if state.others else {}
    document |= {"mode": state.mode} if state.mode != "train" else {}
    clash = sorted(set(document) & set(content.more))
    assert not clash, clash
    return {**document, **{name: encode(value, name) for name, value in content.more.items()}}, tensors


def _tensors_of(content: Content) -> dict[str, Stored]:
    slots = zip(content.state.labels, content.state.parameters, strict=True)
    tensors = {
        f"slots/{label}/{name}": _stored(one, f"{label}: {name}")
        for label, own in slots
        for name, one in own.planes.items()
    }
    tensors |= {f"params/{name}": one for name, one in content.params.items()}
    tensors |= {f"others/{name}": one for name, one in content.state.others.items()}
    return tensors | {f"extra/{name}": one for name, one in content.extra.items() if isinstance(one, Stored)}


def _stored(plane: Any, what: str) -> Stored:
    if isinstance(plane, Stored):
        return plane
    # Two bytes without a sign are the upper half of a float32 in a plane.
    return stored(plane, what, "BF16" if plane.dtype == np.uint16 else None)


def _group_json(group: GroupState, what: str) -> dict[str, Any]:
    own = {"rule": group.rule, "hyperparameters": encode(dict(group.hyperparameters), f"the hyperparameters of {what}")}
    own |= {"seed": group.seed, "first_row": group.first_row, "coding": group.coding}
    own |= {} if group.t is None else {"t": group.t, "scalars": encode(dict(group.scalars), "scalars")}
    return own if group.options is None else {**own, "options": dict(group.options)}


def _parameter_json(own: ParameterState) -> dict[str, Any]:
    name = own.name if own.name is None else check_text(own.name, "the name of a parameter")
    told = {"name": name, "shape": list(own.shape), "dtype": own.dtype, "group": own.group, "t": own.t}
    return {
        **told,
        "scalars": encode(dict(own.scalars), "scalars"),
        "formats": dict(own.formats),
        "planes": list(own.planes),
    }


def read_content(
    document: Mapping[str, Any], tensors: Mapping[str, Stored], other: Callable[[str, Any], Any]
) -> Content:
    """Return what a document and its arrays say.

    Args:
        document: of the file.
        tensors: of the file, by name.
        other: makes a further value of a mark and what goes with it, as ``decode`` takes it.

    Raises:
        CheckpointError: when they do not fit together, or are of a later schema.
    """
    schema = document.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise CheckpointError(f"the document has schema {short(schema)}, this version reads {SCHEMA}. Update it")
    left = _marked(tensors, _list(document, "complex", str))
    groups = [_read_group(told) for told in _list(document, "groups", dict)]
    parameters, labels = _read_parameters(_list(document, "parameters", dict), len(groups), left)
    others = _taken(left, "others", document, "others") if "others" in document else {}
    mode = document.get("mode", "train")
    if mode not in ("train", "eval"):
        raise CheckpointError(
            f"the document has the mode {short(mode)}, this version reads 'train' and 'eval'. Update it"
        )
    made_by, rule = _get(document, "class", str), _get(document, "rule", str)
    content = Content(State(made_by, rule, groups, parameters, others, mode))
    if document.get("params") is not None:
        told = _get(document, "params", dict)
        content.params = _taken(left, "params", told, "names")
        content.has_own = _get(told, "own", bool)
    if content.has_own and list(content.params) != labels:
        raise CheckpointError("the parameters stored are not those that the document lists")
    told = _get(document, "extra", dict)
    content.extra = _object(told.get("values"), "extra", other)
    content.extra |= _taken(left, "extra", told, "arrays")
    if left:
        raise CheckpointError(f"the file has tensors that the document does not list: {short(sorted(left)[:3])}")
    content.more = {name: decode(value) for name, value in document.items() if name not in _KEYS}
    return content


def _read_parameters(
    told: Sequence[Mapping[str, Any]], groups: int, left: dict[str, Stored]
) -> tuple[list[ParameterState], list[str]]:
    """Return the parameters with the planes of their slots, which are taken, and what files call them."""
    parameters = [_read_parameter(one, groups) for one in told]
    labels = labels_of([own.name for own in parameters])
    return [
        replace(own, planes=_taken(left, f"slots/{label}", one, "planes"))
        for label, own, one in zip(labels, parameters, told, strict=True)
    ], labels


def _marked(tensors: Mapping[str, Stored], names: list[str]) -> dict[str, Stored]:
    """Return the arrays of a file, with those of complex numbers known as such."""
    marked = dict(tensors)
    for name in names:
        one = tensors.get(name)
        if one is None or one.shape[-1:] != (2,) or one.dtype not in ("F32", "F64"):
            raise CheckpointError("the document lists complex numbers that are not there")
        marked[name] = Stored(one.dtype, one.shape, one.get, True)
    return marked


def _read_group(told: Mapping[str, Any]) -> GroupState:
    seed = told.get("seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**63):
        raise CheckpointError(f"the seed {short(seed)} is not an integer from 0 to 2**63 - 1")
    options = told.get("options")
    if options is not None and not isinstance(options, dict):
        raise CheckpointError(f"the options of a group are {short(options)}, expected an object")
    hyperparameters = _object(told.get("hyperparameters"), "hyperparameters")
    coding = told.get("coding", EARLIER_CODING)
    if coding not in (CODING, EARLIER_CODING):
        raise CheckpointError(f"the states are coded as {short(coding)}, this version reads {CODING!r}. Update it")
    t, scalars = (_count(told, "t"), _scalars(told)) if "t" in told else (None, {})
    return GroupState(
        _get(told, "rule", str), hyperparameters, seed, _count(told, "first_row"), options, coding, t, scalars
    )


def _read_parameter(told: Mapping[str, Any], groups: int) -> ParameterState:
    name, t = told.get("name"), told.get("t")
    shape = tuple(_list(told, "shape", int))
    if not (name is None or isinstance(name, str)) or not all(n >= 0 for n in shape):
        raise CheckpointError(f"a parameter has the name {short(name)} and the shape {short(shape)}")
    group = _count(told, "group")
    if group >= groups:
        raise CheckpointError(f"a parameter is of group {group}, and there are {groups}")
    scalars, formats = _scalars(told), _object(told.get("formats"), "formats")
    if not all(isinstance(value, str) for value in formats.values()):
        raise CheckpointError(f"formats must be strings, got {short(formats)}")
    dtype = _get(told, "dtype", str)
    return ParameterState(name, shape, dtype, group, t if t is None else _count(told, "t"), scalars, formats)


def _scalars(told: Mapping[str, Any]) -> dict[str, Any]:
    scalars = _object(told.get("scalars"), "scalars")
    if not all(type(value) is float for value in scalars.values()):
        raise CheckpointError(f"scalar slots must be numbers, got {short(scalars)}")
    return scalars


def _get(told: Mapping[str, Any], key: str, kind: type) -> Any:
    value = told.get(key)
    if type(value) is not kind:
        raise CheckpointError(f"the document has {short(value)} as its {key}, expected the type {kind.__name__}")
    return value


def _count(told: Mapping[str, Any], key: str) -> int:
    value: int = _get(told, key, int)
    if not 0 <= value < 2**63:
        raise CheckpointError(f"the document has {short(value)} as its {key}, expected an integer of at least 0")
    return value


def _list(told: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values: list[Any] = _get(told, key, list)
    if not all(type(value) is kind for value in values):
        raise CheckpointError(f"the document has {short(values)} as its {key}, expected a list of {kind.__name__}")
    return values


def _object(value: Any, what: str, other: Callable[[str, Any], Any] | None = None) -> dict[str, Any]:
    found = decode(value, other)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise CheckpointError(f"the document has {short(value)} as its {what}, expected an object with strings as keys")
    return found


def _taken(left: dict[str, Stored], room: str, told: Mapping[str, Any], key: str) -> dict[str, Stored]:
    """Take the arrays out of what is left of a file that a list in the document names."""
    taken: dict[str, Stored] = {}
    for name in _list(told, key, str):
        place = f"{room}/{name}"
        if place not in left:
            raise CheckpointError(
                f"the document lists a tensor {short(place)}, which the file lacks, or lists it twice"
            )
        taken[name] = left.pop(place)
    return taken
