"""What articles about Adam repeat of its moments: bias correction, the bound of a step, the scale of the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.figures.drawing import Line, Panel, draw_panels
from steprule.figures.figure import Figure, Judgement, Part, Results, Table, part
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["BiasCorrection", "Scale", "StepBound", "moments", "scaled", "silence", "sparse"]

_BETA1, _BETA2 = 0.9, 0.999
_SINGLE = (1 - _BETA1) / math.sqrt(1 - _BETA2)
_HIGHEST = _SINGLE / math.sqrt(1 - _BETA1**2 / _BETA2)
"""Of |step| / lr, by the inequality of Cauchy and Schwarz."""
_LR = 1e-3


def moments(draws: int, steps: int) -> dict[str, list[float]]:
    """Return means over draws of m_t and v_t with their standard errors, and mean steps with and without correction.

    Gradients are normal, with mean 1 and variance 1.
    """
    rng = np.random.default_rng(0)
    thetas = {flag: np.zeros(draws) for flag in (True, False)}
    optimizers = {flag: Optimizer(theta, "adam", lr=_LR, bias_correction=flag) for flag, theta in thetas.items()}
    result: dict[str, list[float]] = {name: [] for name in ("m", "m_error", "v", "v_error", "with", "without")}
    for _ in range(steps):
        g = 1 + rng.standard_normal(draws)
        for flag, name in ((True, "with"), (False, "without")):
            before = thetas[flag].copy()
            optimizers[flag].step(g)
            result[name].append(float(np.abs(thetas[flag] - before).mean() / _LR))
        for slot in ("m", "v"):
            values = optimizers[True].slots[slot]
            result[slot].append(float(values.mean()))
            result[f"{slot}_error"].append(float(values.std() / math.sqrt(draws)))
    return result


class BiasCorrection(Figure):
    """The first steps."""

    name = "adam-claim-bias-correction"
    title = "The first steps, with and without bias correction"
    source = "Kingma & Ba 2015, section 3"
    draws, steps = 20_000, 60
    setting = (
        f"{draws:,} draws of gradients that are normal with mean 1 and variance 1, so E[g] = 1 and E[g²] = 2; "
        f"{steps} steps with the default betas."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return the one run."""
        return [part("claims_moments:moments", draws=self.draws, steps=self.steps)]

    def _of(self, results: Results) -> Any:
        return {name: np.array(values) for name, values in results[self.parts(results)[0]].items()}

    def _expected(self) -> dict[str, Any]:
        t = np.arange(1, self.steps + 1)
        return {"m": 1 - _BETA1**t, "v": 2 * (1 - _BETA2**t)}

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the means with their formulas, and the first steps."""
        found, expected = self._of(results), self._expected()
        worst = {slot: float(np.max(np.abs(found[slot] - expected[slot]) / found[f"{slot}_error"])) for slot in "mv"}
        return [
            Judgement(
                f"E[{slot}_t] = E[{power}] (1 - {beta}^t): the zero start biases the average, and division by the "
                "bracket removes it.",
                worst[slot] < 4,
                f"The mean over {self.draws:,} draws is nowhere in {self.steps} steps further than {worst[slot]:.1f} "
                "standard errors from the formula (4 are allowed, for that many comparisons).",
            )
            for slot, power, beta in (("m", "g", "beta1"), ("v", "g²", "beta2"))
        ] + [
            Judgement(
                "Without the correction, the first steps are much larger.",
                found["without"][0] > 2 * found["with"][0],
                f"The first step is {found['without'][0]:.3g} rates without the correction and {found['with'][0]:.3g} "
                f"with it; the largest mean step is {found['without'].max():.3g} rates without (asked for: twice).",
            )
        ]

    def table(self, results: Results) -> Table:
        """Return all of it by step."""
        found, expected = self._of(results), self._expected()
        names = ("m", "m_error", "v", "v_error", "with", "without")
        columns = [found[name] for name in names] + [expected["m"], expected["v"]]
        headings = ("t", "mean_m", "error_m", "mean_v", "error_v", "step_corrected", "step_uncorrected")
        rows = [[t, *row] for t, row in enumerate(zip(*columns, strict=True), 1)]
        return Table((*headings, "expected_m", "expected_v"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the mean of m with its formula, and the steps."""
        found, expected, t = self._of(results), self._expected(), np.arange(1, self.steps + 1)
        averages = [
            Line("1 − β₁ᵗ", t, expected["m"], slot=5),
            Line("mean of m", t, found["m"], slot=0),
            Line("mean of v / 2", t, found["v"] / 2, slot=1),
        ]
        steps = [
            Line("corrected", t, found["with"], slot=0),
            Line("uncorrected", t, found["without"], slot=1),
        ]
        panels = [
            Panel(averages, "step", "mean over draws", "What the averages are, where E[g] = E[g²] / 2 = 1"),
            Panel(steps, "step", "mean |step| / lr", "How far that steps", levels=(1.0,), limits=(0, 6)),
        ]
        return draw_panels(self.title, f"{self.draws:,} draws, default betas", panels, theme)


def sparse(densities: tuple[float, ...], elements: int, steps: int) -> list[list[float]]:
    """Return for each density the mean, the 99.9 % quantile and the largest of |step| / lr over gradients not zero.

    A gradient is normal with that probability, and otherwise zero.
    """
    rng = np.random.default_rng(0)
    theta = np.zeros((len(densities), elements))
    optimizer = Optimizer(theta, "adam", lr=_LR, eps=1e-30)
    chance = np.array(densities)[:, None]
    taken: list[list[Any]] = [[] for _ in densities]
    for _ in range(steps):
        there = rng.random(theta.shape) < chance
        before = theta.copy()
        optimizer.step(np.where(there, rng.standard_normal(theta.shape), 0.0))
        moved = np.abs(theta - before) / _LR
        for own, row, mask in zip(taken, moved, there, strict=True):
            own.append(row[mask])
    every = [np.concatenate(own) for own in taken]
    return [[float(own.mean()), float(np.quantile(own, 0.999)), float(own.max())] for own in every]


def silence(zeros: int, steps: int) -> dict[str, list[float]]:
    """Return |step| / lr after many zero gradients: of a single gradient, and of some that grow by beta2 / beta1."""
    theta = np.zeros(2)
    optimizer = Optimizer(theta, "adam", lr=_LR, eps=1e-30)
    for _ in range(zeros):
        optimizer.step(np.zeros(2))
    result: dict[str, list[float]] = {"single": [], "growing": []}
    for t in range(steps):
        before = theta.copy()
        optimizer.step(np.array([1.0 if t == 0 else 0.0, (_BETA2 / _BETA1) ** t]))
        for name, moved in zip(result, np.abs(theta - before) / _LR, strict=True):
            result[name].append(float(moved))
    return result


class StepBound(Figure):
    """How long a step can be."""

    name = "adam-claim-step-bound"
    title = "How long a step is, in learning rates"
    source = "Kingma & Ba 2015, section 2.1"
    densities = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    elements, steps, zeros, after = 100, 2_000, 10_000, 60
    setting = (
        f"Above: gradients that are zero but for a share of the steps, and normal then: {elements} elements, "
        f"{steps:,} steps, default betas, epsilon 1e-30. Below: after {zeros:,} zero gradients one that is not, or "
        "gradients each beta2 / beta1 = 1.11 times the one before."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return the two runs."""
        return [
            part("claims_moments:sparse", densities=self.densities, elements=self.elements, steps=self.steps),
            part("claims_moments:silence", zeros=self.zeros, steps=self.after),
        ]

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the longest steps with the bounds."""
        shares, after = (results[one] for one in self.parts(results))
        _, most, longest = shares[-1]
        single, growing = after["single"][0], max(after["growing"])
        return [
            Judgement(
                "With ordinary gradients a step is about as long as the learning rate at most.",
                most <= 1,
                f"With normal gradients 99.9 % of the steps are below {most:.3g} rates (asked for: 1), and the longest "
                f"of {self.elements * self.steps:,} has {longest:.3g}.",
            ),
            Judgement(
                "A gradient after a long silence steps further: by (1 - beta1) / sqrt(1 - beta2) = 3.16 rates.",
                abs(single / _SINGLE - 1) < 0.01,
                f"It steps by {single:.4g} rates (asked for: within 1 % of {_SINGLE:.4g}).",
            ),
            Judgement(
                "That is the upper bound, as 1 - beta1 > sqrt(1 - beta2).",
                growing <= 1.001 * _SINGLE,
                f"Gradients that grow from step to step reach {growing:.4g} rates, where the bound is {_SINGLE:.4g}.",
                "The bound is that of a single gradient. By Cauchy and Schwarz's inequality the least upper bound is "
                f"(1 - beta1) / sqrt((1 - beta2) (1 - beta1² / beta2)) = {_HIGHEST:.3g}: m forgets sooner than v, "
                "so gradients that grow by beta2 / beta1 a step add up in m more than in the root of v.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return the steps by density, and those after the silence."""
        shares, after = (results[one] for one in self.parts(results))
        rows: list[list[Any]] = [["density", p, *row] for p, row in zip(self.densities, shares, strict=True)]
        both = zip(after["single"], after["growing"], strict=True)
        rows += [["after silence", t, *row, None] for t, row in enumerate(both, 1)]
        return Table(("part", "x", "mean_or_single", "quantile_999_or_growing", "longest"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return steps over the density, and after a silence."""
        shares, after = (results[one] for one in self.parts(results))
        mean, most, longest = np.array(shares).T
        lines = [
            Line("longest", self.densities, longest),
            Line("99.9 %", self.densities, most, slot=1),
            Line("mean", self.densities, mean, slot=2),
        ]
        t = np.arange(1, self.after + 1)
        late = [Line("growing", t, after["growing"], slot=1), Line("single", t, after["single"], slot=0)]
        levels = (1.0, _SINGLE)
        panels = [
            Panel(lines, "share of gradients that are not zero", "|step| / lr", log="x", levels=levels, dots=True),
            Panel(late, "steps after the silence", "|step| / lr", levels=(*levels, _HIGHEST), limits=(0, 8)),
        ]
        note = f"dotted: 1, the paper's {_SINGLE:.3g}, and below the least upper bound, {_HIGHEST:.3g}"
        return draw_panels(self.title, note, panels, theme)


_ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam, eps 0": ("adam", {"lr": 0.05, "eps": 0.0}),
    "Adam": ("adam", {"lr": 0.05}),
    "SGD": ("sgd", {"lr": 0.05}),
}


def scaled(powers: tuple[int, ...], steps: int) -> dict[str, list[list[float]]]:
    """Return for each rule and each power k the parameters after training on 2^k times a loss, and their own loss.

    The loss is that of a least-squares problem of ten numbers with noise in its gradients, the same at each scale.
    """
    found: dict[str, list[list[float]]] = {}
    for label, (rule, given) in _ENTRIES.items():
        found[label] = []
        for power in powers:
            rng = np.random.default_rng(0)
            theta, curvature = np.full(10, 1.0), np.linspace(0.1, 1, 10)
            optimizer = Optimizer(theta, rule, **given)
            with np.errstate(all="ignore"):
                for _ in range(steps):
                    optimizer.step(2.0**power * (curvature * theta + 0.1 * rng.standard_normal(10)))
                found[label].append([*theta.tolist(), float(0.5 * np.sum(curvature * theta**2))])
    return found


class Scale(Figure):
    """Whether the scale of the loss matters."""

    name = "adam-claim-scale"
    title = "Training on a loss that is multiplied by a constant"
    source = "Kingma & Ba 2015, sections 1 and 2.1"
    powers, steps = tuple(range(-40, 41, 5)), 300
    setting = (
        f"A least-squares problem of ten numbers with noise in its gradients; {steps} steps, each loss multiplied by a "
        "power of two, the same noise for all. Adam at lr 0.05 with epsilon 0 and with the default 1e-8; SGD at 0.05."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return the one run."""
        return [part("claims_moments:scaled", powers=self.powers, steps=self.steps)]

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the parameters with those of the loss itself."""
        found, one = results[self.parts(results)[0]], self.powers.index(0)
        exact = sum(row == found["Adam, eps 0"][one] for row in found["Adam, eps 0"])
        losses = [row[-1] for row in found["Adam"]]
        off = [power for power, loss in zip(self.powers, losses, strict=True) if abs(loss / losses[one] - 1) > 0.01]
        said = f"is off by more than 1 % from a factor of 2^{max(off)} down." if off else "is the same within 1 %."
        return [
            Judgement(
                "Steps are invariant to the scale of the loss.",
                exact == len(self.powers),
                f"With epsilon 0 the parameters after {self.steps} steps are the same, bit for bit, at {exact} of "
                f"{len(self.powers)} scales from 2^{self.powers[0]} to 2^{self.powers[-1]}.",
            ),
            Judgement(
                "So they are with the default epsilon of 1e-8.",
                not off,
                f"The last loss {said}",
                "Epsilon is not scaled with the loss: where gradients are near 1e-8, it is what they are divided by.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return the last losses."""
        found = results[self.parts(results)[0]]
        both = ((label, *pair) for label in _ENTRIES for pair in zip(self.powers, found[label], strict=True))
        rows = [[label, 2.0**power, row[-1]] for label, power, row in both]
        return Table(("rule", "scale", "last_loss"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return the last loss over the scale."""
        found = results[self.parts(results)[0]]
        scales = [2.0**power for power in self.powers]
        top = 10.0
        lines = []
        for slot, label in zip((5, 0, 1), _ENTRIES, strict=True):
            losses = [row[-1] for row in found[label]]
            shown = [top if loss is None or not loss < top else loss for loss in losses]
            lines.append(Line(label, scales, shown, slot=slot))
        panel = Panel(lines, "the loss is multiplied by", "last loss, unscaled", log="xy", limits=(1e-3, 2 * top))
        return draw_panels(self.title, "SGD diverges at the right, where its line is cut", [panel], theme)
