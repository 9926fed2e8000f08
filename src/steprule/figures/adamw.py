"""Loshchilov & Hutter 2019, arXiv:1711.05101: weight decay in the gradient, and decoupled from it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from steprule.figures.contest import Compared, half_decades
from steprule.figures.drawing import Heat, draw_bars, draw_heats
from steprule.figures.figure import Figure, Judgement, Part, Results, Table, part
from steprule.figures.samples import words_for
from steprule.race.problem import Array
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["AdamMaps", "Schedules", "SgdMaps", "lean"]

_SEEDS = (0, 1)
_DATA = "digits-300"
_NETWORK: Mapping[str, Any] = {"epochs": 60, "hidden": (32,)}
_DECAYS, _TIMES_RATE = half_decades(-4, 7), half_decades(-2, 6)
_WIDTH = 0.1
"""A setting whose loss is so much above the best, as a share of it, counts 1 / e of the best."""
_WORST = float(np.log(10))
_LEANING = 0.5


def lean(losses: Array) -> float:
    """Return how the basin of a map leans: the correlation of row and column, each cell weighed by how good it is.

    A loss of (1 + d) times the best weighs exp(-d / 0.1). In a basin along row x column = constant it is near -1,
    where rows and columns can be chosen apart it is near 0.

    Args:
        losses: (rows, columns).
    """
    weights = np.exp(-(losses / losses.min() - 1) / _WIDTH)
    rows, columns = np.indices(losses.shape, dtype=float)
    rows, columns = (one - np.average(one, weights=weights) for one in (rows, columns))
    products = np.sum(weights * rows * columns), np.sum(weights * rows**2), np.sum(weights * columns**2)
    return float(products[0] / np.sqrt(products[1] * products[2])) if products[1] * products[2] else 0.0


@dataclass(frozen=True)
class _Map:
    """A map of losses over rates and decays.

    Attributes:
        name: above it.
        rule: that is run.
        decays: of its grid.
        per_step: whether a decay is what is taken off a parameter at a step, so that the rule's own, which is
            multiplied by the rate, is divided by it before.
    """

    name: str
    rule: str
    decays: tuple[float, ...]
    per_step: bool = False

    def part(self, decay: float, lr: float, seed: int, schedule: str = "cosine") -> Part:
        """Return a training run."""
        more = {"hyperparameters": (("weight_decay", decay / lr if self.per_step else decay),), **_NETWORK}
        return part("training:train", data=_DATA, rule=self.rule, lr=lr, seed=seed, schedule=schedule, **more)


class _Maps(Figure):
    """Test losses over rate and decay."""

    lrs: tuple[float, ...]
    maps: ClassVar[Sequence[_Map]]
    rule: ClassVar[str]

    @property
    def setting(self) -> str:
        """Say what is run."""
        return (
            f"The test loss, a mean over {len(_SEEDS)} seeds, of a network of one hidden layer of 32 units. On "
            f"{words_for(_DATA)}; 60 epochs, batches of 128, the rate falls by a cosine. The paper has a ResNet on "
            "CIFAR-10. Its decoupled decay is taken off at each step and is not multiplied by the highest rate, as "
            "libraries do, only by its schedule; both forms are shown. How a basin leans is the correlation of log "
            f"rate and log decay over all settings, one with a loss d above the best, as a share of it, weighed by "
            f"exp(-d / {_WIDTH:g})."
        )

    def parts(self, results: Results) -> list[Part]:
        """Return every setting of every map."""
        return [one.part(*cell, seed) for one in self.maps for cell in self._cells(one) for seed in _SEEDS]

    def losses(self, of: _Map, results: Results) -> Array:
        """Return the mean test losses, (decays, rates); what diverged is as bad as a guess."""
        means = [np.mean([_loss(results[of.part(*cell, seed)]["test"]) for seed in _SEEDS]) for cell in self._cells(of)]
        return np.reshape(means, (len(of.decays), len(self.lrs)))

    def _cells(self, of: _Map) -> list[tuple[float, float]]:
        return [*itertools.product(of.decays, self.lrs)]

    def judge(self, results: Results) -> list[Judgement]:
        """Say how the basins lean, and which has the lowest loss."""
        inside, apart, library = (self.losses(one, results) for one in self.maps)
        leans = [lean(one) for one in (inside, apart, library)]
        return [
            Judgement(
                f"With L2 inside {self.rule} the basin of good settings is diagonal: a larger rate needs less decay.",
                leans[0] < -_LEANING,
                f"The basin leans by {leans[0]:.2f} (asked for: below {-_LEANING:g}).",
                "So small a network on so few images converges: what counts is the minimum of loss and penalty, where "
                "the factor of L2 means the same whatever the rate.",
            ),
            Judgement(
                "With decoupled decay the two can be chosen apart.",
                abs(leans[1]) < _LEANING,
                f"The basin leans by {leans[1]:.2f} (asked for: less than {_LEANING:g} in size).",
                "Where training converges, a decay that is taken off each step pulls against steps by the rate, so a "
                "larger rate needs more of it.",
            ),
            Judgement(
                "So they can with the form of libraries, which multiply the decay by the rate.",
                abs(leans[2]) < _LEANING,
                f"The basin leans by {leans[2]:.2f} (asked for: less than {_LEANING:g} in size).",
                "Good settings lie along a diagonal in this form.",
            ),
            Judgement(
                "The best loss is lower with decoupled decay.",
                bool(apart.min() < 0.98 * inside.min()),
                f"The lowest mean test loss is {apart.min():.3g} decoupled and {inside.min():.3g} with L2 (2 % less is "
                "asked for).",
                f"In a network that is trained until it converges both find settings as good; the maps are of "
                f"{len(_SEEDS)} seeds.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return every cell."""
        rows = [
            [one.name, decay, lr, loss]
            for one in self.maps
            for decay, line in zip(one.decays, self.losses(one, results), strict=True)
            for lr, loss in zip(self.lrs, line, strict=True)
        ]
        return Table(("map", "decay", "lr", "test_loss"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the maps, one below the other."""
        heats = [Heat(one.name, self.lrs, one.decays, self.losses(one, results)) for one in self.maps]
        return draw_heats(self.title, "test loss over learning rate and decay · ring: the best", heats, theme)


def _loss(loss: float | None) -> float:
    return _WORST if loss is None else min(loss, _WORST)


class AdamMaps(_Maps):
    """Adam."""

    name = "adamw-1-adam"
    title = "Decay inside Adam, and decoupled"
    source = "Loshchilov & Hutter 2019, figure 2, right"
    rule = "Adam"
    lrs = half_decades(-3, 6)
    maps = (
        _Map("L2 inside Adam", "l2(adam)", _DECAYS),
        _Map("AdamW, a decay per step", "adamw", _DECAYS, per_step=True),
        _Map("AdamW, times the rate", "adamw", _TIMES_RATE),
    )


class SgdMaps(_Maps):
    """SGD with momentum."""

    name = "adamw-1-sgd"
    title = "Decay inside SGD with momentum, and decoupled"
    source = "Loshchilov & Hutter 2019, figure 2, left"
    rule = "SGD"
    lrs = half_decades(-2, 5)
    maps = (
        _Map("L2 inside SGD", "l2(momentum)", _DECAYS),
        _Map("SGDW, a decay per step", "decoupled(momentum)", _DECAYS, per_step=True),
        _Map("SGDW, times the rate", "decoupled(momentum)", _TIMES_RATE),
    )


class Schedules(Figure):
    """AdamW and Adam with L2 under three schedules."""

    name = "adamw-2-schedules"
    title = "AdamW and Adam with L2 under three schedules"
    source = "Loshchilov & Hutter 2019, figure 1 and section 4.1"
    rules: ClassVar[Mapping[str, _Map]] = {
        "AdamW": _Map("AdamW", "adamw", half_decades(-3, 4), per_step=True),
        "Adam with L2": _Map("Adam with L2", "l2(adam)", half_decades(-4, 4)),
    }
    schedules: ClassVar[Mapping[str, str]] = {"constant": "fixed", "step_drop": "step drop", "cosine": "cosine"}
    lrs = half_decades(-2, 3)
    seeds = 11
    """As few as tell pairs apart that are corrected for fifteen."""
    setting = (
        "The network and the images of the maps. Each rule has, under each schedule, the best of twelve settings of "
        "rate and decay by the test loss of one seed, as in the paper, and is run again on eleven fresh seeds. Step "
        "drop: a tenth of the rate after half and after three quarters of the steps."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return the settings, then fresh seeds of the best of each."""
        cells = [*itertools.product(self.rules, self.schedules)]
        grid = [part for rule, schedule in cells for part in self._grid(rule, schedule)]
        if any(part not in results for part in grid):
            return grid
        return [*grid, *(part for cell in cells for part in self._fresh(*cell, results))]

    def _grid(self, rule: str, schedule: str) -> list[Part]:
        of = self.rules[rule]
        return [of.part(*cell, 0, schedule) for cell in itertools.product(of.decays, self.lrs)]

    def _fresh(self, rule: str, schedule: str, results: Results) -> list[Part]:
        of = self.rules[rule]
        losses = [_loss(results[one]["test"]) for one in self._grid(rule, schedule)]
        decay, lr = [*itertools.product(of.decays, self.lrs)][int(np.argmin(losses))]
        return [of.part(decay, lr, seed, schedule) for seed in range(1, self.seeds + 1)]

    def _compared(self, results: Results) -> Compared:
        cells = itertools.product(self.schedules.items(), self.rules)
        named = {f"{rule}, {words}": self._fresh(rule, own, results) for (own, words), rule in cells}
        losses = [[_loss(results[one]["test"]) for one in parts] for parts in named.values()]
        return Compared([*named], np.array(losses))

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the rules under each schedule, and the schedules."""
        found = self._compared(results)
        pairs = [(f"AdamW, {words}", f"Adam with L2, {words}") for words in self.schedules.values()]
        others = [f"AdamW, {words}" for words in ("fixed", "step drop")]
        return [
            Judgement(
                "AdamW is better than Adam with L2 under every schedule.",
                all(found.below(*pair) for pair in pairs),
                f"Test losses: {'; '.join(found.said(*pair) for pair in pairs)} (asked for: each with p below 0.05).",
                "Where training converges the minimum of loss and penalty is as good a network.",
            ),
            Judgement(
                "AdamW is best with the cosine.",
                all(found.below("AdamW, cosine", other) for other in others),
                f"Test losses: {'; '.join(found.said('AdamW, cosine', other) for other in others)} (asked for: "
                "lower, with p below 0.05).",
                "In so short a training the schedule makes no difference that these seeds would show.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return the test losses by seed."""
        found = self._compared(results)
        rows = [[label, *line] for label, line in zip(found.labels, found.losses, strict=True)]
        return Table(("rule_and_schedule", *(f"seed_{seed}" for seed in range(1, self.seeds + 1))), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the medians as bars."""
        found = self._compared(results)
        medians = {label: found.median(label) for label in found.labels}
        return draw_bars(self.title, f"test loss, median of {self.seeds} fresh seeds", medians, theme)
