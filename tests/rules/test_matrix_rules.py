"""Rules that see rows and columns against their papers' loops, called on arrays and stepped by optimizers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import optax
import pytest
import torch

import steprule as sr
from steprule.rules import Rule, cautious, cautious_decay, centralized, maximize, trust_ratio
from steprule.rules.combinators import update_clip
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits, unlike_defaults, variants
from tests.launch.row_rules import starts_of
from tests.papers import combinators

RULES: dict[str, Rule] = {rule.name: rule for rule in (adafactor, came, adam_mini)}
CASES = [(name, options) for name, rule in RULES.items() for options in variants(rule)]
RELATIVE = 1e-10
SHAPES = ((9,), (5, 4), (1, 9))
"""A vector, matrices, and one of one row, which is no vector."""
SOME = [
    *((name, {}) for name in RULES),
    ("adafactor", {"clamp": True, "beta1": 0.9, "beta2": 0.99, "eps1": 0.3, "weight_decay": 0.1}),
    ("adafactor", {"eps2": None, "clip_threshold": 0.5, "relative_step": False}),
    ("came", {"weight_decay": 0.1}),
    ("adam_mini", {"blocks": "tensor", "weight_decay": 0.1}),
]


def gradients_of(shape: Sequence[int], steps: int = 15) -> Array:
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((steps, *shape)) * 10.0 ** rng.uniform(-2, 1, shape) + 0.1
    gradients[steps // 2 :, 0] = 0.0
    return gradients


def start_of(shape: Sequence[int]) -> Array:
    return np.random.default_rng(1).standard_normal(shape)


def walked(rule: Rule, theta: Array, gradients: Array, **options: Any) -> tuple[list[Array], dict[str, Any]]:
    """Return theta after each step of calls, and the slots that are kept."""
    slots = starts_of(rule, theta)
    path = []
    for t, g in enumerate(gradients, start=1):
        theta, *slots = rule(theta, g, *slots, t=t, **options)
        path.append(theta)
    return path, {name: x for name, x in zip(rule.slots, slots, strict=True) if x is not None}


def stepped(rule: Any, theta: Array, gradients: Array, backend: str, **options: Any) -> tuple[list[Array], Any]:
    """Return theta after each step of an optimizer, and its slots."""
    theta = theta.copy()
    path = []
    optimizer = sr.Optimizer(theta, rule, backend=backend, **options)
    for g in gradients:
        optimizer.step(g)
        path.append(theta.copy())
    return path, {name: x for name, x in optimizer.slots.items() if x is not None}


def assert_close(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    (path, slots), (their_path, their_slots) = found, expected
    np.testing.assert_allclose(path, their_path, rtol=RELATIVE, atol=RELATIVE)
    assert set(slots) == set(their_slots)
    for slot, value in their_slots.items():
        scale = np.max(np.abs(value))
        np.testing.assert_allclose(np.ravel(slots[slot]), np.ravel(value), rtol=RELATIVE, atol=RELATIVE * scale)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_called_on_arrays_it_is_the_paper(name: str, options: dict[str, Any]) -> None:
    rule, loops = RULES[name], importlib.import_module(f"tests.papers.{name}")
    for shape in SHAPES:
        run = loops.run_matrix if len(shape) > 1 else loops.run
        theta, gradients = start_of(shape), gradients_of(shape)
        for values in (options, {**unlike_defaults(rule, options), **options}):
            expected = run(theta.tolist(), gradients.tolist(), **values)
            assert_close(walked(rule, theta, gradients, **values), expected)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize(("name", "options"), SOME, ids=str)
def test_an_optimizer_steps_as_the_paper(name: str, options: dict[str, Any], backend: str) -> None:
    loops = importlib.import_module(f"tests.papers.{name}")
    for shape in SHAPES:
        run = loops.run_matrix if len(shape) > 1 else loops.run
        theta, gradients = start_of(shape), gradients_of(shape)
        expected = run(theta.tolist(), gradients.tolist(), **options)
        assert_close(stepped(RULES[name], theta, gradients, backend, **options), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), SOME, ids=str)
def test_targets_have_the_bits_of_calls(name: str, options: dict[str, Any], dtype: str) -> None:
    for shape in [(300, 20), (2, 3, 7, 5), (1, 9), (9, 1), (7,), (1,), (), (0, 3)]:
        theta = np.asarray(start_of(shape), dtype)
        gradients = [np.asarray(start_of((3, *shape))[t], dtype) for t in range(3)]
        expected, _ = walked(RULES[name], theta, gradients, **options)  # type: ignore[arg-type]
        for backend in ("llvm", "numpy"):
            path, _ = stepped(RULES[name], theta, gradients, backend, **options)  # type: ignore[arg-type]
            for one, other in zip(path, expected, strict=True):
                assert_same_bits(one, np.asarray(other), f"{name} {backend} {shape}")


def test_defaults_are_those_of_the_loops() -> None:
    import inspect

    for name, rule in RULES.items():
        loops = importlib.import_module(f"tests.papers.{name}")
        ours = {k: hyper.default for k, hyper in rule.hyperparameters.items()}
        for run in (loops.run, loops.run_matrix):
            parameters = inspect.signature(run).parameters.items()
            assert ours == {k: p.default for k, p in parameters if p.kind is p.KEYWORD_ONLY}, name


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_a_row_and_a_column_without_gradient_do_not_spoil_the_matrix(name: str, backend: str) -> None:
    """What both say of their common element is a product that float32 does not have."""
    gradients = np.ones((3, 4, 5), np.float32)
    gradients[:, 0, :] = 0.0
    gradients[:, :, 0] = 0.0
    theta = np.ones((4, 5), np.float32)
    path, _ = stepped(RULES[name], theta, gradients, backend)
    assert np.isfinite(path).all()
    assert np.array_equal(path[-1][0], theta[0])
    assert (path[-1][1:, 1:] < 1).all()


@pytest.mark.parametrize(("name", "options"), [*SOME, ("adafactor", {"clamp": True})], ids=str)
def test_tensors_of_zeros_stay_finite(name: str, options: dict[str, Any]) -> None:
    for shape in [(3, 4), (4,), (), (1, 4), (4, 1)]:
        zeros = np.zeros(shape, np.float32)
        path, _ = stepped(RULES[name], zeros, np.zeros((2, *shape), np.float32), "llvm", **options)
        assert_same_bits(path[-1], zeros, str(shape))
        path, _ = stepped(RULES[name], zeros, np.ones((2, *shape), np.float32), "llvm", **options)
        assert (path[-1] < 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize(("name", "options"), SOME, ids=str)
def test_gradients_without_a_square_are_those_of_calls(name: str, options: dict[str, Any], bad: float) -> None:
    """A matrix is lost with one such element, with Adam-mini in whole blocks, a row: targets agree on what is left."""
    for shape in [(4, 5), (7,)]:
        theta, gradients = start_of(shape).astype(np.float32), gradients_of(shape, 3).astype(np.float32)
        gradients[0].reshape(-1)[2] = bad
        with np.errstate(all="ignore"):
            expected, _ = walked(RULES[name], theta, gradients, **options)
        for backend in ("llvm", "numpy"):
            path, _ = stepped(RULES[name], theta, gradients, backend, **options)
            for one, other in zip(path, expected, strict=True):
                assert_same_bits(one, other, f"{backend} {shape}")


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (1, 7), (7, 1), (1, 1), (7,)])
@pytest.mark.parametrize(("scale", "eps1"), [(1.0, 0.3), (0.1, 0.3), (1.0, 1e-10)])
def test_clamped_adafactor_is_torchs(shape: tuple[int, ...], scale: float, eps1: float) -> None:
    theta, gradients = start_of(shape), scale * gradients_of(shape)
    param = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    theirs = torch.optim.Adafactor([param], lr=0.3, eps=(eps1, 1e-3), weight_decay=0.1)
    path = []
    for g in gradients:
        param.grad = torch.from_numpy(g)
        theirs.step()
        path.append(param.detach().numpy().copy())
    state = theirs.state[param]
    names = {"r": "row_var", "c": "col_var"} if len(shape) > 1 else {"c": "variance"}
    found, slots = walked(adafactor, theta, gradients, lr=0.3, eps1=eps1, weight_decay=0.1, clamp=True)
    ours = {slot: slots[slot] for slot in names}
    assert_close((found, ours), (path, {slot: state[name].numpy() for slot, name in names.items()}))
    assert all(ours[slot].shape == tuple(state[name].shape) for slot, name in names.items())


@pytest.mark.parametrize("shape", [(5, 4), (7,)])
def test_adafactor_is_optaxs(shape: tuple[int, ...]) -> None:
    theta, gradients = start_of(shape).astype(np.float32), gradients_of(shape).astype(np.float32)
    theirs = optax.adafactor(0.1, min_dim_size_to_factor=1, momentum=0.8, weight_decay_rate=0.02)
    param, path = theta, []
    state = theirs.init(param)
    for g in gradients:
        updates, state = theirs.update(g, state, param)
        param = optax.apply_updates(param, updates)
        path.append(np.asarray(param))
    options = {"lr": 0.1, "beta1": 0.8, "weight_decay": 0.2, "relative_step": False}
    found, _ = walked(adafactor, theta, gradients, **options)
    np.testing.assert_allclose(found, path, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_centralized_equals_its_loop(backend: str) -> None:
    theta, gradients = start_of((5, 4)), gradients_of((5, 4))
    values: dict[str, Any] = {"lr": 0.01, "mu": 0.9}
    expected = combinators.run_centralized_momentum(theta.tolist(), gradients.tolist(), **values)
    assert_close(stepped(centralized("momentum"), theta, gradients, backend, **values), expected)
    assert_close(walked(centralized("momentum"), theta, gradients, **values), expected)
    space, in_space = theta.reshape(5, 2, 2), gradients.reshape(-1, 5, 2, 2)
    path, _ = stepped(centralized("momentum"), space, in_space, backend, **values)
    np.testing.assert_allclose(np.reshape(path, (-1, 5, 4)), expected[0], rtol=RELATIVE)
    row = theta[:1], gradients[:, :1]
    expected = combinators.run_centralized_momentum(row[0].tolist(), row[1].tolist(), **values)
    assert_close(stepped(centralized("momentum"), *row, backend, **values), expected)


def test_a_vector_is_not_centralized() -> None:
    for shape in [(7,), ()]:
        theta, gradients = start_of(shape), start_of((5, *shape))
        found, _ = stepped(centralized("adam"), theta, gradients, "llvm")
        expected, _ = stepped(CATALOGUE["adam"], theta, gradients, "llvm")
        for one, other in zip(found, expected, strict=True):
            assert_same_bits(one, other, str(shape))


def test_what_is_centralized_with_the_gradient() -> None:
    """The penalty outside is not; the one that the centralized rule sees is."""
    theta, g = start_of((5, 4)), start_of((5, 4))
    centred = g + 0.1 * theta
    centred = centred - centred.mean(axis=1, keepdims=True)
    new, *_ = sr.l2(centralized("sgd"))(theta, g, lr=0.5, weight_decay=0.1)
    np.testing.assert_allclose(new, theta - 0.5 * centred, rtol=1e-12)
    new, *_ = centralized(sr.l2("sgd"))(theta, g, lr=0.5, weight_decay=0.1)
    np.testing.assert_allclose(new, theta - 0.5 * (g - g.mean(axis=1, keepdims=True) + 0.1 * theta), rtol=1e-12)


AROUND = [
    *(centralized(inner) for inner in (adafactor, came, adam_mini, "lamb", "decoupled(lion)")),
    *(outer(centralized("adam")) for outer in (centralized, trust_ratio, update_clip, cautious_decay)),
    *(centralized(inner) for inner in (trust_ratio("adam"), update_clip("adam"))),
    *(cautious(inner) for inner in (centralized("adamw"), adafactor, came)),
    *(outer(adafactor) for outer in (trust_ratio, maximize)),
]


@pytest.mark.parametrize("rule", AROUND, ids=lambda rule: rule.name)
def test_combinators_around_have_the_bits_of_calls(rule: Rule) -> None:
    for shape in [(5, 4), (7,), (2, 3, 4)]:
        theta, gradients = start_of(shape).astype(np.float32), gradients_of(shape, 3).astype(np.float32)
        expected, _ = walked(rule, theta, gradients)
        for backend in ("llvm", "numpy"):
            path, _ = stepped(rule, theta, gradients, backend)
            for one, other in zip(path, expected, strict=True):
                assert_same_bits(one, other, f"{backend} {shape}")
