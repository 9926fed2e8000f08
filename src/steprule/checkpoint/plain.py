"""Values as strict JSON and back, exactly: tuples, infinities and NaN included."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from steprule.errors import CheckpointError

__all__ = ["Json", "check_text", "decode", "encode", "parse", "short", "text"]

Json = None | bool | int | float | str | list[Any] | dict[str, Any]

_MARK = "$"
"""What a key begins with that stands for something else than itself."""
_DIGITS = 4300
_LARGEST = 10**_DIGITS
"""From where on Python writes no number as text, since reading it takes time with the square of its digits."""
_DEEPEST = 500
"""Levels of JSON within one another: half of what Python has room for, so that what was written can be read."""


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
        return _encode(value, what, other or _nothing, 0)
    except RecursionError:
        raise _too_deep(what) from None


def _too_deep(what: str) -> CheckpointError:
    what = what if len(what) <= 80 else f"{what[:77]}..."
    return CheckpointError(f"{what} is nested too deep, or holds itself; nothing was written")


def _encode(value: Any, what: str, other: Callable[[Any], Json | None], depth: int) -> Json:
    if depth > _DEEPEST:
        raise _too_deep(what)
    if value is None or isinstance(value, (bool, str)):
        return check_text(value, what) if isinstance(value, str) else value
    if isinstance(value, int):
        return _whole(int(value), what)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, (list, tuple)):
        below = depth + (1 if isinstance(value, list) else 2)
        items: list[Json] = []
        for i, item in enumerate(value):  # no comprehension, which takes a frame of the stack in some Pythons
            items.append(_encode(item, f"{what}[{i}]", other, below))
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, Mapping):
        return _object(value, what, other, depth)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value.itemsize <= 8:
        return _encode(value.item(), what, other, depth)
    found = other(value)
    if found is not None:
        return found
    raise CheckpointError(
        f"{what} is of type {type(value).__name__}; nothing was written. A checkpoint holds None, bools, numbers, "
        "texts, lists, tuples and dicts, and arrays by names of their own: save(..., name=array)"
    )


def _object(value: Mapping[Any, Any], what: str, other: Callable[[Any], Json | None], depth: int) -> Json:
    """Return a mapping: as an object where its keys are texts, else as pairs."""
    is_plain = all(isinstance(key, str) and not key.startswith(_MARK) for key in value)
    if is_plain and not isinstance(value, Counter):
        found: dict[str, Json] = {}
        for key, item in value.items():
            found[check_text(key, what)] = _encode(item, f"{what}[{key!r}]", other, depth + 1)
        return found
    pairs: list[Json] = []
    for key, item in value.items():
        name = _encode(key, f"the key {short(key)} of {what}", _nothing, depth + 3)
        pairs.append([name, _encode(item, f"{what}[{key!r}]", other, depth + 3)])
    # Schedulers of torch ask theirs for what no dict has.
    return {"$counter" if isinstance(value, Counter) else "$dict": pairs}


def _nothing(value: Any) -> Json | None:
    return None


def _whole(value: int, what: str) -> int:
    if abs(value) >= _LARGEST:
        raise CheckpointError(
            f"{what} is a number of more than {_DIGITS:,} digits; nothing was written. Save it as a string: hex(...)"
        )
    return value


def check_text(value: str, what: str) -> str:
    """Return a text if a file can hold it; the name of another file, say, need not be Unicode.

    Raises:
        CheckpointError: when it cannot.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"{what} has a string that is not valid Unicode: {short(value)}; nothing was written"
        ) from None
    return str(value)


def decode(value: Json, other: Callable[[str, Any], Any] | None = None) -> Any:
    """Return what ``encode`` was given.

    Args:
        value: JSON.
        other: makes a value of a mark (``"$tensor"``) and what goes with it.

    Raises:
        CheckpointError: for marks that mean nothing.
    """
    values, make = _parts(value, other)
    found: list[Any] = []
    # No comprehension, see ``_encode``: there are not twice as many frames as levels.
    for item in values:
        found.append(decode(item, other) if isinstance(item, (list, dict)) else item)  # noqa: PERF401
    return make(found)


def _parts(value: Json, other: Callable[[str, Any], Any] | None) -> tuple[Iterable[Json], Callable[[list[Any]], Any]]:
    """Return the values within a value, and what to make of them once they are decoded."""
    if isinstance(value, list):
        return value, _same
    if not isinstance(value, dict):
        return (), lambda _: value
    key = next(iter(value), "")
    if not key.startswith(_MARK):
        return value.values(), lambda found: dict(zip(value, found, strict=True))
    inner = value[key]
    if len(value) == 1:
        if key == "$float" and inner in ("nan", "inf", "-inf"):
            return (), lambda _: float(str(inner))
        if key == "$tuple" and isinstance(inner, list):
            return inner, tuple
        if key in ("$dict", "$counter") and isinstance(inner, list):
            keys = _keys(inner)
            kind: Any = dict if key == "$dict" else Counter
            return [item for _, item in inner], lambda found: kind(dict(zip(keys, found, strict=True)))
        if other is not None:
            made = other(key, inner)
            return (), lambda _: made
    raise CheckpointError(f"the document has {key!r}, which this version does not know")


def _same(found: list[Any]) -> list[Any]:
    return found


def _keys(items: list[Any]) -> list[Any]:
    """Return the keys of a dict that is told by its pairs."""
    if not all(isinstance(item, list) and len(item) == 2 for item in items):
        raise CheckpointError("the document has a dict whose items are not pairs")
    keys = [decode(key) for key, _ in items]
    try:
        is_once = len(set(keys)) == len(keys)
    except TypeError:
        raise CheckpointError("the document has a dict with keys that can be none, such as lists") from None
    if not is_once:
        raise CheckpointError("the document has a dict with a key twice")
    return keys


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
        raise CheckpointError(f"{what} is not valid JSON: {words}") from None


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
    raise ValueError(f"{name} is not a number of JSON")


def short(value: Any) -> str:
    """Return a value as a message can hold it; a number of thousands of digits has no text."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "more than 10^30"
    try:
        words = repr(value)
    except ValueError:
        return "more than 10^30"
    return words if len(words) <= 80 else f"{words[:77]}..."
