"""What a rule is: its declaration, its plain meaning, and the errors of a wrong one."""

from __future__ import annotations

import cProfile
import inspect
import math
import pstats
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import steprule as sr
from steprule import Decay, NonNegative, Rate, Scalar, rule, sqrt, where
from steprule.cli.rules import sees
from steprule.errors import HyperparameterError, RuleError
from steprule.rules import CATALOGUE, load
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini


def test_a_rule_carries_its_declaration() -> None:
    adam = sr.rules.adam
    assert adam.name == "adam"
    assert adam.slots == ("m", "v")
    assert adam.paper.startswith("Kingma & Ba 2015")
    assert adam.hyperparameters["beta1"].default == 0.9
    assert str(adam.hyperparameters["beta1"].range) == "a number in [0, 1)"


def test_a_rule_computes_on_arrays_as_it_reads() -> None:
    theta, g, m, v = (np.array(x, np.float32) for x in ([1, 2], [0.5, -4], [0, 0], [0, 0]))
    new, m1, v1 = sr.rules.adam(theta, g, m, v, t=1, lr=0.1)
    np.testing.assert_allclose(new, [0.9, 2.1], rtol=1e-6)
    assert new.dtype == m1.dtype == v1.dtype == np.float32


def test_a_numpy_scalar_does_not_promote() -> None:
    theta = np.ones(2, np.float32)
    (new,) = sr.rules.sgd(theta, theta, lr=np.float64(0.1))
    assert new.dtype == np.float32


def test_catalogue_is_eager_and_named() -> None:
    for name, entry in CATALOGUE.items():
        assert getattr(sr.rules, name) is entry
        assert entry.name == name
        assert entry.paper
        assert entry.doc


def test_catalogue_files_are_short() -> None:
    folder = Path(inspect.getfile(sr.rules)).parent
    files = [path for path in (folder / "papers").glob("*.py") if path.stem != "__init__"]
    assert len(files) >= 19
    assert {path.stem: n for path in files if (n := len(path.read_text().splitlines())) > 60} == {}


def test_a_rule_of_ones_own_gets_everything(tmp_path: Path) -> None:
    @rule(paper="mine", init={"w": "start"})
    def mine(
        theta,
        g,
        m,
        w,
        n: Scalar,
        *,
        t,
        lr: Rate = 0.1,
        beta: Decay = 0.5,
        start: float = 2.0,
        kind: Literal["a", "b"] = "a",
    ):
        n = n + math.sqrt(t)
        m = beta * m + (1 - beta) * g
        w = w + abs(g) if kind == "a" else w - g
        return theta - lr * where(m > 0, m, sqrt(w)) / n, m, w, n

    theta, other = np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)
    a, b = sr.Optimizer(theta, mine, lr=0.2), sr.Optimizer(other, mine, lr=0.2, backend="numpy")
    for _ in range(4):
        a.step(np.linspace(-3, 2, 5))
        b.step(np.linspace(-3, 2, 5))
    np.testing.assert_array_equal(theta, other)
    assert a.slots["n"] == [pytest.approx(sum(math.sqrt(t) for t in range(1, 5)))]
    assert "w: float64" in a.describe()
    saved = a.state_dict()
    b.load_state_dict(saved)
    assert sr.Optimizer(np.zeros(1), sr.decoupled(mine), weight_decay=0.1).rule.name == "decoupled(mine)"


def test_math_is_traced_however_it_is_imported() -> None:
    from math import exp, log1p

    @rule
    def mine(theta, g, *, t, lr: Rate = 0.1):
        return theta - lr * exp(-t) * math.cos(t) * log1p(t) * g

    theta = np.ones(2)
    optimizer = sr.Optimizer(theta, mine)
    for t in (1, 2):
        before = theta.copy()
        optimizer.step(np.ones(2))
        np.testing.assert_array_equal(theta, before - 0.1 * math.exp(-t) * math.cos(t) * math.log1p(t))


def _attempt(function: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises((RuleError, HyperparameterError)) as caught:
        rule(**arguments)(function) if arguments else rule(function)
    return str(caught.value)


# fmt: off
def _unknown_name(theta, g, *, lr: Rate = 0.1):
    return theta - lr * sqr(g)  # type: ignore[name-defined]  # noqa: F821

def _too_few(theta, g, m, *, lr: Rate = 0.1):
    return theta - lr * g

def _branch(theta, g, *, lr: Rate = 0.1):
    step = g if g > 0 else -g
    return theta - lr * step

def _numpy_function(theta, g, *, lr: Rate = 0.1):
    return theta - lr * np.exp(g)

def _power(theta, g, *, lr: Rate = 0.1):
    return theta - lr * g**3

def _math_on_elements(theta, g, *, lr: Rate = 0.1):
    return theta - lr * math.sqrt(g)

def _default_out_of_range(theta, g, *, lr: Rate = -1.0):
    return theta - lr * g

def _unused(theta, g, *, lr: Rate = 0.1, beta: Decay = 0.9):
    return theta - lr * g

def _read_but_not_kept(theta, g, m, *, lr: Rate = 0.1):
    return theta - lr * m, None

def _never_kept(theta, g, m, *, lr: Rate = 0.1):
    return theta - lr * g, None

def _array(theta, g, *, lr: Rate = 0.1):
    return theta - np.ones(3) * g * lr

def _condition(theta, g, *, lr: Rate = 0.1):
    return theta - lr * (g > 0)

def _positional(theta, g, lr=0.1):
    return theta - lr * g

def _no_default(theta, g, *, lr):
    return theta - lr * g

def _element_scalar(theta, g, s: Scalar, *, lr: Rate = 0.1):
    return theta - lr * g * s, s + g

def _constant(theta, g, *, lr: Rate = 0.1):
    return lr

def _no_gradient(theta):
    return theta

def _method(theta, g, *, lr: Rate = 0.1):
    return theta - lr * g.mean()

def _annotated_positional(theta, g, lr: Rate = 0.1):
    return theta - lr * g

def _without_t(theta, g, *, lr: Rate = 0.1):
    return theta - lr * g / t  # type: ignore[name-defined]  # noqa: F821

def _loop(theta, g, *, lr: Rate = 0.1):
    return theta - lr * sum(g[i] for i in range(len(g)))

def _in_place(theta, g, *, lr: Rate = 0.1):
    theta[:] = theta - lr * g

def _formatted(theta, g, *, lr: Rate = 0.1):
    return theta - lr * g * len(f"{g:.3f}")

def _no_parentheses(theta, g, *, lr: Rate = 0.1):
    return theta - lr * where(g > 0 & g, g, -g)

def _not_asked(theta, g, *, lr: Rate = 0.1, eps: NonNegative | None = None):
    return theta - lr * g / eps

def _none_by_default(theta, g, *, lr: Rate = 0.1, eps: NonNegative = None):  # type: ignore[assignment]
    return theta - lr * g / eps

def _range_alone(theta, g, *, lr: sr.Range(0, 1) = 0.1):  # type: ignore[valid-type]
    return theta - lr * g
# fmt: on


@pytest.mark.parametrize(
    ("function", "words", "line"),
    [
        (_unknown_name, ["'sqr' is not defined", "'sqrt'"], 1),
        (_too_few, ["returns 1 values, expected 2 (theta, m)", "m is never returned"], 1),
        (_branch, ["steprule.where"], 1),
        (_numpy_function, ["np.exp is not an operation of rules"], 1),
        (_power, ["g ** 3", "x*x*x"], 1),
        (_math_on_elements, ["math.sqrt was called on an element", "steprule.sqrt"], 1),
        (_default_out_of_range, ["lr must be a number of at least 0, got -1.0"], 0),
        (_unused, ["'beta' is declared and never used"], 0),
        (_read_but_not_kept, ["'m' is read but returned as None"], 1),
        (_never_kept, ["'m' is None in every return"], 1),
        (_array, ["ndarray", "cannot take part in a rule"], 1),
        (_condition, ["is a condition", "where(condition, 1.0, 0.0)"], 1),
        (_positional, ["lr=0.1 is not allowed", "after *"], 0),
        (_no_default, ["'lr' has no default"], 0),
        (_element_scalar, ["'s' is a Scalar"], 1),
        (_constant, ["must depend on theta or g"], 1),
        (_no_gradient, ["expected at least the parameter and the gradient"], 0),
        (_method, ["no attribute 'mean'"], 1),
        (_annotated_positional, [": lr=0.1 is not allowed", "after *"], 0),
        (_without_t, ["'t' is not defined", "named after the *, as in (theta, g, *, t, lr: Rate = 0.1)"], 1),
        (_loop, ["no len()", "Write the formula of one element"], 1),
        (_in_place, ["item assignment", "Write the formula of one element"], 1),
        (_formatted, ["__format__", "without length, items or digits"], 1),
        (_no_parentheses, ["compare it first, in parentheses: (x > 0) & (y < 1)"], 1),
        (_not_asked, ["None cannot take part", "`x if eps is None else x + eps`"], 1),
        (_none_by_default, ["'eps' is None by default", "`X | None`"], 0),
        (_range_alone, ["Annotated[float, Range(low, high)]"], 0),
    ],
)
def test_a_wrong_rule_fails_when_defined(function: Callable[..., Any], words: list[str], line: int) -> None:
    message = _attempt(function)
    number = function.__code__.co_firstlineno + line
    assert f"rule {function.__name__!r}, {__file__}, line {number}: " in message
    for word in words:
        assert word in message
    source = Path(__file__).read_text().splitlines()[number - 1].strip()
    assert message.endswith(source)


def test_a_word_of_the_language_that_was_not_imported() -> None:
    names: dict[str, Any] = {"rule": rule}
    with pytest.raises(RuleError, match=r"name 'sign' is not defined\. It is steprule's: from steprule import sign"):
        exec("@rule\ndef own(theta, g):\n    return theta - sign(g)\n", names)


def test_the_line_of_the_signature_is_that_of_def_below_decorators(tmp_path: Path) -> None:
    file = tmp_path / "decorated.py"
    file.write_text(
        "from steprule import rule\n\n@rule(\n    paper='mine',\n)\ndef own(theta, g, *, lr):\n    return g\n"
    )
    with pytest.raises(RuleError, match=r"decorated.py, line 6: .*\n    def own\(theta, g, \*, lr\):$"):
        load(str(file))


def test_a_file_that_was_corrected_is_quoted_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "corrected.py"
    for line in ("return theta - first", "return theta - of_another_length"):
        file.write_text(f"from steprule import rule\n\n@rule\ndef own(theta, g):\n    {line}\n")
        with pytest.raises(RuleError) as caught:
            load(str(file))
        assert str(caught.value).endswith(line)


def test_a_rule_called_with_too_few_values_says_what_an_optimizer_takes() -> None:
    @rule
    def own(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g

    for called, text in ((own, "Optimizer(params, own, lr=...)"), (sr.rules.sgd, "Optimizer(params, 'sgd', lr=...)")):
        with pytest.raises(RuleError, match=re.escape(text)):
            called(lr=0.1)


def test_wrong_declarations() -> None:
    def fine(theta, g, m, *, lr: Rate = 0.1):
        return theta - lr * g, m + g

    assert "'w', which is not a slot" in _attempt(fine, init={"w": 1.0})
    assert "'rate', which is not a hyperparameter" in _attempt(fine, init={"m": "rate"})
    with pytest.raises(RuleError, match="already has a hyperparameter 'weight_decay'"):
        sr.decoupled(sr.rules.adamw)


def test_unknown_rules_and_counts() -> None:
    with pytest.raises(RuleError, match=r"Did you mean .*'adam'"):
        sr.Optimizer(np.zeros(1), "adamv")
    with pytest.raises(RuleError, match="takes theta, g, m, v: 4 values, got 2"):
        sr.rules.adam(np.zeros(1), np.zeros(1))


def test_rules_by_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from steprule import rule, Rate\n\n@rule\ndef {0}(theta, g, *, lr: Rate = 0.1):\n    return theta - lr * g\n"
    )
    (tmp_path / "one.py").write_text(source.format("mine"))
    two = source.format("first") + "\n@rule\ndef second(theta, g, *, lr: Rate = 0.1):\n    return theta - 2 * lr * g\n"
    (tmp_path / "two.py").write_text(two)
    assert load(str(tmp_path / "one.py")).name == "mine"
    assert load(f"{tmp_path / 'two.py'}:second").name == "second"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("one:mine").name == "mine"
    sys.modules.pop("one")
    for spec, words in {
        str(tmp_path / "two.py"): "defines 2 rules",
        f"{tmp_path / 'two.py'}:secnd": "Did you mean 'second'",
        str(tmp_path / "none.py"): "there is no file",
        "nosuchmodule:mine": "no module is called",
        "adaam": "Did you mean .*'adam'",
    }.items():
        with pytest.raises(RuleError, match=words):
            load(spec)
    (tmp_path / "none.py").write_text("x = 1\n")
    with pytest.raises(RuleError, match="decorate a function"):
        load(str(tmp_path / "none.py"))


def test_language_on_numbers_and_arrays() -> None:
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.nan, np.inf])
    np.testing.assert_array_equal(sr.sign(x), [-1, 0, 0, 1, np.nan, 1])
    np.testing.assert_array_equal(sr.maximum(x, 0.0), [0, 0, 0, 3, np.nan, np.inf])
    np.testing.assert_array_equal(sr.minimum(0.0, x), [-2, 0, 0, 0, np.nan, 0])
    assert sr.maximum(2.0, 3.0) == 3.0
    assert sr.minimum(2.0, 3.0) == 2.0
    assert math.isnan(sr.maximum(math.nan, 1.0))
    assert math.isnan(sr.maximum(1.0, math.nan))
    assert sr.sqrt(4.0) == 2.0
    assert sr.where(True, 1.0, 2.0) == 1.0
    with pytest.raises(RuleError, match="expected numbers, arrays or symbols"):
        sr.sqrt("x")


def test_what_a_step_of_one_element_depends_on() -> None:
    @rule
    def of_size(theta: Any, g: Any, *, lr: Rate = 0.1, scaled: bool = False) -> Any:
        return theta - lr * (g / (1 + sr.norm(g)) if scaled else g)

    @rule
    def of_number(theta: Any, g: Any, v: sr.PerTensor, *, lr: Rate = 0.1) -> Any:
        return theta - lr * g, v + lr

    @rule
    def of_all(theta: Any, g: Any, d: Scalar, *, lr: Rate = 0.1) -> Any:
        return theta - lr * sr.mean(g) * d, sr.total(abs(g), over="all")

    assert [of_size.trace(of_size.variant({"lr": 0.1, "scaled": on})).sees for on in (False, True)] == [
        *("element", "tensor")
    ]
    assert of_number.trace().sees == "tensor"
    assert of_all.trace().sees == "all"
    found = [own.trace().sees for own in (adafactor, adam_mini, sr.centralized("sgd"), sr.trust_ratio(adam_mini))]
    assert found == ["row, column, tensor", "row", "row, tensor", "row, tensor"]
    assert sees(adafactor) == "its row, its column and its whole tensor"
    assert sees(adam_mini) == "its row"
    assert sr.rules.adam.trace().sees == sr.rules.nadam.trace().sees == "element"


def test_the_catalogue_is_checked() -> None:
    """As one's own rules are when they are defined."""
    for own in CATALOGUE.values():
        own.check()


def test_the_catalogue_is_not_traced_by_an_import() -> None:
    code = "from steprule.rules import CATALOGUE as own; print(own['adafactor']._traced, own['prodigy']._traced)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "{} {}\n"


def test_a_profiler_goes_on_after_a_rule_is_defined() -> None:
    def again(theta: Any, g: Any, m: Any, *, lr: float = 0.1) -> Any:
        m = 0.9 * m + g
        return theta - lr * m, m

    def after() -> None:
        pass

    profile = cProfile.Profile()
    profile.enable()
    try:
        rule(again)
        after()
    finally:
        profile.disable()
    assert {"again", "after"} <= {name for _, _, name in pstats.Stats(profile).stats}  # type: ignore[attr-defined]
