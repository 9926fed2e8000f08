"""Figure 2 of Reddi, Kale & Kumar 2018, arXiv:1904.09237: AMSGrad and Adam on a small network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from steprule.figures.contest import Contest, Entry, half_decades
from steprule.figures.figure import Judgement, Results

__all__ = ["Network"]

_BETA2 = (("beta2", 0.99),)


class Network(Contest):
    """One hidden layer."""

    name = "amsgrad-2-network"
    title = "A network of one hidden layer"
    source = "Reddi, Kale & Kumar 2018, section 5, figure 2, middle and right"
    takes = "mnist"
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 25, "hidden": (32,)}
    entries = (
        Entry("Adam", "adam", half_decades(-3, 4), _BETA2),
        Entry("AMSGrad", "amsgrad", half_decades(-3, 4), _BETA2),
    )

    @property
    def setting(self) -> str:
        """Say what is run."""
        return (
            f"{self.where} One hidden layer of 32 ReLU units (the paper: 100), batches of 128, 25 epochs, beta2 0.99, "
            "a constant rate; Adam with bias correction, AMSGrad in the paper's form, without. The paper has MNIST."
        )

    def judge(self, results: Results) -> list[Judgement]:
        """Compare training and test losses."""
        kinds = (("training", "batch"), ("test", "test"))
        found = {words: self.compare(results, kind) for words, kind in kinds}
        return [
            Judgement(
                f"AMSGrad performs better than Adam in {words} loss.",
                own.below("AMSGrad", "Adam"),
                f"Last {words} losses: {own.said('AMSGrad', 'Adam')} (asked for: lower, with p below 0.05).",
                "Gradients get smaller here and no large, rare one is forgotten, which is what the largest v prevents: "
                "the two come to much the same place.",
            )
            for words, own in found.items()
        ]
