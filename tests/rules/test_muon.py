"""Muon and NorMuon: against their papers' loops, torch and optax; formats, guards, batches and odd matrices."""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch

import steprule as sr
from steprule.errors import HyperparameterError, RuleError, StructureError
from steprule.launch import products
from steprule.rules import Rule, batched, cautious
from steprule.rules.papers.muon import muon
from steprule.rules.papers.normuon import normuon
from tests.cases import Array, assert_same_bits, variants

RULES: dict[str, Rule] = {"muon": muon, "normuon": normuon}
CASES = [(name, options) for name, rule in RULES.items() for options in variants(rule)]
SHAPES = ((4, 6), (6, 4), (1, 5), (5, 1), (3, 3))
UNLIKE = {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.05, "ns_steps": 4, "consistent_rms": 0.3}
RELATIVE = 1e-10
"""Of loops that add in another order, after Newton-Schulz steps that lift what is small by 3.4 each."""


def gradients_of(shape: tuple[int, ...], steps: int = 8, dtype: str = "float64") -> list[Array]:
    rng = np.random.default_rng(0)
    return list((rng.standard_normal((steps, *shape)) * 10.0 ** rng.uniform(-2, 1, (steps, *shape))).astype(dtype))


def start_of(shape: tuple[int, ...], dtype: str = "float64") -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def stepped(
    rule: Rule, shapes: Any, backend: str = "llvm", dtype: str = "float32", steps: int = 4, **options: Any
) -> list[Array]:
    """Return arrays of some shapes after some steps."""
    arrays = [start_of(shape, dtype) for shape in shapes]
    optimizer = sr.Optimizer(arrays, rule, backend=backend, **options)
    for grads in zip(*(gradients_of(shape, steps, dtype) for shape in shapes), strict=True):
        optimizer.step(list(grads))
    return arrays


@pytest.mark.parametrize(
    ("name", "options", "backend"),
    [*((*case, "numpy") for case in CASES), *((*case, "llvm") for case in CASES[::7])],
    ids=str,
)
def test_an_optimizer_steps_as_the_paper(name: str, options: dict[str, Any], backend: str) -> None:
    run, rule = importlib.import_module(f"tests.papers.{name}").run_matrix, RULES[name]
    own = {key: value for key, value in UNLIKE.items() if key in rule.trace(rule.variant(rule.resolve(options))).used}
    for shape, values in zip(SHAPES, (options, {**own, **options}) * 3, strict=False):
        theta, gradients = start_of(shape), gradients_of(shape, 5)
        path, slots = run(theta.tolist(), [g.tolist() for g in gradients], **values)
        optimizer = sr.Optimizer(theta, rule, backend=backend, **values)
        for g, expected in zip(gradients, path, strict=True):
            optimizer.step(g)
            np.testing.assert_allclose(theta, expected, rtol=RELATIVE, atol=RELATIVE)
        for slot, value in slots.items():
            np.testing.assert_allclose(np.ravel(optimizer.slots[slot]), np.ravel(value), rtol=RELATIVE, atol=RELATIVE)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_quintics_and_parts_are_those_of_the_paper(backend: str) -> None:
    run = importlib.import_module("tests.papers.muon").run_matrix
    quintic = {"parts": 2, "a": 3.0, "b": -3.2, "c": 1.2, "eps": 0.3}
    choices: list[dict[str, Any]] = [{"parts": 3}, quintic, {"eps": 100.0}]
    for values in choices:
        theta, gradients = start_of((6, 4)), gradients_of((6, 4))
        path, _ = run(theta.tolist(), [g.tolist() for g in gradients], **values)
        optimizer = sr.Optimizer(theta, muon, backend=backend, **values)
        for g, expected in zip(gradients, path, strict=True):
            optimizer.step(g)
            np.testing.assert_allclose(theta, expected, rtol=RELATIVE, atol=RELATIVE)


def test_defaults_are_those_of_the_loops() -> None:
    for name, rule in RULES.items():
        run = importlib.import_module(f"tests.papers.{name}").run_matrix
        theirs = {k: p.default for k, p in inspect.signature(run).parameters.items() if p.kind is p.KEYWORD_ONLY}
        assert theirs == {k: hyper.default for k, hyper in rule.hyperparameters.items()}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_a_call_on_arrays_has_the_bits_of_an_optimizer(name: str, dtype: str) -> None:
    rule = RULES[name]
    for shape in ((6, 4), (130, 200), (1, 7), (7, 1), (3, 4, 5), (0, 3), (3, 0)):
        compute = "float64" if dtype == "float64" else "float32"
        theta = start_of(shape, dtype)
        wide, slots = theta, [np.zeros(shape, compute)]
        if rule is normuon:
            slots.append(np.zeros((shape[0], *(1 for _ in shape[1:])), compute))
        arrays = {backend: theta.copy() for backend in ("llvm", "numpy")}
        optimizers = [sr.Optimizer(array, rule, backend=backend) for backend, array in arrays.items()]
        for t, g in enumerate(gradients_of(shape, 3, dtype), start=1):
            new, *slots = rule(wide.astype(compute), g.astype(compute), *slots, t=t)
            wide = new.astype(dtype)
            for optimizer in optimizers:
                optimizer.step(g)
        for backend, array in arrays.items():
            assert_same_bits(array, wide, f"{name} {shape} {backend}")


FORMATS: list[dict[str, Any]] = [
    {"states": "8bit", "min_elements": 0},
    {"states": "4bit", "min_elements": 0},
    {"states": "bfloat16", "min_elements": 0},
    {"clip_norm": 0.5},
    {"clip_value": 0.1, "nonfinite": "skip"},
    {"dtype": "float16", "weights": "stochastic"},
]


@pytest.mark.parametrize("options", FORMATS, ids=str)
@pytest.mark.parametrize("rule", [muon, normuon, batched(muon), batched(normuon), cautious(muon)], ids=str)
def test_machine_code_has_the_referees_bits_in_formats_and_guards(rule: Rule, options: dict[str, Any]) -> None:
    shapes = [(6, 4), (4, 6), (6, 4), (2, 3, 130), (130, 200)]
    for one, other in zip(stepped(rule, shapes, **options), stepped(rule, shapes, "numpy", **options), strict=True):
        assert_same_bits(one, other, str(options))


@pytest.mark.parametrize("options", [{}, *FORMATS], ids=str)
@pytest.mark.parametrize("limit", [1, 500, 3000])
def test_batches_of_bounded_memory_give_the_same_bits(
    limit: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(6, 4), (4, 6), (6, 4), (1, 5), (2, 3, 13), (30, 20), (0, 3), (6, 4)]
    expected = stepped(muon, shapes, **options)
    monkeypatch.setattr(products, "LIMIT", limit)
    for one, other in zip(stepped(muon, shapes, **options), expected, strict=True):
        assert_same_bits(one, other, str(options))


def test_work_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LIMIT", 10_000)
    arrays = [start_of((20, 30), "float32") for _ in range(50)]
    optimizer = sr.Optimizer(arrays, muon)
    optimizer.step([np.ones_like(array) for array in arrays])
    work = optimizer._layout._launch._work
    assert len(work.batches) == 13  # four matrices of 2,400 bytes each
    assert work.nbytes <= 10_000
    assert sum(room.nbytes for room in work._room.values()) <= 10_000


def test_a_monitor_reads_steps_in_batches_as_it_reads_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Written:
        """A monitor that keeps what it is given."""

        def __init__(self) -> None:
            self.told: list[Any] = []

        def is_due(self) -> bool:
            return True

        def take(self, readings: Any) -> None:
            self.told += [(own.name, own.t, sorted(own.sums.items())) for own in readings]

    def read() -> tuple[list[Array], list[Any]]:
        arrays, monitor = [start_of(shape, "float32") for shape in ((6, 4), (20, 30), (6, 4))], Written()
        optimizer = sr.Optimizer(arrays, muon)
        optimizer._monitor = monitor
        for grads in zip(*(gradients_of(array.shape, 3, "float32") for array in arrays), strict=True):
            optimizer.step(list(grads))
        return arrays, monitor.told

    arrays, told = read()
    unread = stepped(muon, [(6, 4), (20, 30), (6, 4)], steps=3)
    monkeypatch.setattr(products, "LIMIT", 500)
    again, told_again = read()
    assert told == told_again
    assert len(told) == 9
    for one, other, third in zip(arrays, again, unread, strict=True):
        assert_same_bits(one, other)
        assert_same_bits(one, third)


# torch rounds to bfloat16 before every product; with the same products in float32 the last bits alone differ.
TORCH = [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}, {"ns_steps": 3, "weight_decay": 0.0}]


@pytest.mark.parametrize("options", TORCH, ids=str)
@pytest.mark.parametrize(("in_float32", "relative"), [(True, 2e-5), (False, 2e-3)])
def test_fifty_steps_are_those_of_torch(
    options: dict[str, Any], in_float32: bool, relative: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_float32:
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    for shape in ((24, 16), (16, 24)):
        theta = start_of(shape, "float32")
        tensor = torch.nn.Parameter(torch.tensor(theta))
        theirs = torch.optim.Muon([tensor], lr=0.02, **options)
        own = {("adjust_lr" if key == "adjust_lr_fn" else key): value for key, value in options.items()}
        ours = sr.Optimizer(theta, muon, lr=0.02, **own)
        for g in gradients_of(shape, 50, "float32"):
            tensor.grad = torch.tensor(g)
            theirs.step()
            ours.step(g)
        difference = np.linalg.norm(theta - tensor.detach().numpy())
        assert difference <= relative * np.linalg.norm(theta), (shape, difference / np.linalg.norm(theta))


@pytest.mark.parametrize("options", [{}, {"nesterov": False}, {"consistent_rms": 0.2}], ids=str)
def test_fifty_steps_are_those_of_optax(options: dict[str, Any]) -> None:
    own = {key: value for key, value in options.items() if key != "consistent_rms"}
    own["adjust_lr"] = "match_rms_adamw" if "consistent_rms" in options else "transposed"
    for shape in ((24, 16), (16, 24)):
        theta = start_of(shape, "float32")
        params = {"w": np.array(theta)}
        transformation = optax.contrib.muon(0.02, weight_decay=0.1, **options)
        state, update = transformation.init(params), jax.jit(transformation.update)
        ours = sr.Optimizer(theta, muon, lr=0.02, weight_decay=0.1, bias_correction=True, **own)
        for g in gradients_of(shape, 50, "float32"):
            updates, state = update({"w": g}, state, params)
            params = optax.apply_updates(params, updates)
            ours.step(g)
        difference = np.linalg.norm(theta - np.asarray(params["w"]))
        assert difference <= 2e-5 * np.linalg.norm(theta), (shape, difference / np.linalg.norm(theta))


@pytest.mark.parametrize("rule", [muon, normuon], ids=str)
def test_batched_matrices_are_stepped_as_they_are_alone(rule: Rule) -> None:
    stack, gradients = start_of((2, 3, 5, 7)), gradients_of((2, 3, 5, 7), 3)
    alone = [matrix.copy() for matrix in stack.reshape(6, 5, 7)]
    one, many = sr.Optimizer(stack, batched(rule)), sr.Optimizer(alone, rule)
    for g in gradients:
        one.step(g)
        many.step(list(g.reshape(6, 5, 7)))
    assert_same_bits(stack.reshape(6, 5, 7), np.stack(alone))


def test_parts_are_stepped_as_matrices_of_their_own() -> None:
    whole, gradients = start_of((12, 5)), gradients_of((12, 5), 3)
    alone = [part.copy() for part in np.split(whole, 3)]
    one, many = sr.Optimizer(whole, muon, parts=3), sr.Optimizer(alone, muon)
    for g in gradients:
        one.step(g)
        many.step(np.split(g, 3))
    assert_same_bits(whole, np.concatenate(alone))


def test_batched_refuses_what_has_no_matrices() -> None:
    with pytest.raises(RuleError, match="steps every element by itself"):
        batched("adam")
    with pytest.raises(RuleError, match="last two axes already"):
        batched(batched(muon))
    assert batched(cautious(muon)) is cautious(batched(muon), "batched(cautious(muon))")
    assert copy.deepcopy(batched(muon)) is batched(muon)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_vectors_are_refused_with_a_way_out(name: str, backend: str) -> None:
    for shape, what in (((5,), "a vector of 5"), ((), "one number")):
        words = rf"params\['b'\] is {what}, and rule '{name}' steps matrices.*routes="
        with pytest.raises(StructureError, match=words):
            sr.Optimizer({"w": np.ones((2, 3)), "b": np.ones(shape)}, RULES[name], backend=backend)


def test_parts_that_are_not_equally_high_are_refused_before_anything_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (products.LIMIT, 8):
        monkeypatch.setattr(products, "LIMIT", limit)
        arrays = [np.ones((4, 4)), np.ones((6, 6))]
        optimizer = sr.Optimizer(arrays, muon, parts=4)
        with pytest.raises(HyperparameterError, match="6 rows cannot be cut into 4 parts"):
            optimizer.step([np.ones((4, 4)), np.ones((6, 6))])
        assert optimizer.t == 0
        assert all((array == 1).all() for array in arrays)
        optimizer.groups[0]["parts"] = 2
        optimizer.step([np.ones((4, 4)), np.ones((6, 6))])
        assert optimizer.t == 1


def test_whole_numbers_are_asked_for() -> None:
    for value in (2.5, 0, -1, 100):
        with pytest.raises(HyperparameterError, match="ns_steps must be a whole number of at least 1, below 100"):
            sr.Optimizer(np.ones((2, 2)), muon, ns_steps=value)
    with pytest.raises(HyperparameterError, match="a does nothing"):
        sr.Optimizer(np.ones((2, 2)), muon, coefficients="polar_express", a=3.0)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_odd_matrices(name: str, dtype: str) -> None:
    """Zeros stay but for their decay; what is not finite makes a matrix NaN, and no other one; the rest is finite."""
    rule = RULES[name]
    zeros, ones = np.zeros((4, 3), dtype), np.ones((4, 3), dtype)
    bad, infinite, tiny, one_row = ones.copy(), ones.copy(), np.full((4, 3), 1e-5, dtype), np.arange(7.0).reshape(1, 7)
    bad[1, 2], infinite[0, 0] = np.nan, np.inf
    gradients = [zeros, bad, infinite, ones, tiny, one_row.astype(dtype), np.zeros((0, 3), dtype)]
    for backend in ("llvm", "numpy"):
        arrays = [np.ones_like(g) for g in gradients]
        sr.Optimizer(arrays, rule, backend=backend, lr=0.5, weight_decay=0.5).step(gradients)
        np.testing.assert_array_equal(arrays[0], np.full((4, 3), 0.75, dtype))
        assert np.isnan(arrays[1]).all()
        assert np.isnan(arrays[2]).all()
        assert all(np.isfinite(array).all() for array in arrays[3:])


@pytest.mark.parametrize("shape", [(100_000, 3), (3, 100_000), (1, 4096)])
def test_long_matrices(shape: tuple[int, int]) -> None:
    theta, g = np.zeros(shape, "float32"), gradients_of(shape, 1, "float32")[0]
    sr.Optimizer(theta, muon, lr=1.0, weight_decay=0.0, adjust_lr="original").step(g)
    left, _, right = np.linalg.svd(g.astype("float64"), full_matrices=False)
    scale = np.sqrt(max(1.0, shape[0] / shape[1]))
    found = np.linalg.svd(theta / scale, compute_uv=False)
    assert (found > 0.6).all()
    assert (found < 1.2).all()
    inner = np.einsum("ij,ij->", theta / -scale, left @ right) / min(shape)  # its share along the polar factor
    assert 0.68 < inner < 1.14


@pytest.mark.parametrize("name", RULES)
def test_states_go_on_exactly(name: str) -> None:
    every: list[dict[str, Any]] = [{}, {"states": "8bit", "min_elements": 0}]
    for options in every:
        whole, halved = start_of((6, 130), "float32"), start_of((6, 130), "float32")
        gradients = gradients_of((6, 130), 6, "float32")
        one, two = (sr.Optimizer(array, RULES[name], **options) for array in (whole, halved))
        for g in gradients:
            one.step(g)
        for g in gradients[:3]:
            two.step(g)
        third = sr.Optimizer(halved, RULES[name], **options)
        third.load_state_dict(two.state_dict())
        for g in gradients[3:]:
            third.step(g)
        assert_same_bits(whole, halved, str(options))


def test_fortran_order_steps_as_c_order() -> None:
    for rule in RULES.values():
        c, f = start_of((6, 9), "float32"), np.asfortranarray(start_of((6, 9), "float32"))
        one, other = sr.Optimizer(c, rule), sr.Optimizer(f, rule)
        for g in gradients_of((6, 9), 3, "float32"):
            one.step(g)
            other.step(np.asfortranarray(g))
        assert_same_bits(c, np.ascontiguousarray(f))
