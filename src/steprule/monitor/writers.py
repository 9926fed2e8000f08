"""Where rows go while a run goes on: to callables, and to TensorBoard's ``SummaryWriter``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from steprule.errors import HyperparameterError
from steprule.monitor.statistics import Row

__all__ = ["writers"]

_TAG = "steprule"


def writers(to: Any) -> list[Callable[[Row], object]]:
    """Return what takes each row.

    Args:
        to: callables and objects with ``add_scalar``, or one of them.

    Raises:
        HyperparameterError: for anything else.
    """
    given = to if isinstance(to, Sequence) else [to]
    return [_writer(one) for one in given]


def _writer(one: Any) -> Callable[[Row], object]:
    if hasattr(one, "add_scalar"):
        return lambda row: _add_scalars(one, row)
    if callable(one):
        call: Callable[[Row], object] = one
        return call
    raise HyperparameterError(
        f"to must be callables or objects with add_scalar (TensorBoard's SummaryWriter), got {one!r}"
    )


def _add_scalars(writer: Any, row: Row) -> None:
    for key, value in row.items():
        if key not in ("step", "name") and value is not None:
            writer.add_scalar(f"{_TAG}/{row['name']}/{key}", value, global_step=row["step"])
