"""Memory formats in the PyTorch door: what is refused, in which words, and that nothing has changed then."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor

import steprule.torch as door
from steprule.errors import HyperparameterError, StateError, StructureError
from tests.doors.torch.cases import everything, one_thread

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

BF16 = torch.bfloat16
EIGHT: dict[str, Any] = {"states": "8bit", "min_elements": 0}
SMALLEST: dict[str, Any] = {"states": "8bit", "weights": "split24"}


def big(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(64, 128, dtype=dtype)


def stepped(**options: Any) -> tuple[Tensor, Any]:
    """Return a parameter of bfloat16 and its optimizer after one step."""
    w = big(BF16)
    optimizer = door.AdamW([w], **{**SMALLEST, **options})
    w.grad = torch.ones_like(w)
    optimizer.step()
    return w, optimizer


# Options.

WRONG: list[tuple[str, torch.dtype, dict[str, Any], type[Exception], str]] = [
    ("AdamW", torch.float32, {"states": "8bits"}, HyperparameterError, "'8bits'. Did you mean '8bit'"),
    ("AdamW", torch.float32, {"states": {"mm": "8bit"}}, HyperparameterError, "states names 'mm', which is not a slot"),
    ("AdamW", torch.float32, {"states": {"exp_avg": "3bit"}}, HyperparameterError, "states must be one of .*'3bit'"),
    (
        "AdamW",
        torch.float32,
        {"states": {"exp_avg": "8bit", "m": "bfloat16"}},
        HyperparameterError,
        "names a slot twice, by torch's name and the rule's",
    ),
    ("AdamW", BF16, {"weights": "split"}, HyperparameterError, "weights must be one of .*'split'"),
    ("AdamW", torch.float32, {"weights": "split24"}, HyperparameterError, "weights='split24' has no effect"),
    (
        "AdamW",
        torch.float32,
        {"seed": 3},
        HyperparameterError,
        "seed=3 has no effect: nothing is rounded stochastically",
    ),
    ("AdamW", BF16, {"weights": "split32", "seed": 3}, HyperparameterError, "seed=3 has no effect"),
    ("AdamW", torch.float32, {"min_elements": 0}, HyperparameterError, "min_elements=0 has no effect"),
    ("AdamW", torch.float32, {"states": "8bit", "min_elements": -1}, HyperparameterError, "min_elements must be .*-1"),
    ("AdamW", torch.float32, {"states": "8bit", "seed": -1}, HyperparameterError, "seed must be an integer.*-1"),
    ("AdamW", torch.float32, {"states": "8bit", "seed": 1.0}, HyperparameterError, "seed must be an integer.*1.0"),
    ("AdamW", torch.float64, {"states": "8bit"}, StructureError, "type float64, .*'8bit' is for.*states='float32'"),
    ("AdamW", torch.float32, {"states_": "8bit"}, TypeError, "no argument 'states_'. Did you mean 'states'"),
    ("Optimizer", torch.float32, {"states_": "8bit"}, HyperparameterError, "'states_'. Did you mean 'states'"),
]


@pytest.mark.parametrize(("cls", "dtype", "options", "error", "words"), WRONG, ids=[case[-1] for case in WRONG])
def test_wrong_formats(
    cls: str, dtype: torch.dtype, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        getattr(door, cls)([big(dtype)], **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"states_": "8bit"}, r"no option 'states_'. Did you mean 'states'\? .*\(group 1\)"),
        ({"weight": "split24"}, r"no option 'weight'. Did you mean 'weights'\? .*\(group 1\)"),
        ({"states": "3bit"}, r"'3bit' \(group 1\)"),
        ({"seed": -1}, r"seed must be .*-1 \(group 1\)"),
    ],
)
def test_wrong_formats_of_a_group(options: dict[str, Any], words: str) -> None:
    groups = [{"params": [big()]}, {"params": [big()], **options}]
    with pytest.raises(HyperparameterError, match=words):
        door.AdamW(groups, **EIGHT)
    optimizer = door.AdamW([big()], **EIGHT)
    with pytest.raises(HyperparameterError, match=words):
        optimizer.add_param_group(groups[1])
    assert len(optimizer.param_groups) == 1


def test_a_float64_group_is_told_when_it_is_added() -> None:
    optimizer = door.AdamW([big()], states="8bit")
    with pytest.raises(StructureError, match="type float64"):
        optimizer.add_param_group({"params": [big(torch.float64)]})
    assert len(optimizer.param_groups) == 1


def test_float64_in_a_group_that_asks_for_nothing_less() -> None:
    groups: Any = [
        {"params": [torch.ones(4, 4, dtype=torch.float64)], "states": "float32"},
        {"params": [torch.ones(4, 4)]},
    ]
    table = door.AdamW(groups, **EIGHT).describe()
    assert re.search(r"group 0, 0 .*m: float64, v: float64 +24", table)
    assert re.search(r"group 1, 0 .*m: 8bit, v: 8bit +6.5", table)


def test_a_start_that_no_format_holds() -> None:
    w = big()
    with pytest.raises(HyperparameterError, match=r"sum starts at 1e\+300, more than float32 can hold"):  # noqa: PT012
        optimizer = door.Adagrad([w], initial_accumulator_value=1e300, states="8bit")
        w.grad = torch.ones_like(w)
        optimizer.step()
    assert torch.equal(w, big())


def test_describe_tells_formats_and_bytes() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.LayerNorm(512)).to(BF16)
    optimizer = door.AdamW(model.named_parameters(), **SMALLEST)
    title, _, *lines = optimizer.describe().splitlines()
    own = 512 * 512 * 5 + 2 * 512 * 4 + 3 * 512 * 11
    total = 512 * 512 + 3 * 512
    assert f"{own:,} bytes" in title
    assert f"{own / total:.2f} bytes per parameter ({own / total + 2:.2f} with gradients)" in title
    assert lines[0].startswith("0.weight")
    assert "weights: split24, m: 8bit, v: 8bit" in lines[0]
    assert lines[0].endswith(" 5.02")
    assert all("m: float32, v: float32" in line and line.endswith(" 11") for line in lines[1:])
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    kept = sum(t.nbytes for entry in optimizer.state.values() for key, t in entry.items() if key != "step")
    assert kept + sum(p.nbytes for p in model.parameters()) == own, "and that is what is kept"


# Steps.


@pytest.mark.parametrize("case", ["meta", "sparse", "differentiable", "subclass", "negative bit"])
def test_steps_without_a_kernel_are_refused(case: str) -> None:
    class Own(Tensor):
        @classmethod
        def __torch_dispatch__(  # type: ignore[override]
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            with torch._C._DisableTorchDispatch():
                return func(*args, **(kwargs or {}))

    w: Tensor = {"meta": big().to("meta"), "subclass": big().as_subclass(Own)}.get(case, big())
    if case == "negative bit":
        w = torch._neg_view(big())
    cls: Any = door.Adagrad if case == "sparse" else door.AdamW  # AdamW takes no sparse gradients at all
    optimizer = cls([w], states="8bit", differentiable=case == "differentiable")
    w.grad = torch.ones(64, 128, device=w.device)
    if case == "sparse":
        w.grad = w.grad.to_sparse(1)
    before = w.detach().clone()
    with pytest.raises(StructureError, match=r"cannot be kept as asked .*8bit.*states='float32'"):
        optimizer.step()
    assert all(entry["step"] == 0 for entry in optimizer.state.values())
    assert case == "meta" or torch.equal(w, before)


def test_planes_lie_beside_the_parameter_whatever_the_default_device_is() -> None:
    plain = stepped()
    w = big(BF16)
    w.grad = torch.ones_like(w)
    optimizer: Any = door.AdamW([w], **SMALLEST)
    torch.set_default_device("meta")
    try:
        optimizer.step()
        saved = optimizer.float32_state_dict()
        optimizer.load_state_dict(optimizer.state_dict())
        other = copy.deepcopy(optimizer)
        other.load_state_dict(saved, convert=True)
    finally:
        torch.set_default_device(None)
    assert everything(optimizer) == everything(plain[1])
    assert all(t.device.type == "cpu" for t in other.state[other.param_groups[0]["params"][0]].values())


@pytest.mark.parametrize(
    ("option", "value"), [("states", "float32"), ("states", "bfloat16"), ("weights", "split32"), ("weights", "nearest")]
)
def test_formats_that_change_between_steps_are_refused(option: str, value: str) -> None:
    _, optimizer = stepped()
    optimizer.param_groups[0][option] = value
    before = everything(optimizer)
    with pytest.raises(StateError, match=r"load_state_dict\(optimizer.state_dict\(\), convert=True\)"):
        optimizer.step()
    assert everything(optimizer) == before
    optimizer.load_state_dict(optimizer.state_dict(), convert=True)
    optimizer.step()
    assert optimizer.param_groups[0][option] == value


def test_a_run_that_has_begun_goes_on_in_eight_bits_as_the_error_says() -> None:
    w = big()
    optimizer: Any = door.AdamW([w])
    w.grad = torch.ones_like(w)
    optimizer.step()
    optimizer.param_groups[0]["states"] = "8bit"
    with pytest.raises(StateError, match=r"load_state_dict\(optimizer.state_dict\(\), convert=True\)"):
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict(), convert=True)
    optimizer.step()
    assert set(optimizer.state[w]) == {"step", *(f"exp_avg{k}_{s}" for k in ("", "_sq") for s in ("8bit", "scale"))}
    assert optimizer.state[w]["step"] == 2


# State dicts.

KEPT: list[dict[str, Any]] = [
    *({"states": states} for states in ("float32", "bfloat16", "8bit")),
    {"states": {"exp_avg": "8bit"}},
    *({"weights": weights} for weights in ("stochastic", "split24", "split32")),
]


def kept_by(state: Any) -> Any:
    return {key: (value.dtype, tuple(value.shape)) for key, value in state.items() if key != "step"}


@pytest.mark.parametrize("here", [{}, *KEPT], ids=str)
@pytest.mark.parametrize("there", [{}, *KEPT], ids=str)
def test_formats_are_those_of_the_constructor_and_others_are_refused(
    there: dict[str, Any], here: dict[str, Any]
) -> None:
    """In both directions: a state goes on as it is kept, or it is refused, or it is converted."""

    def made(options: dict[str, Any]) -> tuple[Tensor, Any]:
        w, small = big(BF16), torch.ones(8, dtype=BF16)
        return w, door.AdamW([w, small], **options)

    def trained(options: dict[str, Any]) -> tuple[Tensor, Any]:
        w, optimizer = made(options)
        for param in optimizer.param_groups[0]["params"]:
            param.grad = torch.ones_like(param)
        optimizer.step()
        return w, optimizer

    (_, saved), (w, other), (u, same) = trained(there), made(here), trained(here)
    before, formats = everything(other), kept_by(same.state[u])
    plain = {"weights": "nearest", "states": "float32"}
    # A dict without formats says nothing of rounding, and "stochastic" keeps nothing that would be missing.
    is_same = plain | there == plain | here or (not there and here == {"weights": "stochastic"})
    if not is_same:
        with pytest.raises(StateError, match=r"Make the optimizer with the states= and weights= .*convert=True"):
            other.load_state_dict(copy.deepcopy(saved.state_dict()))
        assert everything(other) == before
    other.load_state_dict(copy.deepcopy(saved.state_dict()), convert=not is_same)
    assert kept_by(other.state[w]) == formats
    assert {name: other.param_groups[0].get(name) for name in here} == here
    if is_same:
        assert everything(other)[1]["state"] == everything(saved)[1]["state"]


def test_both_formats_are_named() -> None:
    for there, here, words in (
        ({"states": "8bit"}, {}, "exp_avg is kept as float32 here, but the state has it as 8bit"),
        ({"states": "bfloat16"}, {}, "exp_avg is kept as float32 here, but the state has it as bfloat16"),
        ({}, {"states": "8bit"}, "exp_avg is kept as 8bit signed 128 here"),
        (
            {"weights": "split24"},
            {"weights": "stochastic"},
            "is kept as stochastic here, but the state has it as split24",
        ),
        (
            {"states": "8bit"},
            {"states": "8bit", "min_elements": 8193},
            "is kept as float32 here, but the state has it as 8bit",
        ),
    ):
        w, large = big(BF16), torch.ones(100, 100, dtype=BF16)
        saved, other = (door.AdamW([w, large], **options) for options in (there, here))
        w.grad = torch.ones_like(w)
        saved.step()
        with pytest.raises(StateError, match=words):
            other.load_state_dict(saved.state_dict())


def test_a_state_of_torch_goes_on_in_eight_bits() -> None:
    """As docs/formats.md says: AdamW(..., states="8bit"), then load_state_dict(saved, convert=True)."""
    w = torch.nn.Parameter(big())
    plain = torch.optim.AdamW([w], lr=0.25)
    w.grad = torch.ones_like(w)
    plain.step()
    optimizer: Any = door.AdamW([w], states="8bit")
    optimizer.load_state_dict(plain.state_dict(), convert=True)
    assert optimizer.param_groups[0]["lr"] == 0.25
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert "exp_avg_8bit" in optimizer.state[w]
    assert optimizer.state[w]["step"] == 2


def test_a_state_that_was_never_stepped_leaves_the_formats() -> None:
    pairs: list[list[dict[str, Any]]] = [[{"states": "8bit"}, {}], [{}, {"states": "8bit"}]]
    for there, here in pairs:
        saved, other = (door.AdamW([big()], **options) for options in (there, here))
        other.load_state_dict(saved.state_dict())
        assert other.param_groups[0].get("states") == here.get("states")


DAMAGED: list[tuple[str, Any, str]] = [
    ("exp_avg_8bit", None, "no exp_avg_8bit, which belongs to exp_avg in the format 8bit"),
    ("exp_avg_scale", None, "no exp_avg_scale, which belongs to exp_avg in the format 8bit"),
    ("param_low", None, "no param_low, which belongs to param in the format split24"),
    ("exp_avg_8bit", torch.zeros(64, 128), "exp_avg_8bit is torch.float32 .*expected torch.uint8"),
    ("exp_avg_8bit", torch.zeros(128, 64, dtype=torch.uint8), r"of shape \(128, 64\).*expected .*\(64, 128\)"),
    ("exp_avg_8bit", 5, "exp_avg_8bit is a int, expected torch.uint8"),
    ("exp_avg_scale", torch.zeros(64, 2, dtype=torch.uint8), r"of shape \(64, 2\).*expected .*\(64, 1\)"),
    ("param_low", torch.zeros(64, 128, dtype=torch.int16), "param_low is torch.int16 .*expected torch.int8"),
    ("step", -1.0, "step must be an integer of at least 0"),
]


@pytest.mark.parametrize(("key", "value", "words"), DAMAGED, ids=[words for *_, words in DAMAGED])
def test_a_damaged_state_is_refused_and_changes_nothing(key: str, value: Any, words: str) -> None:
    _, optimizer = stepped()
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0][key]
    if value is not None:
        saved["state"][0][key] = value
    before = everything(optimizer)
    with pytest.raises(StateError, match=f"the state of parameter 0: .*{words}"):
        optimizer.load_state_dict(saved)
    assert everything(optimizer) == before


def test_a_lost_rest_of_a_weight_starts_as_zero_under_convert() -> None:
    w, optimizer = stepped()
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0]["param_low"]
    optimizer.load_state_dict(saved, convert=True)
    low = optimizer.state[w]["param_low"]
    assert (low.dtype, tuple(low.shape), int(low.abs().max())) == (torch.int8, (64, 128), 0)


@pytest.mark.parametrize("convert", [False, True])
def test_an_unknown_coding_is_refused(convert: bool) -> None:
    _, optimizer = stepped()
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["param_groups"][0]["coding"] == "groups of 128, 2"
    saved["param_groups"][0]["coding"] = "groups of 64, 1"
    before = everything(optimizer)
    with pytest.raises(StateError, match=r"coded as 'groups of 64, 1' \(group 0\), this version reads 'groups of 128"):
        optimizer.load_state_dict(saved, convert=convert)
    assert everything(optimizer) == before


@pytest.mark.parametrize("here", ["float32", "bfloat16", "8bit", "4bit"])
def test_a_slot_in_two_formats_is_refused_under_convert(here: str) -> None:
    _, optimizer = stepped()
    for key in ("exp_avg", "exp_avg_4bit"):
        saved = copy.deepcopy(optimizer.state_dict())
        shape, kind = ((64, 128), torch.float32) if key == "exp_avg" else ((64, 64), torch.uint8)
        saved["state"][0][key] = torch.zeros(shape, dtype=kind)
        options: dict[str, Any] = {} if here == "float32" else {"states": here}
        other: Any = door.AdamW([big(BF16)], **options)
        with pytest.raises(StateError, match=f"the state of parameter 0: the state has exp_avg.*kept as {here}"):
            other.load_state_dict(saved, convert=True)
        assert not other.state


def test_a_damaged_state_is_refused_under_convert_too() -> None:
    for key, value in (("exp_avg_scale", None), ("exp_avg_scale", torch.zeros(64, 2, dtype=torch.uint8))):
        _, optimizer = stepped()
        saved = copy.deepcopy(optimizer.state_dict())
        del saved["state"][0][key]
        if value is not None:
            saved["state"][0][key] = value
        other: Any = door.AdamW([big(BF16)], states="bfloat16")
        with pytest.raises(StateError, match=r"the state of parameter 0: .*exp_avg_scale"):
            other.load_state_dict(saved, convert=True)
        assert not other.state
