"""The gradients of a step of NumPy arrays: checked, given to a launch, and examined where guards ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from steprule.doors.layout import Array
from steprule.doors.leaf import Leaf
from steprule.doors.remedies import is_number, of_gradient, of_gradient_type
from steprule.errors import StructureError
from steprule.launch.aliasing import Aliasing
from steprule.launch.backend import Backend
from steprule.launch.evaluate import Evaluated
from steprule.launch.guards import Guards, NonFinite, scaled_squares
from steprule.launch.launch import Launch
from steprule.launch.memory import Memory, array_memory, same_strides
from steprule.launch.row import Row, ScalarGroup, Shard
from steprule.runtime import own_team
from steprule.runtime.addresses import address
from steprule.runtime.arrays import ArrayCheck
from steprule.runtime.commit import Commit

__all__ = ["ArrayGradients", "LaunchLayout"]


class LaunchLayout:
    """Lays the leaves out for a launch, anew whenever gradients have other strides than before.

    Args:
        leaves: the parameters.
        groups: the scalars of each group, by the id of its values.
        backend: what steps them.
        guards: what decides about steps.
        commit: what is counted of a step, written when it has been taken.
        tell: writes into the commit what there is of each group; None where nothing is.
    """

    def __init__(
        self,
        leaves: Sequence[Leaf],
        groups: Mapping[int, ScalarGroup],
        backend: Backend,
        guards: Guards,
        commit: Commit,
        tell: Callable[[Sequence[Evaluated]], None] | None,
    ) -> None:
        self._tell = tell
        self._leaves, self._groups, self._backend, self._guards, self._commit = leaves, groups, backend, guards, commit
        self._check = ArrayCheck([leaf.array for leaf in leaves], [leaf.base for leaf in leaves])
        self._strided: set[int] | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a launch holds addresses of arrays and cannot be copied; make a new one")

    def check(self, grads: list[Any]) -> tuple[list[Array], set[int]]:
        """Return the gradients as plain arrays, and which of them have other strides than their parameter.

        Args:
            grads: all there are; the plain arrays take their places.

        Raises:
            StructureError: when one is not an array of its parameter's shape and type, or a parameter has
                become read-only.
        """
        strided: set[int] = set()
        for place in self._check.odd(grads):
            leaf = self._leaves[place]
            if not leaf.base.flags.writeable:
                raise StructureError(
                    f"{leaf.place} has become read-only; nothing was stepped. Set {leaf.place}.flags.writeable = True"
                )
            grads[place] = _check_gradient(grads[place], leaf)
            self._check.found[place] = address(grads[place])
            if not same_strides(grads[place], leaf.array):
                strided.add(place)
        return grads, strided

    def launch(self, grads: Sequence[Array], strided: set[int]) -> tuple[Launch, Sequence[Array]]:
        """Return the launch for gradients that have passed ``check``, and those to step with.

        A gradient that lies in the memory of a parameter or slot is copied: the step of one leaf would
        change the gradient of another. What can fail, fails here.
        """
        if strided != self._strided:
            self._lay_out(grads, strided)
        aliased = self._set_gradients(grads)
        if not aliased:
            return self._launch, grads
        copies, strided = self.check([grad.copy(order="K") if i in aliased else grad for i, grad in enumerate(grads)])
        return self.launch(copies, strided)  # copies lie in nobody's memory: this goes one level deep

    def _lay_out(self, grads: Sequence[Array], strided: set[int]) -> None:
        self._strided = None  # until all is made: what follows may be interrupted
        rows = [self._row(leaf, grad) for leaf, grad in zip(self._leaves, grads, strict=True)]
        self._others = [place for place, row in enumerate(rows) if not row.is_direct]
        self._aliasing, self._seen = Aliasing(rows), b""
        groups = list(self._groups.values())
        self._launch = Launch(rows, groups, self._guards, self._commit, self._tell, own_team)
        self._strided = strided

    def _row(self, leaf: Leaf, grad: Array) -> Row:
        memories = [array_memory(leaf.array), _gradient_memory(grad), *map(array_memory, leaf.state)]
        group, dtype, shape = self._groups[id(leaf.group)], str(leaf.array.dtype), leaf.array.shape
        shard = Shard(leaf.group.first_row)
        return Row(leaf.number, group, self._backend, leaf.storage, memories, dtype, shape, shard)

    def _set_gradients(self, grads: Sequence[Array]) -> set[int]:
        """Note where the gradients lie now. Return those that must be copied."""
        found = self._check.found
        seen = found.tobytes()
        if seen == self._seen and not self._others:
            return set()
        rows = self._launch.rows
        for place in self._others:
            rows[place].memories[1] = _gradient_memory(grads[place])
        aliased = self._aliasing.find(found)
        if not aliased:
            self._seen = b""  # neither the old nor the new while they are written
            self._launch.set_gradients(found)
            self._seen = seen
        return aliased


class ArrayGradients:
    """The gradients of a step, as ``Guards.decide`` looks at them.

    Args:
        leaves: the parameters.
        grads: their gradients.
        size: ``clip_value``.
    """

    def __init__(self, leaves: Sequence[Leaf], grads: Sequence[Array], size: float | None) -> None:
        self._leaves, self._grads, self._size = leaves, grads, size

    def nonfinite(self) -> list[NonFinite]:
        """Return the gradients that have elements that are not finite."""
        counts = [(grad.size - int(np.count_nonzero(np.isfinite(grad))), grad.size) for grad in self._grads]
        named = zip([leaf.place for leaf in self._leaves], counts, strict=True)
        return [NonFinite(name, count, size) for name, (count, size) in named if count]

    def squares(self) -> float:
        """Return the sum of squares of all gradients, as they are clipped by their values, times ``SQUARE_SCALE``."""
        size = self._size
        return scaled_squares([grad if size is None else np.clip(grad, -size, size) for grad in self._grads])


def _gradient_memory(grad: Array) -> Memory:
    """Return where a gradient lies, without keeping it alive: its memory is not ours."""
    return array_memory(grad).at(address(grad))


def _check_gradient(grad: object, leaf: Leaf) -> Array:
    place = leaf.place.replace("params", "grads", 1)
    if not leaf.array.ndim and (isinstance(grad, np.generic) or is_number(grad)):
        # NumPy's own arithmetic makes scalars of arrays without axes; Python's numbers have no type of their own.
        grad = np.asarray(grad, None if isinstance(grad, np.generic) else leaf.array.dtype)
    if not isinstance(grad, np.ndarray):
        kind = "None" if grad is None else f"a {type(grad).__name__}"
        raise StructureError(
            f"{place} is {kind}, expected a NumPy array of shape {leaf.array.shape}; nothing was stepped. "
            f"{of_gradient(grad, place, leaf.array)}"
        )
    if isinstance(grad, np.ma.MaskedArray):
        raise StructureError(
            f"{place} is a masked array; nothing was stepped. Say what masked elements are: {place}.filled(0)"
        )
    if grad.dtype != leaf.array.dtype:
        raise StructureError(
            f"{place} has type {grad.dtype}, but the parameter has type {leaf.array.dtype}; nothing was stepped. "
            f"{of_gradient_type(grad, place, leaf.array)}"
        )
    if grad.shape != leaf.array.shape:
        remedy = f": {place}.reshape({leaf.array.shape})" if grad.size == leaf.array.size else ""
        raise StructureError(
            f"{place} has shape {grad.shape}, but the parameter has shape {leaf.array.shape}; nothing was stepped. "
            f"A gradient has one number for every number of its parameter{remedy}"
        )
    return grad.view(np.ndarray)
