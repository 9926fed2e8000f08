"""A network of two hidden ReLU layers (128, 64) on 1,797 handwritten digits of 8 x 8 pixels (scikit-learn's)."""

from steprule.race.classifier import Classifier
from steprule.race.data import digits

__all__ = ["problem"]


def problem() -> Classifier:
    """64-128-64-10 units, no regularisation, 50 epochs of 12 batches."""
    return Classifier(digits(), hidden=(128, 64), epochs=50)
