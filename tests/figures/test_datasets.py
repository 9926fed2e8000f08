"""The readers of real sets, on small files of the same formats, written here."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steprule.errors import HyperparameterError, ProblemError
from steprule.figures import figures_of
from steprule.figures.datasets import digest_of, read
from steprule.figures.samples import samples, words_for
from steprule.figures.training import train
from tests.cli.inside import refused


def _idx(path: Path, values: np.ndarray[Any, Any], compressed: bool) -> None:
    data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    path.with_name(path.name + ".gz" * compressed).write_bytes(gzip.compress(data) if compressed else data)


@pytest.fixture(params=[True, False])
def mnist(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for kind, count in (("train", 100), ("t10k", 20)):
        _idx(tmp_path / f"{kind}-images-idx3-ubyte", rng.integers(0, 256, (count, 3, 3)), request.param)
        _idx(tmp_path / f"{kind}-labels-idx1-ubyte", np.arange(count) % 10, request.param)
    return tmp_path


def _cifar(folder: Path, protocol: int = 2) -> None:
    rng = np.random.default_rng(0)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels = rng.integers(0, 256, (20, 48)).astype(np.uint8)
        pixels[0, :3] = number, 255, 0
        batch = {b"data": pixels, b"labels": [n % 10 for n in range(20)], b"batch_label": b"a batch"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))


def test_mnist(mnist: Path) -> None:
    found = read("mnist", mnist)
    assert found.train_x.shape == (90, 9)
    assert found.validation_x.shape == (10, 9)
    assert found.test_x.shape == (20, 9)
    assert found.test_x.dtype == np.float32
    rng = np.random.default_rng(0)
    rng.integers(0, 256, (100, 3, 3))
    pixels = rng.integers(0, 256, (20, 3, 3)).reshape(20, 9)
    np.testing.assert_array_equal(found.test_x, pixels.astype(np.float32) / np.float32(255))
    assert found.test_y.tolist() == [n % 10 for n in range(20)]
    assert samples(f"mnist:{mnist}").train_x.shape == (90, 9)
    assert "MNIST" in words_for(f"mnist:{mnist}")
    assert len(train(f"mnist:{mnist}", "adam", 0.1, 0, 2)["batch"]) == 2


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar(tmp_path: Path, protocol: int) -> None:
    _cifar(tmp_path, protocol)
    found = read("cifar10", tmp_path)
    assert found.train_x.shape == (90, 48)
    assert found.test_x[0, :3].tolist() == [np.float32(5) / np.float32(255), 1.0, 0.0]
    assert found.test_y.tolist() == [n % 10 for n in range(20)]


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    _cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": _Bomb(tmp_path / "ran"), b"labels": []}))
    with pytest.raises(ProblemError, match=r"it asks for (posix|nt)\.mkdir, and only arrays are read"):
        read("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_imdb(tmp_path: Path) -> None:
    for kind in ("train", "test"):
        for label, word in (("neg", "awful"), ("pos", "lovely")):
            place = tmp_path / kind / label
            place.mkdir(parents=True)
            for number in range(10):
                (place / f"{number}_7.txt").write_text(f"{word} film<br />number {number}")
    found = read("imdb", tmp_path)
    assert found.train_x.shape == (18, 10_000)
    assert found.test_y.tolist() == [0] * 10 + [1] * 10
    same = (found.test_x @ found.test_x.T).toarray()
    assert same[:10, :10].min() > same[:10, 10:].max()  # br is no word, and the rest of them are


def test_what_is_wrong_with_a_folder_is_told(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    for name in ("mnist", "cifar10", "imdb"):
        with pytest.raises(ProblemError, match=rf"{name} cannot be read from .*It should hold "):
            read(name, empty)
    before = digest_of(mnist)
    for old in mnist.glob("train-labels*"):
        old.unlink()
    _idx(mnist / "train-labels-idx1-ubyte", np.arange(3), True)
    assert digest_of(mnist) != before
    with pytest.raises(ProblemError, match="100 images and 3 labels of 'train'"):
        read("mnist", mnist)
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 100) + b"\0" * 99))
    with pytest.raises(ProblemError, match=r"says that it holds \(100,\), and has 99 bytes"):
        read("mnist", mnist)
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(ProblemError, match="Not a gzipped file"):
        read("mnist", mnist)


def test_a_damaged_file_is_told_whatever_its_reader_raises(tmp_path: Path) -> None:
    body = gzip.compress(bytes(100))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(body[:10] + b"\xff" * 20)  # zlib.error
    with pytest.raises(ProblemError, match=r"mnist cannot be read from .*Error -3 while decompressing"):
        read("mnist", tmp_path)
    _cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(b"}K\x01a.")  # AttributeError: 1 is appended to a dict
    with pytest.raises(ProblemError, match=r"cifar10 cannot be read from .*no attribute 'append'"):
        read("cifar10", tmp_path)


def test_training_and_test_go_together(mnist: Path) -> None:
    for old in mnist.glob("t10k-images*"):
        old.unlink()
    _idx(mnist / "t10k-images-idx3-ubyte", np.zeros((20, 4, 4)), False)
    with pytest.raises(ProblemError, match="samples have 9 numbers for training and 16 for the test"):
        read("mnist", mnist)
    _idx(mnist / "t10k-images-idx3-ubyte", np.zeros((20, 3, 3)), False)
    for old in mnist.glob("t10k-labels*"):
        old.unlink()
    _idx(mnist / "t10k-labels-idx1-ubyte", np.full(20, 11), False)
    with pytest.raises(ProblemError, match="class 11 is in the test, and not in training"):
        read("mnist", mnist)


def test_a_text_that_changes_makes_another_digest(tmp_path: Path) -> None:
    text = tmp_path / "train" / "pos" / "0.txt"
    text.parent.mkdir(parents=True)
    text.write_text("good")
    before = digest_of(tmp_path)
    text.write_text("better")
    assert digest_of(tmp_path) != before


def test_figures_take_the_sets_that_are_theirs(mnist: Path) -> None:
    found = figures_of("adam", data="mnist", folder=mnist)
    assert [figure.name for figure in found] == ["adam-1-dense", "adam-2-dropout"]
    first = found[0].parts({})[0]
    assert dict(first.arguments)["data"] == f"mnist:{mnist}"
    assert first.source == digest_of(mnist)
    assert "nine tenths of its 60,000 for training" in found[0].setting
    cifar = mnist / "cifar"
    cifar.mkdir()
    _cifar(cifar)
    found = figures_of("amsgrad", data="cifar10", folder=cifar)
    assert [figure.name for figure in found] == ["amsgrad-2-convolutions"]
    with pytest.raises(HyperparameterError, match="--data mnist does nothing"):
        figures_of("adamw", data="mnist", folder=mnist)
    with pytest.raises(HyperparameterError, match=r"no data 'minst'\. Did you mean 'mnist'"):
        figures_of("adam", data="minst", folder=mnist)
    assert "--data and --data-folder come together" in refused(["figures", "adam", "--data", "mnist"])
    said = refused(["figures", "adam", "--data", "mnist", "--data-folder", "nowhere"], mnist)
    assert "No such file or directory" in said
