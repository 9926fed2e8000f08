"""A rule's formula, in LaTeX for documents and in Unicode for terminals."""

from __future__ import annotations

import re

from steprule.backends.formula import Style, equations
from steprule.rules import Rule
from steprule.rules.rule import Variant

__all__ = ["emit", "text"]

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "psi": "ψ",
    "omega": "ω",
}  # fmt: skip
_SPELLINGS = {"eps": "epsilon", "lambd": "lambda", "lr": "eta", "weight_decay": "lambda"}

_LATEX = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": r"{0} \, {1}",
    "div": r"\frac{{{0}}}{{{1}}}",
    "mod": r"{0} \bmod {1}",
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
    "math.log": r"\ln({0})",
    "math.exp": r"\exp({0})",
}

_TEXT = {
    **_LATEX,
    "mul": "{0}·{1}",
    "div": "{0} / {1}",
    "mod": "{0} mod {1}",
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
    "math.log": "ln({0})",
    "math.exp": "exp({0})",
}


class _WithMath(dict[str, str]):
    """A table in which any other function of math is written by its name."""

    def __init__(self, table: dict[str, str], named: str) -> None:
        super().__init__(table)
        self._named = named

    def __missing__(self, op: str) -> str:
        return self._named.format(op.removeprefix("math."))


def _parts(name: str) -> tuple[str, list[str]]:
    """Split ``beta1`` into ``beta`` and ``[1]``, ``m_hat`` into ``m`` and ``[hat]``."""
    name = _SPELLINGS.get(name, name)
    stem, *suffixes = name.split("_")
    match = re.fullmatch(r"([A-Za-z]+?)(\d+)", stem)
    if match:
        return match[1], [match[2], *suffixes]
    return stem, suffixes


def _latex_name(name: str, age: str) -> str:
    stem, suffixes = _parts(name)
    stem = _SPELLINGS.get(stem, stem)
    base = "\\" + stem if stem in _GREEK else stem if len(stem) == 1 else rf"\mathrm{{{stem}}}"
    if "hat" in suffixes:
        base = rf"\hat{{{base}}}"
    below = [s if s.isdigit() or len(s) == 1 else rf"\mathrm{{{s}}}" for s in suffixes if s != "hat"]
    below += {"old": ["t-1"], "new": ["t"]}.get(age, [])
    return f"{base}_{{{', '.join(below)}}}" if below else base


def _text_name(name: str, age: str) -> str:
    stem, suffixes = _parts(name) if name != "lr_decay" else (name, [])
    stem = _GREEK.get(_SPELLINGS.get(stem, stem), stem)
    if "hat" in suffixes:
        stem += "\u0302"
    rest = [suffix for suffix in suffixes if suffix != "hat"]
    return stem + "".join(
        part.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")) if part.isdigit() else f"_{part}" for part in rest
    )


_LATEX_STYLE = Style(
    _WithMath(_LATEX, r"\operatorname{{{}}}({{0}})"), r"\left({0}\right)", frozenset({"div", "sqrt"}), _latex_name
)
_TEXT_STYLE = Style(_WithMath(_TEXT, "{}({{0}})"), "({0})", frozenset(), _text_name)


def _equations(rule: Rule, variant: Variant | None, style: Style) -> list[tuple[str, str]]:
    trace, labels = rule.named_trace(variant)
    inputs = {rule.parameter: "old", rule.gradient: "new", **dict.fromkeys(rule.slots, "old")}
    outputs = {**trace.scalars, **trace.slots, rule.parameter: trace.parameter}
    return equations(style, inputs, outputs, labels)


def emit(rule: Rule, variant: Variant | None = None) -> str:
    """Return the formula as an ``aligned`` block: slots and intermediate values, then the parameter."""
    lines = [f"{left} &= {right}" for left, right in _equations(rule, variant, _LATEX_STYLE)]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def text(rule: Rule, variant: Variant | None = None) -> str:
    """Return the formula in Unicode, an equation a line; ``x ← ...`` gives a name its new value."""
    return "\n".join(f"{left} ← {right}" for left, right in _equations(rule, variant, _TEXT_STYLE))
