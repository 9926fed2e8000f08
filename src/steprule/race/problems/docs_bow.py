"""Which module of Python's standard library does a docstring come from: softmax regression on a bag of 10,000 words.

Sparse, as the IMDB experiment of Kingma & Ba 2015 (section 6.1): most words are rare, so most
elements of a gradient are zero, and rules that scale each element by its own history are ahead.
"""

from steprule.race.classifier import Classifier, split
from steprule.race.corpus import bag_of_words, docstrings

__all__ = ["problem"]


def problem() -> Classifier:
    """10,000 inputs, some 50 classes, l2 = 1e-5, 8 epochs.

    The grid lies higher than usual: rare words have tiny gradients, and gradient descent needs steps to match.
    """
    texts, modules = docstrings()
    lrs = (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 1e1, 3e1, 1e2)
    return Classifier(split(*bag_of_words(texts, modules)), epochs=8, l2=1e-5, lrs=lrs)
