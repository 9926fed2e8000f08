"""Figure 2 of Kingma & Ba 2015, arXiv:1412.6980: a network of two hidden layers, with dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from steprule.figures.contest import Contest, Entry, half_decades
from steprule.figures.figure import Judgement, Results

__all__ = ["Dropout"]


class Dropout(Contest):
    """Five rules."""

    name = "adam-2-dropout"
    title = "A network of two hidden layers with dropout"
    source = "Kingma & Ba 2015, section 6.2, figure 2, right"
    takes = "mnist"
    seeds = 10
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 20, "hidden": (64, 64), "dropout": (0.2, 0.5, 0.5)}
    entries = (
        Entry("Adam", "adam", half_decades(-3, 4)),
        Entry("AdaGrad", "adagrad", half_decades(-2, 4)),
        Entry("RMSProp", "rmsprop", half_decades(-3, 4)),
        Entry("Nesterov", "momentum", half_decades(-2, 4), (("mu", 0.9), ("nesterov", True))),
        Entry("AdaDelta", "adadelta", half_decades(0, 4)),
    )

    @property
    def setting(self) -> str:
        """Say what is run."""
        return (
            f"{self.where} Two hidden layers of 64 ReLU units (the paper: 1000), batches of 128, 20 epochs; dropout of "
            "20 % of the inputs and 50 % of each hidden layer, a constant rate. AdaDelta has a rate here too, which "
            "its paper has not. The paper has MNIST."
        )

    def judge(self, results: Results) -> list[Judgement]:
        """Compare Adam with each of the others."""
        found = self.compare(results)
        others = [entry.label for entry in self.entries[1:]]
        beaten = [label for label in others if found.below("Adam", label)]
        best = min(found.labels, key=found.median)
        ahead = [label for label in others if found.below(label, "Adam")]
        apart = [label for label in others if label not in (*beaten, *ahead)]
        return [
            Judgement(
                "Adam converges better than the other first-order methods.",
                beaten == others,
                f"Last training losses: Adam {found.median('Adam'):.3g}, "
                + ", ".join(f"{label} {found.median(label):.3g} (p = {found.p('Adam', label):.2g})" for label in others)
                + " (asked for: Adam lower than each, with p below 0.05).",
                f"{best} has the lowest median here."
                + (f" Lower than Adam's are those of {', '.join(ahead)}, each at its best rate." if ahead else "")
                + (f" Beside the noise of dropout Adam cannot be told from {', '.join(apart)}." if apart else ""),
            )
        ]
