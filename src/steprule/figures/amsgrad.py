"""Reddi, Kale & Kumar 2018, arXiv:1904.09237: where Adam does not converge, and AMSGrad does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.figures.drawing import Line, Panel, draw_panels
from steprule.figures.figure import Figure, Judgement, Part, Results, Table, part
from steprule.race.problem import Array
from steprule.race.statistics import interval
from steprule.schedules import inverse_sqrt
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Online", "Stochastic", "walk"]

_RULES = ("adam", "amsgrad")
_NAMES = {"adam": "Adam", "amsgrad": "AMSGrad"}
_C, _PERIOD = 1010.0, 101
_AT_ONE = 2 * 10 / _PERIOD
"""The average regret at x = +1: the slopes of a period add up to 10, and the optimum is 2 away."""
_ALPHA, _START = 1.2, 0.0
_BLOCK, _KEPT = 1_000, 250
"""Steps that are drawn at random at once; points of a line."""
_FORM: dict[str, dict[str, Any]] = {"adam": {"bias_correction": False}, "amsgrad": {}}


def walk(rule: str, steps: int, walks: int, alpha: float) -> dict[str, list[Any]]:
    """Return where a rule goes on [-1, 1], in the paper's form: no correction, no epsilon, projected after each step.

    Args:
        rule: adam or amsgrad.
        steps: how many.
        walks: 1 for the online problem, which has nothing random; otherwise how many draws of the stochastic one.
        alpha: the rate at step t is alpha / sqrt(t).

    Returns:
        ``t``, and at each t the ``x`` and the average ``regret`` of each walk: so far, against x = -1.
    """
    x = np.full(walks, _START)
    optimizer = Optimizer(x, rule, lr=inverse_sqrt(alpha), beta1=0.9, beta2=0.99, eps=0.0, **_FORM[rule])
    rng, lost, kept = np.random.default_rng(0), np.zeros(walks), _kept(steps)
    result: dict[str, list[Any]] = {"t": [], "x": [], "regret": []}
    for begin in range(0, steps, _BLOCK):
        slopes = _slopes(begin, min(_BLOCK, steps - begin), walks, rng)
        places = np.empty_like(slopes)
        for place, slope in zip(places, slopes, strict=True):
            place[:] = x
            optimizer.step(slope)
            np.maximum(x, -1.0, out=x)
            np.minimum(x, 1.0, out=x)
        so_far = lost + np.cumsum(_counted(slopes) * (places + 1), axis=0)
        lost = so_far[-1]
        for index in np.flatnonzero(np.isin(np.arange(begin, begin + len(slopes)), kept)):
            result["t"].append(begin + int(index) + 1)
            result["x"].append(places[index].tolist())
            result["regret"].append((so_far[index] / (begin + index + 1)).tolist())
    return result


def _kept(steps: int) -> Array:
    """Return the steps that are kept, from 0: evenly on a logarithmic axis, and those at nine tenths and at the end."""
    even = np.geomspace(1, steps, _KEPT).astype(int) - 1
    return np.unique([*even, int(0.9 * steps) - 1, steps - 1])


def _slopes(begin: int, steps: int, walks: int, rng: np.random.Generator) -> Array:
    """Return the slopes of the next losses, which are linear: (steps, walks)."""
    if walks == 1:
        return np.where((begin + np.arange(steps)) % _PERIOD == 0, _C, -10.0)[:, None]
    return np.where(rng.random((steps, walks)) < 0.01, _C, -10.0)


def _counted(slopes: Array) -> Array | float:
    """Return the slopes that the regret counts: those of f_t, or of its expectation where it is drawn."""
    return slopes if slopes.shape[1] == 1 else 0.01 * _C - 0.99 * 10.0


class _Counterexample(Figure):
    """Both rules on a linear loss whose minimum is at x = -1."""

    steps: int
    walks: int

    def parts(self, results: Results) -> list[Part]:
        """Return a walk of each rule."""
        return [self._part(rule) for rule in _RULES]

    def _part(self, rule: str) -> Part:
        return part("amsgrad:walk", rule=rule, steps=self.steps, walks=self.walks, alpha=_ALPHA)

    def _of(self, results: Results, rule: str) -> tuple[Array, Array, Array]:
        found = results[self._part(rule)]
        return np.array(found["t"]), np.array(found["x"]), np.array(found["regret"])

    def table(self, results: Results) -> Table:
        """Return quartiles over the walks at each step that is kept."""
        rows = []
        for rule in _RULES:
            t, x, regret = self._of(results, rule)
            rows += [
                [_NAMES[rule], int(step), *np.quantile(at, (0.25, 0.5, 0.75)), np.mean(lost)]
                for step, at, lost in zip(t, x, regret, strict=True)
            ]
        return Table(("rule", "t", "x_quarter", "x_median", "x_three_quarters", "average_regret"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the average regret, and x, over the steps."""
        regrets, places = [], []
        for rule in _RULES:
            t, x, regret = self._of(results, rule)
            low, middle, high = np.quantile(x, (0.25, 0.5, 0.75), axis=1)
            regrets.append(Line(_NAMES[rule], t, regret.mean(axis=1)))
            places.append(Line(_NAMES[rule], t, middle, low, high))
        panels = [
            Panel(regrets, "step", "average regret", log="xy", levels=(_AT_ONE,)),
            Panel(places, "step", "x", log="x", levels=(-1.0,), limits=(-1.1, 1.1)),
        ]
        return draw_panels(
            self.title,
            f"dotted: what x = +1 costs, and the best x · rate {_ALPHA:g} / √t, x starts at 0",
            panels,
            theme,
        )


class Online(_Counterexample):
    """The online problem of section 3."""

    name = "amsgrad-1-online"
    title = "A loss on which Adam goes the wrong way"
    source = "Theorem 1 and figure 1, left and middle"
    steps = 303_000
    walks = 1
    setting = (
        f"f_t(x) = 1010 x if t mod 101 = 1, else -10 x, on [-1, 1]; beta1 = 0.9, beta2 = 0.99, no bias correction, no "
        f"epsilon, as in the paper's Algorithms 1 and 2. The paper gives neither alpha nor x_1: here the rate is "
        f"{_ALPHA:g} / sqrt(t) and x_1 = 0. {steps:,} steps."
    )

    def judge(self, results: Results) -> list[Judgement]:
        """Compare where the rules end, and what they lose a step in the end."""
        ends, late = {}, {}
        for rule in _RULES:
            t, x, regret = self._of(results, rule)
            ends[rule] = float(x[-1, 0])
            total, at = regret[:, 0] * t, int(np.searchsorted(t, int(0.9 * self.steps)))
            late[rule] = float((total[-1] - total[at]) / (t[-1] - t[at]))
        said = (
            "{} ends at x = {:.3f}; over the last tenth of the steps its average regret is {:.3g}, where x = +1 "
            f"throughout has {_AT_ONE:.3g}"
        )
        return [
            Judgement(
                "Adam goes to x = +1, and its average regret does not vanish.",
                ends["adam"] > 0.9 and late["adam"] > _AT_ONE / 2,
                f"{said.format('Adam', ends['adam'], late['adam'])} (asked for: above 0.9, and above half of that).",
                "With this rate and start Adam does not get so far in these steps.",
            ),
            Judgement(
                "AMSGrad reaches the optimum x = -1, and its average regret vanishes.",
                ends["amsgrad"] < -0.9 and late["amsgrad"] < _AT_ONE / 2,
                f"{said.format('AMSGrad', ends['amsgrad'], late['amsgrad'])} "
                "(asked for: below -0.9, and below half of that).",
                "Its steps fall with 1 / sqrt(t) and with the largest v so far, so it may need more of them.",
            ),
        ]


class Stochastic(_Counterexample):
    """The stochastic problem of section 3."""

    name = "amsgrad-1-stochastic"
    title = "The same with gradients drawn at random"
    source = "Theorem 3 and figure 1, right"
    steps = 200_000
    walks = 32
    setting = (
        f"f_t(x) = 1010 x with probability 0.01, else -10 x, on [-1, 1]: on average x falls towards -1. All else is as "
        f"in the online problem. {walks} draws of {steps:,} steps; the band is from quartile to quartile."
    )

    def judge(self, results: Results) -> list[Judgement]:
        """Count the draws that end on the wrong side."""
        ends = {rule: self._of(results, rule)[1][-1] for rule in _RULES}
        middle = {rule: float(np.median(ends[rule])) for rule in _RULES}
        low, high = ({rule: float(interval(ends[rule])[side]) for rule in _RULES} for side in (0, 1))
        said = {
            rule: f"{np.mean(ends[rule] > 0):.0%} of {self.walks} draws of {_NAMES[rule]} end at x > 0; their median "
            f"is {middle[rule]:.3f}, with a 95 % interval from {low[rule]:.3f} to {high[rule]:.3f}"
            for rule in _RULES
        }
        return [
            Judgement(
                "Adam moves towards x = +1 here too.",
                low["adam"] > 0.5,
                f"{said['adam']} (asked for: above 0.5).",
                "At this rate the draws still go to and fro.",
            ),
            Judgement(
                "AMSGrad moves towards the optimum x = -1.",
                high["amsgrad"] < 0,
                f"{said['amsgrad']} (asked for: below 0).",
                "The mean slope is 0.2 and the largest 1010, whose v stays: in these steps the drift is not yet above "
                "the noise.",
            ),
        ]
