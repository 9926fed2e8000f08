"""Softmax regression on the 70,000 digits of MNIST (784 pixels), L2-regularised. Downloads 15 MB once.

Figure 1 (left) of Kingma & Ba 2015, arXiv:1412.6980, with a constant step size.
"""

from steprule.race.classifier import Classifier
from steprule.race.data import mnist

__all__ = ["problem"]


def problem() -> Classifier:
    """784 inputs, 10 classes, l2 = 1e-4, 5 epochs of 469 batches: some 20 minutes on two cores."""
    return Classifier(mnist(), epochs=5, l2=1e-4)
