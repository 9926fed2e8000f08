"""Which of many combinations the plain run takes, and which it leaves to the long sweep.

A rule more in the catalogue multiplies every product that it stands in. What belongs to the product and not to one rule
shows in any rule: so each rule meets some of the other values in the plain run, and its neighbours the rest of them.
The long sweep takes all others, but of the largest products (each rule in each of some thirty storages) a part, in
which each rule meets many values, and each value many rules.

Of what is left, a run that names no tests takes a few of the cases of each function that has many, and the long sweep
the others (`tests/thinning.py`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import pytest

from tests.cases import CASES


def swept(values: Iterable[Any], plain: Container[Any]) -> list[Any]:
    """Return values for ``parametrize``, of which all but the plain ones are for the long sweep."""
    return [value if value in plain else pytest.param(value, marks=pytest.mark.slow) for value in values]


def crossed(rows: Sequence[Any], columns: Sequence[Any], every: int = 3) -> list[tuple[Any, Any]]:
    """Return pairs: each row with one in ``every`` columns, and so each column with one in as many rows."""
    return [(row, one) for i, row in enumerate(rows) for k, one in enumerate(columns) if (i + k) % every == 0]


def rotated(
    rows: Iterable[Any], columns: Sequence[Any], whole: Container[Any] = (), plain: Container[Any] | None = None
) -> list[Any]:
    """Return all pairs for ``parametrize``, of which all but one of each row are for the long sweep.

    Neighbouring rows meet neighbouring columns in the plain run, and those that are to be whole meet all of them. Where
    it is said which rows are ``plain``, all others are for the long sweep.
    """
    found, place = [], 0
    for row in rows:
        is_plain = plain is None or row in plain
        for k, column in enumerate(columns):
            meets = is_plain and (row in whole or place % len(columns) == k)
            found.append(pytest.param(row, column, marks=[] if meets else pytest.mark.slow))
        place += is_plain
    return found


def _some() -> list[tuple[str, dict[str, Any]]]:
    """Return cases that have each value of each option of a rule between them, and the first case of each rule."""
    seen: set[tuple[str, str, Any]] = set()
    found = []
    for name, options in CASES:
        values = {(name, option, value) for option, value in {**options, "": None}.items()}
        if not values <= seen:
            seen |= values
            found.append((name, options))
    return found


SOME_CASES = _some()
FIRST_CASES = [(name, options) for k, (name, options) in enumerate(CASES) if k == 0 or CASES[k - 1][0] != name]
"""The first case of each rule."""
