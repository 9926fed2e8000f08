"""Several rules in one optimizer of PyTorch: groups that name theirs, and routes that make groups of a model."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steprule as sr
import steprule.torch as door
from steprule.doors.torch.modules import matrices_of
from steprule.errors import HyperparameterError, RuleError, StateError, StructureError
from tests.doors.torch.cases import everything, one_thread

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


class Named(nn.Module):
    """A module that holds parameters of its own, by name."""

    def __init__(self, **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)


class TokenEmbedding(Named):
    """An embedding of its own class."""


class WithHead(Named):
    """A model that says which module is its head, as transformers' do."""

    def get_output_embeddings(self) -> nn.Module:
        return self.exit  # type: ignore[return-value]


def tied() -> nn.Module:
    enter, leave = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
    leave.weight = enter.weight
    return Named(enter=enter, mid=nn.Linear(6, 6), exit=leave)


def block() -> nn.Module:
    return Named(attention=nn.MultiheadAttention(6, 2), first=nn.Linear(6, 8), second=nn.Linear(8, 6))


MODELS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "the last linear is the head": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)),
        {"0.weight", "2.weight"},
    ),
    "a head by its name": (
        lambda: Named(classifier=nn.Linear(4, 3), body=nn.Linear(4, 4)),
        {"body.weight"},
    ),
    "a head that the model tells": (
        lambda: WithHead(exit=nn.Linear(4, 3), body=nn.Linear(4, 4)),
        {"body.weight"},
    ),
    "a tied embedding": (tied, {"mid.weight"}),
    "convolutions": (
        lambda: Named(conv=nn.Conv2d(3, 4, 3), one=nn.Conv1d(3, 4, 1), body=nn.Linear(4, 4), head=nn.Linear(4, 2)),
        {"body.weight"},
    ),
    "an embedding by its class": (
        lambda: Named(tokens=TokenEmbedding(weight=torch.ones(9, 4)), body=nn.Linear(4, 4), head=nn.Linear(4, 2)),
        {"body.weight"},
    ),
    "parameters of its own by their names": (
        lambda: Named(w=torch.ones(3, 3), pos_embed=torch.ones(3, 3), bias=torch.ones(3, 3), head=nn.Linear(3, 3)),
        {"w"},
    ),
    "layers in which a part is called output": (
        lambda: Named(layer=nn.ModuleList([Named(output=nn.Linear(4, 4))]), lm_head=nn.Linear(4, 3)),
        {"layer.0.output.weight"},
    ),
    "attention and recurrence": (
        lambda: Named(block=block(), rnn=nn.GRU(6, 5), embed=nn.EmbeddingBag(4, 6), head=nn.Linear(5, 2)),
        {
            *("block.attention.in_proj_weight", "block.attention.out_proj.weight", "block.first.weight"),
            *("block.second.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0"),
        },
    ),
    "one row, and a norm": (
        lambda: Named(gate=nn.Linear(4, 1), norm=nn.LayerNorm((4, 4)), body=nn.Linear(4, 4), head=nn.Linear(4, 2)),
        {"body.weight"},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_which_parameters_of_a_model_are_matrices(name: str) -> None:
    make, expected = MODELS[name]
    model = make()
    decide = matrices_of(model)
    assert {path for path, param in model.named_parameters() if decide(path, param)} == expected
    optimizer = door.Optimizer(model, "adamw", routes=[("matrices", "lion")])
    assert set(optimizer.param_groups[0]["param_names"]) == expected


def test_the_matrices_of_a_model_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=11, n_positions=6)
    optimizer = door.Muon(transformers.GPT2LMHeadModel(config))
    assert optimizer.param_groups[0]["param_names"] == [
        f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]


def layers() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 3, start: int = 0) -> None:
    for t in range(start, start + steps):
        model.zero_grad()
        model(torch.randn(8, 3, generator=torch.Generator().manual_seed(t))).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


ROUTES = [("matrices", "lion", {"lr": 0.01}), ("*.bias", "sgd", {"lr": 0.1})]


def routed(model: nn.Module, **options: Any) -> door.Optimizer:
    return door.Optimizer(model, "adamw", lr=3e-3, routes=ROUTES, **options)


def test_one_optimizer_steps_as_several_do() -> None:
    model, other = layers(), layers()
    optimizer = routed(model)
    train(model, optimizer)
    named = dict(other.named_parameters())
    others = [
        door.Optimizer([named["0.weight"], named["2.weight"]], "lion", lr=0.01),
        door.Optimizer([param for name, param in named.items() if name.endswith("bias")], "sgd", lr=0.1),
        door.Optimizer([named["4.weight"]], "adamw", lr=3e-3),
    ]
    train(other, *others)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert optimizer._launch is not None
    assert [group["rule"] for group in optimizer.param_groups] == ["lion", "sgd", "adamw"]
    assert "beta2" not in optimizer.param_groups[1]
    assert "eps" not in optimizer.param_groups[0]


def test_describe_has_the_rule_of_each_parameter() -> None:
    told = [line.split() for line in routed(layers()).describe().splitlines()[1:]]
    place = told[0].index("rule")
    found = {line[0]: next(word for word in line if word in ("lion", "sgd", "adamw")) for line in told[1:]}
    assert place
    assert found == {"0.weight": "lion", "2.weight": "lion", "4.weight": "adamw"} | {
        f"{i}.bias": "sgd" for i in (0, 2, 4)
    }


def test_a_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    model = layers()
    optimizer = routed(model, states="bfloat16", min_elements=0)
    train(model, optimizer)
    sr.save(tmp_path / "run", optimizer)
    ways: dict[str, tuple[nn.Module, Any]] = {}
    for way in ("dict", "file"):
        other = copy.deepcopy(model)
        twin: Any = routed(other, states="bfloat16", min_elements=0)
        if way == "dict":
            twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        else:
            sr.load(tmp_path / "run", twin)
        ways[way] = other, twin
    ways["deepcopy"], ways["pickle"] = copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))
    train(model, optimizer, start=3)
    for another, own in ways.values():
        train(another, own, start=3)
        assert everything(own) == everything(optimizer)


def test_a_state_of_other_rules_is_refused() -> None:
    model = layers()
    optimizer = routed(model)
    train(model, optimizer)
    other = door.Optimizer(model, "adamw", routes=[("matrices", "signum"), ("*.bias", "sgd")])
    before = everything(other)
    with pytest.raises(StateError, match=r"group 0 of the state steps by rule 'lion', and here by 'signum'"):
        other.load_state_dict(optimizer.state_dict())
    assert everything(other) == before


@sr.rule
def my_rule(theta: Any, g: Any, m: Any, *, lr: sr.Rate = 0.1, beta: sr.Decay = 0.5) -> Any:
    """Step along an average."""
    m = beta * m + (1 - beta) * g
    return theta - lr * m, m


def test_groups_name_rules_of_ones_own() -> None:
    params = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    groups: Any = [
        {"params": params[:1], "rule": my_rule, "beta": 0.0},
        {"params": params[1:2], "rule": sr.cautious(my_rule)},
        {"params": params[2:]},
    ]
    optimizer = door.Optimizer(groups, "sgd", lr=1.0)
    for param in params:
        param.grad = torch.tensor([1.0, -2.0, 0.0])
    optimizer.step()
    assert torch.equal(params[0].detach(), 1 - 0.1 * torch.tensor([1.0, -2.0, 0.0]))
    assert torch.equal(params[2].detach(), 1 - torch.tensor([1.0, -2.0, 0.0]))
    assert isinstance(optimizer.param_groups[0]["rule"], str)  # so that a state dict holds no code
    twin = copy.deepcopy(optimizer)
    twin.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    optimizer.step()
    for own, other in zip(params, (p for group in twin.param_groups for p in group["params"]), strict=True):
        other.grad = own.grad
    twin.step()
    assert everything(twin) == everything(optimizer)


def test_groups_of_the_same_rule_take_over_its_options_and_others_their_own() -> None:
    groups: Any = [{"params": [torch.zeros(2)], "rule": name} for name in ("adamw", "lion")]
    same, other = door.Optimizer(groups, "adamw", lr=0.25, beta1=0.5, states="float32", clip_norm=1.0).param_groups
    assert (same["lr"], same["beta1"], same["eps"]) == (0.25, 0.5, 1e-8)
    assert (other["lr"], other["beta1"]) == (sr.rules.lion.resolve({})["lr"], 0.9)
    assert "eps" not in other


def test_schedulers_and_added_groups() -> None:
    model = layers()
    optimizer = routed(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    train(model, optimizer, steps=1)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.05, 0.0015]
    optimizer.add_param_group({"params": [("more", nn.Parameter(torch.zeros(2)))], "rule": "signum"})
    assert optimizer.param_groups[-1]["lr"] == sr.rules.signum.resolve({})["lr"]
    train(model, optimizer, steps=1)


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no rule of that name": (lambda: routed_by([("matrices", "lionn")]), RuleError, "Did you mean 'lion'"),
    "no option of the rule": (lambda: routed_by([("matrices", "lion", {"eps": 1.0})]), HyperparameterError, "'eps'"),
    "value": (lambda: routed_by([("matrices", "lion", {"lr": -1.0})]), HyperparameterError, r"group 0"),
    "matches nothing": (lambda: routed_by([("layer*", "lion")]), HyperparameterError, "There are '0.weight'"),
    "without names": (
        lambda: door.Optimizer(layers().parameters(), "adamw", routes=[("matrices", "lion")]),
        HyperparameterError,
        "Pass the model itself, or its named_parameters",
    ),
    "of groups": (
        lambda: door.Optimizer([{"params": layers().parameters()}], "adamw", routes=ROUTES),
        StructureError,
        "routes make the groups themselves",
    ),
    "lazy": (
        lambda: door.Optimizer(nn.Sequential(nn.LazyLinear(3)), "adamw", routes=[("*", "lion")]),
        StructureError,
        "has no shape yet",
    ),
    "model without routes": (lambda: door.Optimizer(layers(), "adamw"), TypeError, "pass its .parameters"),
    "option of another rule": (
        lambda: door.Optimizer([{"params": [torch.zeros(2)], "rule": "lion", "eps": 1.0}], "adamw"),
        HyperparameterError,
        "steps by rule 'lion', which has no 'eps'",
    ),
    "class of one rule": (
        lambda: door.AdamW([{"params": [torch.zeros(2)], "rule": "lion"}]),
        HyperparameterError,
        "AdamW steps by one rule alone",
    ),
    "two of one name": (
        lambda: door.Optimizer([{"params": [torch.zeros(2)], "rule": sr.rule(my_rule.function)}], my_rule),
        HyperparameterError,
        "two rules are called 'my_rule'",
    ),
}


def routed_by(routes: Any) -> Any:
    return door.Optimizer(layers(), "adamw", routes=routes)


@pytest.mark.parametrize("name", BAD)
def test_what_has_no_meaning_is_refused_in_words(name: str) -> None:
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        call()


def test_the_rule_of_a_group_stays() -> None:
    model = layers()
    optimizer = routed(model)
    train(model, optimizer, steps=1)
    before = everything(optimizer)
    optimizer.param_groups[0]["rule"] = "adamw"
    with pytest.raises(HyperparameterError, match=r"cannot be changed: it was 'lion', now 'adamw' \(group 0\)"):
        optimizer.step()
    optimizer.param_groups[0]["rule"] = "lion"
    assert everything(optimizer) == before
    train(model, optimizer, steps=1)


def test_a_note_called_rule_stays_a_note() -> None:
    optimizer = door.AdamW([{"params": [torch.zeros(2)], "rule": "of thumb"}])
    assert optimizer.param_groups[0]["rule"] == "of thumb"


def test_sums_over_all_tensors_are_those_of_one_rule() -> None:
    groups: Any = [{"params": [torch.zeros(2)]}, {"params": [torch.zeros(2)], "rule": "adamw"}]
    optimizer = door.Optimizer(groups, "prodigy")
    for group in optimizer.param_groups:
        group["params"][0].grad = torch.ones(2)
    optimizer.step()
    assert all(group["params"][0].all() for group in optimizer.param_groups)


def test_a_rule_of_the_catalogue_may_be_made_anew() -> None:
    """``schedule_free("sgd")`` is the catalogue's ``schedule_free_sgd``, though another object."""
    model = Named(a=nn.Linear(3, 2), b=nn.Linear(3, 2))
    optimizer = door.Optimizer(model, "adamw", routes=[("a.*", sr.schedule_free("sgd")), ("b.*", "schedule_free_sgd")])
    assert [group["rule"] for group in optimizer.param_groups] == ["schedule_free_sgd"] * 2
