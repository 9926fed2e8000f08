"""The evaluated point of arrays: switching between it and the point that is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf
from steprule.doors.stepping import Stepping
from steprule.errors import StateError, StructureError
from steprule.launch.evaluation import Evaluation, put_back
from steprule.launch.memory import Memory, array_memory
from steprule.launch.row import Row, ScalarGroup, Shard
from steprule.runtime import own_team
from steprule.runtime.interrupts import uninterrupted

__all__ = ["REMEDY", "Evaluating"]

REMEDY = "steprule.averaged(rule), steprule.lookahead(rule) and steprule.schedule_free(rule) have one"
"""What rules have an evaluated point."""


class Evaluating(Stepping):
    """The evaluated point of ``Optimizer``. While it is in place, ``_trained`` has what the parameters were."""

    __slots__ = ()

    @property
    def is_training(self) -> bool:
        """Whether the parameters are those that are trained, and not the evaluated point."""
        return self._trained is None

    def eval(self) -> None:
        """Let the parameters be the evaluated point, in place: evaluate, save and export the model then.

        What is trained is kept beside them, bit by bit, in as much memory as the parameters, until ``train`` puts it
        back. Called again it does nothing. ``docs/evaluated.md`` says what the point of each rule is.

        Raises:
            StateError: when the rule has no evaluated point, or a step is under way.
            StructureError: when a parameter has become read-only.
        """
        self._refuse_reentry("eval()")
        self._check_point("eval()")
        if self._trained is not None:
            return
        leaves = self._leaves
        _check_writeable(leaves, "eval()")
        saved = [leaf.room() for leaf in leaves]

        def done() -> None:
            self._trained = saved

        for leaf, own in zip(leaves, saved, strict=True):
            if not (self.t and _is_switched(leaf)):  # before the first step the point is the parameter
                for plane, copy in zip([leaf.array, *leaf.beside], own, strict=True):
                    copy[...] = plane
        if self.t:
            self._evaluation([(leaf.array, leaf.beside) for leaf in leaves], saved).enter(done)
        else:
            done()

    def train(self) -> None:
        """Let the parameters be what is trained again, to the last bit, whatever was done to them since ``eval``.

        Called while training it does nothing.

        Raises:
            StateError: when a step is under way.
            StructureError: when a parameter has become read-only.
        """
        self._refuse_reentry("train()")
        saved = self._trained
        if saved is None:
            return
        _check_writeable(self._leaves, "train()")

        def done() -> None:
            self._trained = None

        pairs = [
            (array_memory(plane), array_memory(copy))
            for leaf, own in zip(self._leaves, saved, strict=True)
            if own  # none of what is not switched, in states of other doors
            for plane, copy in zip([leaf.array, *leaf.beside], own, strict=True)
        ]
        put_back(pairs, done)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Let the parameters be the evaluated point within a ``with`` block, and then what they were before it.

        Raises:
            StateError: as ``eval`` does.
        """
        was_training = self.is_training
        self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()

    @property
    def evaluated(self) -> Any:
        """A copy of the parameters at the evaluated point, in the structure they were given, in either mode.

        Of a rule without an evaluated point a copy of the parameters, which is where it is evaluated.
        """
        with uninterrupted():
            return self._structure.rebuild(self._evaluated_arrays())

    def _evaluated_arrays(self) -> list[Array]:
        leaves = self._leaves
        copies = [leaf.array.copy(order="K") for leaf in leaves]
        if not self._has_point or self._trained is not None or not self.t:
            return copies
        beside = [[plane.copy() for plane in leaf.beside] for leaf in leaves]
        planes = list(zip(copies, beside, strict=True))
        self._evaluation(planes, [leaf.room() for leaf in leaves]).enter(lambda: None)
        return copies

    def _evaluation(self, planes: Sequence[tuple[Array, list[Array]]], saved: Sequence[list[Array]]) -> Evaluation:
        """Return the pass that makes these planes of the parameters the evaluated point, where their rule has one."""
        t = max(self.t, 1)
        groups = {
            id(own.values): ScalarGroup(
                own.values, own.values.scalars, t, own.values.scheduled(t, "evaluate"), numbers=own.numbers
            )
            for own in self._scalars
            if own.values.rule.evaluated is not None
        }
        rows = [
            self._row(leaf, groups[id(leaf.group)], *own, kept)
            for leaf, own, kept in zip(self._leaves, planes, saved, strict=True)
            if _is_switched(leaf)
        ]
        return Evaluation(rows, list(groups.values()), own_team)

    def _row(self, leaf: Leaf, group: ScalarGroup, array: Array, beside: list[Array], saved: list[Array]) -> Row:
        own = array_memory(array)
        behind = [*beside, *leaf.state[len(beside) :], *saved]
        memories: list[Memory] = [own, own, *map(array_memory, behind)]
        shape, shard = leaf.array.shape, Shard(leaf.group.first_row)
        return Row(leaf.number, group, self._backend, leaf.storage, memories, str(array.dtype), shape, shard)

    @property
    def _has_point(self) -> bool:
        """Whether a rule has an evaluated point: parameters of the others stay where they are."""
        return any(group.rule.evaluated is not None for group in self.groups)

    def _check_point(self, what: str) -> None:
        if not self._has_point:
            raise StateError(
                f"{what}: rule {self.rule.name!r} is evaluated where it is trained, so there is nothing to switch. "
                f"{REMEDY}; or leave the call out"
            )

    def _refuse_evaluated(self) -> None:
        """Refuse a step from the evaluated point.

        Raises:
            StateError: where the parameters are the evaluated point.
        """
        if self._trained is not None:
            raise StateError(
                "step() was called while the parameters are the evaluated point; nothing was changed. Call train() "
                "first"
            )


def _is_switched(leaf: Leaf) -> bool:
    return leaf.group.rule.evaluated is not None


def _check_writeable(leaves: Sequence[Leaf], what: str) -> None:
    """Refuse parameters that have become read-only.

    Raises:
        StructureError: naming the first.
    """
    for leaf in leaves:
        if not leaf.base.flags.writeable:
            raise StructureError(
                f"{what}: {leaf.place} has become read-only; nothing was changed. "
                f"Set {leaf.place}.flags.writeable = True"
            )
