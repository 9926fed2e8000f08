"""Figures 3 and 4 of Kingma & Ba 2015, arXiv:1412.6980, through PyTorch: convolutions, a variational autoencoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from steprule.figures.contest import Contest, Entry, half_decades
from steprule.figures.drawing import Line, Panel, draw_panels
from steprule.figures.figure import Figure, Judgement, Part, Results, Table, part
from steprule.figures.samples import words_for
from steprule.style import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Autoencoder", "Convolutions"]

_TORCH = {"torch": "torch"}


class Convolutions(Contest):
    """Three rules on a network of convolutions."""

    name = "adam-3-convolutions"
    title = "A network of convolutions"
    source = "Kingma & Ba 2015, section 6.3, figure 3"
    takes = "cifar10"
    needs = _TORCH
    work = "networks:convolutions"
    seeds = 8
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 15, "channels": (8, 8, 16), "units": 64, "dropout": 0.5}
    entries = (
        Entry("Adam", "adam", half_decades(-3, 3)),
        Entry("Nesterov", "momentum", half_decades(-2, 3), (("mu", 0.9), ("nesterov", True))),
        Entry("AdaGrad", "adagrad", half_decades(-2, 3)),
    )
    early = 3
    """Epochs of the figure's left half."""

    @property
    def setting(self) -> str:
        """Say what is run."""
        return (
            f"{self.where} Three 5 x 5 convolutions of 8, 8 and 16 channels (the paper: 64, 64, 128), each with 3 x 3 "
            "max-pooling of stride 2, then 64 ReLU units (1000); dropout of 20 % of the inputs and 50 % of the units, "
            "batches of 128, 15 epochs (45), a constant rate. The paper has CIFAR-10."
        )

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the first epochs, and the last."""
        found = self.compare(results)
        first = {
            entry.label: float(np.median(self.curves(entry, results)[:, self.early - 1])) for entry in self.entries
        }
        behind = [label for label in ("Adam", "AdaGrad") if first[label] >= first["Nesterov"]]
        slow = [label for label in ("Adam", "Nesterov") if not found.below(label, "AdaGrad")]
        return [
            Judgement(
                f"In the first {self.early} epochs Adam and AdaGrad make rapid progress.",
                max(first["Adam"], first["AdaGrad"]) < first["Nesterov"],
                f"Training losses after {self.early} epochs: "
                + ", ".join(f"{label} {loss:.3g}" for label, loss in first.items())
                + " (asked for: both below Nesterov's).",
                f"Nesterov's rate is tuned as well, and by then it is as far as {' and '.join(behind)}, or further.",
            ),
            Judgement(
                "In the end Adam and SGD converge considerably faster than AdaGrad.",
                all(found.below(one, "AdaGrad") for one in ("Adam", "Nesterov")),
                f"Last training losses: {found.said('Adam', 'AdaGrad')}; {found.said('Nesterov', 'AdaGrad')} (asked "
                "for: both lower, with p below 0.05).",
                f"{' and '.join(slow)} cannot be told apart as faster. {self.setup['epochs']} epochs, where the paper "
                "has 45, favour AdaGrad's falling rate.",
            ),
        ]


class Autoencoder(Figure):
    """Adam with and without bias correction."""

    name = "adam-4-bias-correction"
    title = "A variational autoencoder with and without bias correction"
    source = "Kingma & Ba 2015, section 6.4, figure 4"
    needs = _TORCH
    data = "digits"
    beta1s, beta2s = (0.0, 0.9), (0.99, 0.999, 0.9999)
    lrs = tuple(10.0**power for power in range(-5, 0))
    epochs = 30
    setting = (
        f"On {words_for('digits')}; one hidden layer of 100 softplus units (the paper: 500) and 10 latent dimensions "
        f"(50), batches of 128, {epochs} epochs (10 and 100), one seed, the rates of the paper. The loss is the "
        "negative variational bound, in nats."
    )

    def parts(self, results: Results) -> list[Part]:
        """Return every setting."""
        grid = itertools.product(self.beta1s, self.beta2s, (True, False), self.lrs)
        return [self._part(*one) for one in grid]

    def _part(self, beta1: float, beta2: float, corrected: bool, lr: float) -> Part:
        given = {"beta1": beta1, "beta2": beta2, "corrected": corrected, "lr": lr}
        return part("networks:autoencoder", data=self.data, epochs=self.epochs, seed=0, **given)

    def _losses(self, beta1: float, beta2: float, corrected: bool, results: Results) -> list[float]:
        found = [results[self._part(beta1, beta2, corrected, lr)]["loss"] for lr in self.lrs]
        return [math.inf if loss is None else loss for loss in found]

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the best losses, and what is lost at the highest stable rate."""
        pairs = [(b1, b2) for b1 in self.beta1s for b2 in self.beta2s]
        best = {pair: [min(self._losses(*pair, corrected, results)) for corrected in (True, False)] for pair in pairs}
        lost = [self._lost(*pair, results) for pair in pairs if pair[1] >= 0.999]
        near = min(best[pair][0] for pair in pairs if pair[1] >= 0.999)
        least = min(min(both) for both in best.values())
        said = ", ".join(f"{b1:g}/{b2:g} {own:.2f} and {other:.2f}" for (b1, b2), (own, other) in best.items())
        return [
            Judgement(
                "Without correction, beta2 near 1 makes training unstable.",
                min(lost) > 1.05,
                "At the rate that is best with the correction, the loss without it is at least "
                f"{min(lost) - 1:.0%} higher for beta2 of 0.999 and 0.9999 (asked for: 5 %).",
                "The larger first steps do no lasting harm at these rates.",
            ),
            Judgement(
                "With the correction the best results are as good or better, whatever the betas.",
                all(own <= 1.01 * other for own, other in best.values()),
                f"Lowest losses with and without, by beta1/beta2: {said} (asked for: no more than 1 % higher).",
                "Without correction a beta2 near 1 acts as a rate that falls in these few epochs, which may help.",
            ),
            Judgement(
                "The best results come with a small 1 - beta2 and the correction.",
                near <= 1.01 * least,
                f"The lowest loss with the correction and beta2 of 0.999 or 0.9999 is {near:.2f}, the lowest of all "
                f"{least:.2f} (asked for: within 1 %).",
                "The differences are small beside the one that the rate makes.",
            ),
        ]

    def _lost(self, beta1: float, beta2: float, results: Results) -> float:
        """Return how many times higher the loss is without correction, at the best rate with it."""
        own, other = (self._losses(beta1, beta2, corrected, results) for corrected in (True, False))
        at = int(np.argmin(own))
        return other[at] / own[at]

    def table(self, results: Results) -> Table:
        """Return every setting."""
        grid = itertools.product(self.beta1s, self.beta2s, (True, False), self.lrs)
        rows = [[*one, results[self._part(*one)]["loss"]] for one in grid]
        return Table(("beta1", "beta2", "corrected", "lr", "loss"), rows)

    def draw(self, results: Results, theme: Theme) -> Canvas:
        """Return losses over the rate, a panel for each beta1."""
        cap = 1.2 * self._losses(0.0, 0.99, True, results)[0]  # of the lowest rate, which hardly trains
        panels = []
        for beta1 in self.beta1s:
            lines = [
                Line(
                    f"{beta2:g}{'' if corrected else ' without'}",
                    self.lrs,
                    np.minimum(self._losses(beta1, beta2, corrected, results), cap),
                    slot=slot + (0 if corrected else len(theme.palette)),
                )
                for slot, beta2 in enumerate(self.beta2s)
                for corrected in (True, False)
            ]
            panels.append(Panel(lines, "learning rate", "loss, nats", f"β₁ = {beta1:g}", log="xy", dots=True))
        note = f"after {self.epochs} epochs, by β₂ · dashed: without bias correction · cut at {cap:.0f}"
        return draw_panels(self.title, note, panels, theme)
