"""One parameter in one reading, as illnesses look at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod, sqrt

from steprule.formats import SLOT_FORMATS
from steprule.launch.readings import Reading
from steprule.monitor.statistics import QUANTISATION, Row

__all__ = ["Seen"]


@dataclass(frozen=True)
class Seen:
    """One parameter in one reading.

    Attributes:
        reading: the sums.
        row: the statistics.
        peak: the highest learning rate that it has had.
        before: the learning rate of the reading before, or this one's.
        is_whole: whether all of its elements are stepped: a sparse gradient touches other rows each time.
        clips: whether updates are clipped.
    """

    reading: Reading
    row: Row
    peak: float
    before: float
    is_whole: bool
    clips: bool

    @cached_property
    def size(self) -> int:
        """Its elements."""
        return prod(self.reading.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it has two dimensions or more: vectors start at zero or one, and their ratios say little."""
        return len(self.reading.shape) >= 2

    @property
    def full_step(self) -> float | None:
        """The learning rate over the root mean square of the weights."""
        norm, lr = self.row["weight_norm"], self.row["lr"]
        return lr * sqrt(self.size) / norm if lr is not None and norm else None

    @cached_property
    def decay(self) -> float | None:
        """What v decays by."""
        average, values = self.reading.averaging, self.reading.hyperparameters
        return None if average is None else average.decay(self.reading.t, values)

    @property
    def decay_name(self) -> str | None:
        """Which hyperparameter that is, if it is one."""
        average, decay = self.reading.averaging, self.decay
        return None if average is None or decay is None else average.name(decay, self.reading.hyperparameters)

    @cached_property
    def excess(self) -> float | None:
        """The update RMS over what steady gradients make of it, 1 unless v starts at zero and is not corrected.

        None for sparse gradients: of rows that are seldom touched v knows less than t says. And where updates are
        clipped, which is what one does about it.
        """
        rms, average, decay = self.row["update_rms"], self.reading.averaging, self.decay
        if rms is None or average is None or decay is None or self.clips or not self.is_whole:
            return None
        starts_whole = average.starts_whole(self.reading.hyperparameters)
        return float(rms if starts_whole else rms * sqrt(1 - decay**self.reading.t))

    @property
    def live_epsilon(self) -> float | None:
        """The share of elements that epsilon rules, of those that have had a gradient of late."""
        sums = self.reading.sums
        live = self.size - sums.get("idle", 0.0)
        return min(sums["epsilon"] / live, 1.0) if live and "epsilon" in sums else None

    @property
    def worst_slot(self) -> tuple[str, float] | None:
        """The low-precision slot with the largest relative error for its format, by its key in the row."""
        errors = {key: value for key, value in self.row.items() if key.startswith(QUANTISATION)}
        known = {key: value for key, value in errors.items() if value is not None and isfinite(value)}
        return max(known.items(), key=lambda item: item[1] / self.limit(item[0])) if known else None

    def limit(self, key: str) -> float:
        """Return the relative error from which on a slot does not fit its format."""
        return SLOT_FORMATS[self.reading.formats[key.removeprefix(QUANTISATION)]].error
