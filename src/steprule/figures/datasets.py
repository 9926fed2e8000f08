"""Reading the papers' sets from a folder, in the form in which their authors give them out; nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from steprule.errors import ProblemError
from steprule.race.classifier import Split, held_out
from steprule.race.corpus import bag_of_words
from steprule.race.problem import Array

__all__ = ["READERS", "WORDS", "digest_of", "read"]

WORDS = {
    "mnist": "MNIST's digits of 28 x 28 pixels, nine tenths of its 60,000 for training and 10,000 for the test",
    "cifar10": "CIFAR-10's images of 32 x 32 pixels in three colours, nine tenths of its 50,000 for training and "
    "10,000 for the test",
    "imdb": "a bag of 10,000 words of IMDB's reviews, good or bad, nine tenths of its 25,000 for training and 25,000 "
    "for the test",
}
"""What the sets are, for a sentence."""
_VALIDATION = 0.1
_UBYTE = 8


def read(name: str, folder: Path) -> Split:
    """Return a set from a folder; a tenth of its training samples is held out, as ``Split`` has them.

    Raises:
        ProblemError: for a file that is missing, damaged or another one.
    """
    try:
        x, y, test_x, test_y = READERS[name](folder)
        _check_alike(x, y, test_x, test_y)
        return Split(*held_out(x, y, _VALIDATION), test_x, test_y)
    except Exception as error:  # of a damaged file zlib, NumPy and above all pickle raise whatever they come upon
        raise ProblemError(
            f"{name} cannot be read from {str(folder)!r}: {str(error) or type(error).__name__}. It should hold "
            f"{_FILES[name]}"
        ) from None


def _check_alike(x: Any, y: Array, test_x: Any, test_y: Array) -> None:
    """Check that what is trained on and what it is tested on go together."""
    if x.shape[1] != test_x.shape[1]:
        raise ValueError(f"samples have {x.shape[1]} numbers for training and {test_x.shape[1]} for the test")
    if unknown := set(test_y.tolist()) - set(y.tolist()):
        raise ValueError(f"class {min(unknown)} is in the test, and not in training")


def digest_of(folder: Path) -> str:
    """Return what changes when files of a folder do: a digest of their names, sizes and times."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    text = repr([(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in found])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mnist(folder: Path) -> tuple[Any, ...]:
    parts = []
    for kind in ("train", "t10k"):
        images = _idx(folder, f"{kind}-images-idx3-ubyte", 3)
        classes = _idx(folder, f"{kind}-labels-idx1-ubyte", 1)
        if len(images) != len(classes):
            raise ValueError(f"{len(images)} images and {len(classes)} labels of {kind!r}")
        parts += [_scaled(images.reshape(len(images), -1)), classes.astype(np.int64)]
    return tuple(parts)


def _idx(folder: Path, name: str, dimensions: int) -> Array:
    """Return the array of an IDX file, compressed or not (http://yann.lecun.com/exdb/mnist describes the format)."""
    place = folder / f"{name}.gz"
    data = gzip.decompress(place.read_bytes()) if place.exists() else (folder / name).read_bytes()
    zero, kind, count = struct.unpack(">HBB", data[:4])
    if (zero, kind, count) != (0, _UBYTE, dimensions):
        raise ValueError(f"{name} is no IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{count}I", data[4 : 4 + 4 * count])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * count)
    if values.size != np.prod(shape, dtype=int):
        raise ValueError(f"{name} says that it holds {shape}, and has {values.size} bytes")
    return values.reshape(shape)


def _scaled(pixels: Array) -> Array:
    return pixels.astype(np.float32) / np.float32(255)


def _cifar10(folder: Path) -> tuple[Any, ...]:
    batches = [_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    return x, y, *_batch(folder / "test_batch")


def _batch(path: Path) -> tuple[Array, Array]:
    found = _Plain(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    pixels, classes = np.asarray(found[b"data"]), np.asarray(found[b"labels"], np.int64)
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or len(pixels) != len(classes):
        raise ValueError(f"{path.name} holds {pixels.dtype} of shape {pixels.shape} and {len(classes)} labels")
    return _scaled(pixels), classes


class _Plain(pickle.Unpickler):
    """Reads arrays of numbers in dicts and lists, and runs nothing else: a pickle may name any function to call."""

    _allowed = frozenset({("_reconstruct", "multiarray"), ("ndarray", "numpy"), ("dtype", "numpy")})

    def find_class(self, module: str, name: str) -> Any:
        """Return a constructor of arrays; refuse all others."""
        known = module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
        if known and (name, module.rpartition(".")[2]) in self._allowed:
            return {"ndarray": np.ndarray, "dtype": np.dtype}.get(name) or _reconstruct()
        if (module, name) == ("_codecs", "encode"):  # of bytes that Python 3 has written in an old protocol
            return _encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are read")


def _reconstruct() -> Callable[..., Any]:
    function: Callable[..., Any] = np.ndarray.__reduce__(np.empty(0))[0]  # type: ignore[assignment]
    return function


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes as {encoding!r}, and only latin1 is read")
    return text.encode("latin1")


def _imdb(folder: Path) -> tuple[Any, ...]:
    parts: list[Any] = []
    for kind in ("train", "test"):
        texts: list[str] = []
        labels: list[str] = []
        for label in ("neg", "pos"):
            paths = sorted((folder / kind / label).glob("*.txt"))
            if not paths:
                raise ValueError(f"no .txt files in {kind}/{label}")
            texts += [path.read_text(encoding="utf-8").replace("<br />", " ") for path in paths]
            labels += [label] * len(paths)
        parts += bag_of_words([text.lower() for text in texts], labels)
    return tuple(parts)


READERS: dict[str, Callable[[Path], tuple[Any, ...]]] = {"mnist": _mnist, "cifar10": _cifar10, "imdb": _imdb}
"""Functions of a folder: inputs and classes to train, inputs and classes to test."""
_FILES = {
    "mnist": "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, as "
    "they are or with .gz",
    "cifar10": "data_batch_1 to data_batch_5 and test_batch, of CIFAR-10's Python version (cifar-10-batches-py)",
    "imdb": "train/pos, train/neg, test/pos and test/neg with a .txt file a review (aclImdb)",
}
