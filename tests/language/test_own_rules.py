"""Rules of one's own, as people write them: any names, helpers, constants, closures; and their mistakes."""

from __future__ import annotations

import functools
import itertools
import math
import random
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import steprule as sr
from steprule import NonNegative, Rate, Scalar, rule, sqrt, where
from steprule.errors import HyperparameterError, RuleError
from steprule.formats import STATES
from tests.cases import Array, Direct, assert_same_bits, wild


def _check(own: sr.Rule, steps: int = 4, **values: Any) -> Array:
    """Step by machine code, by the referee and by the rule itself, and compare all bits."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(50).astype(np.float32)
    direct = Direct(own, start.copy(), **values)
    arrays = {backend: start.copy() for backend in ("llvm", "numpy")}
    optimizers = {backend: sr.Optimizer(array, own, backend=backend, **values) for backend, array in arrays.items()}
    for _ in range(steps):
        g = wild(rng, 50, "float32")
        direct.step(g)
        for backend, array in arrays.items():
            optimizers[backend].step(g)
            assert_same_bits(array, direct.theta, f"{own.name} by {backend}")
            for slot, value in optimizers[backend].slots.items():
                if slot not in own.scalars:
                    assert_same_bits(value, direct.slots[slot], f"{own.name} slot {slot} by {backend}")
    return direct.theta


# Names that generated code uses, too.


def test_names_that_generated_code_uses() -> None:
    @rule
    def awkward(
        np,
        scalars,
        s0,
        x0,
        m,
        m_,
        float32,
        kernel,
        *,
        t,
        h0: Rate = 0.1,
        h1: Rate = 0.2,
        abs: Rate = 0.3,
        nan: Rate = 0.4,
    ):
        twice = (1 - h0**t) * (1 - h0**t)
        shared = (1 + h1 * t) / (2 + h1 * t)
        s0 = s0 * shared + scalars * twice
        x0 = x0 * nan + s0
        m = m + x0 * abs
        m_ = m_ - m
        float32 = float32 + m_ * twice
        kernel = kernel * shared - float32
        return np - h0 * kernel * (1 - abs) * (1 - abs), s0, x0, m, m_, float32, kernel

    _check(awkward)


def test_an_inner_name_math_or_prelude() -> None:
    @rule
    def awkward(theta, g, prelude, *, math: Rate = 0.1, inf: Rate = 0.2):
        prelude = prelude * inf + g
        return theta - math * sqrt(inf) * prelude, prelude

    _check(awkward)


# Constants and conditions.


def test_conditions_that_are_known_when_tracing() -> None:
    @rule
    def own(theta, g, *, lr: Rate = 0.1, flag: bool = False, off: bool = True):
        step = where(flag, g, g * 0.5)
        step = where((g > 0) & flag, step, step * 2)
        step = where((g > 1) | off, step, step * 3)
        return theta - lr * where(True, step, g)

    for flag in (False, True):
        for off in (False, True):
            _check(own, flag=flag, off=off)


def test_constants_of_any_kind() -> None:
    # On arrays a NumPy float64 would promote float32; in a rule it is the number that it holds.
    def make(big: Any, third: Any, two: Any, half: Any) -> sr.Rule:
        @rule
        def own(theta, g, *, lr: Rate = 0.1):
            step = third * g + g * big - two * (g * third)
            step = where(abs(g) < math.inf, step, math.nan)
            return theta - half * lr * sr.minimum(step, 1e30)

        return own

    ends = []
    for own in (make(2.5, 1 / 3, 2, 0.5), make(np.float32(2.5), np.float64(1 / 3), np.int64(2), np.float16(0.5))):
        theta = np.linspace(-3, 3, 40, dtype=np.float32)
        sr.Optimizer(theta, own).step(np.linspace(5, -9, 40, dtype=np.float32))
        ends.append(theta)
    assert_same_bits(ends[0], ends[1])
    _check(make(2.5, 1 / 3, 2, 0.5))


def test_math_in_helpers_and_closures() -> None:
    def decayed(rate: Any, t: Any) -> Any:
        return rate * math.exp(-t / 10)

    @functools.wraps(decayed)
    def wrapped(*args: Any) -> Any:
        return decayed(*args)

    @rule
    def own(theta, g, *, t, lr: Rate = 0.1):
        def inner() -> Any:
            return math.sqrt(t) + math.floor(t / 2)

        return theta - wrapped(lr, t) * inner() * g

    _check(own)


def test_recursive_helpers() -> None:
    def power(x: Any, n: int) -> Any:
        return x if n == 1 else x * power(x, n - 1)

    @rule
    def own(theta, g, *, lr: Rate = 0.1):
        return theta - lr * sr.sign(g) * power(abs(g), 3)

    _check(own)


def test_whole_numbers_of_steps() -> None:
    @rule
    def own(theta, g, *, t, lr: Rate = 0.1):
        return theta - lr * (t // 2 + t % 3 + 7 // t) * g

    _check(own)


def test_functions_of_math_that_ask() -> None:
    @rule
    def own(theta, g, *, t, lr: Rate = 0.1):
        return theta - where(math.isclose(t, 2.0), 2 * lr, lr) * g

    _check(own)


def test_a_list_is_returned_as_well_as_a_tuple() -> None:
    @rule
    def own(theta, g, m, *, lr: Rate = 0.1):
        m = m + g
        return [theta - lr * m, m]

    _check(own)


def test_a_scalar_slot_of_whole_numbers_is_saved_and_loaded() -> None:
    @rule
    def own(theta, g, n: Scalar, *, t, lr: Rate = 0.1):
        return theta - lr * g * n, t

    optimizer = sr.Optimizer(np.zeros(2), own)
    optimizer.step(np.ones(2))
    other = sr.Optimizer(np.zeros(2), own)
    other.load_state_dict(optimizer.state_dict())
    assert other.slots["n"] == [1.0]


def test_a_rule_called_on_arrays_chooses_as_it_steps() -> None:
    # Python's ~ of a boolean is an integer, and NumPy makes float64 of two numbers.
    @rule
    def negated(theta, g, *, t, lr: Rate = 0.1):
        late = ~(t <= 2)
        return theta - lr * where(late & (g < 0), 0.3, where(~late, g, -g)) * where(late, 0.7, 1.0)

    @rule
    def signs(theta, g, *, lr: Rate = 0.1):
        return theta - lr * where(g > 0, 0.1, -0.3) / (1 + abs(theta))

    @rule
    def early(theta, g, *, t, lr: Rate = 0.1):
        start = where(t < 3, 0.1, theta)  # of every element: what follows is rounded as they are
        return theta - lr * g * ((start + 0.3) * 0.7 + 1e-9)

    @rule
    def switched(theta, g, m, *, lr: Rate = 0.1, flag: bool = False):
        kept = where(flag, 0.1, m + g) * 0.7 + 0.3
        return theta - lr * g * kept, kept

    for own in (negated, signs, early, switched):
        flags: list[dict[str, Any]] = [{"flag": True}, {"flag": False}] if own is switched else [{}]
        low: dict[str, Any] = {"states": "8bit", "min_elements": 1} if own is switched else {}
        for flag in flags:
            _check(own, 5, **flag)
            arrays = [np.linspace(-3, 2, 200, dtype=np.float32).reshape(2, 100) for _ in range(2)]
            for array, backend in zip(arrays, ("llvm", "numpy"), strict=True):
                optimizer = sr.Optimizer(array, own, backend=backend, **flag, **low)
                for _ in range(3):
                    optimizer.step(np.full((2, 100), 0.3, np.float32))
            assert_same_bits(arrays[0], arrays[1])


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_slots_of_hyperparameters_and_t_alone_have_every_format(backend: str, states: str) -> None:
    @rule
    def own(theta, g, last, fixed: NonNegative, *, t, lr: Rate = 0.5):
        return theta - lr * g - 0 * last, lr / t, 0.25

    theta = np.ones((64, 70), np.float32)
    optimizer = sr.Optimizer(theta, own, backend=backend, states=states)
    for t in range(1, 4):
        optimizer.step(np.ones_like(theta))
        assert np.allclose(optimizer.slots["fixed"], 0.25, rtol=0)
        assert np.allclose(optimizer.slots["last"], 0.5 / t, rtol=0.51 if states == "4bit" else 0.04)
    assert (theta == -0.5).all()


def test_numpys_step_numbers_do_not_promote() -> None:
    x = np.ones(2, np.float32)
    new, *_ = sr.rules.nadam(x, x, x, x, np.float64(1.0), t=np.int64(3))
    assert new.dtype == np.float32


def test_a_rule_in_a_cell_of_a_notebook(tmp_path: Path) -> None:
    import linecache

    source = textwrap.dedent("""
        from steprule import rule, Rate
        @rule
        def mine(theta, g, *, lr: Rate = 0.1):
            return theta - lr * gg
    """)
    linecache.cache["<cell 7>"] = (len(source), None, source.splitlines(True), "<cell 7>")
    with pytest.raises(RuleError, match="rule 'mine', <cell 7>, line 5: name 'gg' is not defined") as caught:
        exec(compile(source, "<cell 7>", "exec"), {"__name__": "__main__"})
    assert str(caught.value).endswith("return theta - lr * gg")


# Mistakes.


class _Holder:
    def method(self, theta, g, *, lr: Rate = 0.1):
        return theta - lr * g


def _many_booleans() -> Callable[..., Any]:
    options = ", ".join(f"o{i}: bool = False" for i in range(8))
    names: dict[str, Any] = {}
    exec(f"def many(theta, g, *, {options}):\n    return theta - g\n", names)
    return names["many"]  # type: ignore[no-any-return]


def _defined_too_early() -> sr.Rule:
    @rule
    def early(theta, g, *, lr: Rate = 0.1):
        return theta - lr * helper(g)

    def helper(x: Any) -> Any:
        return x * 2

    return early


def _mistakes() -> dict[str, tuple[Callable[[], Any], str]]:
    def define(function: Callable[..., Any], **how: Any) -> Callable[[], Any]:
        return lambda: rule(**how)(function)

    other: list[Any] = []

    @rule
    def _leaks(theta, g, *, lr: Rate = 0.1, leaked: Rate = 0.5):
        other.append(leaked)
        return theta - lr * g * leaked

    def foreign(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g * other[0]

    def undefined_log(theta, g, *, lr: Rate = 0.1):
        return theta - lr * math.log(0) * g

    def nothing(theta, g, *, lr: Rate = 0.1):
        theta = theta - lr * g

    def slot_t(theta, g, t, *, lr: Rate = 0.1):
        return theta - lr * g, t

    def chosen_numbers(theta, g, *, lr: Rate = 0.1, w: Literal[1, 2] = 1):
        return theta - lr * g * w

    def scalar_option(theta, g, *, lr: Scalar = 0.1):
        return theta - lr * g

    def rounded(theta, g, *, t, lr: Rate = 0.1):
        return theta - lr * round(t) * g

    def indexed(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g[0]

    def looped(theta, g, *, lr: Rate = 0.1):
        return theta - lr * sum(x for x in g)

    def numbers_and(theta, g, *, lr: Rate = 0.1):
        return theta - lr * (g & theta)

    def modulo(theta, g, *, lr: Rate = 0.1):
        return theta - lr * (g % 2)

    def caret(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g ^ 2

    def norm(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g / np.linalg.norm(g)

    def clipped(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g.clip(-1, 1)

    def huge(theta, g, *, lr: Rate = 0.1):
        return theta - 10**400 * lr * g

    def two_types(theta, g, *, lr: int | float | str = 0.1):
        return theta - lr * g

    def text(theta, g, *, lr: str = "x"):
        return theta - g

    def taken_apart(theta, g, *, t, lr: Rate = 0.1):
        return theta - math.modf(t)[0] * lr * g

    def endless(theta, g, *, lr: Rate = 0.1):
        return endless(theta, g, lr=lr)

    return {
        "partial": (lambda: rule(functools.partial(foreign, lr=1.0)), "made of a plain function"),
        "builtin": (lambda: rule(max), "made of a plain function"),
        "rule": (lambda: rule(sr.rules.sgd), "made of a plain function"),
        "bound method": (lambda: rule(_Holder().method), "made of a plain function"),
        "method": (define(_Holder.method), "not a method"),
        "foreign": (define(foreign), "leaked, which belongs to another rule"),
        "log of zero": (define(undefined_log), "ValueError: .*"),
        "too early": (_defined_too_early, "helper"),
        "nothing": (define(nothing), "returns nothing, expected theta"),
        "slot t": (define(slot_t), "t is the step number"),
        "numbers as choices": (define(chosen_numbers), "choices are strings"),
        "scalar option": (define(scalar_option), "which is for slots"),
        "round": (define(rounded), "float, round, range"),
        "index": (define(indexed), "cannot be indexed"),
        "loop": (define(looped), r"no items to loop over .*The sum over the whole tensor is total\(x\)"),
        "and": (define(numbers_and), "combine conditions"),
        "modulo": (define(modulo), "only on hyperparameters and t"),
        "caret": (define(caret), "a power is written x"),
        "norm": (define(norm), "rule 'norm'"),
        "clip": (define(clipped), r"maximum and minimum \(to clip\)"),
        "huge": (define(huge), "401 digits"),
        "union": (define(two_types), "only `X | None` has a meaning"),
        "annotation": (define(text), "use float, Rate, Decay"),
        "modf": (define(taken_apart), "returns two values"),
        "many": (define(_many_booleans()), "more than 128 combinations"),
        "endless": (define(endless), "RecursionError"),
        "name": (define(foreign, name="a\nb"), "printable"),
    }


def _not_the_same_twice() -> dict[str, Callable[..., Any]]:
    own, shared = np.random.default_rng(0), itertools.count(1)
    seen: list[Any] = []

    def of_random(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g + 0.01 * random.gauss(0, 1)

    def of_numpy(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g + np.random.standard_normal()

    def of_a_generator(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g * own.random()

    def of_a_clock(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g * (time.perf_counter_ns() % 10**9)

    def of_a_counter(theta, g, m, *, lr: Rate = 0.1):
        return theta - lr * g, m + g / next(shared)

    def of_what_was_seen(theta, g, *, lr: Rate = 0.1):
        seen.append(g)
        for _ in seen:
            theta = theta - lr * g
        return theta

    def of_an_address(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g * id(theta)

    def of_a_scalar(theta, g, n: Scalar, *, lr: Rate = 0.1):
        return theta - lr * g * n, n + random.random()

    def of_a_kept_slot(theta, g, m, *, lr: Rate = 0.1, flag: bool = False):
        return theta - lr * g, m if next(shared) % 2 or not flag else None

    def of_a_helper(theta, g, *, lr: Rate = 0.1):
        def noise() -> float:
            return random.random()

        return theta - lr * g * noise()

    made = (of_random, of_numpy, of_a_generator, of_a_clock, of_a_counter, of_what_was_seen, of_an_address)
    return {one.__name__: one for one in (*made, of_a_scalar, of_a_kept_slot, of_a_helper)}


@pytest.mark.parametrize("name", _not_the_same_twice())
def test_what_is_not_the_same_twice_is_refused(name: str) -> None:
    with pytest.raises(RuleError, match=rf"rule '{name}', .*line \d+: the new (theta|m|n) is not the same twice: .*"):
        rule(_not_the_same_twice()[name])


def test_the_difference_is_named() -> None:
    shared = itertools.count(5)

    def counting(theta, g, *, lr: Rate = 0.1):
        return theta - lr * g * next(shared)

    with pytest.raises(RuleError, match=r"the new theta is not the same twice: 5 in one run of the function, 6 in the"):
        rule(counting)
    with pytest.raises(RuleError, match="not the same twice"):  # only in one variant

        @rule
        def seldom(theta, g, *, lr: Rate = 0.1, how: Literal["plain", "noisy"] = "plain"):
            return theta - lr * g * (random.random() if how == "noisy" else 1.0)


def test_settings_are_read_when_a_rule_is_defined() -> None:
    settings = {"factor": 2.0}

    @rule
    def own(theta, g, *, lr: Rate = 0.1):
        return theta - lr * settings["factor"] * g

    settings["factor"] = 100.0
    theta = np.ones(3)
    sr.Optimizer(theta, own, lr=0.25).step(np.ones(3))
    assert theta.tolist() == [0.5] * 3


@pytest.mark.parametrize("mistake", _mistakes())
def test_mistakes_are_named(mistake: str) -> None:
    make, words = _mistakes()[mistake]
    with pytest.raises((RuleError, HyperparameterError), match=words):
        make()


def test_both_branches_of_where_are_computed_on_the_host() -> None:
    @rule
    def own(theta, g, *, t, lr: Rate = 0.1):
        return theta - lr * where(t == 1, 0.0, 1 / (t - 1)) * g

    with pytest.raises(ZeroDivisionError):
        own(np.ones(2), np.ones(2), t=1)
    with pytest.raises(HyperparameterError, match=r"no value at lr=0.1, t=1: .*division by zero.*both branches"):
        sr.Optimizer(np.ones(2), own).step(np.ones(2))


def test_complex_numbers_are_no_scalars() -> None:
    @rule
    def own(theta, g, *, t, lr: Rate = 0.1):
        return theta - lr * (1.5 - t) ** 0.5 * g

    theta = np.ones(2)
    optimizer = sr.Optimizer(theta, own)
    optimizer.step(np.ones(2))
    with pytest.raises(HyperparameterError, match="no value at"):
        optimizer.step(np.ones(2))
    assert optimizer.t == 1


def test_messages_stay_short_however_often_a_value_is_shared() -> None:
    def doubled(theta, g, *, lr: Rate = 0.1):
        for _ in range(200):
            g = g + g
        return theta - lr * (g**3)

    with pytest.raises(RuleError) as caught:
        rule(doubled)
    assert len(str(caught.value)) < 1000


def test_combinators_leave_names_of_hyperparameters_alone() -> None:
    @rule
    def own(w, grad, m, *, g: Rate = 0.5, theta: Rate = 0.25, self: Rate = 2.0):
        m = theta * m + grad
        return w - g * m * self, m

    for combine in (sr.l2, sr.decoupled, sr.maximize, sr.cautious):
        _check(combine(own))


def test_a_rule_made_by_exec_calls_its_helpers() -> None:
    names: dict[str, Any] = {"rule": rule, "Rate": Rate}
    names.pop("__name__", None)
    source = """
    import math
    def helper(x):
        return math.exp(-x) * helper.k
    helper.k = 2.0
    @rule
    def own(theta, g, *, lr: Rate = 0.1):
        return theta - helper(lr) * g
    """
    exec(textwrap.dedent(source), names)
    _check(names["own"])


@pytest.mark.parametrize("name", ["params", "rule", "backend"])
def test_names_that_an_optimizer_takes_are_refused(name: str) -> None:
    names: dict[str, Any] = {"Rate": Rate}
    exec(f"def own(theta, g, *, {name}: Rate = 0.1):\n    return theta - {name} * g\n", names)
    with pytest.raises(RuleError, match=f"'{name}' is an argument of Optimizer"):
        rule(names["own"])


def test_results_in_another_order_are_refused() -> None:
    with pytest.raises(
        RuleError, match=r"returns m in the place of theta: .* order of the arguments, theta, m\. If"
    ) as caught:

        @sr.rule
        def swapped(theta, g, m, *, lr: sr.Rate = 1e-3, beta: sr.Decay = 0.9):
            m = beta * m + (1 - beta) * g
            return m, theta - lr * m

    assert "return m, theta - lr * m" in str(caught.value)
    with pytest.raises(RuleError, match="returns v in the place of m"):

        @sr.rule
        def exchanged(theta, g, m, v, *, lr: sr.Rate = 1e-3, fast: bool = False):
            m = 0.9 * m + g
            v = 0.9 * v + g * g
            theta = theta - lr * m / (1 + v)
            return (theta, m, v) if fast else (theta, v, m)


def test_results_that_only_look_exchanged() -> None:
    @sr.rule
    def delayed(theta, g, g_1, g_2, *, lr: sr.Rate = 1e-3):
        return theta - lr * (g + g_1 + g_2), g, g_1

    @sr.rule
    def turned(theta, g, a, b, *, lr: sr.Rate = 1e-3):
        a, b = b + g, a
        return theta - lr * a, a, b

    @sr.rule
    def copied(theta, g, master, *, lr: sr.Rate = 1e-3):
        master = master - lr * g
        return master, master

    @sr.rule
    def named(theta, g, m, *, lr: sr.Rate = 1e-3):
        theta = 0.9 * m + g
        new = theta
        return m - lr * theta, new

    assert [rule(1.0, 2.0, *[3.0] * len(rule.slots))[1] for rule in (delayed, turned, copied)] == [2.0, 5.0, 2.998]


def test_a_slot_may_keep_the_new_theta_that_the_parameter_goes_on_from() -> None:
    @sr.rule
    def nesterov_1983(theta, g, last, *, lr: sr.Rate = 0.25, mu: sr.Decay = 0.5):
        theta = theta - lr * g
        return theta + mu * (theta - last), theta

    assert nesterov_1983(1.0, 2.0, 3.0) == (-0.75, 0.5)
    with pytest.raises(RuleError, match="returns theta in the place of m"):

        @sr.rule
        def swapped(theta, g, m, *, lr: sr.Rate = 1e-3):
            theta = theta - lr * m
            return 0.9 * m + g, theta
