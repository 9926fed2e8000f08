"""What the plain run leaves to the long sweep is products: of each of their parts it has everything."""

from __future__ import annotations

from typing import Any

from tests.cases import CASES
from tests.covering import FIRST_CASES, SOME_CASES, crossed, rotated, swept
from tests.formats.test_kernels import COVERING, MATRIX
from tests.thinning import kept, left_to_the_sweep, part_of


def plain(params: list[Any]) -> list[tuple[Any, ...]]:
    """Return what the plain run takes."""
    return [param.values for param in params if not param.marks]


def test_each_value_of_each_option_of_each_rule_is_there() -> None:
    def values(cases: list[tuple[str, dict[str, Any]]]) -> set[tuple[str, str, Any]]:
        return {(name, *item) for name, options in cases for item in options.items()}

    assert values(SOME_CASES) == values(CASES)
    assert [name for name, _ in FIRST_CASES] == list(dict.fromkeys(name for name, _ in CASES))
    assert all(case in SOME_CASES for case in FIRST_CASES)
    assert len(SOME_CASES) < len(CASES)


def test_each_row_and_each_column_is_there_and_together_they_are_the_product() -> None:
    params = rotated("abcde", (1, 2, 3), "c")
    assert plain(params) == [("a", 1), ("b", 2), ("c", 1), ("c", 2), ("c", 3), ("d", 1), ("e", 2)]
    assert [param.values for param in params] == [(row, column) for row in "abcde" for column in (1, 2, 3)]
    assert {mark.name for param in params for mark in param.marks} == {"slow"}


def test_rows_that_are_not_plain_are_for_the_long_sweep() -> None:
    params = rotated("abcd", (1, 2), "ad", plain="acd")
    assert plain(params) == [("a", 1), ("a", 2), ("c", 2), ("d", 1), ("d", 2)]
    assert [param.values for param in params] == [(row, column) for row in "abcd" for column in (1, 2)]


def test_each_row_meets_a_third_of_the_columns_and_each_column_of_the_rows() -> None:
    pairs = crossed("abcdef", range(7))
    assert len(set(pairs)) == len(pairs) == 14
    assert all(2 <= sum(own == row for own, _ in pairs) <= 3 for row in "abcdef")
    assert all(sum(own == column for _, own in pairs) == 2 for column in range(7))


def test_what_is_swept_is_all_there() -> None:
    one, other = swept(["a", "b"], ["a"])
    assert (one, other.values, [mark.name for mark in other.marks]) == ("a", ("b",), ["slow"])


def test_each_storage_meets_some_rules() -> None:
    met = [case for _, case in COVERING]
    assert all(met.count(case) >= 2 for case in MATRIX)
    assert len(set(COVERING)) == len(COVERING) < 6 * len(MATRIX)


def test_few_of_many_cases_are_kept_and_of_every_row_and_column() -> None:
    assert [kept(count) for count in (1, 7, 8, 16, 64, 400)] == [1, 7, 4, 6, 12, 30]
    assert [kept(count, is_dear=True) for count in (1, 2, 4, 7, 64)] == [1, 1, 2, 3, 8]
    for columns in (2, 3, 4, 5, 7):
        left = left_to_the_sweep(24 * columns, 12 * columns)
        rows = [left[start : start + columns] for start in range(0, len(left), columns)]
        shares = [sum(column) / 24 for column in zip(*rows, strict=True)]
        assert all(0.25 <= share <= 0.75 for share in shares), (columns, shares)
        assert sum(left) == 12 * columns


def test_parts_are_all_of_it() -> None:
    items: list[Any] = [object() for _ in range(10)]
    parts = [part_of(items, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(map(id, items)) == sorted(id(item) for own, _ in parts for item in own)
    assert all(len(own) + len(others) == 10 for own, others in parts)
