"""Several rules in one optimizer of NumPy arrays: the same bits as one optimizer each, one state, one file."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.errors import HyperparameterError, RuleError, StateError, StructureError
from steprule.rules.papers.muon import muon

ROUTES: list[Any] = [("matrices", muon, {"lr": 0.02}), ("*.b", "adafactor"), ("wte", "prodigy"), ("head", "novograd")]


def model() -> Any:
    rng = np.random.default_rng(0)
    layers = [{"w": rng.normal(size=(16, 24)), "b": rng.normal(size=24)} for _ in range(2)]
    return cast({"wte": rng.normal(size=(40, 16)), "layers": layers, "head": rng.normal(size=(16, 40))})


def cast(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: cast(one) for key, one in tree.items()}
    return [cast(one) for one in tree] if isinstance(tree, list) else tree.astype("float32")


def gradients(params: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)

    def of(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: of(one) for key, one in tree.items()}
        return [of(one) for one in tree] if isinstance(tree, list) else rng.normal(size=tree.shape).astype(tree.dtype)

    return of(params)


def parts(tree: Any) -> list[list[Any]]:
    """What the four routes take, each by itself."""
    return [
        [layer["w"] for layer in tree["layers"]],
        [layer["b"] for layer in tree["layers"]],
        [tree["wte"]],
        [tree["head"]],
    ]


def leaves(tree: Any) -> list[Any]:
    return [own for part in parts(tree) for own in part]


def assert_equal(one: Any, other: Any) -> None:
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5, "nonfinite": "skip"}])
def test_rules_in_one_launch_give_the_bits_of_each_alone(backend: str, options: dict[str, Any]) -> None:
    whole = model()
    optimizer = sr.Optimizer(whole, None, routes=ROUTES, backend=backend, **options)
    apart = model()
    each = [
        sr.Optimizer(
            part, route[1], backend=backend, **dict(*route[2:]), **options if "clip_norm" not in options else {}
        )
        for part, route in zip(parts(apart), ROUTES, strict=True)
    ]
    for step in range(4):
        g = gradients(whole, step)
        optimizer.step(g)
        if "clip_norm" in options:  # the norm is that of all
            norm = np.sqrt(sum(np.sum(own.astype(np.float64) ** 2) for own in leaves(g)))
            g = gradients(whole, step)
            for own in leaves(g):
                own *= np.float32(0.5 / (norm + 1e-6))
        for one, own in zip(each, parts(g), strict=True):
            one.step(own)
    assert optimizer.t == 4
    if "clip_norm" in options:  # whose factor rounds once more here
        for a, b in zip(leaves(whole), leaves(apart), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    else:
        assert_equal(whole, apart)


def test_states_files_copies_and_pickles_go_on_from_where_they_are(tmp_path: Path) -> None:
    first = model()
    optimizer = sr.Optimizer(first, routes=ROUTES[:1], lr=1e-3, seed=3, states="bfloat16", min_elements=0)
    for step in range(3):
        optimizer.step(gradients(first, step))
    sr.save(tmp_path / "run", optimizer, params=True)
    states = optimizer.state_dict()
    assert [group["rule"] for group in states["groups"]] == ["muon", "adam"]
    copied, pickled = copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))
    others = []
    for source in ("dict", "file"):
        params = copy.deepcopy(first) if source == "dict" else model()
        other = sr.Optimizer(
            params, routes=ROUTES[:1], lr=1e-3, seed=0 if source == "file" else 5, states="bfloat16", min_elements=0
        )
        other.load_state_dict(states) if source == "dict" else sr.load(tmp_path / "run", other, params=True)
        others.append(other)
    optimizer.step(gradients(first, 9))
    for other in (copied, pickled, *others):
        other.step(gradients(first, 9))
        assert_equal(other.params, first)
        assert [group.rule.name for group in other.groups] == ["muon", "adam"]


def test_a_state_of_other_rules_is_refused(tmp_path: Path) -> None:
    optimizer = sr.Optimizer(model(), routes=ROUTES[:1])
    sr.save(tmp_path / "run", optimizer)
    before = optimizer.state_dict()
    other = sr.Optimizer(model(), routes=[("matrices", "lion")])
    with pytest.raises(StateError, match=r"group 0 of the state is for rule 'muon', .* 'lion'"):
        other.load_state_dict(before)
    with pytest.raises(StateError, match=r"the checkpoint is for rule 'muon' \(group 0\), this optimizer's is 'lion'"):
        sr.load(tmp_path / "run", other)
    with pytest.raises(StateError, match="has 2 groups"):
        sr.Optimizer(model()).load_state_dict(before)


def test_groups_name_their_rule() -> None:
    params = model()
    groups = [sr.Group(params["wte"]), sr.Group([layer["w"] for layer in params["layers"]], rule="lion", lr=0.5)]
    optimizer = sr.Optimizer(groups, "adam", lr=0.25)
    assert [(group.rule.name, group["lr"]) for group in optimizer.groups] == [("adam", 0.25), ("lion", 0.5)]
    assert repr(groups[1]) == "Group(list, rule='lion', lr=0.5)"
    # Of another rule a group takes nothing over; of the same it does.
    optimizer = sr.Optimizer(
        [sr.Group(params["wte"], rule="lion"), sr.Group(params["head"], rule="adam")], "adam", lr=0.25
    )
    assert [group["lr"] for group in optimizer.groups] == [1e-4, 0.25]
    optimizer.groups[0]["lr"] = 0.125
    assert optimizer.groups[0]["lr"] == 0.125


def test_what_each_parameter_goes_by_is_shown() -> None:
    optimizer = sr.Optimizer(model(), "adamw", routes=ROUTES[:1])
    head, columns, *lines = optimizer.describe().splitlines()
    assert head.startswith("muon and adamw by llvm")
    at = columns.index("rule")
    shown = {line.split()[0]: line[at:].split()[0] for line in lines}
    assert shown["params['layers'][0]['w']"] == "muon"
    assert shown["params['wte']"] == shown["params['head']"] == shown["params['layers'][0]['b']"] == "adamw"
    assert "rule" not in sr.Optimizer(model()).describe().splitlines()[1].split()
    assert repr(optimizer).startswith("Optimizer(muon and adamw, 6 arrays")
    slots = optimizer.slots
    assert slots["v"]["layers"][0]["w"] is None
    assert slots["m"]["layers"][0]["w"].shape == (16, 24)


def test_formats_and_clipping_are_a_groups_own() -> None:
    routes = [("matrices", muon, {"states": "8bit", "min_elements": 0}), ("*.b", "adamw", {"update_clip": True})]
    optimizer = sr.Optimizer(model(), "sgd", routes=routes)
    assert "m: 8bit" in optimizer.describe()
    optimizer.step(gradients(optimizer.params, 0))
    with pytest.raises(HyperparameterError, match=r"update_clip .* 'muon' does not keep .*\(routes\[0\]\)"):
        sr.Optimizer(model(), "adamw", routes=ROUTES[:1], update_clip=True)
    sr.Optimizer(model(), "adamw", routes=[("matrices", muon, {"update_clip": False})], update_clip=True)
    # A slot by name is that of the rules that have it.
    optimizer = sr.Optimizer(model(), "adamw", routes=ROUTES[:1], states={"v": "8bit"}, min_elements=0)
    assert "v: 8bit" in optimizer.describe()
    with pytest.raises(HyperparameterError, match="states names 'w', which is not a slot"):
        sr.Optimizer(model(), "adamw", routes=ROUTES[:1], states={"w": "8bit"})


def test_other_clips_are_refused_from_a_file(tmp_path: Path) -> None:
    routes = [("*.b", "adamw", {"update_clip": True})]
    sr.save(tmp_path / "run", sr.Optimizer(model(), routes=routes))
    with pytest.raises(StateError, match="update_clip"):
        sr.load(tmp_path / "run", sr.Optimizer(model(), routes=[("*.b", "adamw")]))
    sr.load(tmp_path / "run", sr.Optimizer(model(), routes=routes))


def test_a_monitor_reads_each_rule() -> None:
    optimizer = sr.Optimizer(model(), routes=ROUTES[:1])
    with sr.Monitor(optimizer, every=1) as monitor:
        optimizer.step(gradients(optimizer.params, 0))
    assert len(monitor.latest) == 6
    assert monitor.diagnose() is not None


def test_the_evaluated_point_is_that_of_the_rules_that_have_one() -> None:
    params = model()
    optimizer = sr.Optimizer(params, sr.averaged("adamw"), routes=ROUTES[:1])
    for step in range(3):
        optimizer.step(gradients(params, step))
    trained = copy.deepcopy(params)
    evaluated = copy.deepcopy(optimizer.evaluated)
    with optimizer.evaluating():
        assert_equal(params, evaluated)
        np.testing.assert_array_equal(params["layers"][0]["w"], trained["layers"][0]["w"])
        assert np.any(params["wte"] != trained["wte"])
        state = optimizer.state_dict()
        other = sr.Optimizer(copy.deepcopy(params), sr.averaged("adamw"), routes=ROUTES[:1])
    assert_equal(params, trained)
    other.load_state_dict(state)
    other.train()
    assert_equal(other.params, trained)


def test_what_is_wrong_is_said() -> None:
    params = model()
    with pytest.raises(HyperparameterError, match="routes and groups both say"):
        sr.Optimizer([sr.Group(params)], routes=ROUTES[:1])
    with pytest.raises(HyperparameterError, match=r"lr=0.1 has no effect: no parameter is stepped by rule 'adam'"):
        sr.Optimizer(params, routes=[("*", "lion")], lr=0.1)
    with pytest.raises(RuleError, match="no rule is named"):
        sr.Optimizer(params, None)
    with pytest.raises(RuleError, match="no rule for 'wte'"):
        sr.Optimizer(params, None, routes=ROUTES[:1])
    with pytest.raises(StructureError, match=r"params\['w'\] is a list|params\['w'\]\[0\] is a float"):
        sr.Optimizer({"w": [1.0]}, routes=ROUTES[:1])
    with pytest.raises(HyperparameterError, match="'dadapt_adam' and 'prodigy' both take sums over all"):
        sr.Optimizer(params, "prodigy", routes=[("matrices", "dadapt_adam")])
    with pytest.raises(HyperparameterError, match="update_clip must be True or False"):
        sr.Group(params, update_clip=1)
