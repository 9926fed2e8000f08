"""A rule's formula, in LaTeX for documents and in Unicode for terminals."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

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
from steprule.rules.named import named
from steprule.rules.rule import Variant

__all__ = ["emit", "point", "text"]

_LATEX = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": r"{0} \, {1}",
    "div": r"\frac{{{0}}}{{{1}}}",
    "times": r"{0} \cdot {1}",
    "mod": r"{0} \bmod {1}",
    "floordiv": r"\left\lfloor {0} / {1} \right\rfloor",
    "pow": "{0}^{{{1}}}",
    "square": "{0}^2",
    "neg": "-{0}",
    "abs": r"\left|{0}\right|",
    "sqrt": r"\sqrt{{{0}}}",
    "lt": "{0} < {1}",
    "le": r"{0} \le {1}",
    "gt": "{0} > {1}",
    "ge": r"{0} \ge {1}",
    "eq": "{0} = {1}",
    "ne": r"{0} \ne {1}",
    "and": r"{0} \wedge {1}",
    "or": r"{0} \vee {1}",
    "not": r"\neg {0}",
    "where": r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{otherwise}} \end{{cases}}",
    "maximum": r"\max({0}, {1})",
    "minimum": r"\min({0}, {1})",
    "sign": r"\operatorname{{sign}}({0})",
    "total": r"\sum_i {0}",
    "mean": r"\operatorname{{mean}}\left({0}\right)",
    "norm": r"\left\lVert {0} \right\rVert",
    "rms": r"\mathrm{{RMS}}\left({0}\right)",
    "size": r"\operatorname{{size}}\left({0}\right)",
    "ndim": r"\operatorname{{ndim}}\left({0}\right)",
    "polar": r"\operatorname{{polar}}\left({0}\right)",
}
for _over in ("all", "row", "column"):
    _below = rf"_{{{{\mathrm{{{{{_over}}}}}}}}}"
    _LATEX |= {
        f"total over {_over}": rf"\sum_{{{{\mathrm{{{{{_over}}}}}\ i}}}} {{0}}",
        f"mean over {_over}": rf"\operatorname{{{{mean}}}}{_below}\left({{0}}\right)",
        f"norm over {_over}": rf"\left\lVert {{0}} \right\rVert{_below}",
        f"rms over {_over}": rf"\mathrm{{{{RMS}}}}{_below}\left({{0}}\right)",
        f"size over {_over}": rf"\operatorname{{{{size}}}}{_below}\left({{0}}\right)",
    }

_TEXT = {
    **_LATEX,
    "mul": "{0}·{1}",
    "div": "{0} / {1}",
    "times": "{0}·{1}",
    "mod": "{0} mod {1}",
    "floordiv": "floor({0} / {1})",
    "pow": "{0}^{1}",
    "square": "{0}²",
    "neg": "-{0}",
    "abs": "|{0}|",
    "sqrt": "√{0}",
    "le": "{0} ≤ {1}",
    "ge": "{0} ≥ {1}",
    "ne": "{0} ≠ {1}",
    "and": "{0} and {1}",
    "or": "{0} or {1}",
    "not": "not {0}",
    "where": "({1} if {0} else {2})",
    "maximum": "max({0}, {1})",
    "minimum": "min({0}, {1})",
    "sign": "sign({0})",
    "total": "Σᵢ({0})",
    "mean": "mean({0})",
    "norm": "‖{0}‖",
    "rms": "RMS({0})",
    "size": "size({0})",
    "ndim": "ndim({0})",
    "polar": "polar({0})",
}
for _over in ("all", "row", "column"):
    _TEXT |= {
        f"total over {_over}": f"Σ_{_over}({{0}})",
        f"mean over {_over}": f"mean_{_over}({{0}})",
        f"norm over {_over}": f"‖{{0}}‖_{_over}",
        f"rms over {_over}": f"RMS_{_over}({{0}})",
        f"size over {_over}": f"size_{_over}({{0}})",
    }


def _latex_name(spellings: Mapping[str, str], name: str, age: str) -> str:
    stem, suffixes = name_parts(spellings.get(name, name))
    base = "\\" + stem if stem in GREEK else stem if len(stem) == 1 else rf"\mathrm{{{stem}}}"
    if "hat" in suffixes:
        base = rf"\hat{{{base}}}"
    below = [s if s.isdigit() or len(s) == 1 else rf"\mathrm{{{s}}}" for s in suffixes if s not in ("", "hat")]
    below += {"old": ["t-1"], "new": ["t"]}.get(age, [])
    return f"{base}_{{{', '.join(below)}}}" if below else base


def _text_name(spellings: Mapping[str, str], name: str, age: str) -> str:
    stem, suffixes = name_parts(spellings.get(name, name))
    stem = GREEK.get(stem, stem) + ("\u0302" if "hat" in suffixes else "")
    below = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
    return stem + "".join(s.translate(below) if s.isdigit() else f"_{s}" for s in suffixes if s != "hat")


def _latex_number(value: float) -> tuple[str, int]:
    if math.isinf(value):
        return r"\infty", ATOM
    mantissa, _, exponent = plain_number(value).partition("e")
    if not exponent:
        return mantissa, ATOM
    power = f"10^{{{int(exponent)}}}"
    return (power, POWER) if mantissa == "1" else (rf"{mantissa} \cdot {power}", PRODUCT)


def _latex_function(name: str) -> str:
    return f"\\{FUNCTIONS[name]}" if name in FUNCTIONS else rf"\operatorname{{{name}}}"


def _style(spellings: Mapping[str, str], latex: bool) -> Style:
    if not latex:
        name = functools.partial(_text_name, spellings)
        return Style(
            _TEXT,
            "({0})",
            {"total": (0,)},
            {"total": ATOM},
            name,
            lambda f: FUNCTIONS.get(f, f),
            lambda x: (plain_number(x), ATOM),
        )
    return Style(
        table=_LATEX,
        bracket=r"\left({0}\right)",
        # Bars and braces hold what is inside them; a fraction or a brace as a base does not show its end.
        places={"div": (0, 0), "pow": (ATOM, 0), "sqrt": (0,)},
        binding={"div": POWER, "sqrt": ATOM, "where": 0},
        name=functools.partial(_latex_name, spellings),
        function=_latex_function,
        number=_latex_number,
    )


def _equations(rule: Rule, variant: Variant | None, latex: bool) -> list[Equation]:
    given = named(rule, variant)
    style = _style(spellings(rule, given), latex)
    point = point_equation(style, rule, given)
    return [*equations(style, given), *([point] if point else [])]


def emit(rule: Rule, variant: Variant | None = None) -> str:
    """Return the formula as an ``aligned`` block: slots and intermediate values, then the parameter.

    Of a rule that is evaluated elsewhere than it trains, the last line is the evaluated point, called ``x`` where
    nothing else is.
    """
    lines = [f"{line.left} &= {line.right}" for line in _equations(rule, variant, latex=True)]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def text(rule: Rule, variant: Variant | None = None) -> str:
    """Return the formula in Unicode, an equation a line; ``m ← ...`` gives a name its new value.

    The evaluated point, where there is one, is the last line, as in ``emit``.
    """
    return "\n".join(f"{line.left} ← {line.right}" for line in _equations(rule, variant, latex=False))


def point(rule: Rule, variant: Variant | None = None) -> str:
    """Return what ``text`` calls the evaluated point; empty for a rule that is evaluated where it trains."""
    given = named(rule, variant)
    found = point_equation(_style(spellings(rule, given), latex=False), rule, given)
    return found.left if found else ""
