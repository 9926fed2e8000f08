"""The problems of the race: gradients, data, and the checks of a problem file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from steprule.errors import ProblemError
from steprule.race import Problem, data
from steprule.race.check import check_problem
from steprule.race.classifier import Classifier, Split, split
from steprule.race.corpus import FEATURES, bag_of_words, docstrings
from steprule.race.load import describe, load_problem
from steprule.race.network import init_network, loss_and_grad
from steprule.race.problems import NAMES
from steprule.race.problems.associative_memory import Memory
from tests.race.cases import check_gradient

OFFLINE = [name for name in NAMES if not name.startswith("mnist")]


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("sparse", [False, True])
def test_gradient_of_a_network(hidden: tuple[int, ...], l2: float, sparse: bool) -> None:
    rng = np.random.default_rng(1)
    params = init_network(rng, (6, *hidden, 3), np.float64)
    for array in [*params["weights"], *params["biases"]]:
        array += 0.5 * rng.normal(size=array.shape)
    dense = rng.normal(size=(7, 6)) * (rng.random((7, 6)) < 0.6)
    x = scipy.sparse.csr_array(dense) if sparse else dense
    y = rng.integers(0, 3, 7)
    loss, grads = loss_and_grad(params, x, y, l2)
    assert loss == loss_and_grad(params, dense, y, l2)[0]
    check_gradient(lambda: loss_and_grad(params, x, y, l2)[0], params, grads)


@pytest.mark.parametrize("name", ["long-valley", "saddle"])
def test_gradient_of_a_surface(name: str) -> None:
    problem = load_problem(name).problem
    for seed in range(5):
        point = 2 * np.random.default_rng(seed).normal(size=2)
        loss, grad = problem.loss_and_grad(point, None)
        assert loss == problem.evaluate(point)["train_loss"]
        check_gradient(lambda point=point: problem.loss_and_grad(point, None)[0], point, grad)


def test_minima_of_the_surfaces() -> None:
    for name, minimum in (("long-valley", [1.0, 1.0]), ("saddle", [0.0, 1.0]), ("saddle", [0.0, -1.0])):
        loss, grad = load_problem(name).problem.loss_and_grad(np.array(minimum), None)
        assert loss == 0.0
        assert grad.tolist() == [0.0, 0.0]


def test_loss_of_huge_scores_is_finite() -> None:
    params = {"weights": [np.eye(2, dtype=np.float32) * 1e4], "biases": [np.zeros(2, np.float32)]}
    loss, grads = loss_and_grad(params, np.eye(2, dtype=np.float32), np.array([1, 0]))
    assert loss == pytest.approx(1e4)
    assert all(np.isfinite(g).all() for g in grads["weights"])


@pytest.mark.parametrize("name", OFFLINE)
def test_problems_that_ship_keep_the_protocol(name: str) -> None:
    loaded = load_problem(name)
    assert isinstance(loaded.problem, Problem)
    assert len(describe(name)) > 20
    found = check_problem(loaded)
    if hasattr(loaded.problem, "data"):
        # All classes are equally likely at the start.
        classes = int(loaded.problem.data.train_y.max()) + 1
        assert found.start == pytest.approx(math.log(classes), rel=1e-6)
        assert found.metric == "validation_loss"
        assert {array.dtype.name for array in loaded.problem.init(np.random.default_rng(0))["weights"]} == {"float32"}


def test_gradient_and_loss_of_the_associative_memory() -> None:
    whole = load_problem("associative-memory").problem
    assert isinstance(whole, Memory)
    problem = replace(
        whole, keys=whole.keys[:6, :4].astype(float), values=whole.values[:6, :4].astype(float), shares=np.ones(6) / 6
    )
    params = np.random.default_rng(0).normal(size=(4, 4))
    batch = np.array([0, 3, 3, 5])
    check_gradient(lambda: problem.loss_and_grad(params, batch)[0], params, problem.loss_and_grad(params, batch)[1])
    # By a straight loop over all pairs.
    losses, found = [], 0
    for i in range(6):
        scores = [sum(problem.values[j] * (params @ problem.keys[i])) for j in range(6)]
        losses.append(math.log(sum(map(math.exp, scores))) - scores[i])
        found += max(range(6), key=scores.__getitem__) == i
    assert problem.evaluate(params) == pytest.approx({"train_loss": sum(losses) / 6, "test_accuracy": found / 6})
    assert problem.loss_and_grad(params, batch)[0] == pytest.approx(np.mean([losses[i] for i in batch]))


def test_keys_of_the_associative_memory_come_up_by_zipfs_law() -> None:
    problem = load_problem("associative-memory").problem
    drawn = np.concatenate([batch for seed in range(20) for batch in problem.batches(np.random.default_rng(seed))])
    counts = np.bincount(drawn, minlength=512)
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.15)


def test_every_problem_has_its_file() -> None:
    folder = Path(data.__file__).parent / "problems"
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {"--init--"}
    assert files == set(NAMES)


def test_an_epoch_holds_every_sample_once_in_batches_of_128() -> None:
    problem = load_problem("digits-mlp").problem
    batches = list(problem.batches(np.random.default_rng(3)))
    assert [len(y) for _, y in batches[:-1]] == [128] * (len(batches) - 1)
    rows = np.concatenate([x for x, _ in batches])
    expected = problem.data.train_x  # type: ignore[attr-defined]
    assert sorted(map(bytes, rows)) == sorted(map(bytes, expected))
    other = next(iter(problem.batches(np.random.default_rng(4))))
    assert not np.array_equal(batches[0][0], other[0])


def test_evaluate_is_the_loss_over_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steprule.race.classifier._ROWS", 50)
    problem = Classifier(data.digits(), hidden=(8,), l2=0.01)
    params = problem.init(np.random.default_rng(0))
    params["weights"][-1] += 0.3
    params["weights"][-1][:, 2] -= 0.1
    x, y = problem.data.train_x, problem.data.train_y
    metrics = problem.evaluate(params)
    assert metrics["train_loss"] == pytest.approx(loss_and_grad(params, x, y, 0.01)[0], rel=1e-5)
    hidden = np.maximum(problem.data.test_x @ params["weights"][0], 0)
    right = (hidden @ params["weights"][1]).argmax(axis=1) == problem.data.test_y
    assert metrics["test_accuracy"] == pytest.approx(right.mean())
    # The penalty is of training; what is held out is scored without it.
    held = loss_and_grad(params, problem.data.validation_x, problem.data.validation_y, 0.0)[0]
    assert metrics["validation_loss"] == pytest.approx(held, rel=1e-5)


def test_split_is_always_the_same_and_keeps_shares() -> None:
    x, y = np.arange(300.0).reshape(100, 3), np.repeat([0, 1], [80, 20])
    first, second = split(x, y), split(x, y)
    assert np.array_equal(first.test_x, second.test_x)
    assert np.bincount(first.test_y).tolist() == [16, 4]
    assert np.bincount(first.validation_y).tolist() == [13, 3]
    parts = (first.train_x, first.validation_x, first.test_x)
    assert sorted(np.concatenate(parts)[:, 0]) == x[:, 0].tolist()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small folder of sources in the place of the standard library's."""
    for module, word in (("json", "parsing"), ("random", "drawing"), ("this", "rare")):
        functions = 40 if module != "this" else 3
        body = "\n".join(
            f'def f{i}():\n    """The function number {"x" * (i + 2)} is all about {word} things here."""'
            for i in range(functions)
        )
        (tmp_path / f"{module}.py").write_text(body)
    (tmp_path / "json.py").write_text((tmp_path / "json.py").read_text() + '\ndef g():\n    """Short."""\n')
    (tmp_path / "email" / "tests").mkdir(parents=True)
    (tmp_path / "email" / "tests" / "t.py").write_text((tmp_path / "json.py").read_text())
    (tmp_path / "email" / "broken.py").write_text("def (:")
    return tmp_path


def test_corpus_takes_modules_with_enough_docstrings(library: Path) -> None:
    texts, modules = docstrings(library)
    assert set(modules) == {"json", "random"}
    assert modules.count("json") == 40
    assert texts == docstrings(library)[0]
    x, y = bag_of_words(texts, modules)
    assert x.shape == (80, FEATURES)
    assert x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x.toarray(), axis=1), 1, rtol=1e-6)
    assert y.tolist() == [0] * 40 + [1] * 40
    assert scipy.sparse.issparse(x)


def test_corpus_without_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"hardly any in .*digits-mlp"):
        docstrings(tmp_path)


@pytest.fixture
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    return tmp_path


def test_mnist_is_fetched_once_and_scaled(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(name: str, **options: Any) -> SimpleNamespace:
        calls.append((name, options["version"]))
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (140, 784)).astype(np.float64)
        pixels[0, 0] = 255
        return SimpleNamespace(data=pixels, target=np.array([str(i % 10) for i in range(140)], object))

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    first, second = data.mnist(), data.mnist()
    assert calls == [("mnist_784", 1)]
    assert np.array_equal(first.train_x, second.train_x)
    assert first.train_x.shape == (100, 784)
    assert first.test_y.tolist() == [i % 10 for i in range(120, 140)]
    assert first.train_x.dtype == np.float32
    assert first.train_x.max() == 1.0
    assert [path.name for path in data_home.glob("*.npz")] == ["steprule-mnist.npz"]


@pytest.mark.usefixtures("data_home")
def test_mnist_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, **options: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with pytest.raises(ProblemError, match=r"could not be downloaded.*not known.*digits-mlp"):
        data.mnist()


def test_sparse_classifier_learns() -> None:
    rng = np.random.default_rng(0)
    x = scipy.sparse.csr_array((rng.random((200, 30)) < 0.1).astype(np.float32))
    y = np.asarray(x.toarray()[:, 0], np.int64)
    problem = Classifier(Split(x, y, x, y, x, y), l2=1e-3)
    params = problem.init(rng)
    before = problem.evaluate(params)["train_loss"]
    for batch in problem.batches(rng):
        _, grads = problem.loss_and_grad(params, batch)
        params["weights"][0] -= grads["weights"][0]
        params["biases"][0] -= grads["biases"][0]
    assert problem.evaluate(params)["train_loss"] < 0.6 * before
