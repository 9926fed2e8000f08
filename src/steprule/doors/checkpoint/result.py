"""What ``steprule.load`` returns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from steprule.checkpoint import Stored
from steprule.doors.checkpoint.content import Content
from steprule.doors.layout import Array
from steprule.doors.resume import State

__all__ = ["Checkpoint"]


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: where it was read.
        made_by: the optimizer's class.
        rule: what it steps by.
        t: the steps taken; None if parameters differ, or are not counted.
        groups: the hyperparameters of each group, by the rule's names; ``{"schedule": True}`` for a schedule.
        names: of the parameters; their places where they have none.
        shapes, dtypes: of the parameters.
        formats: how each parameter's values are kept, by parameter and slot.
        slots: the arrays that are kept for each parameter, as they are: codes and scales where slots have fewer
            bits, uint16 for bfloat16.
        params: the parameters stored, by name; uint16 for bfloat16.
        extra: what else was stored.
        state: of a run of ``minimize``, for its ``state=``; None where an optimizer was saved.
    """

    path: Path
    made_by: str
    rule: str
    t: int | None
    groups: list[dict[str, Any]]
    names: list[str]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    formats: dict[str, dict[str, str]]
    slots: dict[str, dict[str, Array]]
    params: dict[str, Array]
    extra: dict[str, Any]
    state: State | None = None

    @classmethod
    def of(cls, path: Path, content: Content, state: State | None) -> Checkpoint:
        """Return what the content of a file shows."""
        saved = content.state
        own = dict(zip(saved.labels, saved.parameters, strict=True))
        return cls(
            path,
            saved.made_by,
            saved.rule,
            saved.t if state is None else state.optimizer["t"],
            [dict(group.hyperparameters) for group in saved.groups],
            saved.labels,
            {name: one.shape for name, one in own.items()},
            {name: one.dtype for name, one in own.items()},
            {name: dict(one.formats) for name, one in own.items()},
            {name: one.arrays for name, one in own.items()},
            {name: one.array() for name, one in content.params.items()},
            {name: value.array() if isinstance(value, Stored) else value for name, value in content.extra.items()},
            state,
        )

    def __repr__(self) -> str:
        if self.state is not None:
            return f"Checkpoint({self.state!r}{', extra' if self.extra else ''})"
        size = sum(array.nbytes for planes in self.slots.values() for array in planes.values())
        also = "".join(f", {name}" for name in ("params", "extra") if getattr(self, name))
        return f"Checkpoint({self.rule}, {len(self.names)} parameters, t={self.t}, {size:,} bytes of state{also})"

    def describe(self) -> str:
        """Return a table: what each parameter is, how its slots are kept, and their bytes."""
        if self.state is not None:
            return f"{self.made_by}, rule {self.rule}, t={self.t}, {self.state.x.size:,} elements"
        rows = [("parameter", "shape", "type", "slots", "bytes")]
        for name in self.names:
            shape = " x ".join(map(str, self.shapes[name])) or "one number"
            kept = ", ".join(f"{slot}: {codec}" for slot, codec in self.formats[name].items()) or "none"
            rows.append((name, shape, self.dtypes[name], kept, f"{self._bytes(name):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(word.ljust(n) for word, n in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = sum(prod(shape) for shape in self.shapes.values())
        return "\n".join([f"{self.made_by}, rule {self.rule}, t={self.t}, {total:,} elements", *lines])

    def _bytes(self, name: str) -> int:
        return sum(array.nbytes for array in self.slots[name].values())
