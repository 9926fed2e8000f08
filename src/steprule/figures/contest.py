"""Rules on a network, each at its best rate of a grid: how the papers compare them, and then on fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from steprule.figures.drawing import Line, Panel, draw_panels
from steprule.figures.figure import Figure, Part, Results, Table, part
from steprule.figures.samples import words_for
from steprule.race.problem import Array
from steprule.race.statistics import interval, p_values
from steprule.race.words import rate
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Contest", "Entry", "half_decades"]

_MOST = 3
"""How often a grid may grow where the best rate is at its edge."""


def half_decades(low: int, count: int) -> tuple[float, ...]:
    """Return rates from 10^low, each about three times the one before."""
    return tuple(float(f"{10 ** (low + half / 2):.1e}") for half in range(count))


@dataclass(frozen=True)
class Entry:
    """A rule of a contest.

    Attributes:
        label: its name in the figure.
        rule: of the catalogue.
        lrs: the grid, evenly on a log scale.
        hyperparameters: that differ from the defaults.
        schedule: of its rate, where that is not the contest's.
    """

    label: str
    rule: str
    lrs: tuple[float, ...]
    hyperparameters: tuple[tuple[str, Any], ...] = ()
    schedule: str | None = None


@dataclass
class Contest(Figure):
    """Rules that train the same network from the same starts on the same batches.

    Each rate of the grid is run on seed 0; the one with the lowest last loss is run again on fresh seeds, which alone
    are shown. Where the best rate is at the edge of the grid, this grows.

    Attributes:
        data: the samples.
        source_digest: of the files that they are in, if any.
    """

    data: str = "digits"
    source_digest: str = ""
    takes: ClassVar[str] = ""
    """The real set that it can be made of as well."""
    entries: ClassVar[Sequence[Entry]] = ()
    seeds: ClassVar[int] = 8
    work: ClassVar[str] = "training:train"
    """What trains."""
    setup: ClassVar[Mapping[str, Any]] = {}

    def _part(self, entry: Entry, lr: float, seed: int) -> Part:
        setup = {**self.setup, **({"schedule": entry.schedule} if entry.schedule else {})}
        return part(
            self.work, self.source_digest, data=self.data, rule=entry.rule, lr=lr, seed=seed,
            hyperparameters=entry.hyperparameters, **setup,
        )  # fmt: skip

    def parts(self, results: Results) -> list[Part]:
        """Return the grid of each rule, then its fresh seeds."""
        grid: list[Part] = []
        fresh: list[Part] = []
        for entry in self.entries:
            grid += [self._part(entry, lr, 0) for lr in self.grid(entry, results)]
            if (best := self.best(entry, results)) is not None:
                fresh += [self._part(entry, best, seed) for seed in range(1, self.seeds + 1)]
        return grid + fresh

    def grid(self, entry: Entry, results: Results) -> list[float]:
        """Return the rates that are tried, those beyond an edge included as soon as that is known."""
        lrs = list(entry.lrs)
        for _ in range(_MOST):
            losses = [self._tuning_loss(entry, lr, results) for lr in lrs]
            if None in losses:
                break
            best = int(np.argmin(np.array(losses, float)))
            if best == 0:
                lrs.insert(0, _beyond(lrs[1], lrs[0]))
            elif best == len(lrs) - 1:
                lrs.append(_beyond(lrs[-2], lrs[-1]))
            else:
                break
        return lrs

    def best(self, entry: Entry, results: Results) -> float | None:
        """Return the best rate, when it is known."""
        losses = {lr: self._tuning_loss(entry, lr, results) for lr in self.grid(entry, results)}
        if None in losses.values():
            return None
        return min(losses, key=lambda lr: float(losses[lr] or 0.0))

    def _tuning_loss(self, entry: Entry, lr: float, results: Results) -> float | None:
        done = self._part(entry, lr, 0)
        return _last(results[done]) if done in results else None

    def curves(self, entry: Entry, results: Results) -> Array:
        """Return the loss by epoch, a row a fresh seed; infinite where it diverged."""
        best = self.best(entry, results)
        assert best is not None
        runs = [results[self._part(entry, best, seed)]["batch"] for seed in range(1, self.seeds + 1)]
        epochs = self.setup["epochs"]
        return np.array([run if run is not None else [math.inf] * epochs for run in runs], float)

    def ends(self, entry: Entry, results: Results, quality: str = "batch") -> Array:
        """Return what the fresh seeds end with."""
        if quality == "batch":
            return np.asarray(self.curves(entry, results)[:, -1])
        best = self.best(entry, results)
        assert best is not None
        found = [results[self._part(entry, best, seed)][quality] for seed in range(1, self.seeds + 1)]
        return np.array([math.inf if one is None else one for one in found], float)

    def entry(self, label: str) -> Entry:
        """Return a rule by its name in the figure."""
        return next(one for one in self.entries if one.label == label)

    def compare(self, results: Results, quality: str = "batch") -> Compared:
        """Return the comparison of all rules by their fresh seeds."""
        losses = np.array([self.ends(entry, results, quality) for entry in self.entries])
        return Compared([entry.label for entry in self.entries], losses)

    @property
    def where(self) -> str:
        """Say what it is run on, and how."""
        return (
            f"On {words_for(self.data)}. Every rule starts from the same parameters and sees the same batches; each "
            f"rate of a half-decade grid is run on one seed, and the one with the lowest last loss again on "
            f"{self.seeds} fresh seeds, which alone are shown (median, and its 95 % interval)."
        )

    def table(self, results: Results) -> Table:
        """Return the loss of each rule, epoch by epoch."""
        rows = []
        for entry in self.entries:
            curves = self.curves(entry, results)
            low, high = interval(curves, axis=0)
            columns = zip(np.median(curves, axis=0), low, high, strict=True)
            lr = self.best(entry, results)
            rows += [[entry.label, lr, epoch, *numbers] for epoch, numbers in enumerate(columns, 1)]
        return Table(("rule", "lr", "epoch", "median_loss", "low", "high"), rows)

    def lines(self, results: Results) -> list[Line]:
        """Return the median of each rule with its interval."""
        lines = []
        for entry in self.entries:
            curves = self.curves(entry, results)
            low, high = interval(curves, axis=0)
            epochs = np.arange(1, curves.shape[1] + 1)
            middle = np.median(curves, axis=0)
            note = f"lr {rate(self.best(entry, results))}"
            lines.append(Line(entry.label, epochs, middle, low, high, note=note))
        return lines

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the losses over the epochs."""
        panel = Panel(self.lines(results), "epoch", "training loss", log="y")
        note = f"mean over the batches of an epoch · median of {self.seeds} fresh seeds, with its 95 % interval"
        return draw_panels(self.title, note, [panel], theme)


def _beyond(inner: float, edge: float) -> float:
    return float(f"{edge * edge / inner:.1e}")


def _last(result: Mapping[str, Any]) -> float:
    return math.inf if result["batch"] is None else float(result["batch"][-1])


@dataclass(frozen=True)
class Compared:
    """Final losses by rule, (rules, seeds), and which pairs can be told apart."""

    labels: Sequence[str]
    losses: Array

    def median(self, label: str) -> float:
        """Return the median of a rule."""
        return float(np.median(self.losses[self.labels.index(label)]))

    def p(self, first: str, second: str) -> float:
        """Return how surprising the difference is between equal rules: Wilcoxon's test, corrected for all pairs."""
        return float(self._p[self.labels.index(first), self.labels.index(second)])

    @cached_property
    def _p(self) -> Array:
        return p_values(self.losses)

    def below(self, first: str, second: str) -> bool:
        """Whether the first is told apart as the better one."""
        return self.median(first) < self.median(second) and self.p(first, second) < 0.05

    def near(self, first: str, second: str, share: float = 0.1) -> bool:
        """Whether the medians are within a share of the larger one."""
        one, other = self.median(first), self.median(second)
        return abs(one - other) <= share * max(one, other)

    def said(self, first: str, second: str) -> str:
        """Say the two medians, and the p value."""
        one, other = self.median(first), self.median(second)
        return f"{first} {one:.3g}, {second} {other:.3g} (p = {self.p(first, second):.2g})"
