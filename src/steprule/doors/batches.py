"""The batches of a stochastic objective, pass by pass, and the mean of their losses."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from steprule.errors import StructureError

__all__ = ["Batches", "Losses", "Noise"]

_RECENT = 100


class Batches:
    """What ``data=`` gives.

    Args:
        data: an iterable that can be walked again and again (a list, an array, a loader), an iterator
            that is used up in one pass, or a callable that returns an iterable for every pass.

    Attributes:
        once: whether there is one pass only.
    """

    def __init__(self, data: Any) -> None:
        if isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping)):
            self._open: Callable[[], Any] = lambda: data
            self.once = isinstance(data, Iterator)
        elif callable(data):
            self._open, self.once = data, False
        else:
            raise StructureError(
                f"data must be an iterable of batches, or a callable that returns one, got a {type(data).__name__}; "
                "one batch alone: data=[batch]"
            )

    def open(self) -> Iterator[tuple[Any, ...]]:
        """Begin a pass, of tuples of the arguments that follow x."""
        made = self._open()
        if not isinstance(made, Iterable):
            hint = " (is a `return` missing?)" if made is None else "; one batch alone: return [batch]"
            raise StructureError(f"data() must return an iterable of batches, got a {type(made).__name__}{hint}")
        return zip(made)  # of one iterable: tuples of one batch


class Noise:
    """The one endless pass of an objective without batches.

    Attributes:
        once: there is one pass only; patience would never end.
    """

    once = True

    def open(self) -> Iterator[tuple[Any, ...]]:
        """Begin it."""
        return itertools.repeat(())


class Losses:
    """The losses of single batches, which are compared only as means over as many as a pass has.

    Args:
        once: whether there is one pass only; then the last 100 are kept.
    """

    def __init__(self, once: bool) -> None:
        self._once = once
        self._last: list[float] = []
        self._current = self._begin()

    def _begin(self, losses: Iterable[float] = ()) -> collections.deque[float]:
        return collections.deque(losses, maxlen=_RECENT if self._once else None)

    def snapshot(self) -> dict[str, list[float]]:
        """Return what ``restore`` takes."""
        return {"last": [*self._last], "current": [*self._current]}

    def restore(self, saved: Mapping[str, list[float]]) -> None:
        """Go on from the losses of another run."""
        self._last, self._current = [*saved["last"]], self._begin(saved["current"])

    def add(self, loss: float) -> None:
        """Note the loss of the next batch."""
        self._current.append(loss)

    def end_pass(self) -> float | None:
        """Return the mean over the pass that ends here; None when it had no batch."""
        self._last, self._current = [*self._current], self._begin()
        return sum(self._last) / len(self._last) if self._last else None

    def recent(self) -> float:
        """Return the mean over the last batches, as many as the last whole pass had.

        Before the first pass is over it is the mean of all so far; of data used once, of the last 100.
        nan when there was no batch.
        """
        known = [*self._last, *self._current]
        count = _RECENT if self._once else len(self._last) or len(known)
        part = known[-count:]
        return sum(part) / len(part) if part else float("nan")
