"""What articles about Adam repeat of its cost: memory, and how well it generalises beside SGD with momentum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from steprule.doors.numpy import Optimizer
from steprule.figures.contest import Contest, Entry, half_decades
from steprule.figures.drawing import Line, Panel, draw_bars, draw_panels
from steprule.figures.figure import Figure, Judgement, Part, Results, Table, part
from steprule.rules import find
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Generalization", "Memory", "memory", "separable"]


def memory(rules: tuple[str, ...], size: int) -> dict[str, float]:
    """Return the bytes of the slots of each rule per parameter, of a float32 matrix after a step."""
    found = {}
    for rule in rules:
        theta = np.ones((size, size), np.float32)
        optimizer = Optimizer(theta, rule)
        optimizer.step(np.ones_like(theta))
        slots = [optimizer.slots[name] for name in optimizer.slots]
        found[rule] = sum(slot.nbytes for slot in slots if isinstance(slot, np.ndarray)) / theta.size
    return found


class Memory(Figure):
    """What a rule keeps."""

    name = "adam-claim-memory"
    title = "What a rule keeps for each parameter"
    source = "Kingma & Ba 2015, abstract"
    rules = ("sgd", "momentum", "adagrad", "rmsprop", "adam", "amsgrad", "adafactor", "lion")
    size = 500
    setting = f"The arrays that each rule holds between steps, for a float32 matrix of {size} x {size}, by their size."

    def parts(self, results: Results) -> list[Part]:
        """Return the one measurement."""
        return [part("claims_generalization:memory", rules=self.rules, size=self.size)]

    def judge(self, results: Results) -> list[Judgement]:
        """Compare Adam's arrays with the parameters."""
        found = results[self.parts(results)[0]]
        return [
            Judgement(
                "Adam has little memory requirements.",
                found["adam"] <= 8,
                f"It keeps {found['adam']:g} bytes for a parameter of 4, two arrays of its size, however many steps it "
                "takes (asked for: no more than two).",
            ),
            Judgement(
                "It needs no more than SGD with momentum.",
                found["adam"] <= found["momentum"],
                f"Adam {found['adam']:g} bytes, momentum {found['momentum']:g}.",
                "Momentum keeps one array, Adam two; with the parameter and its gradient that is a third more.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return bytes by rule."""
        return Table(("rule", "bytes_per_parameter"), list(results[self.parts(results)[0]].items()))

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return bars."""
        found = results[self.parts(results)[0]]
        named = {find(rule).title or rule: value for rule, value in found.items()}
        return draw_bars(self.title, "bytes, beside a float32 parameter of 4", named, theme)


def separable(rule: str, lr: float, seed: int, samples: int, steps: int, share: float) -> dict[str, float]:
    """Return training and test errors of least squares on the example of Wilson et al. 2017, section 3.3.

    The label is +1 with probability ``share``, and the first feature is the label. Two features are always 1. Each
    sample has features of its own, one of a positive one and five of a negative one, which no other sample has.
    """
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(samples) < share, 1.0, -1.0)
    x = np.zeros((samples, 3 + 5 * samples))
    x[:, 0], x[:, 1:3] = y, 1.0
    for i, label in enumerate(y):
        x[i, 3 + 5 * i : 3 + 5 * i + (1 if label > 0 else 5)] = 1.0
    w = np.zeros(x.shape[1])
    given: dict[str, Any] = {"mu": 0.9} if rule == "momentum" else {}
    optimizer = Optimizer(w, rule, lr=lr, **given)
    for _ in range(steps):
        optimizer.step(x.T @ (x @ w - y) / samples)
    fresh = np.where(rng.random(10_000) < share, 1.0, -1.0)
    scores = w[0] * fresh + w[1] + w[2]  # what is a sample's own has not been trained
    loss = float(np.mean((x @ w - y) ** 2) / 2)
    return {"loss": loss, "train": float(np.mean((x @ w) * y <= 0)), "test": float(np.mean(scores * fresh <= 0))}


class Generalization(Contest):
    """Adam and SGD with momentum on samples that they have not seen."""

    name = "adam-claim-generalization"
    title = "Adam and SGD with momentum on unseen samples"
    source = "Wilson et al. 2017, arXiv:1705.08292, section 3.3; Kingma & Ba 2015, section 6.2"
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 25, "hidden": (32,)}
    entries = (
        Entry("Adam", "adam", half_decades(-3, 4)),
        Entry("momentum", "momentum", half_decades(-2, 4)),
    )
    rates: ClassVar[Mapping[str, float]] = {"adam": 0.003, "adagrad": 0.03, "momentum": 0.03, "sgd": 0.3}
    count, share, sizes = 8, 0.7, (25, 50, 100)

    @property
    def setting(self) -> str:
        """Say what is run."""
        return (
            f"Above: the example of Wilson et al., least squares with full gradients, 70 % positive labels, the "
            f"mean of {self.count} draws. Below: {self.where} One hidden layer of 32 units, batches of 128."
        )

    def parts(self, results: Results) -> list[Part]:
        """Return the draws of the example, and the contest."""
        example = [
            self._example(rule, n, seed) for rule in self.rates for n in self.sizes for seed in range(self.count)
        ]
        return [*example, *super().parts(results)]

    def _example(self, rule: str, samples: int, seed: int) -> Part:
        given = {"lr": self.rates[rule], "samples": samples, "steps": 2_000, "share": self.share}
        return part("claims_generalization:separable", rule=rule, seed=seed, **given)

    def _mean(self, rule: str, samples: int, what: str, results: Results) -> float:
        return float(np.mean([results[self._example(rule, samples, seed)][what] for seed in range(self.count)]))

    def judge(self, results: Results) -> list[Judgement]:
        """Compare errors on the example, and losses on the network."""
        most = self.sizes[-1]
        error = {rule: self._mean(rule, most, "test", results) for rule in self.rates}
        train = {rule: self._mean(rule, most, "train", results) for rule in self.rates}
        found, right = self.compare(results, "test"), self.compare(results, "accuracy")
        return [
            Judgement(
                "There are problems on which SGD with momentum generalises and Adam and AdaGrad do not.",
                error["momentum"] < 0.01 and min(error["adam"], error["adagrad"]) > 0.2,
                f"Of {most} samples of the example; all are fitted (training errors {max(train.values()):.1%}). On new "
                + ", ".join(f"{rule} errs on {error[rule]:.1%}" for rule in self.rates)
                + " (asked for: momentum below 1 %, the two above 20 %).",
                "Adam has to step alike along features that are as often right, which a long run undoes.",
            ),
            Judgement(
                "SGD with momentum generalises better than Adam in general.",
                found.below("momentum", "Adam"),
                f"Test losses of a network on the digits: {found.said('momentum', 'Adam')}; accuracies "
                f"{right.median('momentum'):.1%} and {right.median('Adam'):.1%} (asked for: lower with p below 0.05).",
                "On this network the two cannot be told apart, or Adam is ahead: the example is made so that the sign "
                "of a gradient misleads, and pixels are not.",
            ),
        ]

    def table(self, results: Results) -> Table:
        """Return errors of the example, and losses of the network."""
        rows: list[list[Any]] = [
            ["example", rule, n, *(self._mean(rule, n, what, results) for what in ("train", "test"))]
            for rule in self.rates
            for n in self.sizes
        ]
        for entry in self.entries:
            accuracy, loss = (self.ends(entry, results, what) for what in ("accuracy", "test"))
            rows += [
                ["network", entry.label, seed, *row] for seed, row in enumerate(zip(accuracy, loss, strict=True), 1)
            ]
        return Table(("part", "rule", "samples_or_seed", "training_error_or_accuracy", "test_error_or_loss"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return errors over the number of samples, and test losses by seed."""
        errors = [
            Line(rule, self.sizes, [self._mean(rule, n, "test", results) for n in self.sizes], slot=slot)
            for slot, rule in zip((0, 3, 1, 2), self.rates, strict=True)
        ]
        seeds = np.arange(1, self.seeds + 1)
        losses = [
            Line(entry.label, seeds, np.minimum(self.ends(entry, results, "test"), math.log(10)), slot=slot)
            for slot, entry in enumerate(self.entries)
        ]
        panels = [
            Panel(errors, "training samples", "test error", "An example made for it", dots=True, limits=(-0.03, 0.45)),
            Panel(losses, "fresh seed", "test loss", "A network on the digits", dots=True),
        ]
        return draw_panels(self.title, "above: Wilson et al. 2017 · below: each rule at its best rate", panels, theme)
