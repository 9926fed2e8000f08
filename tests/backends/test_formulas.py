"""Formulas say what is computed: read back, they give the same values."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import steprule as sr
from steprule.backends import latex, mathml
from steprule.backends.formula import GREEK
from steprule.language.matrices import seen_as
from steprule.rules import CATALOGUE
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from steprule.rules.papers.novograd import novograd
from tests.launch.row_rules import RULES, starts_of

_SUMS = {"total": float, "mean": float, "norm": abs, "RMS": abs, "size": lambda x: 1, "ndim": lambda x: 0}
_SUMS |= {f"{word}_{over}": _SUMS[word] for word in ("total", "mean", "size") for over in ("row", "column")}
"""Sums over a tensor of one element."""
_SYMBOLS = {"Σᵢ": "total", "Σ_all": "total", "²": "**2", "·": "*", "^": "**", "≤": "<=", "≥": ">=", "≠": "!="}


def _python(rule: sr.Rule, text: str) -> str:
    """Return the Python of one side of an equation in Unicode."""
    text = re.sub(r"(\w)\u0302([₀-₉]*)", r"\1\2_hat", text)
    text = text.translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
    known = {"epsilon": "eps", "eta": "lr", "lambda": "lambd" if "lambd" in rule.hyperparameters else "weight_decay"}
    for name, letter in GREEK.items():
        own = name in rule.hyperparameters or name in rule.slots
        text = text.replace(f"{letter}_", f"{name}_").replace(letter, name if own else known.get(name, name))
    text = re.sub(r"√(max|min)(\((?:[^()]|\([^()]*\))*\))", r"sqrt(\1\2)", text)
    text = re.sub(r"√(\w+)", r"sqrt(\1)", text).replace("√", "sqrt")
    text = re.sub(r"‖([^‖]*)‖_(row|column)", r"norm_\2(\1)", text)
    # A bar opens where an operand may begin, and closes elsewhere.
    text = re.sub(r"(^|[(+\-*/·^<>=,√] ?|if |else |and |or )‖", r"\1norm(", text).replace("‖", ")")
    text = re.sub(r"(^|[(+\-*/·^<>=,] ?|if |else |and |or )\|", r"\1abs(", text)
    while re.search(r"abs\(\|", text):
        text = text.replace("abs(|", "abs(abs(")
    text = text.replace("|", ")")
    text = re.sub(r"Σ_(?=row|column)", "total_", text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    return re.sub(r"(?<=[\w)]) = ", " == ", text)


def _read_back(rule: sr.Rule, values: dict[str, Any]) -> float:
    """Compute the new parameter from the formula's text, in floats."""
    names: dict[str, Any] = {"sqrt": math.sqrt, "abs": abs, "max": max, "min": min, "ln": math.log, **_SUMS, **values}
    names |= {"exp": math.exp, "sign": lambda x: (x > 0) - (x < 0)}
    for line in latex.text(rule).splitlines():
        left, _, right = line.partition(" ← ")
        names[_python(rule, left)] = eval(_python(rule, right), {}, names)
    return float(names["theta"])


def _read_back_on_matrices(rule: sr.Rule, values: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Compute the new parameter and slots from the formula's text, on arrays."""
    words = {"total": sr.total, "mean": sr.mean, "norm": sr.norm, "RMS": sr.rms, "size": sr.size}
    names: dict[str, Any] = {"sqrt": np.sqrt, "abs": abs, "max": np.maximum, "min": np.minimum, "ndim": np.ndim}
    names |= {**words, "polar": sr.polar, **values}
    for over in ("row", "column", "all"):
        names |= {f"{word}_{over}": functools.partial(one, over=over) for word, one in words.items()}
    given = rule.resolve(options)
    names |= given
    with seen_as(rule.view):
        for line in latex.text(rule, rule.variant(given)).splitlines():
            left, _, right = line.partition(" ← ")
            names[_python(rule, left)] = eval(_python(rule, right), {}, names)
    return names


def _numbers() -> st.SearchStrategy[str]:
    """Return expressions of theta, g, m and t, as Python text."""
    leaves = st.sampled_from(["theta", "g", "m", "t", "0.5", "2.0", "-1.5", "3.0"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, inner)
        condition = pair.map(lambda p: f"(({p[0]}) > ({p[1]}))")
        joined = st.tuples(condition, st.sampled_from(["&", "|"]), condition).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
        both = st.tuples(joined, st.sampled_from(["&", "|"]), condition).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
        return st.one_of(
            st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
            pair.map(lambda p: f"({p[0]} / (2.0 + ({p[1]}) * ({p[1]})))"),
            pair.map(lambda p: f"({p[0]} / ((2.0 + abs({p[1]})) * 3.0))"),
            inner.map(lambda a: f"(-({a}))"),
            inner.map(lambda a: f"(theta * 0 + {a})**2"),
            inner.map(lambda a: f"sqrt(theta * 0 + 1.0 + abs({a}))"),
            st.tuples(condition | both, inner, inner).map(lambda p: f"where({p[0]}, {p[1]} + 0 * g, {p[2]} + 0 * g)"),
        )

    return st.recursive(leaves, grow, max_leaves=8)


@hypothesis.settings(max_examples=150)
@hypothesis.given(text=_numbers(), seed=st.integers(0, 9))
def test_a_formula_read_back_gives_the_value(text: str, seed: int) -> None:
    source = f"def own(theta, g, m, *, t, lr: Rate = 0.1):\n    return theta - lr * ({text}) * (1.0 + 0 * t), m + g\n"
    names: dict[str, Any] = {"Rate": sr.Rate, "sqrt": sr.sqrt, "where": sr.where, "abs": abs}
    exec(source, names)
    rule = sr.rule(names["own"])
    values = {"theta": 0.3 + seed, "g": -1.7 * (seed - 4), "m": 0.9, "t": 2, "lr": 0.25}
    expected, _ = names["own"](values["theta"], values["g"], values["m"], t=2, lr=0.25)
    assert _read_back(rule, values) == pytest.approx(expected, rel=1e-9, abs=1e-9), latex.text(rule)


def _own(body: str, options: str = "lr: Rate = 0.1") -> sr.Rule:
    names: dict[str, Any] = {**vars(sr), "math": math}
    exec(f"def own(theta, g, m, *, t, {options}):\n    return theta - {body} * t, m + g\n", names)
    return sr.rule(names["own"])


@pytest.mark.parametrize(
    ("body", "text", "tex"),
    [
        ("lr * g / (m * theta)", "η·g / (m·θ)", r"\frac{\eta \, g_{t}}{m_{t-1} \, \theta_{t-1}}"),
        ("lr * (g / m)**2", "(g / m)²", r"\left(\frac{g_{t}}{m_{t-1}}\right)^2"),
        ("lr * math.pow(t, 0.5) * g", "pow(t, 0.5)", r"\operatorname{pow}(t, 0.5)"),
        ("lr * math.floor(t / 2) * g", "floor(t / 2)", r"\operatorname{floor}(\frac{t}{2})"),
        ("lr * math.log(t) * g", "ln(t)", r"\ln(t)"),
        ("lr * (g + 1e-8)", "1e-08", "10^{-8}"),
        ("lr * (g + 2.5e-8)", "2.5e-08", r"2.5 \cdot 10^{-8}"),
        ("lr * (g + 1.0000001)", "1.0000001", "1.0000001"),
        ("lr * (g - -1.0 * m)", "g - (-1·m)", r"g_{t} - \left(-1 \, m_{t-1}\right)"),
        ("lr * 0.5 * 0.96**t * g", "0.5·0.96^t", r"0.5 \cdot 0.96^{t}"),
        ("lr * (-0.5)**t * g", "(-0.5)^t", r"\left(-0.5\right)^{t}"),
        ("lr * where(g < math.inf, g, m)", "g < ∞", r"g_{t} < \infty"),
        ("lr * where(g > -math.inf, g, m)", "g > -∞", r"g_{t} > -\infty"),
    ],
)
def test_what_could_mislead(body: str, text: str, tex: str) -> None:
    rule = _own(body)
    assert text in latex.text(rule)
    assert tex in latex.emit(rule)


@pytest.mark.parametrize(
    ("body", "text", "tex"),
    [
        ("total(g * m + lr)", "Σᵢ(g·m + η)", r"\sum_i \left(g_{t} \, m_{t-1} + \eta\right)"),
        ("total(g * m) * lr", "Σᵢ(g·m)·η", r"\left(\sum_i g_{t} \, m_{t-1}\right) \, \eta"),
        ("(lr - total(-g))", "η - Σᵢ(-g)", r"\eta - \left(\sum_i -g_{t}\right)"),
        ("lr * mean(g)", "mean(g)", r"\operatorname{mean}\left(g_{t}\right)"),
        ("lr * norm(theta - g) ** 2", "‖θ - g‖^2", r"\left\lVert \theta_{t-1} - g_{t} \right\rVert^{2}"),
        ("lr / (1 + rms(m))", "η / (1 + RMS(m))", r"\frac{\eta}{1 + \mathrm{RMS}\left(m_{t-1}\right)}"),
        ("lr * size(g)", "size(g)", r"\operatorname{size}\left(g_{t}\right)"),
    ],
)
def test_sums(body: str, text: str, tex: str) -> None:
    """They are written as papers write them, and over all tensors they say so."""
    rule = _own(body)
    assert text in latex.text(rule)
    assert tex in latex.emit(rule)
    values = {"theta": 0.7, "g": -1.3, "m": 0.4, "lr": 0.1, "t": 3}
    expected = 0.7 - 3 * eval(body, {**_SUMS, "rms": abs}, values)
    assert _read_back(rule, values) == pytest.approx(expected, rel=1e-12)
    other = _own(re.sub(r"(total|mean|norm|rms|size)\((.*?)\)", r"\1(\2, over='all')", body))
    assert "_all" in latex.text(other)
    assert r"\mathrm{all}" in latex.emit(other)
    plain, over_all = ("".join(line.right for line in mathml.lines(one)) for one in (rule, other))
    assert "<mi>all</mi>" not in plain
    assert "<mi>all</mi>" in over_all


def test_two_names_never_share_a_symbol() -> None:
    rule = _own("lr * eta * g", "lr: Rate = 0.1, eta: Rate = 0.2")
    assert "lr·η" in latex.text(rule)
    assert r"\mathrm{lr} \, \eta" in latex.emit(rule)
    both = latex.text(sr.decoupled(CATALOGUE["asgd"]))
    assert "lambd" in both
    assert "weight_decay" in both


ON_MATRICES: list[tuple[sr.Rule, dict[str, Any]]] = [
    (novograd, {}),
    *((RULES[name], {}) for name in ("factored", "factored_last", "by_neuron", "centred", "confident", "in_pairs")),
    (adafactor, {}),
    (adafactor, {"beta1": 0.9, "beta2": 0.99, "clamp": True, "eps2": None, "relative_step": False}),
    (came, {}),
    (adam_mini, {}),
    (adam_mini, {"blocks": "tensor"}),
    (sr.centralized("adam"), {}),
]


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4), (1, 4), (4,)])
@pytest.mark.parametrize(("rule", "options"), ON_MATRICES, ids=str)
def test_formulas_say_over_what_sums_are(rule: sr.Rule, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    """On matrices a sum over each row is not one over each column, nor over the tensor; and slots have their lines."""
    rng = np.random.default_rng(3)
    theta, g = rng.standard_normal((2, *shape))
    slots = [np.abs(rng.standard_normal(np.shape(start))) + 0.1 for start in starts_of(rule, theta)]
    slots = [x if np.ndim(x) or not shape else float(x) for x in slots]
    trace = rule.trace(rule.variant(rule.resolve(options)))
    values = {slot: x if slot in trace.kept else None for slot, x in zip(rule.slots, slots, strict=True)}
    expected = rule(theta, g, *values.values(), t=3, **options)
    found = _read_back_on_matrices(rule, {"theta": theta, "g": g, **values, "t": 3}, **options)
    for name, value in zip(("theta", *rule.slots), expected, strict=True):
        if value is not None:
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("over", ["row", "column"])
@pytest.mark.parametrize("word", ["total", "mean", "norm", "rms", "size"])
def test_every_target_says_over_what_sums_are(word: str, over: str) -> None:
    texts = []
    for one in (over, "tensor"):
        rule = _own(f"lr * (g + {word}(g, over={one!r}) * m)")
        texts.append((latex.text(rule), latex.emit(rule), "".join(line.right for line in mathml.lines(rule))))
    marks = (f"_{over}", rf"\mathrm{{{over}}}", f"<mi>{over}</mi>")
    for mark, said, plain in zip(marks, *texts, strict=True):
        assert mark in said
        assert mark not in plain


def _assert_reads_back_on_a_matrix(rule: sr.Rule, t: int) -> None:
    rng = np.random.default_rng(0)
    slots = {slot: rng.uniform(0.1, 1.0, (3, 1) if slot in rule.per_row else (3, 4)) for slot in rule.slots}
    values = {"theta": rng.normal(size=(3, 4)), "g": rng.normal(size=(3, 4)), **slots}
    new, *_ = rule(*values.values(), t=t)
    found = _read_back_on_matrices(rule, {**values, "t": t})
    np.testing.assert_allclose(found["theta"], new, rtol=1e-12)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("t", [1, 9])
def test_the_catalogues_formulas_read_back(name: str, t: int) -> None:
    rule = CATALOGUE[name]
    if rule.needs_matrices:
        _assert_reads_back_on_a_matrix(rule, t)
        return
    kept = rule.trace()
    slots = {slot: 0.4 if slot in kept.kept else None for slot in rule.slots}
    values = {"theta": 0.7, "g": -1.3, **slots}
    new, *_ = rule(*values.values(), t=t)
    options = {hyper.name: hyper.default for hyper in rule.hyperparameters.values()}
    assert _read_back(rule, {**values, **options, "t": t}) == pytest.approx(new, rel=1e-12)


def test_a_name_is_given_to_one_value_only() -> None:
    def corrected(v: Any, b: Any, t: Any) -> Any:
        c = 1 - b**t
        return v / c

    @sr.rule
    def own(theta, g, m, v, *, t, lr: sr.Rate = 0.1, b1: sr.Decay = 0.9, b2: sr.Decay = 0.99):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        return theta - lr * corrected(m, b1, t) / (sr.sqrt(corrected(v, b2, t)) + 1e-3), m, v

    values = {"theta": 0.7, "g": -1.3, "m": 0.4, "v": 0.3}
    new, *_ = own(*values.values(), t=3)
    text = latex.text(own).replace("b₁", "b1").replace("b₂", "b2")
    assert "c ←" in text
    assert _read_back(own, {**values, "lr": 0.1, "b1": 0.9, "b2": 0.99, "t": 3}) == pytest.approx(new, rel=1e-12)


_COMBINATORS = [sr.l2, sr.decoupled, sr.maximize, sr.cautious]


@pytest.mark.parametrize("outer", _COMBINATORS)
@pytest.mark.parametrize("inner", _COMBINATORS)
@pytest.mark.parametrize("name", ["momentum", "lion", "sgd"])
def test_formulas_of_combinators_read_back(outer: Any, inner: Any, name: str) -> None:
    if outer is inner is sr.cautious:
        with pytest.raises(sr.errors.RuleError, match="already has a hyperparameter 'rescale'"):
            outer(inner(name))
        return
    if (outer is inner and outer in (sr.l2, sr.decoupled)) or {outer, inner} == {sr.l2, sr.decoupled}:
        return  # both bring a weight_decay
    rule = outer(inner(name))
    left = [line.partition(" ← ")[0] for line in latex.text(rule).splitlines()]
    assert len(set(left)) == len(left), left
    values = {"theta": 0.7, "g": -1.3, **dict.fromkeys(rule.slots, 0.4)}
    options = {hyper.name: hyper.default for hyper in rule.hyperparameters.values()}
    new, *_ = rule(*values.values(), t=2)
    assert _read_back(rule, {**values, **options, "t": 2}) == pytest.approx(new, rel=1e-12)


def test_a_hyperparameter_that_is_computed_anew_keeps_its_one_meaning() -> None:
    @sr.rule
    def warm(theta, g, *, t, lr=0.4):
        lr = lr / math.sqrt(t)
        return theta - lr * g

    assert latex.text(warm) == "θ ← θ - (η / √t)·g"
