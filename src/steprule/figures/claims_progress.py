"""What articles about Adam repeat of its way: annealing by the signal, moving targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.figures.drawing import Line, Panel, draw_panels
from steprule.figures.figure import Figure, Judgement, Part, Results, Table, part
from steprule.schedules import inverse_sqrt
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Annealing", "MovingTarget", "descend", "follow", "signals"]


def signals(ratios: tuple[float, ...], elements: int, steps: int) -> list[float]:
    """Return the mean |step| / lr in the second half of the steps for gradients of each ratio of mean to deviation."""
    rng, lr = np.random.default_rng(0), 1e-3
    theta = np.zeros((len(ratios), elements))
    optimizer = Optimizer(theta, "adam", lr=lr)
    moved = np.zeros(len(ratios))
    for t in range(steps):
        before = theta.copy()
        optimizer.step(np.array(ratios)[:, None] + rng.standard_normal(theta.shape))
        if t >= steps // 2:
            moved += np.abs(theta - before).mean(axis=1) / lr
    return [float(one) for one in moved / (steps - steps // 2)]


def descend(falls: bool, draws: int, steps: int, lr: float) -> dict[str, list[float]]:
    """Return the mean |step| / rate and the root mean square distance on x^2 / 2 with noise, step by step.

    Args:
        falls: whether the rate is lr / sqrt(t).
        draws: each starts at 5; noise is normal with deviation 1.
        steps: how many.
        lr: the rate.
    """
    rng = np.random.default_rng(0)
    x = np.full(draws, 5.0)
    rate = inverse_sqrt(lr)
    optimizer = Optimizer(x, "adam", lr=rate if falls else lr)
    result: dict[str, list[float]] = {"step": [], "distance": []}
    for t in range(1, steps + 1):
        before = x.copy()
        optimizer.step(x + rng.standard_normal(draws))
        result["step"].append(float(np.abs(x - before).mean() / (rate(t) if falls else lr)))
        result["distance"].append(float(np.sqrt(np.mean(x * x))))
    return result


class Annealing(Figure):
    """Steps that get smaller by themselves."""

    name = "adam-claim-annealing"
    title = "Steps get smaller with the signal-to-noise ratio"
    source = "Kingma & Ba 2015, section 2.1"
    ratios = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
    draws, steps, lr = 500, 1_500, 0.05
    setting = (
        f"Above: gradients whose mean is that many times their deviation; {draws} elements. Middle and below: "
        f"f(x) = x² / 2 with noise of deviation 1 in the gradient, x from 5, {draws} draws, lr {lr:g}, default betas; "
        "the rate is constant, or lr / sqrt(t) with ten times that lr, so that both arrive."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return the three runs."""
        given = {"draws": self.draws, "steps": self.steps}
        return [
            part("claims_progress:signals", ratios=self.ratios, elements=self.draws, steps=400),
            part("claims_progress:descend", falls=False, lr=self.lr, **given),
            part("claims_progress:descend", falls=True, lr=10 * self.lr, **given),
        ]

    def judge(self, results: Results) -> list[Judgement]:
        """Compare steps far from the optimum and near it."""
        by_ratio, constant, falling = (results[one] for one in self.parts(results))
        grows = bool(np.all(np.diff(by_ratio) > 0))
        steps = np.array(constant["step"])
        far, near = steps[5:25].mean(), steps[-300:].mean()
        middle, end = (constant["distance"][at] for at in (self.steps // 2, -1))
        late = float(np.mean(falling["distance"][-300:]))
        return [
            Judgement(
                "The smaller the signal-to-noise ratio, the smaller the steps.",
                grows,
                f"The mean step grows from {by_ratio[0]:.3g} rates without a signal to {by_ratio[-1]:.3g} at a ratio "
                f"of {self.ratios[-1]:g}, {'without a setback' if grows else 'but not always'}.",
            ),
            Judgement(
                "Near an optimum steps are smaller, as the ratio is: an automatic annealing.",
                near < far / 2,
                f"Far from the optimum the mean step is {far:.3g} rates, near it {near:.3g} (asked for: half).",
            ),
            Judgement(
                "So the rate need not fall.",
                float(np.mean(constant["distance"][-300:])) <= 1.1 * late,
                f"With a constant rate the distance stays: {middle:.3g} after half of the steps, {end:.3g} after all; "
                f"with a rate that falls it is {late:.3g} (asked for: within 10 %).",
                "Without any signal m / sqrt(v) is noise and not zero, of deviation sqrt((1 - beta1) / (1 + beta1)) = "
                "0.23, so steps stop getting smaller at a fifth of the rate, and the distance with them.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return the three panels."""
        by_ratio, constant, falling = (results[one] for one in self.parts(results))
        rows: list[list[Any]] = [["ratio", r, step, None] for r, step in zip(self.ratios, by_ratio, strict=True)]
        for name, found in (("constant", constant), ("falling", falling)):
            both = zip(found["step"], found["distance"], strict=True)
            rows += [[name, t, *row] for t, row in enumerate(both, 1) if t % 10 == 0 or t <= 10]
        return Table(("part", "ratio_or_step", "step_in_rates", "distance"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return steps over the ratio, and on the way."""
        by_ratio, constant, falling = (results[one] for one in self.parts(results))
        t = np.arange(1, self.steps + 1)
        both = (("constant", constant), ("falling", falling))
        panels = [
            Panel([Line("step", self.ratios, by_ratio)], "signal-to-noise ratio", "mean |step| / lr", dots=True),
            Panel([Line(name, t, found["step"]) for name, found in both], "step", "mean |step| / rate", log="x"),
            Panel([Line(name, t, found["distance"]) for name, found in both], "step", "distance (RMS)", log="xy"),
        ]
        return draw_panels(self.title, f"{self.draws} draws; the rate is constant, or falls with 1 / √t", panels, theme)


def follow(rule: str, lr: float, draws: int, steps: int) -> dict[str, list[float]]:
    """Return the target, the mean x, and its root mean square distance from the target, step by step.

    The loss is (x - target)^2 / 2 with noise of deviation 0.5 in its gradient; the target is a sine of period 500.
    """
    rng = np.random.default_rng(0)
    x = np.zeros(draws)
    optimizer = Optimizer(x, rule, lr=lr)
    result: dict[str, list[float]] = {"target": [], "x": [], "distance": []}
    with np.errstate(all="ignore"):  # a rate may be too high
        for t in range(1, steps + 1):
            target = float(np.sin(2 * np.pi * t / 500))
            optimizer.step(x - target + 0.5 * rng.standard_normal(draws))
            result["target"].append(target)
            result["x"].append(float(x.mean()))
            result["distance"].append(float(np.sqrt(np.mean((x - target) ** 2))))
    return result


def _mean(values: list[float | None]) -> float:
    """Return a mean; infinite where a number was not finite, which JSON has no word for."""
    return float(np.mean([np.inf if one is None else one for one in values]))


class MovingTarget(Figure):
    """A loss that changes."""

    name = "adam-claim-moving-target"
    title = "Following a minimum that moves"
    source = "Kingma & Ba 2015, abstract and section 1"
    rules: ClassVar[Mapping[str, str]] = {"adam": "Adam", "adagrad": "AdaGrad", "sgd": "SGD"}
    lrs = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    draws, steps = 200, 4_000
    setting = (
        f"f_t(x) = (x - sin(2 pi t / 500))² / 2 with noise of deviation 0.5 in the gradient; {draws} draws, {steps:,} "
        f"steps. Each rule has the rate, of {lrs[0]:g} to {lrs[-1]:g}, with the lowest mean distance over all steps."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return each rule at each rate."""
        return [self._part(rule, lr) for rule in self.rules for lr in self.lrs]

    def _part(self, rule: str, lr: float) -> Part:
        return part("claims_progress:follow", rule=rule, lr=lr, draws=self.draws, steps=self.steps)

    def _best(self, rule: str, results: Results) -> tuple[float, Any]:
        means = {lr: _mean(results[self._part(rule, lr)]["distance"]) for lr in self.lrs}
        best = min(means, key=means.__getitem__)
        return best, results[self._part(rule, best)]

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the distances in the beginning and in the end."""
        early, late = {}, {}
        for rule in self.rules:
            distance = self._best(rule, results)[1]["distance"]
            early[rule], late[rule] = np.mean(distance[500:1000]), np.mean(distance[-500:])
        return [
            Judgement(
                "Adam does not need a stationary objective: it goes on following.",
                late["adam"] < 1.1 * early["adam"] and late["adam"] < 0.5,
                f"Its distance is {early['adam']:.3g} in the second period and {late['adam']:.3g} in the last (asked "
                "for: at most 10 % more, and below half of the target's amplitude of 1).",
            ),
            Judgement(
                "AdaGrad, which sums all squares, falls behind.",
                late["adagrad"] > 1.1 * early["adagrad"] and late["adagrad"] > late["adam"],
                f"Its distance is {early['adagrad']:.3g} in the second period and {late['adagrad']:.3g} in the last, "
                f"Adam's {late['adam']:.3g} there (asked for: 10 % more than before, and more than Adam's).",
                "Tuned to so large a rate that it is left with the right one at the end of these steps, it keeps up; "
                "it pays in the beginning, and would with more steps.",
            ),
            Judgement(
                "Adam follows better than plain SGD.",
                late["adam"] < 0.95 * late["sgd"],
                f"In the last period its distance is {late['adam']:.3g}, SGD's {late['sgd']:.3g} (5 % less is asked).",
                "In one dimension of constant curvature a tuned rate is all that Adam's scaling could bring.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return the way of each rule at its best rate, every tenth step."""
        rows = []
        for rule, label in self.rules.items():
            lr, found = self._best(rule, results)
            every = zip(found["target"], found["x"], found["distance"], strict=True)
            rows += [[label, lr, t, *row] for t, row in enumerate(every, 1) if t % 10 == 0]
        return Table(("rule", "lr", "t", "target", "mean_x", "distance"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the ways, and the distances by period."""
        t = np.arange(1, self.steps + 1)
        shown = slice(-1_000, None)
        ways, distances = [], []
        for rule, label in self.rules.items():
            lr, found = self._best(rule, results)
            ways.append(Line(label, t[shown], found["x"][shown]))
            periods = np.array(found["distance"]).reshape(-1, 500).mean(axis=1)
            distances.append(Line(label, np.arange(1, len(periods) + 1), periods, note=f"lr {lr:g}"))
        target = Line("target", t[shown], results[self._part("adam", self.lrs[0])]["target"][shown], slot=5)
        panels = [
            Panel([*ways, target], "step", "mean x", "The last two periods"),
            Panel(distances, "period", "distance (RMS)", "The distance, period by period", dots=True),
        ]
        return draw_panels(self.title, f"{self.draws} draws, each rule at its best rate", panels, theme)
