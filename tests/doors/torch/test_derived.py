"""Classes that follow from a rule: arguments, words, copies; and what type checkers see of them."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import steprule as sr
import steprule.torch as door
from steprule.doors.torch.derived import class_of
from steprule.doors.torch.more import DERIVED
from steprule.errors import HyperparameterError, RuleError
from steprule.rules import Decay, NonNegative, Positive, Rate
from tests.doors.stubs import assert_stub_has
from tests.doors.torch.cases import EXTRA, OWN, case_id, everything, one_thread, ours, parameter, step

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

MANNER = (
    "maximize=False, differentiable=False, foreach=None, fused=None, capturable=False, **options",
    "weight_decay=0.0, *, decoupled_weight_decay=True, ",
)
# As they are in programs that others have written.
SIGNATURES = {
    "Lion": "lr=0.0001, betas=(0.9, 0.99)",
    "AdaBelief": "lr=0.001, betas=(0.9, 0.999), eps=1e-16",
    "Yogi": "lr=0.01, betas=(0.9, 0.999), eps=0.001, initial_accumulator=1e-06, bias_correction=False",
    "Adan": "lr=0.001, betas=(0.98, 0.92, 0.99), eps=1e-08, weight_decay=0.0, *",
    "ADOPT": "lr=0.001, betas=(0.9, 0.9999), eps=1e-06, clip=False",
    "AdEMAMix": "lr=0.001, betas=(0.9, 0.999, 0.9999), alpha=5.0, eps=1e-08, warmup=None",
    "Signum": "lr=0.0001, momentum=0.9",
}


def arguments(kind: type) -> str:
    bare = [p.replace(annotation=p.empty) for p in inspect.signature(kind).parameters.values()]
    return str(inspect.Signature(bare)).removeprefix("(params, ").removesuffix(")")


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_stay(name: str) -> None:
    decay = "" if name == "Adan" else MANNER[1]
    assert arguments(getattr(door, name)) == f"{SIGNATURES[name]}, {decay}{MANNER[0]}"


@pytest.mark.parametrize(("name", "options"), EXTRA, ids=case_id)
def test_a_class_is_as_one_that_is_written(name: str, options: dict[str, Any]) -> None:
    kind = getattr(door, name)
    assert kind.__name__ == kind.__qualname__ == name
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert set(typing.get_type_hints(kind.__init__)) == {*inspect.signature(kind).parameters, "return"}
    assert name in dir(door)
    assert name in door.__all__
    told = inspect.getdoc(kind)
    assert told
    assert OWN[name].doc in told if name in DERIVED else f"rule ``{OWN[name].name}``" in told
    assert OWN[name].paper in told if name in DERIVED else "Source: " in told
    for argument, parameter_ in inspect.signature(kind).parameters.items():
        assert f"\n    {argument}: " in told
        assert parameter_.default is parameter_.empty or f"Default {parameter_.default!r}." in told

    class Mine(kind):  # type: ignore[misc, valid-type]
        def __init__(self, params: Any, **given: Any) -> None:
            super().__init__(params, **{**options, **given})

    optimizer = ours(name, [parameter()], **options)
    step(optimizer)
    for again in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(again) is kind
        assert everything(again) == everything(optimizer)
    mine = Mine([parameter()])
    step(mine)
    assert everything(mine) == everything(optimizer)


@pytest.mark.parametrize("name", OWN)
def test_wrong_arguments_are_told_in_pythons_words(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}.__init__\(\) missing 1 required positional argument: 'params'$"):
        getattr(door, name)()
    with pytest.raises(TypeError, match=rf"^{name}.__init__\(\) got multiple values for argument 'lr'$"):
        getattr(door, name)([parameter()], 0.1, lr=0.1)
    with pytest.raises(TypeError, match=f"^{name} has no argument 'wieght_decay'. Did you mean 'weight_decay'"):
        getattr(door, name)([parameter()], wieght_decay=0.1)


@sr.rule(paper="nobody", title="OfAll")
def of_all(
    theta,
    g,
    m,
    *,
    lr: Rate = 0.1,
    beta1: Decay = 0.5,
    eps: NonNegative = 0.25,
    beta2: Decay = 0.75,
    beta3: Decay | None = None,
    way: Literal["up", "down"] = "up",
    limit: Positive | None = None,
    weight_decay: NonNegative = 0.125,
):
    """Options of every kind."""
    m = beta1 * m + (beta2 * g if beta3 is None else beta3 * beta2 * g)
    m = m if limit is None else sr.minimum(m, limit)
    theta = theta - lr * (m if way == "up" else -m) / (1 + eps)
    return theta * (1 - weight_decay), m


@sr.rule
def of_one_beta(theta, g, m, *, beta1: Decay = 0.5, momentum: Decay = 0.25, beta: Decay = 0.125):
    m = beta1 * m + momentum * g
    return theta - beta * m, m


def test_arguments_follow_from_the_kinds_of_hyperparameters() -> None:
    kind = class_of(of_all, __name__)
    own = "lr=0.1, betas=(0.5, 0.75), eps=0.25, beta3=None, way='up', limit=None, weight_decay=0.125, *, "
    assert arguments(kind) == own + MANNER[0]
    hints = typing.get_type_hints(kind.__init__)
    assert hints["betas"] == tuple[float, float]
    assert hints["way"] == Literal["up", "down"]
    assert hints["limit"] == float | None
    # Names that torch would have for others are their own.
    assert arguments(class_of(of_one_beta, __name__)) == (
        f"beta1=0.5, momentum=0.25, beta=0.125, {MANNER[1]}{MANNER[0]}"
    )


def test_every_argument_is_the_rules() -> None:
    options: dict[str, Any] = {"lr": 0.5, "eps": 0.5, "beta3": 0.25, "way": "down", "limit": 1.0, "weight_decay": 0.25}
    p, q = parameter(), parameter()
    mine = class_of(of_all, __name__)([p], betas=(0.125, 0.375), maximize=True, **options)
    other = door.Optimizer([q], sr.maximize(of_all), beta1=0.125, beta2=0.375, **options)
    for optimizer in (mine, other):
        step(optimizer)
    assert torch.equal(p, q)
    for wrong, words in (({"way": "no"}, "'up' or 'down'"), ({"betas": (0.5,)}, "betas must be 2 numbers")):
        with pytest.raises(HyperparameterError, match=words):
            class_of(of_all, __name__)([parameter()], **wrong)


def test_a_title_is_what_a_class_can_be_called() -> None:
    with pytest.raises(RuleError, match="'Ada-Max'"):
        sr.rule(title="Ada-Max")(of_all.function)


def test_the_stub_has_every_public_name() -> None:
    assert_stub_has("torch", door.__all__)


CHECKED = """\
import torch
import steprule.jax
import steprule.torch
from steprule.torch import AdEMAMix, Lion

params = [torch.nn.Parameter(torch.zeros(3))]
lion: Lion = steprule.torch.Lion(params, lr=1e-3, states="bfloat16", min_elements=0)
AdEMAMix(params, 1e-3, (0.9, 0.99, 0.999), warmup=None)
steprule.torch.Optimizer(params, "lion", lr=1e-3)
steprule.jax.ademamix(1e-3, beta3=0.99)
steprule.jax.adam(lambda t: 1e-3, 0.9, beta2=0.99, nesterov=True)


class Mine(Lion):
    def __init__(self, params: list[torch.nn.Parameter]) -> None:
        super().__init__(params, lr=0.1)
"""
WRONG = {
    "steprule.torch.Lion(params, l=1e-3)": 'Unexpected keyword argument "l" for "Lion"',
    "steprule.torch.Lion(params, betas=0.9)": 'Argument "betas" to "Lion" has incompatible type',
    "steprule.torch.Lionn(params)": 'maybe "Lion"?',
    "steprule.torch.Lion(params, states=8)": 'Argument "states" to "Lion" has incompatible type',
    'steprule.jax.adopt(0.1, clip="no")': 'Argument "clip" to "adopt" has incompatible type',
    "steprule.jax.adoptt(0.1)": 'maybe "adopt"?',
}


@pytest.mark.slow
def test_type_checkers_see_the_arguments(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(CHECKED)
    (tmp_path / "wrong.py").write_text("\n".join([*CHECKED.splitlines()[:6], *WRONG]))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "right.py", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    for line, (call, words) in enumerate(WRONG.items(), start=7):
        assert any(said.startswith(f"wrong.py:{line}: error") and words in said for said in lines), call
    assert not [said for said in lines if said.startswith("right.py")], done.stdout
