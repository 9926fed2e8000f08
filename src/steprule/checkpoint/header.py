"""The header of a safetensors file: laid out, written with its checksum, and read strictly.

A file is the length of the header (8 bytes, little-endian), the header (JSON, filled up with spaces), and the bytes of
the tensors without a gap. Ours says under ``__metadata__``, whose values are texts: ``header_checksum`` first, the
CRC-32 of the length and the header with eight zeros in its place; ``checksums``, JSON, the CRC-32 of each tensor;
``document``, JSON, what the tensors are.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from steprule.checkpoint.plain import Json, parse, short, text
from steprule.checkpoint.stored import DTYPES, SIZES, Stored
from steprule.errors import CheckpointError
from steprule.version import __version__

__all__ = ["LARGEST", "Entry", "Header", "Layout", "is_begun", "parse_header"]

LARGEST = 100_000_000
"""Bytes of a header at most, as other readers of the format have it."""
VERSION = "1"
_FIRST = b'{"__metadata__":{"header_checksum":"'
_ZEROS = "0" * 8
_AXES = 64
_KEYS = ["header_checksum", "format", "version", "steprule", "checksums", "document"]


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: its type, shape, and its bytes counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a header says."""

    entries: dict[str, Entry]
    checksums: dict[str, int]
    document: dict[str, Any]


class Layout:
    """Where each tensor of a file to be written lies.

    Args:
        tensors: by name, in the order wanted; larger items go first, so that each tensor begins where its type may.
        document: what they are.

    Raises:
        CheckpointError: when the header would be larger than readers take, or ``parse_header`` would refuse it.
    """

    def __init__(self, tensors: Mapping[str, Stored], document: Json) -> None:
        order = sorted(tensors, key=lambda name: -SIZES[tensors[name].dtype])
        self.entries: dict[str, Entry] = {}
        end = 0
        for name in order:
            one = tensors[name]
            start, end = end, end + one.nbytes
            self.entries[name] = Entry(one.dtype, one.shape, start, end)
        told = {
            name: {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (entry.start, entry.end)}
            for name, entry in self.entries.items()
        }
        # Thousands of tensors take JSON a while: what does not depend on checksums is made once.
        self._rest = f',"document":{text(text(document))}}}{"," if told else ""}{text(told)[1:]}'
        zeros = self.header(dict.fromkeys(order, 0))
        self.size = len(zeros)
        if self.size - 8 > LARGEST:
            raise CheckpointError(
                f"the header would have {self.size - 8:,} bytes, readers of the format take {LARGEST:,}; nothing was "
                "written. Save fewer tensors, or less in extra values, to a file"
            )
        try:
            parse_header(zeros, end)
        except CheckpointError as error:
            raise CheckpointError(f"a file of this could not be read: {error}; nothing was written") from None

    def header(self, checksums: Mapping[str, int]) -> bytes:
        """Return the length and the header, for the checksums of all tensors."""
        hexadecimal = {name: f"{checksums[name]:08x}" for name in self.entries}
        own = ["steprule", VERSION, __version__, text(hexadecimal)]
        words = _FIRST + _ZEROS.encode() + b'",' + text(dict(zip(_KEYS[1:-1], own, strict=True)))[1:-1].encode()
        words += self._rest.encode()
        words += b" " * (-len(words) % 8)
        raw = struct.pack("<Q", len(words)) + words
        at = 8 + len(_FIRST)
        return raw[:at] + b"%08x" % zlib.crc32(raw) + raw[at + 8 :]


def is_begun(first: bytes) -> bool:
    """Whether a file that begins with these bytes was written here."""
    return first[8:].startswith(_FIRST)


def parse_header(raw: bytes, rest: int) -> Header:
    """Return what a header says, if all of it is right.

    Args:
        raw: the length and the header.
        rest: the bytes of the file after it.

    Raises:
        CheckpointError: with what is wrong.
    """
    at = 8 + len(_FIRST)
    if raw[8:at] != _FIRST:
        raise CheckpointError("the header is not steprule's: a safetensors file of another program, or a damaged one")
    zeroed = raw[:at] + _ZEROS.encode() + raw[at + 8 :]
    if raw[at : at + 8] != b"%08x" % zlib.crc32(zeroed):
        raise CheckpointError("the header does not have the checksum that it was written with")
    try:
        words = raw[8:].decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the header is not text: {error}") from None
    whole = parse(words, "the header")
    metadata = whole.pop("__metadata__")
    _check_metadata(metadata)
    entries = {name: _entry(name, told) for name, told in whole.items()}
    _check_places(entries, rest)
    document = parse(metadata["document"], "the document")
    if not isinstance(document, dict):
        raise CheckpointError("the document is not a JSON object")
    return Header(entries, _checksums(metadata["checksums"], entries), document)


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError("__metadata__ must map names to strings")
    lacking = [key for key in _KEYS if key not in metadata]
    if lacking or metadata["format"] != "steprule":
        raise CheckpointError(f"__metadata__ is not of a checkpoint of steprule: it lacks {lacking or ['format']}")
    if metadata["version"] != VERSION:
        raise CheckpointError(
            f"the file has version {short(metadata['version'])}, by steprule {short(metadata['steprule'])}; this "
            f"steprule reads version {VERSION}. Update it"
        )


def _entry(name: str, told: Any) -> Entry:
    if not isinstance(told, dict) or set(told) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"tensor {short(name)} must have dtype, shape and data_offsets, got {short(told)}")
    dtype, shape, offsets = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"tensor {short(name)} has the type {short(dtype)}, which this version does not know")
    if not _are_counts(shape) or len(shape) > _AXES:
        raise CheckpointError(f"tensor {short(name)} has the shape {short(shape)}, expected at most {_AXES} integers")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise CheckpointError(f"tensor {short(name)} has the data_offsets {short(offsets)}, expected two integers")
    item = SIZES[dtype]
    # An array without elements may have huge other axes, which NumPy refuses.
    if prod(max(1, n) for n in shape) * item >= 2**63 or prod(shape) * item != offsets[1] - offsets[0]:
        size = short(offsets[1] - offsets[0])
        raise CheckpointError(f"tensor {short(name)} has {size} bytes, which is not {dtype} of shape {short(shape)}")
    return Entry(dtype, tuple(shape), *offsets)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_places(entries: Mapping[str, Entry], rest: int) -> None:
    """Check that tensors follow one another, from the end of the header to that of the file."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            words = "overlaps the one before it" if entry.start < end else "leaves a hole before it"
            raise CheckpointError(
                f"tensor {short(name)} begins at byte {short(entry.start)}, which {words}: expected {end}"
            )
        end = entry.end
    if end != rest:
        words = "truncated" if end > rest else "longer than it should be"
        raise CheckpointError(f"the file is {words}: its tensors have {short(end)} bytes, the file has {rest} for them")


def _checksums(told: str, entries: Mapping[str, Entry]) -> dict[str, int]:
    found = parse(told, "the list of checksums")
    if not isinstance(found, dict) or set(found) != set(entries):
        raise CheckpointError("the list of checksums is not of the tensors that the file has")
    for name, value in found.items():
        if not isinstance(value, str) or len(value) != 8 or not set(value) <= set("0123456789abcdef"):
            raise CheckpointError(
                f"tensor {short(name)} has the checksum {short(value)}, expected 8 hexadecimal digits"
            )
    return {name: int(value, 16) for name, value in found.items()}
