"""How a reading is shown: a rich table, text, a data frame."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steprule.errors import StepruleError
from steprule.monitor.statistics import QUANTISATION, Row

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["frame", "table", "text"]

_HEADINGS = {
    "gradient_norm": "gradient norm",
    "update_ratio": "update / weight",
    "update_rms": "update RMS",
    "signal_to_noise": "signal / noise",
    "epsilon_share": "epsilon",
    "frozen_share": "frozen",
    "zero_share": "zero",
    "idle_share": "idle",
    "nonfinite": "not finite",
    "step_q50": "median step",
}
_WIDTH = 160


def table(rows: Sequence[Row]) -> Table:
    """Return a table of the rows of one reading; columns that have nothing to tell are left out."""
    from rich.table import Table

    if not rows:
        return Table("nothing was read yet")
    steps = sorted({row["step"] for row in rows})
    span = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    made = Table(title=f"step {span}")
    made.add_column("parameter")
    errors = {key: f"error of {key.removeprefix(QUANTISATION)}" for row in rows for key in row if QUANTISATION in key}
    columns = {**_HEADINGS, **errors}
    shown = [key for key in columns if any(row.get(key) is not None for row in rows)]
    for key in shown:
        made.add_column(columns[key], justify="right")
    for row in rows:
        made.add_row(row["name"], *(_cell(key, row.get(key)) for key in shown))
    return made


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if key == "nonfinite":
        return f"{value:,}"
    return f"{value:.1%}" if key.endswith("_share") or key.startswith(QUANTISATION) else f"{value:.3g}"


def text(rows: Sequence[Row]) -> str:
    """Return the table as text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(table(rows))
    return captured.get().rstrip("\n")


def frame(rows: Sequence[Row]) -> Any:
    """Return the rows as a pandas.DataFrame.

    Raises:
        StepruleError: without pandas.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise StepruleError(
            "frame() makes a pandas.DataFrame, and pandas is not installed; install it (pip install pandas), "
            "or use rows, a list of dicts"
        ) from None
    return pandas.DataFrame(rows)
