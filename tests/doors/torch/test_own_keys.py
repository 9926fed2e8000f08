"""What is loaded into an optimizer of the PyTorch door beside slots: step counts of any kind, what wrappers keep."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steprule.doors.torch.base import Base
from steprule.errors import StateError
from tests.doors.torch.cases import (
    ALL,
    OWN,
    RICH,
    case_id,
    everything,
    frozen,
    one_thread,
    ours,
    parameter,
    reference,
    step,
)

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


COUNTS: dict[str, Callable[[int], Any]] = {
    "int": lambda t: t,
    "float": float,
    "int64 of NumPy": np.int64,
    "int32 of NumPy": np.int32,
    "float64 of NumPy": np.float64,
    "float16 of NumPy": np.float16,
    "array of no dimension": np.array,
    "array of one": lambda t: np.array([t]),
    "tensor of an int": torch.tensor,
    "tensor of one": lambda t: torch.tensor([float(t)]),
}


@pytest.mark.parametrize("kind", COUNTS)
@pytest.mark.parametrize(("name", "options"), dict(ALL).items(), ids=case_id)
def test_step_counts_of_any_kind_are_taken(name: str, options: dict[str, Any], kind: str) -> None:
    (p,), (q,) = ([parameter()] for _ in range(2))
    optimizer, plain = ours(name, [p], **options), ours(name, [q], **options)
    for own in (optimizer, plain):
        step(own, name)
    saved = copy.deepcopy(optimizer.state_dict())
    if "step" in saved["state"][0]:
        saved["state"][0]["step"] = COUNTS[kind](2)
    optimizer.load_state_dict(saved)
    step(optimizer, name, 1, 2)
    if "step" in optimizer.state[p]:
        optimizer.state[p]["step"] = COUNTS[kind](3)
    step(optimizer, name, 1, 3)
    step(plain, name, 2, 2)
    assert everything(optimizer) == everything(plain)


@pytest.mark.parametrize("wrong", [True, np.bool_(True), "2", np.array([2, 3]), 2.5, np.float64(-1), None])
def test_what_is_no_step_count_is_refused(wrong: Any) -> None:
    optimizer = ours("AdamW", [parameter()])
    step(optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["step"] = wrong
    before = everything(optimizer)
    with pytest.raises(StateError, match="step"):
        optimizer.load_state_dict(saved)
    assert everything(optimizer) == before


def notes_of(p: Tensor) -> dict[str, Any]:
    """Return what wrappers keep in the state of a parameter."""
    average = p.detach().clone()
    return {
        "z": average,
        "ema": [average * 2, {"slow": average * 3}],
        "name": "w",
        "seen": torch.tensor([3, 4]),
        "k": 7,
    }


@pytest.mark.parametrize("when", ["before the first step", "after"])
@pytest.mark.parametrize(("name", "options"), [*ALL, ("SGD", {}), ("RMSprop", {}), ("Optimizer", {})], ids=case_id)
def test_what_wrappers_keep_in_the_state_survives_a_load(name: str, options: dict[str, Any], when: str) -> None:
    p, q = parameter(), parameter()
    optimizer, again = ours(name, [p], **options), ours(name, [q], **options)
    if when == "after":
        step(optimizer, name)
        with torch.no_grad():
            q.copy_(p)
    own_slots = OWN[name].slots if name in OWN else ()
    notes = {key: value for key, value in notes_of(p).items() if key not in own_slots}  # z may be one
    optimizer.state[p].update(notes)
    saved = optimizer.state_dict()
    again.load_state_dict(saved)
    assert frozen(again.state[q]) == frozen(optimizer.state[p])
    assert again.state[q]["seen"] is not optimizer.state[p]["seen"]
    again.state[q]["ema"][1]["slow"].zero_()
    assert optimizer.state[p]["ema"][1]["slow"].any()
    for own in (optimizer, again):
        step(own, name, 2, 2)
    assert torch.equal(p, q)
    assert again.float32_state_dict()["state"][0]["name"] == "w"  # type: ignore[attr-defined]


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
@pytest.mark.parametrize("weights", ["split24", "split32"])
def test_what_wrappers_keep_before_the_first_step_is_no_state_in_other_formats(
    name: str, weights: str, convert: bool
) -> None:
    p, q, r = (parameter(torch.bfloat16) for _ in range(3))
    noted, again, plain = cast("list[Base]", [ours(name, [own], lr=0.1, weights=weights) for own in (p, q, r)])
    noted.state[p]["ema"] = p.detach().clone()
    again.load_state_dict(copy.deepcopy(noted.state_dict()), convert=convert)
    for own in (noted, again, plain):
        step(own)
    assert torch.equal(p, r)
    assert torch.equal(q, r)
    assert {key: value for key, value in frozen(again.state[q]).items() if key != "ema"} == frozen(plain.state[r])


@pytest.mark.parametrize(("name", "options"), dict(RICH).items(), ids=case_id)
def test_what_wrappers_keep_follows_the_parameters_device(name: str, options: dict[str, Any]) -> None:
    kinds = []
    for make in (reference, ours):
        p, q = parameter(), nn.Parameter(parameter().detach().to("meta"))
        optimizer = make(name, [p], **options)
        step(optimizer, name)
        optimizer.state[p].update(notes_of(p))
        again = make(name, [q], **options)
        again.load_state_dict(optimizer.state_dict())
        state = again.state[q]
        tensors = (state["z"], state["ema"][0], state["ema"][1]["slow"])
        kinds.append([(tensor.device.type, tensor.dtype) for tensor in tensors])
        assert state["seen"].device.type == "meta"
    assert kinds[0] == kinds[1] == [("meta", torch.float32)] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=case_id)
def test_what_wrappers_keep_is_widened_and_never_narrowed(dtype: torch.dtype) -> None:
    p = parameter(dtype)
    optimizer, again = ours("SGD", [p]), ours("SGD", [parameter(dtype)])
    kept = {"half": torch.ones(3, dtype=torch.float16), "wide": torch.ones(3, dtype=torch.float64) / 3}
    optimizer.state[p].update(kept, mask=torch.tensor([True, False]), count=torch.tensor(3))
    again.load_state_dict(optimizer.state_dict())
    (state,) = again.state.values()
    assert state["half"].dtype == (torch.float32 if dtype is torch.float32 else torch.float16)
    assert torch.equal(state["wide"], kept["wide"])
    assert (state["mask"].dtype, state["count"].dtype) == (torch.bool, torch.int64)


@pytest.mark.parametrize("foreign", ["step", "momentum_buffer"])
@pytest.mark.parametrize("name", ["Adam", "Lion", "Adagrad", "RMSprop"])
def test_the_state_of_another_optimizer_is_no_note(name: str, foreign: str) -> None:
    optimizer = ours(name, [parameter()])
    saved = {**optimizer.state_dict(), "state": {0: {foreign: torch.tensor(2.0), "z": torch.ones(4, 3)}}}
    with pytest.raises(StateError, match="from another"):
        optimizer.load_state_dict(saved)


def test_a_state_that_is_part_of_a_graph_is_loaded_without_it() -> None:
    def differentiable(p: Tensor) -> Any:
        return ours("NAdam", [p], betas=(torch.tensor(0.75, requires_grad=True), 0.875), differentiable=True)

    p, q = parameter().detach(), parameter().detach()
    optimizer, again = differentiable(p), differentiable(q)
    step(optimizer)
    assert optimizer.state[p]["mu_product"].requires_grad
    again.load_state_dict(optimizer.state_dict())
    assert frozen(again.state[q]) == frozen(optimizer.state[p])
    assert not again.state[q]["mu_product"].requires_grad


ALIKE: list[tuple[str, str, dict[str, Any], str]] = [
    ("AdamW", "Lion", {}, "has exp_avg_sq, which this optimizer does not keep"),
    ("AdamW", "Signum", {}, "has exp_avg_sq, which this optimizer does not keep"),
    ("AdamW", "SGD", {}, "has exp_avg, exp_avg_sq, which this optimizer does not keep"),
    ("AdamW", "Lion", {"states": "8bit", "min_elements": 0}, "has exp_avg_sq_8bit, exp_avg_sq_scale, which"),
    ("NAdam", "Adam", {}, "has mu_product, which this optimizer does not keep"),
    ("AdEMAMix", "Signum", {}, "has exp_avg_slow, exp_avg_sq, which this optimizer does not keep"),
    ("RMSprop", "SGD", {}, "has square_avg, which this optimizer does not keep"),
    ("Rprop", "SGD", {}, "has .*step_size, which this optimizer does not keep"),
    ("AdamW", "NAdam", {}, "expected .*mu_product"),
    *(("Adam", name, {}, "has the option 'amsgrad'") for name in ("Yogi", "RAdam", "ADOPT", "SparseAdam")),
    ("Yogi", "AdamW", {}, "has the option 'initial_accumulator'"),
    ("ADOPT", "RAdam", {}, "has the option 'clip'"),
    ("Lion", "Signum", {}, "has the option 'betas'"),
]


@pytest.mark.parametrize("make", [reference, ours], ids=["torch", "ours"])
@pytest.mark.parametrize(("saver", "loader", "options", "words"), ALIKE, ids=case_id)
def test_the_state_of_another_class_is_refused(
    saver: str, loader: str, options: dict[str, Any], words: str, make: Any
) -> None:
    if make is reference and (options or not hasattr(torch.optim, saver)):
        pytest.skip("torch has no such class or option")
    kept = {} if loader in ("SGD", "SparseAdam") else options
    saved, other = make(saver, [parameter()], **options), ours(loader, [parameter()], **kept)
    step(saved, saver)
    before = everything(other)
    with pytest.raises(StateError, match=f"{words}.*another"):
        other.load_state_dict(saved.state_dict())
    assert everything(other) == before


def test_averages_of_another_class_are_taken_where_nothing_else_is_left() -> None:
    """What the error says: remove what is not of this optimizer, and set the options anew."""
    p = parameter()
    saved, lion, radam = ours("AdamW", [p]), ours("Lion", [parameter()]), ours("RAdam", [parameter()])
    step(saved)
    for other, left in ((lion, {"exp_avg_sq"}), (radam, set())):
        told = copy.deepcopy(saved.state_dict())
        told["state"][0] = {key: value for key, value in told["state"][0].items() if key not in left}
        del told["param_groups"][0]["amsgrad"]
        other.load_state_dict(told)
        other.param_groups[0]["lr"] = 1e-4
        (state,) = other.state.values()
        assert torch.equal(state["exp_avg"], saved.state[p]["exp_avg"])
        step(other)


def test_options_of_another_class_that_a_group_has_as_notes_are_loaded() -> None:
    group: Any = {"params": [parameter()], "amsgrad": False, "betas": (0.9, 0.99), "clip": True}
    optimizer, again = ours("Signum", [dict(group)]), ours("Signum", [{**group, "params": [parameter()]}])
    step(optimizer)
    again.load_state_dict(optimizer.state_dict())
    assert everything(again)[1] == everything(optimizer)[1]
    plain = ours("RAdam", [parameter()])
    told = ours("RAdam", [parameter()]).state_dict()
    told["param_groups"][0].update({"clip": 1.0, "momentum": 0.9})  # what no option could be, and a common note
    plain.load_state_dict(told)


def test_slots_that_options_have_switched_off_are_loaded() -> None:
    p = parameter()
    optimizer = ours("AdamW", [p], amsgrad=True)
    step(optimizer)
    optimizer.param_groups[0]["amsgrad"] = False
    step(optimizer)
    again = ours("AdamW", [parameter()])
    again.load_state_dict(optimizer.state_dict())


FORMATS: list[dict[str, Any]] = [
    {},
    {"states": "bfloat16", "min_elements": 0},
    {"states": "8bit", "min_elements": 0},
]


@pytest.mark.parametrize("make", [reference, ours], ids=["torch", "ours"])
@pytest.mark.parametrize("formats", FORMATS, ids=case_id)
def test_a_momentum_that_is_switched_off_waits_in_the_state_to_be_switched_on(
    formats: dict[str, Any], make: Any
) -> None:
    if make is reference and formats:
        pytest.skip("torch has no such option")
    p, q = parameter(), parameter()
    optimizer = make("SGD", [p], lr=0.1, momentum=0.9, **formats)
    step(optimizer)
    optimizer.param_groups[0]["momentum"] = 0.0
    step(optimizer)
    again = ours("SGD", [q], lr=0.1, momentum=0.9, **formats)
    again.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        q.copy_(p)
    step(again)
    assert frozen(again.state[q]) == frozen(optimizer.state[p])
    resumed = ours("SGD", [p], lr=0.1, momentum=0.9, **formats)
    resumed.load_state_dict(again.state_dict())
    resumed.param_groups[0]["momentum"] = 0.9
    step(resumed)
