"""Agreement with optax's own transformations over 50 steps of a small network, and optax's own test problems.

Where both define something else, a case shows a setting in which they mean the same, and another that they differ: so a
change of optax would be noticed.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import steprule as sr
import steprule.jax as ours
from steprule.doors.jax.alias import NAMES
from tests.cases import FOR_VECTORS as CATALOGUE

pytestmark = pytest.mark.apart

TOLERANCE = 1e-5
STEPS = 50
SIZES = (3, 6, 2)


def network(dtype: Any) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(3)
    tree = [
        {"w": jnp.asarray(rng.standard_normal(pair) / 2, dtype), "b": jnp.asarray(rng.standard_normal(pair[1]), dtype)}
        for pair in itertools.pairwise(SIZES)
    ]
    x, y = (jnp.asarray(rng.standard_normal((STEPS, 8, size)), dtype) for size in (SIZES[0], SIZES[-1]))
    return tree, x, y


def loss(tree: Any, x: Any, y: Any) -> Any:
    hidden = jnp.tanh(x @ tree[0]["w"] + tree[0]["b"])
    return jnp.mean((hidden @ tree[1]["w"] + tree[1]["b"] - y) ** 2)


def trained(transformation: Any, dtype: Any = np.float32) -> list[Any]:
    """Return the parameters after each of the steps, every one along a batch of its own."""
    tree, x, y = network(dtype)

    def step(carry: Any, batch: Any) -> tuple[Any, Any]:
        tree, state = carry
        updates, state = transformation.update(jax.grad(loss)(tree, *batch), state, tree)
        tree = optax.apply_updates(tree, updates)
        return (tree, state), tree

    _, path = jax.jit(lambda tree: jax.lax.scan(step, (tree, transformation.init(tree)), (x, y)))(tree)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(path)]


def distance(a: Any, b: Any, dtype: Any = np.float32) -> float:
    pairs = zip(trained(a, dtype), trained(b, dtype), strict=True)
    return max(float(np.max(abs(x - y) / np.maximum(1, abs(y)))) for x, y in pairs)


SAME: dict[str, tuple[Any, Any]] = {
    "sgd": (ours.sgd(0.1), optax.sgd(0.1)),
    "momentum": (ours.momentum(0.05, mu=0.8), optax.sgd(0.05, momentum=0.8)),
    "nesterov": (ours.momentum(0.05, mu=0.8, nesterov=True), optax.sgd(0.05, momentum=0.8, nesterov=True)),
    "rmsprop": (ours.rmsprop(0.01, rho=0.9, eps_inside=True), optax.rmsprop(0.01, decay=0.9)),
    "rmsprop, eps outside": (
        ours.rmsprop(0.01, rho=0.9, eps=1e-4, eps_inside=False),
        optax.rmsprop(0.01, eps=1e-4, eps_in_sqrt=False),
    ),
    "rmsprop, centered": (
        ours.rmsprop(0.01, rho=0.9, centered=True, eps=1e-3, eps_inside=True),
        optax.rmsprop(0.01, decay=0.9, centered=True, eps=1e-3),
    ),
    "rmsprop, momentum": (
        ours.rmsprop(0.01, rho=0.9, momentum=0.7, eps_inside=True),
        optax.rmsprop(0.01, decay=0.9, momentum=0.7),
    ),
    "adagrad": (ours.adagrad(0.1, initial_accumulator=0.1, eps=1e-7, eps_inside=True), optax.adagrad(0.1)),
    "adadelta": (ours.adadelta(1.0, rho=0.9, eps=1e-6), optax.adadelta(1.0)),
    "adam": (ours.adam(0.01), optax.adam(0.01)),
    "adam, other betas": (ours.adam(0.01, beta1=0.8, beta2=0.9, eps=1e-3), optax.adam(0.01, b1=0.8, b2=0.9, eps=1e-3)),
    "adam, eps_root": (ours.adam(0.01, eps=1e-3, eps_inside=True), optax.adam(0.01, eps=0.0, eps_root=1e-3)),
    "adamw": (ours.adamw(0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
    "l2(adam)": (
        ours.transformation(sr.l2("adam"), lr=0.01, weight_decay=0.1),
        optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.01)),
    ),
    "adamax": (ours.adamax(0.01, eps=1e-8), optax.adamax(0.01)),
    "amsgrad": (ours.amsgrad(0.01, correction="before_max"), optax.amsgrad(0.01)),
    "nadam, psi so large that mu is constant": (ours.nadam(0.01, psi=1e6), optax.nadam(0.01)),
    "lion": (ours.transformation("lion", lr=1e-3), optax.lion(1e-3, weight_decay=0.0)),
    "lion, decayed": (
        ours.transformation(sr.decoupled("lion"), lr=1e-3, weight_decay=0.1),
        optax.lion(1e-3, weight_decay=0.1),
    ),
    "yogi, from zero": (
        ours.yogi(0.01, bias_correction=True, initial_accumulator=0.0),
        optax.chain(optax.scale_by_yogi(initial_accumulator_value=0.0), optax.scale(-0.01)),
    ),
    "adabelief": (ours.adabelief(0.01), optax.adabelief(0.01)),
    "adan, where beta2 = 1 - beta2": (ours.adan(0.01, beta2=0.5), optax.adan(0.01, b2=0.5)),
    "maximize": (ours.transformation(sr.maximize("sgd"), lr=1e-3), optax.sgd(-1e-3)),
}


def _thinned(names: Iterable[str]) -> list[Any]:
    """Return every third name as it is, and the others for the long sweep."""
    return [n if k % 3 == 0 else pytest.param(n, marks=pytest.mark.slow) for k, n in enumerate(names)]


@pytest.mark.parametrize("name", _thinned(SAME))
def test_fifty_steps_agree(name: str) -> None:
    mine, theirs = SAME[name]
    assert distance(mine, theirs) <= TOLERANCE


EXCHANGED: list[str] = [
    "sgd(0.1)",
    "sgd(0.05, 0.9)",
    "sgd(0.05, 0.9, nesterov=True)",
    "sgd(learning_rate=0.05, momentum=0.8)",
    "adam(0.01)",
    "adam(learning_rate=0.01, b1=0.8, b2=0.95, eps=1e-5)",
    "adam(optax.linear_schedule(0.02, 0.0, 50), 0.8)",
    "adam(0.01, eps_root=1e-3)",
    "adam(0.01, 0.9, 0.999, 1e-8, 1e-4, None, nesterov=True)",
    "adamw(0.01)",
    "adamw(0.01, 0.8)",
    "adamw(0.01, b1=0.9, b2=0.98, eps=1e-9, weight_decay=1e-1)",
    "adamw(0.01, weight_decay=optax.linear_schedule(0.5, 0.0, 50))",
    "adamw(0.01, weight_decay=0.3, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))",
    "adamw(0.01, weight_decay=0.3, mask=[True, {'w': False, 'b': True}])",
    "adamw(0.01, weight_decay=0.3, nesterov=True)",
    "nadam(0.01)",
    "nadam(0.01, nesterov=False)",
    "nadam(0.01, eps_root=1e-3)",
    "nadamw(0.01, weight_decay=0.3)",
    "adamax(0.01)",
    "adamax(0.01, eps=1e-3)",
    "adamaxw(0.01, weight_decay=0.3, mask=[True, False])",
    "amsgrad(0.01)",
    "amsgrad(0.01, eps_root=1e-3)",
    "amsgrad(0.01, bias_correction_mu=False, bias_correction_nu=False)",
    "adagrad(0.1)",
    "adagrad(0.1, 0.5, 1e-3)",
    "adadelta(1.0)",
    "adadelta(1.0, 0.8, 1e-4, 0.3)",
    "adadelta(1.0, weight_decay=0.3, weight_decay_mask=[True, False])",
    "rmsprop(0.01)",
    "rmsprop(0.01, 0.8, 1e-3, 0.5, False)",
    "rmsprop(0.01, centered=True, eps=1e-3)",
    "rmsprop(0.01, momentum=0.7)",
    "rmsprop(0.01, momentum=0.7, nesterov=True, initial_scale=1.0)",
    "adabelief(0.01)",
    "adabelief(0.01, eps=1e-8, eps_root=1e-5)",
    "lion(1e-3)",
    "lion(1e-3, 0.8, 0.9, None, 0.3)",
    "lion(1e-3, weight_decay=0.0)",
    "lion(1e-3, weight_decay=0.3, mask=[False, True])",
    "signum(1e-3)",
    "signum(1e-3, 0.5)",
    "lamb(0.01)",
    "lamb(0.01, 0.8, 0.95, 1e-5, 1e-3, weight_decay=0.3, mask=[True, False])",
    "lars(0.1)",
    "lars(0.1, 0.01, weight_decay_mask=[True, False], trust_coefficient=0.01, eps=1e-3, momentum=0.8, nesterov=True)",
    "novograd(0.01)",
    "novograd(optax.linear_schedule(0.02, 0.0, 50), 0.8, 0.95, 1e-3, 1e-3, 0.1)",
    "adafactor(0.1, 1)",
    "adafactor(min_dim_size_to_factor=1, clipping_threshold=0.01)",
    "adafactor(0.1, 1, multiply_by_parameter_scale=False, clipping_threshold=None, weight_decay_rate=0.01)",
    "adafactor(optax.linear_schedule(0.2, 0.02, 50), 1, 0.7, weight_decay_rate=optax.linear_schedule(0.1, 0.0, 50))",
    "adafactor(0.1, 1, momentum=0.8, weight_decay_rate=0.1, weight_decay_mask=[True, False], eps=1e-3)",
    "contrib.prodigy(0.5, (0.8, 0.95), 0.9, 1e-6, 1e-3, 0.7, 0.1, True)",
    "contrib.dadapt_adamw(0.5, betas=(0.8, 0.95), eps=1e-4, estim_lr0=1e-3, weight_decay=0.1)",
]
"""Lines of optax in which the import alone is exchanged."""
QUICK = {line.partition("(")[0]: line for line in EXCHANGED}.values()
"""The last of each function."""


@pytest.mark.parametrize(
    "line", [line if line in QUICK else pytest.param(line, marks=pytest.mark.slow) for line in EXCHANGED]
)
def test_the_import_alone_is_exchanged(line: str) -> None:
    names = {"optax": optax, "jax": jax}
    mine = eval(f"lib.{line.removeprefix('contrib.')}", names | {"lib": ours})
    assert distance(mine, eval(f"lib.{line}", names | {"lib": optax})) <= TOLERANCE


@pytest.mark.parametrize(
    ("line", "within"), [("prodigy(eps=1e-30)", 1e-12), ("prodigy()", 1e-5), ("dadapt_adamw()", 1e-12)]
)
def test_what_estimates_its_rate_agrees_in_64_bits(line: str, within: float) -> None:
    """In float32 each rounding moves the estimate, that before the step by which Prodigy's eps is multiplied here."""
    with jax.enable_x64(True):
        mine, theirs = (eval(f"lib.{line}", {"lib": lib}) for lib in (ours, optax.contrib))
        found = distance(mine, theirs, np.float64)
    assert found <= within
    assert found > 1e-7 or within < 1e-5


@pytest.mark.slow
def test_matrices_that_optax_does_not_factor_are_factored() -> None:
    """Those of fewer than 128 rows or columns, and of more axes others than the last two."""
    mine, theirs = ours.adafactor(0.1), optax.adafactor(0.1)
    assert distance(mine, theirs) > TOLERANCE
    g = jnp.asarray(np.random.default_rng(0).standard_normal((130, 3, 129)), jnp.float32)
    for axes, agrees in (((0, 1, 2), False), ((1, 0, 2), True)):
        x = jnp.transpose(g, axes)
        one, other = (tx.update(x, tx.init(x), x)[0] for tx in (mine, theirs))
        assert np.allclose(one, other, rtol=1e-4) == agrees


def test_the_arguments_are_those_of_optax_in_their_order_with_their_defaults() -> None:
    libraries = {name: optax.contrib if alias.module == "optax.contrib" else optax for name, alias in NAMES.items()}
    both = [name for name, lib in libraries.items() if hasattr(lib, name)]
    assert len(both) >= 24
    for name in both:
        mine, theirs = (inspect.signature(getattr(lib, name)).parameters for lib in (ours, libraries[name]))
        by_place = [key for key, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert [key for key, p in mine.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == by_place
        for key, argument in theirs.items():
            if argument.default is not argument.empty:
                assert mine[key].default == argument.default, (name, key)


@pytest.mark.parametrize("line", ["centralize()", "scale_by_trust_ratio()", "scale_by_trust_ratio(0.0, 0.1, 1e-2)"])
@pytest.mark.dear
def test_transformations_of_updates(line: str) -> None:
    mine, theirs = (eval(f"lib.{line}", {"lib": lib}) for lib in (ours, optax))
    assert distance(*(optax.chain(one, lib.adam(0.01)) for one, lib in ((mine, ours), (theirs, optax)))) <= TOLERANCE
    assert (
        distance(*(optax.chain(lib.adam(1.0), one, optax.scale(0.01)) for one, lib in ((mine, ours), (theirs, optax))))
        <= TOLERANCE
    )
    name = line.partition("(")[0]
    own, other = (inspect.signature(getattr(lib, name)).parameters for lib in (ours, optax))
    assert [(key, p.default) for key, p in own.items()] == [(key, p.default) for key, p in other.items()]


def test_transformations_of_updates_where_there_is_nothing() -> None:
    tree = {"zero": jnp.zeros((2, 3)), "none": jnp.ones((0, 3)), "b": jnp.ones(3), "n": jnp.ones(())}
    for g in (tree, jax.tree.map(jnp.ones_like, tree)):
        for name in ("centralize", "scale_by_trust_ratio"):
            mine, theirs = (getattr(lib, name)() for lib in (ours, optax))
            found, expected = (tx.update(g, tx.init(tree), tree)[0] for tx in (mine, theirs))
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected)


def test_radam_agrees_where_optax_has_the_digits() -> None:
    # rho is 1999 less a number near it: in float32, optax's is off by half a percent, and so are its steps.
    pair = ours.radam(0.01, rho_min=5.0), optax.radam(0.01)
    assert distance(*pair) > TOLERANCE
    with jax.enable_x64(True):
        exact = trained(optax.radam(0.01), np.float64)
        assert distance(ours.radam(0.01, rho_min=5.0), optax.radam(0.01), np.float64) <= 1e-12
    near = max(float(abs(a - b).max()) for a, b in zip(trained(pair[0]), exact, strict=True))
    assert near <= TOLERANCE


def test_schedule_free_is_nearer_to_float64_than_with_optax() -> None:
    def final(lib: Any, dtype: Any) -> Any:
        base = lib.adamw(learning_rate=1.0, b1=0.0, weight_decay=1e-4)
        optimizer = optax.contrib.schedule_free(base, learning_rate=1.0, b1=0.9)
        params = jnp.array([1.0, 2.0], dtype)
        state = optimizer.init(params)
        for _ in range(5):
            updates, state = optimizer.update(2 * params, state, params)
            params = optax.apply_updates(params, updates)
        return np.asarray(params, np.float64)

    with jax.enable_x64(True):
        exact = final(optax, np.float64)
        np.testing.assert_allclose(final(ours, np.float64), exact, atol=1e-12)
    assert abs(final(ours, np.float32) - exact).max() <= 1e-7
    assert abs(final(optax, np.float32) - exact).max() > 1e-6


OWN = ours.transformation
DIFFERENT: dict[str, tuple[Any, Any]] = {
    "nadam: Dozat's momentum warms up": (OWN("nadam", lr=0.01), optax.nadam(0.01)),
    "adagrad: optax starts at 0.1, with eps under the root": (OWN("adagrad", lr=0.1), optax.adagrad(0.1)),
    "amsgrad: the paper has no correction": (OWN("amsgrad", lr=0.01), optax.amsgrad(0.01)),
    "yogi: optax corrects for bias": (OWN("yogi", lr=0.01), optax.yogi(0.01)),
    "yogi: optax starts m at the initial accumulator": (
        ours.yogi(0.01, initial_accumulator=0.1),
        optax.chain(optax.scale_by_yogi(initial_accumulator_value=0.1), optax.scale(-0.01)),
    ),
    "rmsprop: rho is 0.99": (OWN("rmsprop", lr=0.01), optax.rmsprop(0.01)),
    "rmsprop: a schedule acts outside of the momentum here, within it there": (
        ours.rmsprop(optax.linear_schedule(0.05, 0.0, 50), momentum=0.9),
        optax.rmsprop(optax.linear_schedule(0.05, 0.0, 50), momentum=0.9),
    ),
    "adadelta: rho is 0.95": (OWN("adadelta", lr=1.0), optax.adadelta(1.0)),
    "radam: the paper's adapts from 4 on": (OWN("radam", lr=0.01), optax.radam(0.01)),
    "adamw: weight_decay is 0.01": (OWN("adamw", lr=0.1), optax.adamw(0.1)),
    "adan: the change of g weighs beta2 in the paper (its 1 - beta2), 1 - b2 in optax": (
        ours.adan(0.01),
        optax.adan(0.01),
    ),
    "adan: its decay divides by 1 + lr weight_decay in the paper": (
        ours.adan(0.01, b2=0.5, weight_decay=0.1),
        optax.adan(0.01, b2=0.5, weight_decay=0.1),
    ),
    "rprop: a step ahead": (ours.rprop(0.01), optax.rprop(0.01)),
    "lion: the rule does not decay": (OWN("lion", lr=1e-2), optax.lion(1e-2)),
}


@pytest.mark.parametrize("name", _thinned(DIFFERENT))
def test_what_differs(name: str) -> None:
    assert distance(*DIFFERENT[name]) > TOLERANCE


@pytest.mark.parametrize("inject", [False, True])
def test_schedules_count_from_zero(inject: bool) -> None:
    schedule = optax.warmup_cosine_decay_schedule(0.02, 0.1, 10, 50)
    mine = optax.inject_hyperparams(ours.momentum)(lr=schedule) if inject else ours.momentum(schedule)
    assert distance(mine, optax.sgd(schedule, momentum=0.9)) <= TOLERANCE


# optax's own test problems.


def parabola(x: Any) -> Any:
    return jnp.sum((x - jnp.array([1.0, -1.0, 1.0])) ** 2)


def rosenbrock(x: Any) -> Any:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


PROBLEMS = {
    "parabola": (parabola, [-1.0, 10.0, 1.0], [1.0, -1.0, 1.0]),
    "rosenbrock": (rosenbrock, [0.0, 0.0], [1.0, 1.0]),
}
ITERATIONS = 20_000
WITHIN = 1e-2
# Of rules that are not listed one of ANY will do.
ANY = (1e-2, 1e-3, 1e-4, 0.5)
RATES = {
    "sgd": 1e-3,
    "momentum": 1e-3,
    "momentum_ema": 1e-3,
    "adagrad": 0.5,
    "adadelta": 1.0,
    "rmsprop": 1e-3,
    "adam": 1e-2,
    "adamax": 1e-2,
    "amsgrad": 1e-2,
    "adamw": 1e-2,
    "nadam": 1e-2,
    "radam": 1e-2,
    "rprop": 1e-2,
    "asgd": 1e-3,
    "adabelief": 1e-2,
    "yogi": 1e-2,
    "lion": 1e-3,
    "signum": 1e-3,
    "adan": 1e-2,
    "lamb": 1e-3,
    "adopt": 1e-2,
    "ademamix": 1e-2,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.0},
    "lamb": {"weight_decay": 0.0},  # as optax's by default
    "asgd": {"lambd": 0.0},
    "adopt": {"clip": True},  # without, its first steps run away
    # Steps of one size: small ones for a narrow valley, of which 20,000 do not reach across the parabola.
    "signum, rosenbrock": {"lr": 1e-4},
    # Its steps begin at 0.001 and grow without a rate to hold them: in this valley it needs another.
    "adadelta, rosenbrock": {"lr": 0.03},
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_rule_solves_the_problems_of_optax(name: str, problem: str) -> None:
    function, start, goal = PROBLEMS[problem]
    options = {**OPTIONS.get(name, {}), **OPTIONS.get(f"{name}, {problem}", {})}
    rates = [RATES[name]] if name in RATES else ANY
    missed = [missed_by(function, start, goal, name, {"lr": lr, **options}) for lr in rates]
    assert min(missed) <= WITHIN


def missed_by(function: Any, start: list[float], goal: list[float], name: str, options: dict[str, Any]) -> float:
    transformation = ours.transformation(name, **options)

    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        x, state = carry
        updates, state = transformation.update(jax.grad(function)(x), state, x)
        return (optax.apply_updates(x, updates), state), None

    x = jnp.array(start)
    (x, _), _ = jax.jit(lambda x: jax.lax.scan(step, (x, transformation.init(x)), None, length=ITERATIONS))(x)
    missed = float(abs(x - jnp.array(goal)).max())
    return missed if np.isfinite(missed) else np.inf
