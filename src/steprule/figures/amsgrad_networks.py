"""Figure 2 of Reddi, Kale & Kumar 2018, arXiv:1904.09237: AMSGrad and Adam on small networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from steprule.figures.contest import Contest, Entry, half_decades
from steprule.figures.figure import Judgement, Results

__all__ = ["Cifarnet", "Network"]

_BETA2 = (("beta2", 0.99),)


class Network(Contest):
    """One hidden layer."""

    name = "amsgrad-2-network"
    title = "A network of one hidden layer"
    source = "Reddi, Kale & Kumar 2018, section 5, figure 2, on MNIST"
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
                f"The medians differ by {own.median('AMSGrad') / own.median('Adam') - 1:+.1%}. What the largest v "
                "prevents is that a large, rare gradient is forgotten, and nothing shows that this network has such.",
            )
            for words, own in found.items()
        ]


class Cifarnet(Network):
    """Convolutions, through PyTorch."""

    name = "amsgrad-2-convolutions"
    title = "AMSGrad and Adam on convolutions"
    source = "Reddi, Kale & Kumar 2018, section 5, figure 2, CIFARNET on CIFAR-10"
    takes = "cifar10"
    needs: ClassVar[Mapping[str, str]] = {"torch": "torch"}
    work = "networks:convolutions"
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 15, "channels": (8, 16), "units": 64, "dropout": 0.5}

    @property
    def setting(self) -> str:
        """Say what is run."""
        return (
            f"{self.where} Two 5 x 5 convolutions of 8 and 16 channels, each with 3 x 3 max-pooling of stride 2, then "
            "64 ReLU units; dropout of 20 % of the inputs and 50 % of the units, batches of 128, 15 epochs, beta2 "
            "0.99, a constant rate; Adam with bias correction, AMSGrad in the paper's form, without. The paper has "
            "CIFARNET, a larger one, on CIFAR-10."
        )
