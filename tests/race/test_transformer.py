"""The character transformer of the race: its scores by loops, its gradient by differences, its text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steprule.errors import ProblemError
from steprule.race.check import check_problem
from steprule.race.corpus import LETTERS, letters_of
from steprule.race.load import load_problem
from steprule.race.problems.char_transformer import Letters
from steprule.race.transformer import init_transformer, logits, loss_and_grad
from tests.race.cases import check_gradient

HEADS = 2


@pytest.fixture
def params() -> Any:
    rng = np.random.default_rng(0)
    made = init_transformer(rng, letters=5, context=4, width=4, blocks=2, dtype=np.float64)
    made["head"] += rng.normal(size=made["head"].shape)
    return made


def _by_loops(params: Any, letters: list[int]) -> list[list[float]]:
    """Return the scores after each letter, number by number."""
    width = len(params["embedding"][0])
    size = width // HEADS

    def norm(x: list[float]) -> list[float]:
        r = math.sqrt(sum(v * v for v in x) / len(x) + 1e-5)
        return [v / r for v in x]

    def times(x: list[float], matrix: Any) -> list[float]:
        return [sum(v * matrix[i][j] for i, v in enumerate(x)) for j in range(len(matrix[0]))]

    def add(x: list[float], y: list[float]) -> list[float]:
        return [a + b for a, b in zip(x, y, strict=True)]

    xs = [add(params["embedding"][letter], params["positions"][place]) for place, letter in enumerate(letters)]
    for block in params["blocks"]:
        q, k, v = ([times(norm(x), block[name]) for x in xs] for name in "qkv")
        mixed = []
        for place in range(len(xs)):
            row: list[float] = []
            for head in range(HEADS):
                part = range(head * size, (head + 1) * size)
                seen = [sum(q[place][i] * k[j][i] for i in part) / math.sqrt(size) for j in range(place + 1)]
                total = sum(map(math.exp, seen))
                row += [sum(math.exp(s) / total * v[j][i] for j, s in enumerate(seen)) for i in part]
            mixed.append(row)
        xs = [add(x, times(row, block["o"])) for x, row in zip(xs, mixed, strict=True)]
        xs = [add(x, times([max(0.0, u) for u in times(norm(x), block["up"])], block["down"])) for x in xs]
    return [times(norm(x), params["head"]) for x in xs]


def test_scores_and_loss_by_loops(params: Any) -> None:
    letters, following = np.array([[0, 3, 3, 1], [2, 4, 0, 2]]), np.array([[3, 3, 1, 2], [4, 0, 2, 1]])
    expected = [_by_loops(params, row.tolist()) for row in letters]
    np.testing.assert_allclose(logits(params, letters, HEADS), expected, rtol=1e-10, atol=1e-12)
    losses = [
        math.log(sum(map(math.exp, scores))) - scores[wanted]
        for rows, ends in zip(expected, following, strict=True)
        for scores, wanted in zip(rows, ends.tolist(), strict=True)
    ]
    assert loss_and_grad(params, letters, following, HEADS)[0] == pytest.approx(sum(losses) / 8)


def test_gradient(params: Any) -> None:
    rng = np.random.default_rng(1)
    letters, following = rng.integers(0, 5, (2, 3, 3))
    grads = loss_and_grad(params, letters, following, HEADS)[1]
    # A window shorter than the context leaves the last position alone.
    assert not grads["positions"][3].any()
    check_gradient(lambda: loss_and_grad(params, letters, following, HEADS)[0], params, grads)


def test_no_letter_sees_those_after_it(params: Any) -> None:
    before, after = np.array([[0, 1, 2, 3]]), np.array([[0, 1, 4, 3]])
    one, other = logits(params, before, HEADS), logits(params, after, HEADS)
    assert np.array_equal(one[0, :2], other[0, :2])
    assert not np.isclose(one[0, 2:], other[0, 2:]).any()


def test_the_problem_has_windows_of_two_texts() -> None:
    problem = load_problem("char-transformer").problem
    assert isinstance(problem, Letters)
    found = check_problem(load_problem("char-transformer"))
    assert found.metric == "validation_loss"
    assert found.start == pytest.approx(math.log(len(LETTERS)))
    assert len(problem.train) > 8 * len(problem.validation) > 100_000
    for letters, following in problem.batches(np.random.default_rng(0)):
        assert letters.shape == following.shape == (16, 32)
        assert np.array_equal(letters[:, 1:], following[:, :-1])
    params = problem.init(np.random.default_rng(0))
    assert {array.dtype.name for array in params["blocks"][0].values()} == {"float32"}
    assert problem.loss_and_grad(params, (letters, following))[1]["embedding"].dtype == np.float32


def test_text_is_in_lower_case_and_of_few_letters(tmp_path: Path) -> None:
    body = "\n".join(f'def f{i}():\n    """Über  Name\t{i:05d} {"word " * 60}!"""\n' for i in range(40))
    (tmp_path / "json.py").write_text(body, encoding="utf-8")
    numbers, count = letters_of(["json"], tmp_path)
    text = "".join(LETTERS[number] for number in numbers)
    assert text.startswith("ber name 00000 word word ")
    assert count == len(set(LETTERS)) == 46
    with pytest.raises(ProblemError, match=r"char-transformer reads .* hardly any in .*digits-mlp"):
        letters_of(["random"], tmp_path)
