"""Laws that the rules obey, whatever the numbers: what the papers prove or say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

import steprule as sr
from steprule.rules import Rule, cautious, cautious_decay, decoupled, l2, maximize, unscaled
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits

moderate = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3)
gradients = hnp.arrays(np.float64, (6, 4), elements=moderate)


def _run(rule: str | Rule, theta: Array, grads: Array, **values: Any) -> sr.Optimizer:
    optimizer = sr.Optimizer(theta, rule, **values)
    for g in grads:
        optimizer.step(g)
    return optimizer


@pytest.mark.parametrize("name", ["adam", "adamax", "amsgrad", "nadam", "radam", "adabelief"])
@hypothesis.given(g=hnp.arrays(np.float64, 5, elements=moderate))
def test_the_first_step_of_the_family_has_a_known_size(name: str, g: Array) -> None:
    theta = np.zeros(5)
    options: dict[str, Any] = {"correction": "after_max"} if name == "amsgrad" else {}
    sr.Optimizer(theta, name, lr=0.5, eps=1e-300, **options).step(g)
    sized = 0.5 * np.sign(g)
    expected = {"radam": 0.5 * g, "adabelief": sized / 0.9, "nadam": None}.get(name, sized)
    if expected is not None:
        np.testing.assert_allclose(theta, -expected, rtol=1e-12)
    else:  # the look-ahead makes it larger by a factor of its own, the same for every element
        np.testing.assert_allclose(theta / sized, np.full(5, theta[0] / sized[0]), rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamax", "amsgrad", "nadam", "adabelief", "adan", "ademamix"])
@hypothesis.given(grads=gradients, power=st.integers(-20, 20))
def test_scaling_the_loss_changes_nothing_without_epsilon(name: str, grads: Array, power: int) -> None:
    # A power of two scales every intermediate exactly, so the law holds in every bit where the rule
    # divides by the root of a second moment: with sqrt(4^k v) = 2^k sqrt(v).
    values = {} if name == "adamax" else {"eps": 0.0}
    one, two = np.zeros(4), np.zeros(4)
    _run(name, one, grads, **values)
    _run(name, two, grads * 2.0**power, **values)
    assert_same_bits(one, two, name)


@pytest.mark.parametrize("name", ["lion", "signum"])
@hypothesis.given(grads=gradients)
def test_sign_rules_move_by_the_learning_rate(name: str, grads: Array) -> None:
    theta = np.zeros(4)
    optimizer = sr.Optimizer(theta, name, lr=0.125)
    for g in grads:
        before = theta.copy()
        optimizer.step(g)
        assert set(np.abs(theta - before).tolist()) <= {0.0, 0.125}


@hypothesis.given(
    grads=hnp.arrays(np.float64, (40, 3), elements=moderate), beta1=st.floats(0, 0.95), beta2=st.floats(0.5, 0.999)
)
def test_adam_steps_stay_within_their_least_upper_bound(grads: Array, beta1: float, beta2: float) -> None:
    # The factor of the paper's section 2.1, (1 - beta1) / sqrt(1 - beta2), is for a single gradient after a silence.
    theta = np.zeros(3)
    optimizer = sr.Optimizer(theta, "adam", lr=1.0, beta1=beta1, beta2=beta2, eps=0.0)
    for t, g in enumerate(grads, start=1):
        before = theta.copy()
        optimizer.step(g)
        # Cauchy-Schwarz on the two weighted averages, exact for every t.
        i = np.arange(t)
        a = (1 - beta1) * beta1 ** i.astype(float) / (1 - beta1**t)
        b = (1 - beta2) * beta2 ** i.astype(float) / (1 - beta2**t)
        assert (np.abs(theta - before) <= np.sqrt(np.sum(a * a / b)) * (1 + 1e-9)).all()


def _longest_step(silence: int, train: Array) -> float:
    theta = np.zeros(1)
    optimizer = sr.Optimizer(theta, "adam", lr=1.0, eps=0.0, backend="numpy")
    for g in [1e-100] * silence:  # its square is not zero, which without epsilon would divide zero by zero
        optimizer.step(np.full(1, g))
    longest = 0.0
    for g in train:
        before = theta.copy()
        optimizer.step(np.full(1, g))
        longest = max(longest, abs(float((theta - before)[0])))
    return longest


@pytest.mark.slow
def test_how_far_adam_steps_after_a_long_silence() -> None:
    # By Cauchy-Schwarz no history of gradients makes m_hat / sqrt(v_hat) larger than this, and gradients that grow by
    # beta2 / beta1 a step come as near as one likes; alike ones do not, and a single one makes the paper's factor.
    least_bound = (1 - 0.9) / (np.sqrt(1 - 0.999) * np.sqrt(1 - 0.9**2 / 0.999))
    assert least_bound == pytest.approx(7.27, abs=0.005)
    growing = (0.999 / 0.9) ** np.arange(150.0)
    assert least_bound * (1 - 1e-4) < _longest_step(10_000, growing) <= least_bound
    assert _longest_step(10_000, np.ones(40)) == pytest.approx(6.57, abs=0.01)
    assert _longest_step(10_000, np.ones(1)) == pytest.approx(0.1 / np.sqrt(0.001), rel=1e-3)


@hypothesis.given(theta=hnp.arrays(np.float64, 4, elements=moderate), decay=st.floats(0, 1), lr=st.floats(0, 1))
def test_adamw_without_gradient_only_decays(theta: Array, decay: float, lr: float) -> None:
    zero = np.zeros(4)
    x = theta.copy()
    sr.Optimizer(x, "adamw", lr=lr, weight_decay=decay).step(zero)
    np.testing.assert_array_equal(x, theta - lr * decay * theta)
    x = theta.copy()
    sr.Optimizer(x, "adamw", lr=lr, weight_decay=decay, scale_by_lr=False).step(zero)
    np.testing.assert_array_equal(x, theta - decay * theta)


_DECAYING = ["adafactor", "adam_mini", "adamw", "adan", "asgd", "came", "lamb", "mars", "muon", "normuon"]
_COMBINED = {"cautious_decay(adam)": sr.cautious_decay("adam"), "decoupled(adabelief)": sr.decoupled("adabelief")}


@pytest.mark.parametrize("lr", [1e-3, 1e-5])
@pytest.mark.parametrize("rule", [*_DECAYING, *_COMBINED])
def test_rounding_makes_weight_decay_neither_stronger_nor_weaker(rule: str, lr: float) -> None:
    # Multiplied by 1 - decay, or taken off by itself, theta's last place goes the same way in step after step: with
    # adamw, the mean error was 17 and 24 places. Random roundings of half a place at most make 3 of a hundred steps.
    rng = np.random.default_rng(1)
    theta = rng.uniform(1.25, 1.75, (64, 64)).astype(np.float32)
    exact = theta.astype(np.float64)
    given: dict[str, Any] = {"lambd": 0.01} if rule == "asgd" else {"weight_decay": 0.01}
    made = _COMBINED.get(rule, rule)
    mine, theirs = (sr.Optimizer(x, made, lr=lr, **given) for x in (theta, exact))
    for _ in range(100):
        g = rng.standard_normal(theta.shape, np.float32)
        mine.step(g)
        theirs.step(g.astype(np.float64))
    places = (theta - exact) / np.spacing(np.float32(1.5))
    assert abs(places.mean()) < 0.5
    assert abs(places).mean() < 4


@sr.rule
def twice(theta: Any, g: Any, m: Any, *, lr: float = 0.01) -> Any:
    m = 0.9 * m + 0.1 * g
    return theta - lr * m - lr * g, m


@sr.rule
def scaled(theta: Any, g: Any, *, lr: float = 0.01) -> Any:
    return (1 - 0.5 * lr) * theta - lr * g


@sr.rule
def rising(theta: Any, g: Any, *, lr: float = 0.01) -> Any:
    return theta + lr * -g


INSIDE = [twice, scaled, rising, *(sr.schedule_free(name) for name in ("sgd", "adam")), sr.lookahead("adam")]
INSIDE += [sr.rules.adam, sr.rules.asgd, sr.averaged("adam")]


@pytest.mark.parametrize("combine", [sr.decoupled, sr.cautious_decay])
@pytest.mark.parametrize("rule", INSIDE, ids=lambda rule: rule.name)
def test_a_decay_of_zero_leaves_every_bit_of_the_rule_inside(rule: Rule, combine: Callable[[Rule], Rule]) -> None:
    rng = np.random.default_rng(2)
    bare = rng.standard_normal(300).astype(np.float32)
    decaying = bare.copy()
    optimizers = sr.Optimizer(bare, rule), sr.Optimizer(decaying, combine(rule), weight_decay=0.0)
    for _ in range(7):  # past a synchronisation of lookahead
        g = rng.standard_normal(300, np.float32)
        for optimizer in optimizers:
            optimizer.step(g)
        assert_same_bits(bare, decaying)


def test_what_is_kept_of_a_decayed_parameter_has_its_bits() -> None:
    theta = np.random.default_rng(2).standard_normal(300).astype(np.float32)
    optimizer = sr.Optimizer(theta, sr.decoupled("asgd"), lr=0.1, weight_decay=0.3)
    for _ in range(5):
        optimizer.step(np.cos(theta))
        assert_same_bits(theta, optimizer.slots["ax"])


@pytest.mark.parametrize("rule", INSIDE, ids=lambda rule: rule.name)
def test_a_decayed_rule_on_arrays_has_the_bits_of_its_kernel(rule: Rule) -> None:
    made = sr.decoupled(rule)
    theta, g = np.random.default_rng(3).standard_normal((2, 300)).astype(np.float32)
    optimizer = sr.Optimizer(theta.copy(), made, lr=0.1, weight_decay=0.3)
    begun = {name: 0.0 if name in made.numbers else optimizer.slots[name].copy() for name in made.slots}
    optimizer.step(g)
    direct = made(theta, g, *begun.values(), t=1, lr=0.1, weight_decay=0.3)[0]
    assert_same_bits(np.asarray(direct), np.asarray(optimizer.params))


@hypothesis.given(grads=gradients)
def test_adam_without_momentum_is_corrected_rmsprop(grads: Array) -> None:
    a, v = np.zeros(4), np.zeros(4)
    optimizer = sr.Optimizer(a, "adam", beta1=0.0, beta2=0.9, lr=0.1, eps=1e-8)
    b = np.zeros(4)
    for t, g in enumerate(grads, start=1):
        optimizer.step(g)
        v = 0.9 * v + 0.1 * g**2
        b = b - 0.1 * g / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
    np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@hypothesis.given(grads=gradients)
def test_identities_between_rules(grads: Array) -> None:
    def final(rule: str | Rule, **values: Any) -> Array:
        theta = np.ones(4)
        _run(rule, theta, grads, **values)
        return theta

    assert_same_bits(final("momentum", mu=0.0, lr=0.25), final("sgd", lr=0.25))
    assert_same_bits(final("signum", beta=0.0, lr=0.25), final("lion", beta1=0.0, beta2=0.0, lr=0.25))
    assert_same_bits(final("adamw", weight_decay=0.0), final("adam"))
    assert_same_bits(final(l2(CATALOGUE["adam"]), weight_decay=0.0), final("adam"))
    assert_same_bits(final("ademamix", alpha=0.0), final("adam"))
    np.testing.assert_allclose(final("momentum_ema", lr=1.0), final("momentum", dampening=0.0, lr=0.1), rtol=1e-12)
    climb = np.ones(4)
    _run(maximize(CATALOGUE["adam"]), climb, -grads)
    assert_same_bits(climb, final("adam"))


@hypothesis.given(grads=gradients)
def test_amsgrad_never_lets_its_denominator_fall(grads: Array) -> None:
    optimizer = sr.Optimizer(np.zeros(4), "amsgrad")
    before = np.zeros(4)
    for g in grads:
        optimizer.step(g)
        now = optimizer.slots["v_max"]
        assert (now >= before).all()
        assert (now >= optimizer.slots["v"]).all()
        before = now.copy()


@hypothesis.given(grads=gradients)
def test_yogi_changes_v_by_a_bounded_amount(grads: Array) -> None:
    optimizer = sr.Optimizer(np.zeros(4), "yogi", beta2=0.9)
    before = np.full(4, 1e-6)
    for g in grads:
        optimizer.step(g)
        assert (np.abs(optimizer.slots["v"] - before) <= 0.1 * g**2 * (1 + 1e-9) + 4e-16 * before).all()
        before = optimizer.slots["v"].copy()


@hypothesis.given(grads=gradients)
def test_a_cautious_step_never_climbs(grads: Array) -> None:
    theta = np.zeros(4)
    optimizer = sr.Optimizer(theta, cautious(CATALOGUE["momentum"]), lr=0.1)
    for g in grads:
        before = theta.copy()
        optimizer.step(g)
        assert ((theta - before) * g <= 0).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (cautious("adamw"), decoupled(cautious("adam"))),
        (cautious(maximize("adam")), maximize(cautious("adam"))),
        (cautious(unscaled("adamw")), unscaled(decoupled(cautious("adam")))),
        (cautious(cautious_decay("adam")), cautious_decay(cautious("adam"))),
        (decoupled(maximize("lion")), maximize(decoupled("lion"))),
        (unscaled(maximize("lion")), maximize(unscaled("lion"))),
    ],
    ids=str,
)
@hypothesis.given(grads=gradients)
def test_the_order_of_these_combinators_changes_nothing(one: Rule, other: Rule, grads: Array) -> None:
    ends = [np.linspace(-3, 2, 4) for _ in range(2)]
    for rule, theta in zip((one, other), ends, strict=True):
        _run(rule, theta, grads, lr=0.125)
    assert_same_bits(ends[0], ends[1])


def test_where_the_order_of_combinators_changes_the_meaning() -> None:
    def moved(rule: Rule, theta: float, g: float, **values: Any) -> float:
        x = np.array([theta])
        _run(rule, x, np.array([[g]]), lr=0.5, weight_decay=1.0, **values)
        return float(x[0]) - theta

    assert moved(maximize(l2("sgd")), 2.0, 0.0) == -1.0  # the penalty is descended
    assert moved(l2(maximize("sgd")), 2.0, 0.0) == 1.0
    assert moved(unscaled(l2("sgd")), 2.0, 8.0, grad_scale=8.0) == -0.5 * (1 + 2)
    assert moved(l2(unscaled("sgd")), 2.0, 8.0, grad_scale=8.0) == -0.5 * (8 + 2) / 8
    assert moved(l2(cautious("sgd")), -2.0, 1.0) == 0.5  # along -(1 - 2): a descent of both together
    assert moved(cautious(l2("sgd")), -2.0, 1.0) == 0.0  # uphill of the gradient itself


def test_a_masked_weight_decays_on() -> None:
    theta = np.array([2.0, 2.0])
    optimizer = sr.Optimizer(theta, cautious("adamw"), lr=0.1, weight_decay=0.5, beta1=0.9)
    optimizer.step(np.ones(2))
    before = theta.copy()
    optimizer.step(np.array([-0.01, 1.0]))  # the first one's average still points the other way
    assert theta[0] == (1 - 0.1 * 0.5) * before[0]
    assert theta[1] < (1 - 0.1 * 0.5) * before[1]


def test_a_cautious_decay_spares_what_the_step_moves_away_from_zero() -> None:
    theta = np.array([2.0, 2.0, 2.0, -2.0, -2.0, 1e-200, -1e-200, 0.0])
    g = np.array([1.0, 0.0, -1.0, -1.0, 1.0, 1e-200, 1e-200, 1.0])
    plain, all_of_them = theta.copy(), theta.copy()
    sr.Optimizer(plain, "sgd", lr=0.125).step(g)
    sr.Optimizer(all_of_them, decoupled("sgd"), lr=0.125, weight_decay=0.5).step(g)
    sr.Optimizer(theta, cautious_decay("sgd"), lr=0.125, weight_decay=0.5).step(g)
    decays = [True, True, False, True, False, True, False, False]
    assert_same_bits(theta, np.where(decays, all_of_them, plain))
    assert (plain != all_of_them)[:7].all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cautious_decay_sees_steps_that_are_too_small_to_move_anything(dtype: str) -> None:
    """A step away from 0 spares an element, also where adding it would change no digit."""
    theta = np.array([1.0, -1.0], dtype)
    sr.Optimizer(theta, cautious_decay("sgd"), lr=1.0, weight_decay=0.5).step(np.array([-1e-30, 1e-30], dtype))
    assert theta.tolist() == [1.0, -1.0]


def test_a_cautious_decay_does_not_hide_a_nan() -> None:
    theta = np.ones(2)
    sr.Optimizer(theta, cautious_decay("adam")).step(np.array([np.nan, 1.0]))
    assert np.isnan(theta[0])
    assert theta[1] < 1


def test_a_rule_decays_once() -> None:
    with pytest.raises(sr.errors.RuleError, match="already has a hyperparameter 'weight_decay'"):
        cautious_decay("adamw")


def test_a_cautious_rule_does_not_hide_a_nan() -> None:
    theta = np.ones(2)
    sr.Optimizer(theta, cautious(CATALOGUE["adam"])).step(np.array([np.nan, 1.0]))
    assert np.isnan(theta[0])
    assert theta[1] < 1


def test_adagrad_steps_fall_as_one_over_the_root_of_t() -> None:
    theta = np.zeros(1)
    optimizer = sr.Optimizer(theta, "adagrad", lr=1.0, eps=0.0)
    for t in range(1, 50):
        before = theta.copy()
        optimizer.step(np.ones(1))
        np.testing.assert_allclose(before - theta, 1 / np.sqrt(t), rtol=1e-12)


def test_adamax_stays_where_there_was_no_gradient() -> None:
    theta = np.ones(3)
    optimizer = sr.Optimizer(theta, "adamax")
    optimizer.step(np.array([0.0, 1.0, 0.0]))
    optimizer.step(np.array([0.0, 0.0, -1.0]))
    assert theta[0] == 1.0
    assert np.isfinite(theta).all()
    optimizer.step(np.array([np.nan, 0.0, 0.0]))
    assert np.isnan(theta[0]), "a NaN gradient must not be swallowed"


def test_without_correction_the_first_adam_step_is_too_large() -> None:
    # Section 6.4: with beta2 near 1 and no correction, the first step is lr (1-b1)/sqrt(1-b2).
    theta = np.zeros(1)
    sr.Optimizer(theta, "adam", lr=1.0, bias_correction=False, eps=0.0, beta2=0.9999).step(np.array([3.0]))
    np.testing.assert_allclose(theta, -0.1 / np.sqrt(1e-4), rtol=1e-10)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_zero_learning_rate_moves_slots_only(name: str) -> None:
    rule = CATALOGUE[name]
    if rule.init.get("delta") == "lr":  # rprop: lr is its first step size, which is brought within the bounds
        theta = np.linspace(1, 2, 3)
        _run(name, theta, np.ones((1, 3)), lr=0.0)
        assert_same_bits(theta, np.linspace(1, 2, 3) - 1e-6)
        return
    theta = np.linspace(1, 2, 3)
    before = theta.copy()
    optimizer = _run(name, theta, np.ones((3, 3)), lr=0.0)
    assert_same_bits(theta, before)
    slots = [slot for key, slot in optimizer.slots.items() if key not in rule.scalars]
    if name == "lars":  # whose slot is of steps
        slots = []
    assert not slots or any((slot != 0).any() for slot in slots)


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slots_never_hold_subnormal_numbers(name: str, dtype: type) -> None:
    rng = np.random.default_rng(1)
    theta: Array = rng.standard_normal(200).astype(dtype)
    optimizer = sr.Optimizer(theta, name)
    smallest = float(np.finfo(dtype).smallest_normal)
    for scale in (1e-10, 1e-19, 0.0, 1e-36 if dtype is np.float32 else 1e-300, 0.0, 0.0):
        optimizer.step((rng.standard_normal(200) * scale).astype(dtype))
        for key, slot in optimizer.slots.items():
            if key not in CATALOGUE[name].scalars:
                assert not ((np.abs(slot) < smallest) & (slot != 0)).any(), key


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_parameters_decay_into_subnormal_numbers_as_the_rule_says(backend: str) -> None:
    theta = np.array([1.0, -3.0, 1e-30, 0.0], np.float32)
    optimizer, expected = sr.Optimizer(theta, "adamw", backend=backend, lr=0.5, weight_decay=1.0), theta.copy()
    for _ in range(135):
        optimizer.step(np.zeros(4, np.float32))
        expected = expected - np.float32(0.5) * expected
        assert_same_bits(theta, expected)
    assert 0 < theta[0] < np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in ("rprop",)])
def test_every_rule_descends_a_bowl(name: str) -> None:
    lr = {"adadelta": 30.0, "lion": 0.01, "signum": 0.01, "adagrad": 0.5, "asgd": 0.1, "lars": 20.0}.get(name, 0.05)
    theta = np.array([2.0, -1.5])
    start = 0.5 * theta @ theta
    optimizer = sr.Optimizer(theta, name, lr=sr.schedules.cosine(lr, 1500))
    for _ in range(1500):
        optimizer.step(theta.copy())
    assert 0.5 * theta @ theta < 1e-2 * start


def test_reddis_counterexample() -> None:
    # Reddi, Kale & Kumar 2018, section 3: f_t(x) = 1010 x if t mod 101 = 1, else -10 x, on [-1, 1].
    # The paper gives neither alpha nor x_1: here lr = 0.5 / sqrt(t), x_1 = 0.
    def end(rule: str) -> float:
        x = np.zeros(1)
        optimizer = sr.Optimizer(x, rule, lr=sr.schedules.inverse_sqrt(0.5), beta1=0.9, beta2=0.99)
        for t in range(1, 60_001):
            optimizer.step(np.array([1010.0 if t % 101 == 1 else -10.0]))
            np.clip(x, -1, 1, out=x)
        return float(x[0])

    assert end("adam") > 0.9
    assert end("amsgrad") < -0.9


def test_decoupled_decay_commutes_with_the_rule() -> None:
    theta, plain = np.array([3.0]), np.array([3.0])
    g = np.array([0.7])
    sr.Optimizer(theta, decoupled(CATALOGUE["lion"]), lr=0.1, weight_decay=0.5).step(g)
    sr.Optimizer(plain, "lion", lr=0.1).step(g)
    np.testing.assert_allclose(theta, plain - 0.1 * 0.5 * 3.0, rtol=1e-15)
