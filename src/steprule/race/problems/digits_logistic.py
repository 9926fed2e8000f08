"""Softmax regression on 1,797 handwritten digits of 8 x 8 pixels (scikit-learn's), L2-regularised.

Convex: every rule can reach the same loss, and the race is about how soon.
"""

from steprule.race.classifier import Classifier
from steprule.race.data import digits

__all__ = ["problem"]


def problem() -> Classifier:
    """64 inputs, 10 classes, l2 = 1e-4, 40 epochs of 12 batches."""
    return Classifier(digits(), epochs=40, l2=1e-4)
