"""A long curved valley in the plane, with steep walls and a floor that hardly falls (Rosenbrock's, made wider).

f(x, y) = 0.05 (1 - x)^2 + (y - x^2)^2, with its minimum 0 at (1, 1). A step that is small enough
for the walls is tiny along the floor.
"""

from steprule.race.plane import Surface

__all__ = ["problem"]


def problem() -> Surface:
    """Start near (-1.6, 0.6), on a wall; 400 steps."""
    return Surface(
        value=lambda x, y: 0.05 * (1 - x) ** 2 + (y - x * x) ** 2,
        slope=lambda x, y: (-0.1 * (1 - x) - 4 * x * (y - x * x), 2 * (y - x * x)),
        start=(-1.6, 0.6),
        spread=(0.05, 0.05),
        box=((-2.1, 1.9), (-0.6, 3.2)),
        minima=((1.0, 1.0),),
    )
