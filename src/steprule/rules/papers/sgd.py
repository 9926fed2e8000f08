"""Gradient descent."""

from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Rate


@rule(paper="Robbins & Monro 1951, doi:10.1214/aoms/1177729586")
def sgd(theta, g, *, lr: Rate = 1e-2):
    """Step against the gradient: theta - lr g."""
    theta = theta - lr * g
    return (theta,)
