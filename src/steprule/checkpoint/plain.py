"""Values as strict JSON and back, exactly: tuples, infinities and NaN included."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from steprule.errors import CheckpointError

__all__ = ["Json", "decode", "encode", "parse", "text"]

Json = None | bool | int | float | str | list[Any] | dict[str, Any]

_MARK = "$"
"""What a key begins with that stands for something else than itself."""


def encode(value: Any, what: str, other: Callable[[Any], Json | None] = lambda value: None) -> Json:
    """Return a value as JSON that strict parsers read: ``{"$float": "nan"}``, ``{"$tuple": [...]}``.

    Args:
        value: None, bool, int, float, str, lists, tuples, and dicts with keys that are texts.
        what: how messages name it.
        other: what to make of other values; None if nothing.

    Raises:
        CheckpointError: for other values, and for nests too deep.
    """
    try:
        return _encode(value, what, other)
    except RecursionError:
        raise CheckpointError(f"{what} is nested too deep, or holds itself; nothing was written") from None


def _encode(value: Any, what: str, other: Callable[[Any], Json | None]) -> Json:
    if value is None or isinstance(value, (bool, str)):
        return _text(value, what) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{what}[{i}]", other) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        items_of = {_text(key, what): _encode(item, f"{what}[{key!r}]", other) for key, item in value.items()}
        return {"$dict": list(map(list, items_of.items()))} if any(k.startswith(_MARK) for k in items_of) else items_of
    found = other(value)
    if found is not None:
        return found
    kind = "a dict with keys that are no texts" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    raise CheckpointError(
        f"{what} is {kind}; nothing was written. A checkpoint holds None, bools, numbers, texts, lists, tuples "
        "and dicts with text keys, and arrays by names of their own: save(..., name=array)"
    )


def _text(value: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{what} has a text that is no Unicode: {value!r}; nothing was written") from None
    return str(value)


def decode(value: Json, other: Callable[[str, Any], Any] | None = None) -> Any:
    """Return what ``encode`` was given.

    Args:
        value: JSON.
        other: makes a value of a mark (``"$tensor"``) and what goes with it.

    Raises:
        CheckpointError: for marks that mean nothing.
    """
    if isinstance(value, list):
        return [decode(item, other) for item in value]
    if not isinstance(value, dict):
        return value
    key = next(iter(value), "")
    if not key.startswith(_MARK):
        return {name: decode(item, other) for name, item in value.items()}
    inner = value[key]
    if len(value) == 1:
        if key == "$float" and inner in ("nan", "inf", "-inf"):
            return float(str(inner))
        if key == "$tuple" and isinstance(inner, list):
            return tuple(decode(item, other) for item in inner)
        if key == "$dict" and isinstance(inner, list) and all(_is_item(item) for item in inner):
            return {name: decode(item, other) for name, item in inner}
        if other is not None:
            return other(key, inner)
    raise CheckpointError(f"the document has {key!r}, which means nothing to this steprule")


def _is_item(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def text(value: Json) -> str:
    """Return JSON as compact text of ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def parse(source: str, what: str) -> Any:
    """Return the value of strict JSON: no key twice, no NaN, no half of a Unicode character.

    Raises:
        CheckpointError: when it is none, or nested too deep.
    """
    try:
        found = json.loads(source, object_pairs_hook=_once, parse_constant=_refuse)
        if "\\ud" in source.lower():
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        words = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise CheckpointError(f"{what} is no JSON: {words}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
