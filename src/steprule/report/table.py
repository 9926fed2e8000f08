"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["markdown_table"]


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table, a line a row, without a newline at its end.

    Args:
        headings: of the columns.
        rows: of texts, as many as there are headings.
        numbers: whether all columns but the first are numbers, which stand at the right.
    """
    dashes = ["---", *["---:" if numbers else "---"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, dashes, *rows))
