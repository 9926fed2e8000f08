"""A loss surface of the lab: its expression, its gradient by SymPy, and both as code."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steprule.errors import ProblemError
from steprule.lab.expressions import as_javascript, as_python, nodes

if TYPE_CHECKING:
    import sympy

    from steprule.film import Ground

__all__ = ["Array", "Box", "Surface", "ground_of"]

Array: TypeAlias = NDArray[np.float64]
Box: TypeAlias = tuple[tuple[float, float], tuple[float, float]]
_ONE_DIMENSION = 1
_SHORT = 10**6
_LARGEST = 1e30
"""What float32 can hold, with room for squares."""


def _listed(point: tuple[float, ...]) -> str:
    return ", ".join(f"{coordinate:g}" for coordinate in point)


@dataclass(frozen=True)
class Surface:
    """A function of x and y (or of x alone) that rules descend.

    Attributes:
        key: its name in links.
        title: its name on the page.
        about: one or two sentences: what it shows.
        value: f, the loss that is drawn.
        box: the part of the plane that is drawn: ((x from, to), (y from, to)); in one dimension y has no meaning.
        start: where paths begin, unless a link says otherwise.
        minima: the points that count as an arrival.
        steps: how long paths are.
        sampled: the loss of one step, whose mean over draws ``u`` from 0 to 1 (and over ``t``) is ``value``; None where
            it is ``value`` itself.
        noise: the standard deviation that the slider of the noise begins with.
        limits: where each step is projected to: an interval for every coordinate.
        soft: of the median height, what is added to heights before their logarithm is drawn: the larger, the more even
            is the ground near a minimum.
        dimensions: 2, or 1.
    """

    key: str
    title: str
    about: str
    value: sympy.Expr
    box: Box
    start: tuple[float, ...]
    minima: tuple[tuple[float, ...], ...]
    steps: int = 300
    sampled: sympy.Expr | None = None
    noise: float = 0.0
    limits: tuple[float, float] | None = None
    soft: float = 1e-3
    dimensions: int = 2

    @cached_property
    def slope(self) -> tuple[sympy.Expr, ...]:
        """The gradient of one step, by SymPy."""
        import sympy

        loss = self.value if self.sampled is None else self.sampled
        return tuple(sympy.diff(loss, sympy.Symbol(name, real=True)) for name in "xy"[: self.dimensions])

    @cached_property
    def kinks(self) -> dict[str, sympy.Expr]:
        """Expressions that are zero where f may have no gradient, by what holds there, in words."""
        import sympy

        found: dict[str, sympy.Expr] = {}
        loss = self.value if self.sampled is None else self.sampled
        for part in sympy.preorder_traversal(loss):
            if isinstance(part, (sympy.Abs, sympy.sign)):
                found[f"{part.args[0]} = 0"] = part.args[0]
            elif isinstance(part, (sympy.Max, sympy.Min)):
                for one, other in itertools.combinations(part.args, 2):
                    # Where a third is larger, the two may be equal.
                    found[f"{one} = {other}"] = abs(one - other) + abs(part - type(part)(one, other))
            elif part.is_Pow and part.exp.is_Rational and part.exp.q == 2 and part.exp < 2:
                found[f"{part.base} = 0"] = part.base
        return {words: kink for words, kink in found.items() if kink.free_symbols}

    def formula(self) -> str:
        """Return f in MathML, by SymPy's printer; no sum begins with a minus where it has another term."""
        from sympy.printing.mathml import MathMLPresentationPrinter

        class Printer(MathMLPresentationPrinter):  # type: ignore[misc]
            def _as_ordered_terms(self, expr: Any, order: Any = None) -> list[Any]:
                terms: list[Any] = super()._as_ordered_terms(expr, order=order)
                is_led = not terms[0].could_extract_minus_sign()
                return terms if is_led else sorted(terms, key=lambda term: bool(term.could_extract_minus_sign()))

            def _print_Float(self, expr: Any) -> Any:  # noqa: N802
                is_short = float(expr).is_integer() and abs(expr) < _SHORT
                return self._print(int(expr)) if is_short else super()._print_Float(expr)

        text: str = Printer().doprint(self.value)
        if "<mfrac>" not in text:  # parentheses of one size: those around a power would be larger than the others
            text = re.sub(r"<mo>([()])</mo>", r'<mo stretchy="false">\1</mo>', text)
        return text.replace("<mo>-</mo>", "<mo>&minus;</mo>")  # in a font that is none for formulas a hyphen stays one

    def python(self) -> str:
        """Return ``value``, ``slope`` and ``kinks`` of the surface, functions of x, y, t and u, as NumPy text."""
        return "\n\n".join(as_python(name, program) for name, program in self._programs.items() if program)

    def javascript(self) -> str:
        """Return the same functions as JavaScript text."""
        return "".join(as_javascript(name, program) for name, program in self._programs.items() if program)

    @cached_property
    def _programs(self) -> dict[str, list[Any]]:
        return {"value": nodes([self.value]), "slope": nodes(self.slope), "kinks": nodes(list(self.kinks.values()))}

    @cached_property
    def _functions(self) -> dict[str, Callable[..., tuple[Any, ...]]]:
        namespace: dict[str, Any] = {"np": np}
        exec(compile(self.python(), f"<surface {self.key}>", "exec"), namespace)
        return namespace

    def loss(self, point: Array) -> Any:
        """Return f at points: an array whose first axis has the coordinates."""
        with np.errstate(all="ignore"):
            return self._functions["value"](*self._arguments(point, 1, 0.5))[0]

    def gradient(self, point: Array, t: int = 1, u: float = 0.5) -> Array:
        """Return the gradient of step t at points."""
        with np.errstate(all="ignore"):
            found = self._functions["slope"](*self._arguments(point, t, u))
        return np.array([np.broadcast_to(part, np.shape(point)[1:]) for part in found], np.float64)

    def check_start(self, start: tuple[float, ...]) -> None:
        """Raise ``ProblemError`` where f has no gradient at a start, or the start no meaning."""
        if len(start) != self.dimensions:
            raise ProblemError(f"a start on {self.key!r} has {self.dimensions} coordinates, got {len(start)}")
        low, high = self.limits or (-_LARGEST, _LARGEST)
        if not all(low <= coordinate <= high for coordinate in start):
            raise ProblemError(f"a start on {self.key!r} lies between {low:g} and {high:g}, got {_listed(start)}")
        point = np.array(start, np.float32).astype(np.float64)  # where the parameters are
        kinks = self._functions["kinks"](*self._arguments(point, 1, 0.5)) if self.kinks else ()
        at = f"at the start ({_listed(start)})"
        for words, kink in zip(self.kinks, kinks, strict=True) if kinks else ():
            if float(kink) == 0.0:
                beside = ",".join(f"{coordinate + 0.01 * (k + 1):g}" for k, coordinate in enumerate(start))
                raise ProblemError(
                    f"{self.title} is not differentiable {at}: it has a kink where {words}. Start beside it, as with "
                    f"--start {beside}"
                )
        if not np.isfinite(self.loss(point)) or not np.isfinite(self.gradient(point)).all():
            raise ProblemError(
                f"{self.title} has no finite loss or gradient {at}; start elsewhere, as with --start 1,1"
            )

    def _arguments(self, point: Array, t: int, u: float) -> tuple[Any, ...]:
        point = np.asarray(point, np.float64)
        return (
            point[0],
            point[1] if self.dimensions > _ONE_DIMENSION else np.float64(0.0),
            np.float64(t),
            np.float64(u),
        )


def ground_of(surface: Surface) -> Ground:
    """Return what is drawn of a surface."""
    from steprule.film import Ground

    return Ground(surface.title, surface.box, surface.loss, surface.minima, surface.soft, flat=surface.dimensions == 1)
