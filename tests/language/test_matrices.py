"""Rules that see the rows and columns of tensors: what they say, what it means on arrays, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import steprule as sr
from steprule import PerColumn, PerRow, PerTensor, Scalar, mean, ndim, norm, rms, rule, size, total, where
from steprule.engine import plan
from steprule.errors import RuleError
from steprule.formats import FORMATS
from steprule.language.matrices import ROWS, Along, kept_shape, matrix_shape, seen_as
from steprule.language.sums import BLOCK, LANES, rounded_once

WORDS: list[Any] = [total, mean, norm, rms]


def rounding(*shape: int) -> Any:
    """Return numbers whose sum depends on the order: their magnitudes differ, and those of float32 would be exact."""
    rng = np.random.default_rng(shape)
    return rng.standard_normal(shape) * 2.0 ** rng.integers(-30, 30, shape)


def lanes_added(lanes: list[float]) -> float:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[i] + lanes[half + i] for i in range(half)]
    return lanes[0]


def straight_row(row: list[float]) -> float:
    found = 0.0
    for start in range(0, len(row), BLOCK):
        lanes = [0.0] * LANES
        for i, x in enumerate(row[start : start + BLOCK]):
            lanes[i % LANES] += x
        found += lanes_added(lanes)
    return found


def straight_column(column: list[float]) -> float:
    found = 0.0
    for start in range(0, len(column), ROWS):
        part = 0.0
        for x in column[start : start + ROWS]:
            part += x
        found += part
    return found


def straight_total(matrices: Any) -> float:
    parts = []
    for matrix in matrices:
        for top in range(0, matrix.shape[0], ROWS):
            for left in range(0, matrix.shape[1], BLOCK):
                lanes = [0.0] * LANES
                for row in matrix[top : top + ROWS, left : left + BLOCK].tolist():
                    for j, x in enumerate(row):
                        lanes[j % LANES] += x
                parts.append(lanes_added(lanes))
    return rounded_once(parts)


@pytest.mark.parametrize(
    "shape",
    [
        (3, 200),
        (2, BLOCK + 130),
        (2 * ROWS + 3, 9),
        (2 * ROWS + 3, 2),
        (5, 3),
        (9, 64),
        (9, 65),
        (1, 7),
        (7, 1),
        (0, 3),
    ],
)
def test_the_order_of_sums(shape: tuple[int, int]) -> None:
    x = rounding(*shape)
    rows, columns = total(x, over="row"), total(x, over="column")
    assert rows.ravel().tolist() == [straight_row(row) for row in x.tolist()]
    assert columns.ravel().tolist() == [straight_column(column) for column in x.T.tolist()]
    with seen_as("first"):
        assert total(x) == straight_total(x[np.newaxis])
    with seen_as("last"):
        stack = np.stack([x, x[::-1]])
        assert total(stack) == straight_total(stack)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (3, 200), (ROWS + 1, 2)])
def test_zeros_of_either_sign_add_up_to_zero(shape: tuple[int, int]) -> None:
    """They are added to a zero, also where few numbers take a shorter way."""
    for over in ("row", "column"):
        assert not np.signbit(total(np.full(shape, -0.0), over=over)).any()
    with seen_as("first"):
        assert math.copysign(1.0, total(np.full(shape, -0.0))) == 1.0


def test_the_order_can_be_told() -> None:
    """Sums in another order have other bits, so that the test above can fail."""
    x = rounding(2 * ROWS + 3, 200)
    assert total(x, over="row").ravel().tolist() != [float(sum(row)) for row in x.tolist()]
    assert total(x, over="column").ravel().tolist() != [float(sum(column)) for column in x.T.tolist()]
    with seen_as("first"):
        assert total(x) != total(x.ravel())


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
        elements=st.floats(-9, 9, width=32),
    ),
    st.sampled_from(["first", "last"]),
)
def test_words_are_what_they_are_called(x: Any, seen: Any) -> None:
    batch, n, m = matrix_shape(x.shape, seen)
    matrices = x.astype(np.float64).reshape(batch, n, m)
    with seen_as(seen):
        kinds: list[tuple[Along, int, int]] = [("row", 2, m), ("column", 1, n)]
        for over, axis, count in kinds:
            expected = {
                total: matrices.sum(axis),
                mean: matrices.sum(axis) / max(1, count),
                norm: np.sqrt((matrices**2).sum(axis)),
                rms: np.sqrt((matrices**2).sum(axis) / max(1, count)),
            }
            for word, numbers in expected.items():
                found = word(x, over=over)
                assert found.dtype == np.float32
                assert found.shape == kept_shape(x.shape, over, seen)
                assert np.broadcast_shapes(found.shape, x.shape) == x.shape
                np.testing.assert_allclose(found.ravel(), numbers.ravel(), rtol=1e-6, atol=1e-6)
            assert size(x, over=over) == max(1, count)


def test_numbers_of_rows_may_be_summed() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for seen, rows in (("first", (2, 1, 1)), ("last", (2, 3, 1))):
        with seen_as(seen):  # type: ignore[arg-type]
            r = mean(x, over="row")
            assert r.shape == rows
            of_matrix = mean(r, over="column")
            assert of_matrix.shape == ((1, 1, 1) if seen == "first" else (2, 1, 1))
            assert total(r) == float(r.sum())
            assert size(r) == r.size
    assert total(3.0, over="row") == 3.0
    assert type(total(np.float32(3), over="column")) is np.float32


def test_axes_are_counted() -> None:
    """A vector is one row, but no matrix of one row."""
    for shape in [(), (3,), (1, 3), (2, 1, 3)]:
        assert ndim(np.zeros(shape)) == ndim(torch.zeros(shape)) == len(shape)
    assert ndim(2.0) == 0

    @rule
    def counted(theta: Any, g: Any, r: PerRow) -> Any:
        return theta - g * ndim(g), mean(g, over="row") * ndim(r)

    for shape in [(3,), (1, 3), (2, 1, 3)]:
        array = np.zeros(shape)
        optimizer = sr.Optimizer(array, counted)
        optimizer.step(np.ones(shape))
        np.testing.assert_array_equal(array, np.full(shape, -len(shape)))
        assert (optimizer.slots["r"] == len(shape)).all()


def test_torch_tensors_are_summed_in_torchs_order() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for seen in ("first", "last"):
        with seen_as(seen):
            for word in WORDS:
                for over in ("row", "column"):
                    found = word(torch.from_numpy(x), over=over)
                    np.testing.assert_allclose(found.numpy(), word(x, over=over), rtol=1e-14)


def test_squares_of_float32_do_not_overflow() -> None:
    x = np.full((2, 3), 1e30, np.float32)
    np.testing.assert_allclose(norm(x, over="row"), np.float32(1e30) * np.sqrt(np.float32(3)), rtol=1e-6)
    assert np.isfinite(rms(x, over="column")).all()


# What a rule is.


def test_a_rule_sees_matrices_where_it_asks_for_rows_or_columns() -> None:
    assert sr.rules.adam.view is None

    @rule(matrices="last")
    def by_row(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
        return theta - lr * mean(g, over="row")

    assert by_row.view == "last"
    assert sr.decoupled(by_row).view == "last"
    assert rule(lambda theta, g, *, lr=0.1: theta - lr * g / norm(g, over="column")).view == "first"
    assert rule(lambda theta, g: theta - g / (1 + ndim(g))).view == "first"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            lambda theta, g: theta - mean(mean(g, over="row"), over="row"),
            r"mean\(g, over='row'\) is one of each row already",
        ),
        (lambda theta, g: theta - g / norm(g, axis=0), 'no other argument than over=: "tensor" .*, "row"'),  # type: ignore[call-arg]
        (lambda theta, g: theta - mean(mean(mean(g, over="row"), over="column")), "one of each matrix already"),
        (lambda theta, g: theta - total(mean(g, over="row"), over="all"), "one of each row; sum it over the tensor"),
        (lambda theta, g: theta - mean(g > 0, over="row"), "is a condition"),
        (lambda theta, g: theta - g * ndim(total(g)), "ndim is of a number of every element, .* is one number already"),
        (lambda theta, g: theta - math.exp(mean(g, over="row")), r"math.exp was called on an element"),
        (lambda theta, g: theta - mean(g, over="row") ** 3, r"Only \*\*2 is an operation"),
        (
            lambda theta, g: theta - mean(g, over="rows"),  # type: ignore[arg-type]
            r'sums are over="row", "column", "tensor" or over="all"',
        ),
        (lambda theta, g: mean(g, over="row"), "the new theta must depend on theta or g"),
    ],
)
def test_what_cannot_be_summed(body: Any, message: str) -> None:
    with pytest.raises(RuleError, match=message):

        @rule
        def wrong(theta: Any, g: Any) -> Any:
            return body(theta, g)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (PerRow, lambda g: g * g, r"'s' is PerRow, but .* is a number of every element; take a sum over='row'"),
        (PerRow, lambda g: mean(g, over="column"), "'s' is PerRow, but .* of every column; take a sum over='row'"),
        (PerColumn, lambda g: mean(g, over="row"), "'s' is PerColumn, but .* of every row; take a sum over='column'"),
        (PerTensor, lambda g: mean(g, over="row"), "'s' is PerTensor, but .* is a number of every row; take a sum"),
        (Scalar, lambda g: mean(g, over="row"), "'s' is a Scalar, .* not on rows"),
    ],
)
def test_slots_take_what_they_have_room_for(annotation: Any, value: Any, message: str) -> None:
    def wrong(theta: Any, g: Any, s: Any) -> Any:
        return theta - g * s, value(g)

    wrong.__annotations__["s"] = annotation
    with pytest.raises(RuleError, match=message):
        rule(wrong)


def test_matrices_without_rows_do_nothing() -> None:
    with pytest.raises(RuleError, match="matrices does nothing: the rule sees no rows and no columns; remove it"):

        @rule(matrices="last")
        def wrong(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
            return theta - lr * g

    with pytest.raises(RuleError, match=r'matrices is "first" or "last", got \'rows\''):

        @rule(matrices="rows")  # type: ignore[call-overload,untyped-decorator]
        def odd(theta: Any, g: Any, *, lr: float = 0.1) -> Any:
            return theta - lr * mean(g, over="row")


@pytest.mark.parametrize("name", ["_row0", "_column1", "_of_row0", "_total0"])
def test_names_of_the_steps_own_numbers(name: str) -> None:
    body: dict[str, Any] = {}
    exec(f"def wrong(theta, g, {name}):\n    return theta - g, {name}", body)
    with pytest.raises(RuleError, match=f"'{name}' is a number of the step's own"):
        rule(body["wrong"])


def test_choices_of_rows_have_rows() -> None:
    """Numbers chosen by a condition of rows are one a row, in the type of the elements."""

    @rule
    def chosen(theta: Any, g: Any, s: PerColumn, *, lr: float = 0.1) -> Any:
        signs = where(mean(g, over="row") > 0, 1.0, -1.0)
        return theta - lr * signs, s + total(signs, over="column")

    x, g = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    for made in (lambda a: a, torch.from_numpy):
        new, s = chosen(made(x.copy()), made(g), made(np.zeros((1, 2), np.float32)))
        assert new.dtype == made(x).dtype
        np.testing.assert_array_equal(np.asarray(s), [[3.0, 3.0]])


def test_a_choice_that_is_decided_stays_one_of_rows() -> None:
    @rule
    def decided(theta: Any, g: Any, r: PerRow, *, lr: float = 0.1, fixed: bool = True) -> Any:
        r = where(fixed, 2.0, r + 1.0)
        return theta - lr * g / total(r, over="column"), r

    x, r = np.ones((4, 3)), np.zeros((4, 1))
    expected = decided(x, np.ones((4, 3)), r)
    for backend in ("llvm", "numpy"):
        found = x.copy()
        sr.Optimizer(found, decided, backend=backend).step(np.ones((4, 3)))
        np.testing.assert_array_equal(found, expected[0])
    assert expected[0][0, 0] == 1 - 0.1 / 8


# Plans.


def test_what_passes_do() -> None:
    """Sums that do not depend on each other share a pass; numbers of rows are computed once, and read by elements."""

    @rule
    def factored(theta: Any, g: Any, r: PerRow, c: PerColumn, *, lr: float = 0.1, beta: float = 0.9) -> Any:
        r = beta * r + (1 - beta) * mean(g * g, over="row")
        c = beta * c + (1 - beta) * mean(g * g, over="column")
        step = g / sr.sqrt(r / mean(r, over="column") * c)
        return theta - lr / rms(step) * step, r, c

    last = plan(factored, factored.variant(factored.resolve({})), FORMATS["float32"])
    sums, clip = last.before
    assert [(len(own.sums), len(own.row_sums), len(own.column_sums)) for own in (sums, clip, last)] == [
        (0, 1, 1),
        (1, 0, 0),
        (0, 0, 0),
    ]
    assert [[plane.name for plane in own.planes[4:]] for own in (sums, clip, last)] == [
        [],
        ["_of_row0", "_of_column1"],
        ["_of_row0", "_of_column1"],
    ]
    assert clip.vectors is not None
    assert last.vectors is not None
    assert [own.op for own in clip.vectors.body].count("mean.column") == 1
    assert "mean.column" not in [own.op for own in last.vectors.body]
    assert [place for place, _ in last.vectors.slots] == [2, 3]
    assert not {store.plane for store in last.stores} & {2, 3}
