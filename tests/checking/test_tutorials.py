"""Twelve Adams of the kind that tutorials have: what a check says of each, in whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from tests.checking.hand_written import tutorials as of

ADAM = {"lr": "0.001", "beta1": "0.9", "beta2": "0.999", "eps": "1e-08"}
# The optimizer; the rule; its hyperparameters; its mistakes.
EXPECTED: list[tuple[Any, str, dict[str, str], list[str]]] = [
    (of.layer_by_layer, "Adam", ADAM | {"lr": "0.01"}, []),
    (of.PerTensor, "Adam", ADAM, ["step counter advances once a tensor"]),
    (of.AdamW, "Adam with an L2 penalty in the gradient", ADAM | {"weight_decay": "0.01"},
     ["weight decay is in the gradient"]),
    (of.on_pytrees, "Adam", ADAM | {"lr": "0.0003"}, ["epsilon inside the root"]),
    (of.WithDecayOfTheRate, "Adam with a rate that falls as 1 / (1 + 0.01 (t - 1))",
     ADAM | {"eps": "1e-07", "fall": "0.01"}, []),
    (of.make_adam, "Adam", ADAM | {"lr": "0.002"}, ["corrected moments are stored", "epsilon inside the root"]),
    (of.without_correction, "Adam", ADAM | {"lr": "0.01", "beta2": "0.99"}, ["no bias correction", "beta2 is 0.99"]),
    (of.AmsGrad, "AMSGrad with an L2 penalty in the gradient", ADAM | {"beta2": "0.99", "weight_decay": "0.1"},
     ["beta2 is 0.99", "gradient is written to"]),
    (of.CountsAtTheEnd, "Adam", ADAM, ["step counter starts at 0"]),
    (of.OneAverage, "Adam", ADAM | {"lr": "0.005"}, ["state is shared between tensors"]),
    (of.fused, "Adam", ADAM | {"beta2": "0.99"}, ["beta2 is 0.99", "moments in low precision"]),
    (of.flattened, "Adam with a rate that falls as 1 / sqrt(t)", ADAM | {"lr": "0.1", "fall": "0.5"}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("thing", "rule", "hyper", "mistakes"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] is of.on_pytrees else []) for case in EXPECTED],
    ids=[case[0].__name__ for case in EXPECTED],
)
def test_what_is_said_of_it(thing: Any, rule: str, hyper: dict[str, str], mistakes: list[str]) -> None:
    answer = sr.check(thing)
    assert answer.rule == rule
    assert {name: one.text for name, one in answer.hyperparameters.items()} == hyper
    assert [one.name for one in answer.mistakes] == mistakes
    for name, text in hyper.items():
        error = answer.hyperparameters[name].error
        assert error == float("inf") or abs(answer.hyperparameters[name].value - float(text)) <= 4 * error


# The lines of each that are to be corrected, as a person would write them.
LINES = {
    of.make_adam: [
        "m_hat = m[i] / (1 - beta1**t)",
        "v_hat = v[i] / (1 - beta2**t)",
        "params[i] = params[i] - alpha * m_hat / (np.sqrt(v_hat) + eps)",
    ],
    of.without_correction: [
        "moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(moments, grads, strict=True)]"
    ],
    of.AmsGrad: ["betas: tuple[float, float] = (0.9, 0.999)", "grad = grad + self.decay * param"],
}


@pytest.mark.parametrize("thing", list(LINES), ids=lambda one: one.__name__)
def test_lines_are_said_with_all_their_mistakes_corrected(thing: Any) -> None:
    found = {line.number: line.instead for lines in sr.check(thing).lines.values() for line in lines}
    assert [found[number] for number in sorted(found)] == LINES[thing]


@pytest.mark.parametrize("thing", [of.make_adam, of.AmsGrad], ids=lambda one: one.__name__)
def test_written_as_it_says_it_is_right(thing: Any, tmp_path: Path) -> None:
    """Put into the file, the corrected lines leave no mistake."""
    source = Path(of.__file__).read_text().splitlines()
    for line in (line for lines in sr.check(thing).lines.values() for line in lines):
        old = source[line.number - 1]
        source[line.number - 1] = old[: len(old) - len(old.lstrip())] + line.instead
    (tmp_path / "mended.py").write_text("\n".join(source))
    assert sr.check(f"{tmp_path / 'mended.py'}:{thing.__name__}").is_right


def _adam(rate: Any) -> Any:
    def own(params: Any, grads: Any, state: Any) -> Any:
        if not state:
            state.update(t=0, m=[0 * p for p in params], v=[0 * p for p in params])
        state["t"] += 1
        t, new = state["t"], []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            state["m"][i] = 0.9 * state["m"][i] + 0.1 * g
            state["v"][i] = 0.999 * state["v"][i] + 0.001 * g * g
            root = np.sqrt(state["v"][i] / (1 - 0.999**t)) + 1e-8
            new.append(p - rate(t) * state["m"][i] / (1 - 0.9**t) / root)
        return new

    return own


@pytest.mark.parametrize(
    ("rate", "words", "lr"),
    [
        (lambda t: 0.1 / t, "falls as 1 / t", "0.1"),
        (lambda t: 0.1 * 0.95 ** (t - 1), "falls as (1 - 0.05)**(t - 1)", "0.1"),
        (lambda t: 0.1 * (1 - (t - 1) / 50), "falls as 1 - 0.02 (t - 1)", "0.1"),
        (lambda t: 0.1 * min(1, t / 1000), "rises as t", "0.0001"),
    ],
)
def test_a_rate_that_it_schedules_itself_is_recognised(rate: Any, words: str, lr: str) -> None:
    answer = sr.check(_adam(rate))
    assert answer.rule == f"Adam with a rate that {words}"
    assert answer.hyperparameters["lr"].text == lr
    assert answer.is_right


def test_what_changes_later_is_said_with_its_step() -> None:
    answer = sr.check(_adam(lambda t: 0.1 if t < 15 else 0.05))
    assert answer.rule == "Adam"
    assert [one.name for one in answer.mistakes] == ["later steps are others"]
    assert answer.difference is not None
    assert answer.difference.step == 15
