"""The numbers of the figures, against straight loops and what is known in closed form; and verdicts that can turn."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest

from steprule.figures.adam_logistic import Dense, Sparse
from steprule.figures.amsgrad import Online, Stochastic, walk
from steprule.figures.claims_generalization import Generalization, Memory, memory, separable
from steprule.figures.claims_moments import BiasCorrection, Scale, StepBound, moments, scaled, silence, sparse
from steprule.figures.claims_progress import Annealing, MovingTarget, descend, follow, signals
from steprule.figures.contest import Compared, Contest, Entry, half_decades
from steprule.figures.figure import Figure
from steprule.figures.training import train
from steprule.race.network import init_network, loss_and_grad


def _online(maximum: bool, steps: int, alpha: float) -> tuple[list[float], list[float]]:
    """Return x before each step, and the average regret, of the paper's Algorithms 1 and 2 on its online problem."""
    x, m, v, top, lost = 0.0, 0.0, 0.0, 0.0, 0.0
    places, regrets = [], []
    for t in range(1, steps + 1):
        g = 1010.0 if t % 101 == 1 else -10.0
        lost += g * x - g * -1
        places.append(x)
        regrets.append(lost / t)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        top = max(top, v) if maximum else v
        x = min(1.0, max(-1.0, x - alpha / math.sqrt(t) * m / math.sqrt(top)))
    return places, regrets


@pytest.mark.parametrize("rule", ["adam", "amsgrad"])
def test_the_online_walk_is_the_papers(rule: str) -> None:
    steps = 1_300
    found = walk(rule, steps, 1, 0.7)
    places, regrets = _online(rule == "amsgrad", steps, 0.7)
    assert found["t"][0] == 1
    assert found["t"][-1] == steps
    assert {int(0.9 * steps)} <= set(found["t"])
    np.testing.assert_allclose([one for (one,) in found["x"]], [places[t - 1] for t in found["t"]], rtol=0, atol=1e-11)
    np.testing.assert_allclose([one for (one,) in found["regret"]], [regrets[t - 1] for t in found["t"]], rtol=1e-9)


def test_the_stochastic_walk_has_one_large_slope_in_a_hundred() -> None:
    """At first x = 0, which costs the mean slope, 0.2; and a first step is by alpha, against the slope."""
    found = walk("amsgrad", 2, 4_000, 0.3)
    np.testing.assert_allclose(found["regret"][0], 0.2)
    second = np.array(found["x"][1])
    step = 0.3 * 0.1 / math.sqrt(0.01)
    np.testing.assert_allclose(np.unique(second.round(12)), [-step, step])
    assert abs(np.mean(second < 0) - 0.01) < 0.006


def _turned(figure: Figure, results: dict[Any, Any]) -> list[bool]:
    """Return the verdicts where the results of the two rules are exchanged."""
    parts = list(results)
    return [one.holds for one in figure.judge(dict(zip(parts, [results[part] for part in parts[::-1]], strict=True)))]


@pytest.mark.parametrize("figure", [Online(), Stochastic()])
def test_verdicts_on_counterexamples_turn_with_the_results(figure: Any) -> None:
    steps, walks = figure.steps, figure.walks
    t = np.unique([*np.geomspace(1, steps, 50).astype(int), int(0.9 * steps)]).tolist()
    ends = {"adam": 0.98, "amsgrad": -0.97}
    results = {
        figure._part(rule): {"t": t, "x": [[end] * walks] * len(t), "regret": [[0.2 * (end + 1)] * walks] * len(t)}
        for rule, end in ends.items()
    }
    assert [one.holds for one in figure.judge(results)] == [True, True]
    assert _turned(figure, results) == [False, False]


def test_moments_are_averages_with_a_zero_start() -> None:
    found = moments(4_000, 5)
    t = np.arange(1, 6)
    assert np.all(np.abs(found["m"] - (1 - 0.9**t)) < 5 * np.array(found["m_error"]))
    assert np.all(np.abs(found["v"] - 2 * (1 - 0.999**t)) < 5 * np.array(found["v_error"]))
    # Of independent gradients of variance 1, m_1 has the deviation 0.1.
    assert found["m_error"][0] == pytest.approx(0.1 / math.sqrt(4_000), rel=0.1)
    assert found["with"][0] == pytest.approx(1)
    assert found["without"][0] == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-5)  # but for epsilon


def test_a_verdict_on_moments_needs_them_to_be_unbiased() -> None:
    figure = BiasCorrection()
    figure.draws, figure.steps = 4_000, 5
    (part,) = figure.parts({})
    found = moments(4_000, 5)
    assert [one.holds for one in figure.judge({part: found})] == [True] * 3
    biased = {**found, "m": [1.05 * one for one in found["m"]], "without": found["with"]}
    assert [one.holds for one in figure.judge({part: biased})] == [False, True, False]


def test_steps_after_a_silence() -> None:
    """By a straight loop over Adam's algorithm."""
    zeros, steps = 300, 8
    found = silence(zeros, steps)
    for name, growth in (("single", 0.0), ("growing", 0.999 / 0.9)):
        m = v = 0.0
        for i in range(steps):
            g = growth**i
            m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g, zeros + i + 1
            step = m / (1 - 0.9**t) / math.sqrt(v / (1 - 0.999**t))
            assert found[name][i] == pytest.approx(step, rel=1e-9)


def test_sparse_gradients_step_further() -> None:
    rare, dense = sparse((0.01, 1.0), 20, 400)
    assert rare[0] > 2 * dense[0]
    assert dense[0] < dense[1] <= dense[2] < 1.5


def test_the_scale_of_the_loss() -> None:
    found = scaled((-40, 0, 40), 30)
    assert found["Adam, eps 0"][0] == found["Adam, eps 0"][1] == found["Adam, eps 0"][2]
    assert found["Adam"][0] != found["Adam"][1]
    figure = Scale()
    figure.powers, figure.steps = (-40, 0, 40), 30
    (part,) = figure.parts({})
    assert [one.holds for one in figure.judge({part: found})] == [True, False]
    assert [one.holds for one in figure.judge({part: {**found, "Adam": found["Adam, eps 0"]}})] == [True, True]


def test_steps_without_a_signal_are_noise() -> None:
    """m is then normal with variance (1 - beta1) / (1 + beta1), and |m| has the mean sqrt(2 / pi) of its deviation."""
    nothing, much = signals((0.0, 50.0), 400, 200)
    assert nothing == pytest.approx(math.sqrt(2 / math.pi * 0.1 / 1.9), rel=0.05)
    assert much == pytest.approx(1, abs=0.01)


def test_the_way_down_is_adams() -> None:
    found = descend(falls=True, draws=3, steps=40, lr=0.4)
    rng, x, m, v = np.random.default_rng(0), np.full(3, 5.0), np.zeros(3), np.zeros(3)
    for t in range(1, 41):
        g = x + rng.standard_normal(3)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        x = x - 0.4 / math.sqrt(t) * step
        assert found["step"][t - 1] == pytest.approx(np.abs(step).mean(), rel=1e-6)
        assert found["distance"][t - 1] == pytest.approx(np.sqrt(np.mean(x * x)), rel=1e-6)


def test_sgd_follows_as_a_filter_does() -> None:
    """The mean of x is a first-order filter of the target, whatever the noise."""
    found = follow("sgd", 0.1, 4_000, 50)
    x = 0.0
    for target, mean in zip(found["target"], found["x"], strict=True):
        x += 0.1 * (target - x)
        assert mean == pytest.approx(x, abs=0.01)
    assert found["target"][49] == pytest.approx(math.sin(0.2 * math.pi))


def test_a_rate_that_diverges_is_not_the_best() -> None:
    figure = MovingTarget()
    results: dict[Any, Any] = {}
    for rule in figure.rules:
        for lr in figure.lrs:
            off: list[float | None] = [1.0 if lr == 0.1 else 2.0] * figure.steps
            if lr == 1.0:
                off = [0.0, *[None] * (figure.steps - 1)]
            results[figure._part(rule, lr)] = {"target": off, "x": off, "distance": off}
    assert figure._best("adam", results)[0] == 0.1


def test_annealing_is_judged_by_its_numbers() -> None:
    figure = Annealing()
    parts = figure.parts({})
    rising = list(np.linspace(0.2, 1, len(figure.ratios)))
    far_then_near = [1.0] * 100 + [0.2] * (figure.steps - 100)
    ways = [{"step": far_then_near, "distance": [end] * figure.steps} for end in (0.3, 0.1)]
    assert [one.holds for one in figure.judge(dict(zip(parts, [rising, *ways], strict=True)))] == [True, True, False]
    other = [rising[::-1], {**ways[0], "step": [1.0] * figure.steps}, ways[0]]
    assert [one.holds for one in figure.judge(dict(zip(parts, other, strict=True)))] == [False, False, True]


def test_slots_are_counted() -> None:
    found = memory(("sgd", "momentum", "adam", "adafactor"), 10)
    assert found == {"sgd": 0, "momentum": 4, "adam": 8, "adafactor": 0.8}
    (part,) = Memory().parts({})
    assert [one.holds for one in Memory().judge({part: {"adam": 12, "momentum": 12}})] == [False, True]


@pytest.mark.parametrize(("rule", "lr", "error"), [("momentum", 0.03, 0.0), ("adam", 0.003, None)])
def test_the_example_of_wilson(rule: str, lr: float, error: float | None) -> None:
    """Gradient descent errs on nothing new; Adam takes every new sample for a positive one."""
    found = separable(rule, lr, seed=1, samples=30, steps=1_500, share=0.7)
    assert found["train"] == 0
    if error is None:
        rng = np.random.default_rng(1)
        rng.random(30)
        error = float(np.mean(rng.random(10_000) >= 0.7))
    assert found["test"] == error


def test_masks_of_dropout_have_the_gradient_of_the_masked_loss() -> None:
    rng = np.random.default_rng(0)
    params = init_network(rng, (4, 5, 3), np.float64)
    params["weights"][1] += rng.normal(size=(5, 3))
    x, y = rng.normal(size=(6, 4)), rng.integers(0, 3, 6)
    masks = [(rng.random((6, 5)) < 0.5) * 2.0]
    _, grads = loss_and_grad(params, x, y, 0.01, masks)

    def loss(weight: np.ndarray[Any, Any]) -> float:
        hidden = np.maximum(x @ weight + params["biases"][0], 0) * masks[0]
        scores = hidden @ params["weights"][1] + params["biases"][1]
        chosen = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(6), y]
        return float(chosen.mean()) + 0.005 * float(np.sum(weight**2) + np.sum(params["weights"][1] ** 2))

    for place in np.ndindex(4, 5):
        moved = [params["weights"][0].copy() for _ in range(2)]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        slope = (loss(moved[0]) - loss(moved[1])) / 2e-6
        assert grads["weights"][0][place] == pytest.approx(slope, abs=1e-8)


def test_training_is_the_same_again_and_says_where_it_diverges() -> None:
    given: dict[str, Any] = {"data": "digits", "rule": "adam", "seed": 1, "epochs": 2, "hidden": (8,)}
    first = train(lr=0.01, dropout=(0.2, 0.5), **given)
    assert first == train(lr=0.01, dropout=(0.2, 0.5), **given)
    assert first != train(lr=0.01, **given)
    assert len(first["batch"]) == 2
    assert first["batch"][1] < first["batch"][0] < math.log(10)
    assert 0.3 < first["accuracy"] <= 1
    assert train(lr=1e30, **given) == dict.fromkeys(("batch", "train", "test", "accuracy"))


class _Own(Contest):
    name = "adam-own"
    title = "Own"
    source = "nowhere"
    setting = "Nothing."
    setup: ClassVar[Any] = {"epochs": 1}
    seeds = 3
    entries = (Entry("A", "adam", (0.01, 0.1)), Entry("S", "sgd", (0.1, 1.0)))

    def judge(self, results: Any) -> list[Any]:
        return []


def test_a_grid_grows_beyond_its_edge_and_fresh_seeds_come_after() -> None:
    figure = _Own()
    lr_of = {"A": 0.3, "S": 0.1}
    results: dict[Any, Any] = {}
    for _ in range(10):
        if not (todo := figure.left(results)):
            break
        for part in todo:
            given = dict(part.arguments)
            label = "A" if given["rule"] == "adam" else "S"
            off = abs(math.log10(given["lr"] / lr_of[label]))
            results[part] = {"batch": [off] if given["lr"] < 5 else None}
    adam, sgd = figure.entries
    assert figure.grid(adam, results) == [0.01, 0.1, 1.0]
    assert figure.best(adam, results) == 0.1
    tried = [dict(part.arguments)["lr"] for part in results if dict(part.arguments)["rule"] == "adam"]
    assert sorted(tried) == [0.01, 0.1, 0.1, 0.1, 0.1, 1.0]
    seeds = {dict(part.arguments)["seed"] for part in results if dict(part.arguments)["lr"] == 0.1}
    assert seeds == {0, 1, 2, 3}
    assert figure.grid(sgd, results) == [0.01, 0.1, 1.0]
    assert figure.best(sgd, results) == 0.1


def test_rates_of_a_grid_are_half_decades() -> None:
    assert half_decades(-2, 4) == (0.01, 0.032, 0.1, 0.32)


def test_rules_are_told_apart_seed_by_seed() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=8)
    found = Compared(["a", "b", "c"], np.array([10 + noise, 10.5 + noise, 10 + rng.normal(size=8)]))
    assert found.below("a", "b")
    assert not found.below("b", "a")
    assert not found.below("a", "c")
    assert found.near("a", "b")
    assert not found.near("a", "b", share=0.01)


@pytest.mark.parametrize("figure", [Dense(), Sparse()])
def test_contests_are_judged_by_their_fresh_seeds(figure: Any) -> None:
    """The verdicts are true where the losses are the paper's, and false where they are turned round."""
    order = {"Adam": 0.1, "Nesterov": 0.101, "AdaGrad": 0.2}
    if isinstance(figure, Sparse):
        order = {"Adam": 0.1, "Nesterov": 0.2, "AdaGrad": 0.101}
    turned = {"Adam": 0.3, "Nesterov": 0.15, "AdaGrad": 0.16 if isinstance(figure, Sparse) else 0.1}
    for losses, expected in ((order, True), (turned, False)):
        results = _contest(figure, losses)
        assert [one.holds for one in figure.judge(results)] == [expected] * len(figure.judge(results))


def _contest(figure: Any, losses: dict[str, float]) -> dict[Any, Any]:
    """Return results in which a rule ends so, best at its second rate."""
    results: dict[Any, Any] = {}
    while todo := figure.left(results):
        for part in todo:
            given = dict(part.arguments)
            entry = next(one for one in figure.entries if one.rule == given["rule"])
            worse = 1 + abs(math.log(given["lr"] / entry.lrs[1]))
            end = losses[entry.label] * worse * (1 + 1e-3 * given["seed"])
            results[part] = {"batch": [1.0, *[end] * (figure.setup["epochs"] - 1)], "test": end, "accuracy": 0.9}
    return results


def test_generalisation_is_judged_by_test_losses() -> None:
    figure = Generalization()
    results = _contest_and_example(figure, {"Adam": 0.2, "momentum": 0.1}, 0.3)
    assert [one.holds for one in figure.judge(results)] == [True, True]
    results = _contest_and_example(figure, {"Adam": 0.1, "momentum": 0.2}, 0.0)
    assert [one.holds for one in figure.judge(results)] == [False, False]


def _contest_and_example(figure: Generalization, losses: dict[str, float], error: float) -> dict[Any, Any]:
    example = {
        figure._example(rule, n, seed): {"train": 0.0, "test": error if rule.startswith("ada") else 0.0}
        for rule in figure.rates
        for n in figure.sizes
        for seed in range(figure.count)
    }

    class Network(Generalization):
        def left(self, results: Any) -> Any:
            return [part for part in super().left(results) if part not in example]

    return {**example, **_contest(Network(), losses)}


def test_the_bound_of_a_step_is_judged_by_the_steps() -> None:
    figure = StepBound()
    rare, after = figure.parts({})
    shares = [[0.2, 0.8, 1.1]] * len(figure.densities)
    found = {rare: shares, after: {"single": [3.16228], "growing": [7.2]}}
    assert [one.holds for one in figure.judge(found)] == [True, True, False]
    found = {rare: [[0.2, 1.2, 1.3]] * 7, after: {"single": [2.0], "growing": [3.1]}}
    assert [one.holds for one in figure.judge(found)] == [False, False, True]
