"""Files that somebody made: 100,000 mutated headers and documents, refused or read, and nothing else."""

from __future__ import annotations

import copy
import json
import random
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

import steprule as sr
from steprule.checkpoint import read, stored, write
from steprule.errors import CheckpointError, StateError

pytestmark = pytest.mark.apart

HEADERS, DOCUMENTS, RAW = 70_000, 15_000, 15_000

NUMBERS = [0, 1, -1, 2, 7, 8, 12, 24, 255, 2**31, 2**53, 2**60, 2**63, 2**64, 10**40, 10**5000, 1.0, 0.5, 1e308, -0.0]
TEXTS = [
    "",
    "F32",
    "F64",
    "BF16",
    "I4",
    "U8",
    "BOOL",
    "F8_E4M3",
    "steprule",
    "1",
    "2",
    "\ud800",
    "\x00",
    "a" * 300,
    "9",
]
VALUES: list[Any] = [
    *NUMBERS,
    *TEXTS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"a": 1},
    [0, 0],
    [0, 2**60],
    [2**62, 2**62, 0],
    [1] * 70,
]


def _params() -> dict[str, Any]:
    return {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}


def _optimizer() -> sr.Optimizer:
    optimizer = sr.Optimizer(_params(), "nadam", lr=0.1, states={"m": "8bit"}, min_elements=0, seed=5)
    optimizer.step({name: np.ones_like(array) for name, array in optimizer.params.items()})
    return optimizer


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return the header of a file without its document, the document, and the rest."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["document"]), raw[8 + length :]


def as_text(value: Any) -> str:
    """Return JSON of whatever there is, numbers of thousands of digits included."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{as_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_text, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**1000:
        return "1" + "0" * 5000
    return json.dumps(value)


def sealed(words: bytes, rest: bytes) -> bytes:
    """Return a file whose header has the right length, and the right checksum if it has a place for one."""
    words += b" " * (-len(words) % 8)
    raw = bytearray(struct.pack("<Q", len(words)) + words)
    mark = b'{"__metadata__":{"header_checksum":"'
    if words.startswith(mark):
        at = 8 + len(mark)
        raw[at : at + 8] = b"0" * 8
        raw[at : at + 8] = b"%08x" % zlib.crc32(raw)
    return bytes(raw) + rest


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container and key in a nest."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        found += _places(item)
    return found


def mutated(rng: random.Random, value: Any) -> Any:
    """Return a nest with one to three things changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = [place for place in _places(value) if place[1] != "header_checksum"]
        if not places:
            return value
        holder, key = rng.choice(places)
        how = rng.randrange(6)
        if how == 0:
            del holder[key]
        elif how == 1:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif how == 2 and isinstance(holder, dict):
            holder[rng.choice(TEXTS[:-3])] = holder[key]
        elif how == 3 and isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += rng.choice([-8, -4, -1, 1, 4, 8, 2**32])
        elif how == 4:
            other = rng.choice(places)
            holder[key] = copy.deepcopy(other[0].get(other[1]) if isinstance(other[0], dict) else None)
        else:
            holder[key] = [holder[key]] if rng.random() < 0.5 else {"$tuple": holder[key]}
    return value


@pytest.fixture
def made(tmp_path: Path) -> Path:
    sr.save(tmp_path / "made", _optimizer(), True, note=(1, float("inf")), more=np.arange(3))
    return tmp_path / "made"


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let no array of a file be larger than the list's last number."""
    limit = [0]
    real = np.empty

    def empty(shape: Any, dtype: Any = float, **options: Any) -> Any:
        count = int(np.prod(np.array(shape, dtype=object))) if shape != () else 1
        assert count * np.dtype(dtype).itemsize <= limit[-1], f"{shape} {dtype} in a file of {limit[-1]} bytes"
        return real(shape, dtype, **options)

    monkeypatch.setattr(np, "empty", empty)
    return limit


def put(path: Path, raw: bytes) -> None:
    """Write a file anew: some file systems sync one that is written over."""
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def _is_read(path: Path, raw: bytes, limit: list[int]) -> bool:
    """Whether a file is read; if it is not, it was refused."""
    put(path, raw)
    limit[-1] = len(raw)
    try:
        read(path)
    except CheckpointError:
        return False
    # What others refuse, we refuse.
    safetensors.deserialize(raw)  # type: ignore[no-untyped-call]
    return True


@pytest.mark.slow
def test_headers(bounded: list[int], tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"a": np.ones((2, 3), np.float32), "b": np.ones(5, np.uint8), "c": np.zeros((0, 2))}
    write(tmp_path / "made", {name: stored(array, name) for name, array in arrays.items()}, {})
    header, _, rest = parts(tmp_path / "made")
    rng, count = random.Random(1), 0
    for _ in range(HEADERS):
        words = as_text(mutated(rng, header)).encode()
        count += _is_read(tmp_path / "x", sealed(words, rest), bounded)
    # Some changes mean nothing (an unknown text beside the others), most do.
    assert 100 < count < HEADERS // 3


@pytest.mark.slow
def test_raw_bytes(made: Path, bounded: list[int], tmp_path: Path) -> None:
    header, _, rest = parts(made)
    words = as_text(header).encode()
    rng = random.Random(2)
    for _ in range(RAW):
        damaged = bytearray(words)
        for _ in range(rng.choice([1, 2, 5])):
            at = rng.randrange(40, len(damaged))
            how = rng.randrange(3)
            if how == 0:
                damaged[at] = rng.choice(b'{}[]",:0123456789.eE-\\\x00\xff')
            elif how == 1:
                del damaged[at : at + rng.randrange(1, 9)]
            else:
                damaged[at:at] = rng.choice([b"[" * 50, b"{", b'"a":', b"NaN", b"1e999", b"\xed\xa0\x80", b"\\ud800"])
        _is_read(tmp_path / "x", sealed(bytes(damaged), rest), bounded)


@pytest.mark.slow
def test_documents(made: Path, tmp_path: Path) -> None:
    header, document, rest = parts(made)
    optimizer, path = _optimizer(), tmp_path / "x"
    before = _everything(optimizer)
    rng, loads = random.Random(3), 0
    for _ in range(DOCUMENTS):
        header["__metadata__"]["document"] = as_text(mutated(rng, document))
        put(path, sealed(json.dumps(header, separators=(",", ":")).encode(), rest))
        try:
            sr.load(path, optimizer, True)
        except (CheckpointError, StateError):
            assert _everything(optimizer) == before
        else:
            loads += 1
            optimizer = _optimizer()
    assert 100 < loads < DOCUMENTS // 2


def _everything(optimizer: sr.Optimizer) -> Any:
    state = optimizer.state_dict()
    arrays = [plane.tobytes() for planes in state.pop("slots").values() for plane in planes.values()]
    return state, arrays, [array.tobytes() for array in optimizer.params.values()]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 20_000_000], ids=["lists", "objects", "many lists"]
)
def test_nests_without_end(tmp_path: Path, text: str) -> None:
    for words in (text, f'{{"__metadata__":{{"header_checksum":"00000000","a":{text}'):
        (tmp_path / "x").write_bytes(sealed(words.encode(), b""))
        with pytest.raises(CheckpointError):
            read(tmp_path / "x")


@pytest.mark.parametrize("shape", [[2**60], [2**31, 2**31], [0, 2**63], [2**62, 2**62, 0], [10**300]])
def test_claims_take_no_memory(made: Path, tmp_path: Path, shape: list[int]) -> None:
    header, _, rest = parts(made)
    name = next(name for name, told in header.items() if told.get("dtype") == "F32")
    size = 4 * int(np.prod(np.array(shape, dtype=object)))
    header[name] |= {"shape": shape, "data_offsets": [0, size]}
    (tmp_path / "x").write_bytes(sealed(json.dumps(header, separators=(",", ":")).encode(), rest))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            read(tmp_path / "x")
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[0, 2**63], [2**62, 2**62, 0], [0] * 65], ids=["long", "product", "axes"])
def test_arrays_without_elements_that_cannot_be(made: Path, tmp_path: Path, shape: list[int]) -> None:
    header, _, rest = parts(made)
    header["empty"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    sums = json.loads(header["__metadata__"]["checksums"])
    header["__metadata__"]["checksums"] = json.dumps({**sums, "empty": "00000000"})
    (tmp_path / "x").write_bytes(sealed(json.dumps(header, separators=(",", ":")).encode(), rest))
    with pytest.raises(CheckpointError, match="tensor 'empty' has"):
        read(tmp_path / "x")


def test_keys_that_are_there_twice(made: Path, tmp_path: Path) -> None:
    header, _, rest = parts(made)
    words = json.dumps(header, separators=(",", ":"))
    name = list(header)[1]
    words = words[:-1] + f',"{name}":{json.dumps(header[name])}}}'
    (tmp_path / "x").write_bytes(sealed(words.encode(), rest))
    with pytest.raises(CheckpointError, match="is there twice"):
        read(tmp_path / "x")
