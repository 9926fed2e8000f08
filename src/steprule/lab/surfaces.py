"""The surfaces of the lab, each defined once, in SymPy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from steprule.errors import ProblemError, suggest
from steprule.lab.minima import minima
from steprule.lab.surface import Box, Surface

__all__ = ["NAMES", "is_name", "own", "surface", "surfaces"]

NAMES = (
    "long-valley",
    "saddle",
    "beale",
    "rosenbrock",
    "himmelblau",
    "rastrigin",
    "noisy-bowl",
    "sparse-bowl",
    "silence",
    "reddi",
)
_OWN_BOX: Box = ((-3.0, 3.0), (-3.0, 3.0))
_WORD = re.compile(r"[A-Za-z]{3,}([ -][A-Za-z]+)*")
_EDGES = 4
_WIDEST = 1e30


@cache
def surfaces() -> dict[str, Surface]:
    """Return the surfaces by name."""
    import sympy as sp

    x, y, t, u = (sp.Symbol(name, real=True) for name in "xytu")
    made = (
        Surface(
            "long-valley",
            "Long valley",
            "Steep walls, and a floor that hardly falls (Rosenbrock's valley, made wider). A step that is small enough "
            "for the walls is tiny along the floor.",
            0.05 * (1 - x) ** 2 + (y - x**2) ** 2,
            ((-2.1, 1.9), (-0.6, 3.2)),
            (-1.6, 0.6),
            ((1.0, 1.0),),
        ),
        Surface(
            "saddle",
            "Saddle",
            "Two minima, and between them a saddle where the gradient is almost zero. Rules that scale each coordinate "
            "leave it at once.",
            x**2 / 2 + (y**2 - 1) ** 2 / 4,
            ((-1.9, 1.0), (-1.8, 1.8)),
            (-1.5, 0.005),
            ((0.0, -1.0), (0.0, 1.0)),
            200,
        ),
        Surface(
            "beale",
            "Beale",
            "A flat middle, sharp peaks in the corners, and gradients that span five powers of ten.",
            (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
            ((-4.5, 4.5), (-4.5, 4.5)),
            (1.0, 1.5),
            ((3.0, 0.5),),
        ),
        Surface(
            "rosenbrock",
            "Rosenbrock",
            "The classic banana: the valley is found at once, and followed for a long time.",
            (1 - x) ** 2 + 100 * (y - x**2) ** 2,
            ((-2.0, 2.0), (-1.0, 3.0)),
            (-1.5, 2.0),
            ((1.0, 1.0),),
            500,
        ),
        Surface(
            "himmelblau",
            "Himmelblau",
            "Four minima of the same depth. Which one is reached depends on the start, and on the rule.",
            (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
            ((-5.5, 5.5), (-5.5, 5.5)),
            (0.0, -0.5),
            ((3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)),
            200,
        ),
        Surface(
            "rastrigin",
            "Rastrigin",
            "A bowl with a hundred dents. Momentum rolls through some of them, a small step stays in the first.",
            20 + x**2 - 10 * sp.cos(2 * sp.pi * x) + y**2 - 10 * sp.cos(2 * sp.pi * y),
            ((-4.3, 4.3), (-4.3, 4.3)),
            (-3.3, 2.6),
            ((0.0, 0.0),),
            300,
            soft=0.5,
        ),
        Surface(
            "noisy-bowl",
            "Noisy bowl",
            "A stretched bowl whose gradient comes with noise, as a batch's does. The smaller the steps, the nearer "
            "the paths come; the longer the memory, the smoother they are.",
            0.5 * (x**2 + 8 * y**2),
            ((-3.0, 3.0), (-2.2, 2.2)),
            (-2.6, 1.8),
            ((0.0, 0.0),),
            300,
            noise=2.0,
            soft=0.02,
        ),
        Surface(
            "sparse-bowl",
            "Sparse gradients",
            "x is seen in every step; y in one of ten, at random, as the row of a rare word, so on average the bowl is "
            "hardly inclined along y. Rules with a memory of squares take long steps there when they can.",
            5 * x**2 + y**2 / 20,
            ((-3.0, 3.0), (-3.0, 3.0)),
            (-2.4, 2.4),
            ((0.0, 0.0),),
            300,
            soft=0.02,
            sampled=5 * x**2 + sp.Piecewise((y**2 / 2, u < 0.1), (0, True)),
        ),
        Surface(
            "silence",
            "A long silence",
            "A round bowl, but y is silent for 5,000 steps, and then seen in each of 250 steps. What a rule has "
            "forgotten by then shows in the length of its steps.",
            0.5 * x**2 + 0.5 * y**2,
            ((-3.0, 3.0), (-3.0, 3.0)),
            (-2.4, 2.4),
            ((0.0, 0.0),),
            5250,
            soft=0.02,
            sampled=0.5 * x**2 + sp.Piecewise((10.5 * y**2, sp.Mod(t - 1, 5250) >= 5000), (0, True)),
        ),
        Surface(
            "reddi",
            "Reddi's counterexample",
            "On the line from -1 to 1 the slope is 1010 in one step of 101 and -10 in the others, so the minimum is at "
            "-1. Adam forgets the rare large gradient and goes to +1 (Reddi, Kale & Kumar 2018, section 3).",
            sp.Rational(10, 101) * x,
            ((-1.0, 1.0), (0.0, 1.0)),
            (0.0,),
            ((-1.0,),),
            2000,
            sampled=x * sp.Piecewise((1010, sp.Eq(sp.Mod(t, 101), 1)), (-10, True)),
            limits=(-1.0, 1.0),
            dimensions=1,
        ),
    )
    return {one.key: one for one in made}


def is_name(text: str) -> bool:
    """Whether a text names a surface, perhaps misspelt; anything else is an expression."""
    return text in NAMES or _WORD.fullmatch(text) is not None


def surface(text: str, box: Sequence[float] | None = None) -> Surface:
    """Return the surface of a name, or of an expression in x and y.

    Args:
        text: a name (``"rosenbrock"``; ``surfaces()`` has them all), or an expression, as ``own`` takes it.
        box: of an expression, what is drawn: (x from, x to, y from, y to).

    Raises:
        ProblemError: when there is no such surface, the text is not an expression, or the box none.
    """
    if not is_name(text):
        return own(text, box)
    if text not in NAMES:
        raise ProblemError(
            f"no surface is called {text!r}.{suggest(text, NAMES)} Or give an expression in x and y, as in "
            "'x**2 + 4*y**2'"
        )
    if box is not None:
        raise ProblemError(f"a box belongs to an expression; {text!r} has its own")
    return surfaces()[text]


def own(text: str, box: Sequence[float] | None = None) -> Surface:
    """Return the surface of an expression in x and y that a user wrote, as ``"abs(x) + y**2"``.

    Args:
        text: the expression.
        box: the part of the plane that is drawn, as (x from, x to, y from, y to). Default: from -3 to 3. Paths begin
            in its upper right, unless a start is given.

    Raises:
        ProblemError: when it is no such expression, or the box is none.
    """
    sides = _sides(box) if box is not None else _OWN_BOX
    if "^" in text:
        raise ProblemError(
            f"{text!r} is not an expression in x and y: write ** for powers, as in {text.replace('^', '**')!r}"
        )
    import sympy as sp
    from sympy.parsing.sympy_parser import parse_expr

    x, y = (sp.Symbol(name, real=True) for name in "xy")
    try:
        value = parse_expr(text, {"x": x, "y": y, "abs": sp.Abs, "max": sp.Max, "min": sp.Min})
    except Exception as error:
        raise ProblemError(
            f"{text!r} is not an expression in x and y ({error}); write it as in 'x**2 + 4*y**2'"
        ) from None
    if not isinstance(value, sp.Expr) or not value.free_symbols:
        raise ProblemError(f"{text!r} is not a function of x and y; write it as in 'x**2 + 4*y**2'")
    others = sorted(symbol.name for symbol in value.free_symbols - {x, y})
    if others:
        raise ProblemError(f"a surface is a function of x and y, got {', '.join(map(repr, others))} as well")
    start = tuple(low + 5 * (high - low) / 6 for low, high in sides)
    made = Surface("own", " ".join(text.split()), "A surface of your own.", value, sides, start, ())
    made.python()  # refuses what cannot be written
    return replace(made, minima=minima(made))


def _sides(box: Sequence[float]) -> Box:
    """Return the sides of a box that a user gave."""
    written = ",".join(f"{edge:g}" for edge in box)
    if len(box) != _EDGES:
        raise ProblemError(f"a box has 4 numbers, x from and to and y from and to, as in -2,2,-1,3; got {written}")
    x0, x1, y0, y1 = map(float, box)
    if not (-_WIDEST < x0 < x1 < _WIDEST and -_WIDEST < y0 < y1 < _WIDEST):
        raise ProblemError(
            f"a box goes from a smaller to a larger number, of less than 1e30, as in -2,2,-1,3; got {written}"
        )
    return (x0, x1), (y0, y1)
