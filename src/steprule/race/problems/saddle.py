"""A saddle in the plane, entered almost along its ridge: how soon does a rule notice the way down?

f(x, y) = x^2 / 2 + y^4 / 4 - y^2 / 2 + 1/4: a saddle of height 1/4 at (0, 0) between two minima of
height 0 at (0, 1) and (0, -1).
"""

from steprule.race.plane import Surface

__all__ = ["problem"]


def problem() -> Surface:
    """Start near (-1.5, 0) with y about a thousandth, of either sign; 100 steps."""
    return Surface(
        value=lambda x, y: x * x / 2 + (y * y - 1) ** 2 / 4,
        slope=lambda x, y: (x, y * (y * y - 1)),
        start=(-1.5, 0.0),
        spread=(0.05, 1e-3),
        box=((-1.9, 1.0), (-1.8, 1.8)),
        epochs=20,
        steps=5,
        minima=((0.0, -1.0), (0.0, 1.0)),
    )
