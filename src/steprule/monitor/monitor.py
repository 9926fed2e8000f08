"""The monitor: which steps of an optimizer are read, what is kept of them, and who is told."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Never

from steprule.errors import HyperparameterError, suggest
from steprule.launch.guards import Guards
from steprule.launch.readings import Reading
from steprule.monitor import show
from steprule.monitor.diagnosis import Diagnoses
from steprule.monitor.illnesses import WINDOW
from steprule.monitor.judge import diagnose, look_back
from steprule.monitor.statistics import Row, Statistics
from steprule.monitor.unread import Mark, Skips, absent, skipping
from steprule.monitor.writers import writers

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Monitor"]


class Monitor:
    """Measures what an optimizer's steps do, in the same pass that takes them.

    Steps 1, ``every``, 2 ``every``, ... are read, counted from the creation of the monitor; steps that guards skip are
    not counted. A step that is read gives the same bits as one that is not.

    Args:
        optimizer: a ``steprule.Optimizer``, or one of ``steprule.torch``. The monitor attaches itself and does not
            keep it alive.
        every: how often a step is read. Default 50.
        to: callables that receive each row, a dict; or objects with ``add_scalar``, such as TensorBoard's
            ``SummaryWriter``. An error that they raise is raised by ``step``, after the step has been taken.
        keep: how many readings ``rows`` and ``frame`` hold. Default 1000.

    Example:
        >>> import numpy as np, steprule as sr
        >>> opt = sr.Optimizer(np.ones(3), rule="adam", lr=0.1)
        >>> monitor = sr.Monitor(opt, every=10)
        >>> opt.step(np.ones(3))
        >>> round(monitor.latest[0]["update_ratio"], 3)
        0.1
        >>> print(monitor.diagnose())
        nothing found

    Raises:
        HyperparameterError: for options out of range.
        TypeError: for an optimizer of another library, or an unknown argument.
        RuntimeError: when the optimizer already has a monitor, or steps in the backward pass.
    """

    def __init__(self, optimizer: Any, every: int = 50, *, to: Any = (), keep: int = 1000, **unknown: Never) -> None:
        for name in unknown:
            raise TypeError(f"Monitor has no argument {name!r}.{suggest(name, ('every', 'to', 'keep'))}")
        self.every, kept = _count("every", every), _count("keep", keep)
        self._writers = writers(to)
        self._seen = 0
        self._history: deque[Statistics] = deque(maxlen=kept)
        self._window: deque[Sequence[Reading]] = deque(maxlen=WINDOW)
        self._peaks: dict[str, float] = {}
        _check(optimizer)
        self._optimizer = weakref.ref(optimizer)
        self._guards: Guards = optimizer.guards
        self._start = Mark(0, optimizer.skipped)
        self._marks: deque[Mark] = deque(maxlen=WINDOW)
        optimizer._monitor = self

    def is_due(self) -> bool:
        """Whether the next step is to be read."""
        number = self._seen + 1
        return number == 1 or number % self.every == 0

    def take(self, readings: Sequence[Reading] | None) -> None:
        """Take what a step did; the optimizer calls this after every step that was taken."""
        was_due = self.is_due()
        self._seen += 1
        if was_due:
            self._mark()
        if not readings:
            return
        taken = Statistics.of(readings)
        self._history.append(taken)
        self._window.append(readings)
        for reading in readings:
            lr = reading.hyperparameters.get("lr") or 0.0
            self._peaks[reading.name] = max(lr, self._peaks.get(reading.name, lr))
        if self._writers:
            for row in taken.rows():
                for write in self._writers:
                    write(row)

    def _mark(self) -> None:
        """Note what no reading tells. That a parameter is frozen, and was when the monitor came, is no news."""
        optimizer: Any = self._optimizer()  # it is taking a step
        found = optimizer._without_gradient() if hasattr(optimizer, "_without_gradient") else []
        names = frozenset(name for name, may_have in found if may_have or name in self._peaks)
        # As far as a device has told: to ask would wait for it.
        self._marks.append(Mark(self._seen, self._guards.skipped, names))

    @property
    def rows(self) -> list[Row]:
        """All that was read, a dict for each parameter and reading; docs/monitor.md says what the keys mean."""
        return [row for taken in self._history for row in taken.rows()]

    @property
    def latest(self) -> list[Row]:
        """The rows of the last reading."""
        return self._history[-1].rows() if self._history else []

    def frame(self) -> Any:
        """Return ``rows`` as a pandas.DataFrame.

        Raises:
            StepruleError: without pandas.
        """
        return show.frame(self.rows)

    def table(self) -> Table:
        """Return the last reading as a rich Table."""
        return show.table(self.latest)

    def diagnose(self) -> Diagnoses:
        """Return what is wrong with the run, judged by the last readings; printed, it says so in words."""
        found = diagnose(look_back(self._window, self._peaks, self._guards.update_clip))
        found += absent(self._marks)
        found += skipping(self._skips())
        found.is_read = bool(self._window)
        return found

    def _skips(self) -> Skips:
        """Return the steps since the first of the last readings, or since the monitor came."""
        since = self._marks[0] if len(self._marks) == WINDOW else self._start
        optimizer = self._optimizer()
        total = self._guards.skipped if optimizer is None else optimizer.skipped  # which asks a device that counts
        is_told = getattr(optimizer, "_decision", None) is None
        taken = self._seen - since.taken if is_told else None
        return Skips(max(total - since.skipped, 0), taken, self._guards.in_a_row)

    def close(self) -> None:
        """Detach from the optimizer. What was read stays."""
        optimizer = self._optimizer()
        if optimizer is not None and optimizer._monitor is self:
            optimizer._monitor = None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        return show.text(self.latest)

    def __repr__(self) -> str:
        return f"Monitor(every={self.every}, {len(self._history)} readings)"


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise HyperparameterError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def _check(optimizer: Any) -> None:
    """Refuse what cannot be read.

    Raises:
        TypeError, RuntimeError: saying why.
    """
    if isinstance(optimizer, type) or not hasattr(type(optimizer), "_monitor"):
        kind = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise TypeError(
            f"Monitor reads a steprule.Optimizer or an optimizer of steprule.torch, got {kind.__module__}."
            f"{kind.__qualname__}; of a wrapper pass the optimizer inside"
        )
    if optimizer._monitor is not None:
        raise RuntimeError(
            "this optimizer has a monitor already; close() it first, or give it a further callable in to="
        )
    if getattr(optimizer, "_released", None) is not None:
        raise RuntimeError("a Monitor reads whole steps, and step_in_backward has none; remove() its handle first")
