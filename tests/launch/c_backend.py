"""A backend of another kind, to show what one needs: the emitted C, compiled by the C compiler, loaded by ctypes.

It knows a launch only by the protocol of ``steprule.launch.backend``.
"""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.backends import c
from steprule.compile import Plan
from steprule.formats import rows_of
from steprule.language.node import symbol
from steprule.launch.backend import Bound
from steprule.runtime import Team

FLAGS = ("-std=c99", "-O1", "-ffp-contract=off", "-shared", "-fPIC")


class CBackend:
    """C, by whatever compiler there is."""

    name = "c"

    def load(self, plan: Plan) -> Any:
        """Return the emitted function of one pass, which takes the row of scalars for its hyperparameters."""
        prelude = plan.prelude
        row = tuple(f"row{number}" for number in range(len(prelude.conditions)))
        results = tuple(symbol(name, "host") for name in row)
        own = dataclasses.replace(prelude, arguments=row, scalar_slots=(), results=results)
        text = c.emit(dataclasses.replace(plan, prelude=own, before=()), "kernel")
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
            source.write_text(text)
            subprocess.run(["gcc", *FLAGS, "-o", library, source, "-lm"], check=True)
            return ctypes.CDLL(str(library)).kernel

    def table(self, items: Sequence[Bound], commit: object) -> CTable:
        """Return the rows of one pass."""
        return CTable(items)


class CTable:
    """Rows that are stepped one after the other; those that are not direct as copies in C order."""

    is_one_call = False
    is_done = False

    def __init__(self, items: Sequence[Bound]) -> None:
        self._items = items
        self._sums = [np.full(len(item.kernel.plan.sums), np.nan) for item in items]
        self._calls: list[list[Any]] = []
        self._kept: list[list[NDArray[Any]]] = []
        self._moved: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def set_gradients(self, gradients: NDArray[np.int64]) -> None:
        """Let the gradients of direct rows lie at these addresses."""
        for item, at in zip(self._items, gradients.tolist(), strict=True):
            if item.row.is_direct:
                item.row.memories[1] = item.row.memories[1].at(at)

    def prepare(self, team: Team) -> None:
        """Make copies, and lay out the arguments of every call."""
        self._moved, self._calls, self._kept = [], [], []
        for item, sums in zip(self._items, self._sums, strict=True):
            arrays = [memory.array() for memory in item.row.memories]
            if not item.row.is_direct:
                copies = [np.array(array, order="C") for array in arrays]
                stored = {store.plane for store in item.kernel.plan.stores}
                self._moved += [(arrays[place], copies[place]) for place in sorted(stored)]
                arrays = copies
                self._kept.append(copies)
            self._calls.append(_arguments(item, arrays, sums))

    def run(self) -> None:
        """Call the functions, and put copies in place."""
        for item, arguments in zip(self._items, self._calls, strict=True):
            item.kernel.code(*arguments)
        for home, copy in self._moved:
            home[...] = copy

    def sums(self) -> list[list[float]]:
        """Return the sums of each row."""
        return [own.tolist() for own in self._sums]


def _arguments(item: Bound, arrays: Sequence[NDArray[Any]], sums: NDArray[np.float64]) -> list[Any]:
    """Return what the emitted function takes."""
    row, kernel, scalars, _ = item
    plan, (rows, length, _) = kernel.plan, rows_of(arrays[0].shape)
    sizes = [rows, length] if plan.has_groups else [arrays[0].size]
    found: list[Any] = [ctypes.c_size_t(size) for size in sizes]
    found += [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    found += [ctypes.c_void_p(sums.ctypes.data)] if plan.sums else []
    found += [ctypes.c_uint64(row.group.values.seed or 0), ctypes.c_uint64(row.place)] if plan.inputs else []
    found += [ctypes.c_double(number) for number in scalars[: len(plan.prelude.conditions)].tolist()]
    return [*found, ctypes.c_double(row.group.t)] if plan.inputs else found
