"""Figure 1 of Kingma & Ba 2015, arXiv:1412.6980: logistic regression, on dense and on sparse inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from steprule.figures.contest import Contest, Entry, half_decades
from steprule.figures.figure import Judgement, Results

__all__ = ["Dense", "Sparse", "SparseDropout"]

_RATE = "rate alpha / sqrt(t) (AdaGrad's is constant: its own sum makes it fall so, says section 5)"
_NESTEROV = (("mu", 0.9), ("nesterov", True))


class Dense(Contest):
    """Images."""

    name = "adam-1-dense"
    title = "Logistic regression on images"
    source = "Kingma & Ba 2015, section 6.1, figure 1, left"
    takes = "mnist"
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 30, "l2": 1e-4, "schedule": "inverse_sqrt"}
    entries = (
        Entry("Adam", "adam", half_decades(-2, 4)),
        Entry("Nesterov", "momentum", half_decades(-1, 4), _NESTEROV),
        Entry("AdaGrad", "adagrad", half_decades(-2, 4), schedule="constant"),
    )

    @property
    def setting(self) -> str:
        """Say what is run."""
        return f"{self.where} L2 penalty 1e-4, {_RATE}, batches of 128, 30 epochs. The paper has MNIST."

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the last losses."""
        found = self.compare(results)
        return [
            Judgement(
                "Adam converges like SGD with Nesterov momentum.",
                found.near("Adam", "Nesterov"),
                f"Last training losses: {found.said('Adam', 'Nesterov')}; alike means within 10 %.",
                "In a convex problem the rate that each may take decides, and the grid is by half decades.",
            ),
            *(
                Judgement(
                    f"{label} converges faster than AdaGrad.",
                    found.below(label, "AdaGrad"),
                    f"Last training losses: {found.said(label, 'AdaGrad')}; faster means lower, with p below 0.05.",
                    "All three rates fall as 1 / sqrt(t) here, so AdaGrad's fall is no handicap.",
                )
                for label in ("Adam", "Nesterov")
            ),
        ]


class Sparse(Contest):
    """Words."""

    name = "adam-1-sparse"
    title = "Logistic regression on a bag of words"
    source = "Kingma & Ba 2015, section 6.1, figure 1, right"
    takes = "imdb"
    data: str = "docs"
    setup: ClassVar[Mapping[str, Any]] = {"epochs": 20, "l2": 1e-5, "schedule": "inverse_sqrt"}
    entries = (
        Entry("Adam", "adam", half_decades(-2, 4)),
        Entry("Nesterov", "momentum", half_decades(0, 4), _NESTEROV),
        Entry("AdaGrad", "adagrad", half_decades(-1, 4), schedule="constant"),
    )

    @property
    def setting(self) -> str:
        """Say what is run."""
        dropped = " Half of the words of a text are dropped at each step." if self.setup.get("dropout") else ""
        return (
            f"{self.where} L2 penalty 1e-5, {_RATE}, batches of 128, 20 epochs.{dropped} The paper has "
            "IMDB's reviews, good or bad."
        )

    def judge(self, results: Results) -> list[Judgement]:
        """Compare the last losses."""
        found = self.compare(results)
        return [
            Judgement(
                "AdaGrad outperforms SGD with Nesterov momentum by a large margin, as rare words have rare gradients.",
                found.below("AdaGrad", "Nesterov") and found.median("AdaGrad") < 0.9 * found.median("Nesterov"),
                f"Last training losses: {found.said('AdaGrad', 'Nesterov')}; a large margin means 10 % and p < 0.05.",
                "Rows have length 1 and Nesterov's rate is tuned: rare words are learnt by plain steps, too.",
            ),
            Judgement(
                "Adam converges as fast as AdaGrad.",
                found.near("Adam", "AdaGrad") or found.below("Adam", "AdaGrad"),
                f"Last training losses: {found.said('Adam', 'AdaGrad')}; as fast means within 10 %, or lower.",
                "AdaGrad sums all squares, and Adam forgets them within a thousand steps: after its rare gradient a "
                "word goes on being moved by the first moment.",
            ),
        ]


class SparseDropout(Sparse):
    """Words, half of which are dropped."""

    name = "adam-1-sparse-dropout"
    title = "The bag of words with dropout"
    setup: ClassVar[Mapping[str, Any]] = {**Sparse.setup, "dropout": (0.5,)}
