"""Values as strict JSON and back, exactly: tuples, infinities and NaN included."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from steprule.errors import CheckpointError

__all__ = ["Json", "decode", "encode", "parse", "short", "text"]

Json = None | bool | int | float | str | list[Any] | dict[str, Any]

_MARK = "$"
"""What a key begins with that stands for something else than itself."""
_DIGITS = 4300
_LARGEST = 10**_DIGITS
"""From where on Python writes no number as text, since reading it takes time with the square of its digits."""


def encode(value: Any, what: str, other: Callable[[Any], Json | None] | None = None) -> Json:
    """Return a value as JSON that strict parsers read: ``{"$float": "nan"}``, ``{"$tuple": [...]}``.

    Args:
        value: None, bool, int, float, str, NumPy's scalars of these, lists, tuples, and dicts.
        what: how messages name it.
        other: what to make of other values; None if nothing.

    Raises:
        CheckpointError: for other values, and for nests too deep.
    """
    try:
        return _encode(value, what, other or _nothing)
    except RecursionError:
        raise CheckpointError(f"{what} is nested too deep, or holds itself; nothing was written") from None


def _encode(value: Any, what: str, other: Callable[[Any], Json | None]) -> Json:
    if value is None or isinstance(value, (bool, str)):
        return _text(value, what) if isinstance(value, str) else value
    if isinstance(value, int):
        return _whole(int(value), what)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{what}[{i}]", other) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        return _object(value, what, other)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.itemsize <= 8:
        return _encode(value.item(), what, other)
    found = other(value)
    if found is not None:
        return found
    raise CheckpointError(
        f"{what} is of type {type(value).__name__}; nothing was written. A checkpoint holds None, bools, numbers, "
        "texts, lists, tuples and dicts, and arrays by names of their own: save(..., name=array)"
    )


def _object(value: Mapping[Any, Any], what: str, other: Callable[[Any], Json | None]) -> Json:
    """Return a mapping: as an object where its keys are texts, else as pairs."""
    is_plain = all(isinstance(key, str) and not key.startswith(_MARK) for key in value)
    if is_plain and not isinstance(value, Counter):
        return {_text(key, what): _encode(item, f"{what}[{key!r}]", other) for key, item in value.items()}
    pairs = [
        [_encode(key, f"the key {short(key)} of {what}", _nothing), _encode(item, f"{what}[{key!r}]", other)]
        for key, item in value.items()
    ]
    # Schedulers of torch ask theirs for what no dict has.
    return {"$counter" if isinstance(value, Counter) else "$dict": pairs}


def _nothing(value: Any) -> Json | None:
    return None


def _whole(value: int, what: str) -> int:
    if abs(value) >= _LARGEST:
        raise CheckpointError(
            f"{what} is a number of more than {_DIGITS:,} digits; nothing was written. Save it as a text: hex(...)"
        )
    return value


def _text(value: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{what} has a text that is no Unicode: {short(value)}; nothing was written") from None
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
        if key in ("$dict", "$counter") and isinstance(inner, list):
            found = _pairs(inner, other)
            return found if key == "$dict" else Counter(found)
        if other is not None:
            return other(key, inner)
    raise CheckpointError(f"the document has {key!r}, which means nothing to this steprule")


def _pairs(items: list[Any], other: Callable[[str, Any], Any] | None) -> dict[Any, Any]:
    """Return a dict of its pairs."""
    if not all(isinstance(item, list) and len(item) == 2 for item in items):
        raise CheckpointError("the document has a dict whose items are no pairs")
    keys = [decode(key) for key, _ in items]
    try:
        is_once = len(set(keys)) == len(keys)
    except TypeError:
        raise CheckpointError("the document has a dict with keys that can be none, such as lists") from None
    if not is_once:
        raise CheckpointError("the document has a dict with a key twice")
    return {key: decode(item, other) for key, (_, item) in zip(keys, items, strict=True)}


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
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {short(key)} is there twice")
            seen.add(key)
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def short(value: Any) -> str:
    """Return a value as a message can hold it; a number of thousands of digits has no text."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "more than 10^30"
    try:
        words = repr(value)
    except ValueError:
        return "more than 10^30"
    return words if len(words) <= 80 else f"{words[:77]}..."
