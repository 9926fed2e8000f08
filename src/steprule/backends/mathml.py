"""A rule's formula in MathML, for pages: as symbols, and with places for the numbers of a step."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from steprule.backends.formula import (
    ATOM,
    FUNCTIONS,
    GREEK,
    POWER,
    PRODUCT,
    Equation,
    Style,
    equations,
    name_parts,
    plain_number,
    point_equation,
    spellings,
)
from steprule.rules import Rule
from steprule.rules.named import Named, named
from steprule.rules.rule import Variant

__all__ = ["Line", "lines", "symbols"]

# The font of the lab has ∥, which is a sign between two things elsewhere.
_NORM = '<mrow><mo form="prefix" lspace="0" rspace="0">∥</mo>{0}<mo form="postfix" lspace="0" rspace="0">∥</mo></mrow>'
_TABLE = {
    "add": "{0}<mo>+</mo>{1}",
    "sub": "{0}<mo>−</mo>{1}",
    "mul": '{0}<mspace width="0.17em"/>{1}',
    "times": "{0}<mo>·</mo>{1}",
    "div": "<mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac>",
    "mod": "{0}<mo>mod</mo>{1}",
    "floordiv": "<mo>⌊</mo>{0}<mo>/</mo>{1}<mo>⌋</mo>",
    "pow": "<msup><mrow>{0}</mrow><mrow>{1}</mrow></msup>",
    "square": "<msup><mrow>{0}</mrow><mn>2</mn></msup>",
    "neg": "<mo>−</mo>{0}",
    "abs": "<mrow><mo>|</mo>{0}<mo>|</mo></mrow>",
    "sqrt": "<msqrt>{0}</msqrt>",
    "lt": "{0}<mo>&lt;</mo>{1}",
    "le": "{0}<mo>≤</mo>{1}",
    "gt": "{0}<mo>&gt;</mo>{1}",
    "ge": "{0}<mo>≥</mo>{1}",
    "eq": "{0}<mo>=</mo>{1}",
    "ne": "{0}<mo>≠</mo>{1}",
    "and": "{0}<mo>∧</mo>{1}",
    "or": "{0}<mo>∨</mo>{1}",
    "not": "<mo>¬</mo>{0}",
    "where": (
        '<mrow><mo>{{</mo><mtable columnalign="left">'
        '<mtr><mtd>{1}</mtd><mtd><mtext>if</mtext><mspace width="0.3em"/>{0}</mtd></mtr>'
        "<mtr><mtd>{2}</mtd><mtd><mtext>otherwise</mtext></mtd></mtr></mtable></mrow>"
    ),
    "maximum": "<mi>max</mi><mo>(</mo>{0}<mo>,</mo>{1}<mo>)</mo>",
    "minimum": "<mi>min</mi><mo>(</mo>{0}<mo>,</mo>{1}<mo>)</mo>",
    "sign": "<mi>sign</mi><mo>(</mo>{0}<mo>)</mo>",
    "total": "<munder><mo>∑</mo><mi>i</mi></munder>{0}",
    "mean": "<mi>mean</mi><mo>(</mo>{0}<mo>)</mo>",
    "norm": _NORM,
    "rms": "<mi>RMS</mi><mo>(</mo>{0}<mo>)</mo>",
    "size": "<mi>size</mi><mo>(</mo>{0}<mo>)</mo>",
    "ndim": "<mi>ndim</mi><mo>(</mo>{0}<mo>)</mo>",
    "polar": "<mi>polar</mi><mo>(</mo>{0}<mo>)</mo>",
}
for _over in ("all", "row", "column"):
    _mark = f'<mrow><mi>{_over}</mi><mspace width="0.17em"/><mi>i</mi></mrow>'
    _TABLE |= {
        f"total over {_over}": f"<munder><mo>∑</mo>{_mark}</munder>{{0}}",
        f"norm over {_over}": f"<msub>{_NORM}<mi>{_over}</mi></msub>",
        **{
            f"{op} over {_over}": f"<msub><mi>{word}</mi><mi>{_over}</mi></msub><mo>(</mo>{{0}}<mo>)</mo>"
            for op, word in (("mean", "mean"), ("rms", "RMS"), ("size", "size"))
        },
    }


@dataclass(frozen=True)
class Line:
    """One equation: whose new value it gives, its two sides in symbols, and the right one with places for numbers."""

    name: str
    left: str
    right: str
    numbers: str


def lines(rule: Rule, variant: Variant | None = None) -> list[Line]:
    """Return the equations of a rule as MathML without its ``math`` element.

    In ``numbers`` each symbol is an empty ``<mn data-of="NAME" data-age="AGE">``, where the age is ``old`` (of the step
    before), ``new`` (of this step) or empty (a hyperparameter, t, or an intermediate value).

    The evaluated point is the last line, where the rule has one.
    """
    given = named(rule, variant)
    written, filled = (_equations(style, rule, given) for style in (_style(spellings(rule, given)), _with_places()))
    return [Line(a.name, a.left, a.right, b.right) for a, b in zip(written, filled, strict=True)]


def _equations(style: Style, rule: Rule, given: Named) -> list[Equation]:
    point = point_equation(style, rule, given)
    return [*equations(style, given), *([point] if point else [])]


def symbols(rule: Rule, names: Iterable[str], variant: Variant | None = None) -> dict[str, str]:
    """Return how names are written: ``sqrt NAME`` as a root, ``1 - NAME^t`` as a power, as ``rules.named`` has them."""
    written = functools.partial(_name, spellings(rule, named(rule, variant)), age="")
    return {name: _symbol(name, written) for name in names}


def _symbol(name: str, written: Callable[[str], str]) -> str:
    if name.startswith("sqrt "):
        return _TABLE["sqrt"].format(written(name.removeprefix("sqrt ")))
    if name.startswith("1 - ") and name.endswith("^t"):
        decay = written(name.removeprefix("1 - ").removesuffix("^t"))
        return _TABLE["sub"].format("<mn>1</mn>", _TABLE["pow"].format(decay, "<mi>t</mi>"))
    return written(name)


def _name(spelled: Mapping[str, str], name: str, age: str) -> str:
    stem, suffixes = name_parts(spelled.get(name, name))
    base = f"<mi>{GREEK.get(stem, stem)}</mi>"
    if "hat" in suffixes:
        base = f'<mover accent="true">{base}<mo stretchy="false">ˆ</mo></mover>'
    below = [_below(suffix) for suffix in suffixes if suffix not in ("", "hat")]
    below += {"old": ["<mi>t</mi><mo>−</mo><mn>1</mn>"], "new": ["<mi>t</mi>"]}.get(age, [])
    return f"<msub>{base}<mrow>{'<mo>,</mo>'.join(below)}</mrow></msub>" if below else base


def _below(suffix: str) -> str:
    return f"<mn>{suffix}</mn>" if suffix.isdigit() else f"<mi>{suffix}</mi>"


def _number(value: float) -> tuple[str, int]:
    mantissa, _, exponent = plain_number(value).partition("e")
    if not exponent:
        return f"<mn>{mantissa}</mn>", ATOM
    sign = "<mo>−</mo>" if int(exponent) < 0 else ""
    power = f"<msup><mn>10</mn><mrow>{sign}<mn>{abs(int(exponent))}</mn></mrow></msup>"
    return (power, POWER) if mantissa == "1" else (f"<mn>{mantissa}</mn><mo>·</mo>{power}", PRODUCT)


def _style(spelled: Mapping[str, str]) -> Style:
    return Style(
        table=_TABLE,
        bracket="<mrow><mo>(</mo>{0}<mo>)</mo></mrow>",
        # Bars, roots and fractions hold what is inside them; a fraction or a brace as a base does not show its end.
        places={"div": (0, 0), "pow": (ATOM, 0), "sqrt": (0,)},
        binding={"div": POWER, "sqrt": ATOM, "where": 0},
        name=functools.partial(_name, spelled),
        function=lambda name: f"<mi>{FUNCTIONS.get(name, name)}</mi>",
        number=_number,
        call="{0}<mo>(</mo>{1}<mo>)</mo>",
        comma="<mo>,</mo>",
        read=lambda text: re.sub(r"<[^>]*>", "", text),
    )


def _with_places() -> Style:
    """Return the style whose symbols are places for numbers. Between two numbers a product needs its dot."""

    def place(name: str, age: str) -> str:
        return f'<mn data-of="{name}" data-age="{age}"></mn>'

    return replace(_style({}), table={**_TABLE, "mul": _TABLE["times"]}, name=place)
