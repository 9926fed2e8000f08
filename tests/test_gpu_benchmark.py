"""The GPU benchmark without a GPU: a trial of the whole script on a bare machine, and its parts against plain sums."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import gpu_bits, gpu_models, gpu_step, gpu_times
from benchmarks.gpu_models import FUSED, LOW, OURS, PLAIN, STATES_16, STATES_32, WARM_STEPS, Contestant
from benchmarks.gpu_times import Meter, Result, Results, Sample
from torch import Tensor

from tests import ROOT
from tests.cases import FOR_VECTORS as CATALOGUE

CPU = torch.device("cpu")
LIKE_A_BARE_MACHINE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rich", "typer", "click", "scipy"):
            raise ModuleNotFoundError(f"{name} is not on a bare machine", name=name)

sys.meta_path.insert(0, Refuse())
sys.argv = ["gpu_step", *sys.argv[1:]]
runpy.run_module("benchmarks.gpu_step", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT)))  # a bare checkout
    command = [sys.executable, "-c", LIKE_A_BARE_MACHINE, *arguments]
    environment = os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.slow
def test_the_whole_script_on_a_bare_machine(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    done = _script(tmp_path, "--device", "cpu", "--small", "--seconds", "120", "--out", str(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    raw = json.loads(path.read_text())
    assert {"question", "machine", "headings", "rows", "timings"} <= raw.keys()  # what docs/generate.py reads
    assert {"device", "torch", "triton", "steprule", "date"} <= raw["machine"].keys()
    assert raw["bits"]["checked"] == raw["bits"]["planned"] >= 12
    assert raw["bits"]["wrong"] == {}
    expected = [(name, c.format, c.name) for name in gpu_models.cases(True) for c in _all() if name in c.names]
    assert [tuple(row[:3]) for row in raw["rows"]] == expected
    assert {len(row) for row in raw["rows"]} == {len(raw["headings"])}
    for row in raw["rows"]:
        left_out = _one(row[1], row[2]).needs_cuda
        assert row[-1].startswith("left out: needs CUDA") == left_out == (row[3] == ""), row
    measured = [", ".join(row[:3]) for row in raw["rows"] if row[3]]
    assert all(len(raw["timings"][key]["seconds"]) >= 3 for key in measured)
    assert [row[0] for row in raw["goals"]] == [row[0] for row in gpu_step.goals({}, [])] + _goals_of_all()
    assert {row[2] for row in raw["goals"]} <= {"reached", "missed", "not measured"}
    assert sum(row[2] == "not measured" for row in raw["goals"]) == 3  # two of graphs, one of flashoptim
    assert "a copy moves" in done.stdout


def _all() -> list[Contestant]:
    return gpu_models.contestants()


def _one(format_: str, name: str) -> Contestant:
    return next(one for one in _all() if (one.format, one.name) == (format_, name))


def _goals_of_all() -> list[str]:
    results = {(n, c.format, c.name): Result(n, c) for n in gpu_models.cases(True) for c in _all() if n in c.names}
    return [row[0] for row in gpu_step.goals(results, list(gpu_models.cases(True)))]


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = _script(tmp_path)
    assert done.returncode == 2
    assert "no device 'cuda' here; nothing was measured. Try the script by --device cpu --small" in done.stdout
    assert gpu_step.device_of("nowhere") is None
    assert gpu_step.device_of("meta") is None


def test_results_are_kept_of_whole_runs_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "nvidia-h" / "gpu_step.json"
    monkeypatch.setattr(gpu_step, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_step, "machine", lambda device: {"device": "NVIDIA H"})
    cuda, outcome = torch.device("cuda"), gpu_bits.Outcome(7, 7)
    for words, device in (["--small"], cuda), (["--only", "one"], cuda), (["--bits-only"], cuda), ([], CPU):
        gpu_step.report(gpu_step.arguments(words), device, outcome, {})
    assert not kept.exists()
    gpu_step.report(gpu_step.arguments([]), cuda, outcome, _measured(1.0))
    raw = json.loads(kept.read_text())
    assert raw["machine"] == {"device": "NVIDIA H", "copy": "2,000 GB/s"}
    assert "trial" not in raw["question"]


def test_the_tensors_are_those_of_the_cases() -> None:
    whole = gpu_models.cases(False)
    assert whole["one"].elements == 200_000_000
    assert [len(whole[name].shapes) for name in ("one", "many")] == [1, 1_000]
    assert set(whole["many"].shapes) == {(1_000,)}
    width, words = 2048, 50_257
    block = 4 * width**2 + 4 * width + 8 * width**2 + 5 * width + 4 * width  # attention, network, two norms
    assert whole["gpt"].elements == 24 * block + (words + 2048) * width + 2 * width == 1_315_723_264
    assert len(whole["gpt"].shapes) == 24 * 12 + 4
    assert f"{len(whole['gpt'].shapes)} tensors" in whole["gpt"].title


BYTES = {PLAIN: (12, 28), STATES_32: (10, 22), STATES_16: (6, 14), LOW: (5 + 2 / 128, 12 + 4 / 128)}


@pytest.mark.parametrize("format_", BYTES)
def test_bytes_are_those_that_lie_in_memory(format_: str) -> None:
    ours = _one(format_, OURS)
    params = gpu_models.random_params([(64, 128), (32, 256)], ours.dtype, CPU)
    optimizer = ours.make(params)
    optimizer.step()
    kept = gpu_models.kept_bytes(params, optimizer)
    assert (kept, gpu_models.moved_bytes(kept, ours)) == BYTES[format_]


@pytest.mark.parametrize("format_", [PLAIN, STATES_16])
def test_torch_keeps_states_of_the_type_of_the_parameters(format_: str) -> None:
    fused = _one(format_, FUSED)
    params = gpu_models.random_params([(64, 128), (7,)], fused.dtype, CPU)
    optimizer = fused.make(params)
    optimizer.step()
    assert gpu_models.kept_bytes(params, optimizer) == BYTES[format_][0]


def test_guards_move_more() -> None:
    moved = [gpu_models.moved_bytes(12.0, _one(gpu_models.GUARDED, name)) for name in (OURS, FUSED)]
    assert moved == [28 + 4, 28 + 4 + 8]  # torch reads for the norm, and reads and writes to scale


def test_slots_of_other_libraries_are_counted() -> None:
    inside = SimpleNamespace(_quantized=torch.zeros(64, dtype=torch.int8), _scales=torch.zeros(2).half(), _data=None)
    assert gpu_models.bytes_of(inside) == 68
    flattened = SimpleNamespace(codes=torch.zeros(64, dtype=torch.uint8), scale=torch.zeros(1), qmap=torch.zeros(256))
    flattened.__tensor_flatten__ = lambda: (["codes", "scale"], [])
    assert gpu_models.bytes_of(flattened) == 68


def test_small_tensors_are_kept_in_the_formats_of_their_row() -> None:
    params = gpu_models.random_params([(50,)] * 3, torch.bfloat16, CPU)
    optimizer = _one(LOW, OURS).make(params)
    optimizer.step()
    assert gpu_models.kept_bytes(params, optimizer) == 5 + 2 / 50


@pytest.mark.parametrize("contestant", [c for c in _all() if not c.needs_cuda], ids=lambda c: f"{c.format}-{c.name}")
def test_every_contestant_moves_every_element(contestant: Contestant) -> None:
    params = gpu_models.random_params([(40, 64), (300,)], contestant.dtype, CPU)
    assert all(param.detach().count_nonzero() > 0.99 * param.numel() for param in params)
    call = contestant.act(params, contestant.make(params))
    assert gpu_times.moves_all(params, call) == contestant.steps


def test_a_step_that_leaves_elements_or_makes_nan_is_found() -> None:
    params = gpu_models.random_params([(100,), (50,)], torch.float32, CPU)
    values = [param.detach() for param in params]

    def moved(*, until: int, by: float) -> Callable[[], object]:
        return lambda: [values[0].add_(by), values[1][:until].add_(by)]

    assert gpu_times.moves_all(params, moved(until=50, by=1.0))
    assert not gpu_times.moves_all(params, moved(until=40, by=1.0))
    assert not gpu_times.moves_all(params, moved(until=50, by=math.nan))


def test_a_step_that_reads_the_gradients_of_before_gives_nan() -> None:
    class Stale(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.old = self.__dict__.get("old") or [p.grad for p in self.param_groups[0]["params"]]
            for param, grad in zip(self.param_groups[0]["params"], self.old, strict=True):
                param.data.sub_(grad)

    for kind, finite in ((torch.optim.SGD, True), (Stale, False)):
        params = gpu_models.random_params([(30,)], torch.float32, CPU)
        gpu_models.moved(params, kind(params, lr=0.1))
        assert bool(params[0].isfinite().all()) == finite


def _measured(seconds: float, share: float = 1.0) -> Results:
    """Return results of all contestants that take ``seconds``, ours with a share of a copy of 2 TB/s."""
    results: Results = {}
    for name, case in gpu_models.cases(False).items():
        for one in _all():
            if name in one.names:
                kept = {PLAIN: 12.0, STATES_32: 10.0, STATES_16: 6.0, LOW: 5.0}.get(one.format, 12.0)
                result = Result(name, one, case.by_wall, elements=case.elements, kept=kept)
                took = seconds if one.is_ours else 1.0
                result.samples, copies = [Sample(took, took / 9, took)] * 3, 2e12
                if one.is_ours:
                    copies = result.moved * case.elements / took / share
                result.copies = [copies] * 3 if one.is_ours and share != 1.0 else [2e12] * 3
                results[name, one.format, one.name] = result
    return results


def _verdicts(results: Results) -> dict[str, str]:
    return {what: verdict for what, _, verdict in gpu_step.goals(results, list(gpu_models.cases(False)))}


def test_the_share_is_the_median_over_turns() -> None:
    # 28 bytes in 2, 1 and 4 seconds, beside copies of 20, 20 and 7 bytes a second: 0.7, 1.4 and 1.
    assert gpu_times.share_of_copy(28.0, [2.0, 1.0, 4.0], [20.0, 20.0, 7.0]) == pytest.approx(1.0)


def test_goals_of_the_copy() -> None:
    for share, wide, narrow in ((0.93, "reached", "reached"), (0.9, "missed", "reached"), (0.8, "missed", "missed")):
        verdicts = _verdicts(_measured(0.5, share))
        for case in ("one", "gpt"):
            assert verdicts[f"{case}, {PLAIN}: 0.92 of the copy"] == wide
            assert verdicts[f"{case}, {STATES_32}: 0.92 of the copy"] == wide
            assert verdicts[f"{case}, {LOW}: 0.85 of the copy"] == narrow
    assert not any(what.startswith("many") and "copy" in what for what in verdicts)


def test_goals_of_speed() -> None:
    fast, even, slow = (_verdicts(_measured(seconds)) for seconds in (0.6, 1.0, 1.5))
    rows = [what for what in fast if "faster" in what]
    assert len(rows) == sum(len(one.names) for one in _all() if one.is_ours)
    assert {fast[what] for what in rows} == {"reached"}
    per_byte = [what for what in rows if "per byte" in what]
    assert len(per_byte) == 3
    assert all(STATES_32 in what for what in per_byte)
    assert {even[what] for what in rows if what not in per_byte} == {"missed"}  # not faster
    # 22 bytes against torch's 14 in 1.5 times the time.
    assert {slow[what] for what in per_byte} == {"reached"}
    flash = f"gpt, {LOW}: 1.5 times as fast as flashoptim"
    assert (fast[flash], even[flash]) == ("reached", "missed")


def test_goals_that_were_not_measured() -> None:
    assert set(_verdicts({}).values()) == {"not measured"}
    left_out = {key: Result(key[0], result.contestant) for key, result in _measured(1.0).items()}
    assert set(_verdicts(left_out).values()) == {"not measured"}


def test_rows_say_what_they_are_beside() -> None:
    results = _measured(0.5)
    row = dict(zip(gpu_step.HEADINGS, _row(results, "gpt", STATES_32, OURS), strict=True))
    assert (row["ms"], row["ms of the host"]) == ("500.000", "55.556")
    assert (row["bytes kept"], row["bytes moved"]) == ("10.00", "22.00")
    assert row["GB/s"] == f"{22 * 1.315723264 / 0.5:.0f}"
    assert row["of the copy"] == f"{22 * 1.315723264e9 / 0.5 / 2e12:.3f}"
    assert row["times torch's speed"] == "2.00"
    assert _row(results, "gpt", PLAIN, FUSED)[-2:] == ["1.00", ""]
    assert _row(results, "gpt", gpu_models.GUARDED, OURS)[-1] == "1.00 of its plain step's time"
    assert _row(results, "gpt", PLAIN, OURS, wrong_bits=True)[-1] == "wrong bits"
    assert _row(results, "gpt", PLAIN, FUSED, wrong_bits=True)[-1] == ""
    alone = _row(results, "many", gpu_models.MOVED, "gradients set, no step")
    assert (alone[3], alone[6:]) == ("1000.000", [""] * 6)


def _row(results: Results, *key: str, wrong_bits: bool = False) -> list[str]:
    return gpu_step.row(results[key], results, wrong_bits=wrong_bits)  # type: ignore[index]


def _cpu_meter() -> Meter:
    return Meter(CPU, small=True)


CASE = gpu_models.Case("tiny", ((8, 16),))


@pytest.mark.parametrize(
    ("changes", "left", "remark"),
    [
        ({"module": "no_such_module"}, 9.0, "left out: needs CUDA"),
        ({}, 1.0, "left out: no time left"),
        ({"options": {"nonsense": 1}}, 9.0, "left out: TypeError: .*nonsense.*"),
        ({}, 9.0, ""),
    ],
)
def test_what_cannot_be_measured_is_said(changes: dict[str, Any], left: float, remark: str) -> None:
    contestant = Contestant(**{**vars(_one(PLAIN, OURS)), **changes})
    result = gpu_times.run("one", CASE, contestant, _cpu_meter(), left)
    assert re.fullmatch(remark, result.remark)
    assert bool(result.samples) == (remark == "")
    assert result.failed == ("TypeError" in remark)


def test_a_step_of_ours_that_fails_makes_the_run_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_step, "compare", lambda *_, **__: gpu_bits.Outcome(1, 1))
    monkeypatch.setattr(gpu_times, "contestants", lambda: [_one(PLAIN, OURS)])
    words = ["--device", "cpu", "--small", "--only", "one"]
    monkeypatch.setattr(gpu_times, "moves_all", lambda params, step: step() is None)
    assert gpu_step.main(words) == 0
    monkeypatch.setattr(gpu_times, "moves_all", lambda params, step: False)
    assert gpu_step.main(words) == 1
    monkeypatch.setattr(gpu_times, "moves_all", lambda params, step: True)
    monkeypatch.setattr(gpu_step, "compare", lambda *_, **__: gpu_bits.Outcome(1, 1, {"adamw": ["differs"]}))
    assert gpu_step.main([*words, "--bits-only"]) == 1


class FakeGpu:
    """Stands for torch.cuda: its events are 250 ms apart, its cache has a megabyte, four are free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded = 0
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                gpu.recorded += 1

            def elapsed_time(self, end: object) -> float:
                assert gpu.recorded % 2 == 0
                return 250.0

        about = SimpleNamespace(L2_cache_size=2**20)
        for name, value in {
            "Event": Event,
            "synchronize": lambda device: None,
            "empty_cache": lambda: None,
            "get_device_properties": lambda device: about,
            "mem_get_info": lambda device: (3_000_000, 9_000_000),
            "memory_reserved": lambda device: 5_000_000,
            "memory_allocated": lambda device: 4_000_000,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


def test_events_count_and_cases_that_do_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(monkeypatch)
    meter = _cpu_meter()
    meter.is_cuda = True
    sample = meter.sample(lambda: None, 5)
    assert sample.events == 0.05
    assert 0 < sample.host <= sample.wall < 0.05
    assert meter.bandwidth() == 2 * 4 * 2**18 / 0.025
    assert meter.free() == 4_000_000
    many = gpu_models.Case("many", ((1_000,),) * 20, by_wall=True)
    assert meter.sets(many, 16.0) == 1 + math.ceil(3 * 2**20 / 320_000)
    assert meter.sets(CASE, 16.0) == 1
    large = gpu_models.Case("large", ((1_000, 1_000),))
    result = gpu_times.run("one", large, _one(PLAIN, OURS), meter, 9.0)
    assert re.fullmatch(r"left out: needs 0.0 GB, 0.0 are free", result.remark)
    assert not result.failed
    assert gpu_times.run("one", CASE, _one(PLAIN, OURS), meter, 9.0).remark == ""


def test_a_row_says_that_the_host_bounds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = _cpu_meter()
    meter.is_cuda = True
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(Meter, "free", lambda self: math.inf)
    for host, remark in ((0.9, "bound by the host"), (0.5, "")):
        samples = [Sample(1.0, host, 1.0)]
        monkeypatch.setattr(Meter, "measure", lambda self, calls, samples=samples: (samples, [1.0]))
        assert gpu_times.run("one", CASE, _one(PLAIN, OURS), meter, 9.0).remark == remark


def test_every_rule_and_format_is_checked_once_the_telling_ones_first() -> None:
    every = gpu_bits.checks()
    names = [check.name for check in every]
    assert len(names) == len({*names})
    kinds = len(gpu_bits.storages())
    assert kinds == 10 + 2 * 9
    lacking = {"sgd", "schedule_free_sgd", "adafactor", "came", "adam_mini"}
    guarded = sum("clip_norm" in name for name in names)
    # Three rules have no slots of elements but points, and groups beside rows and columns are refused on devices.
    assert len(names) - guarded == len(CATALOGUE.keys() - lacking) * kinds + 3 * 10 + 2 * (10 + 9)
    assert guarded == 8
    assert {name.split()[0] for name in names[:8]} == {*gpu_bits.FIRST_RULES}
    for check in every[:: len(every) // 40]:
        check.make([torch.zeros(3, 4, dtype=check.dtype)])


NUMBERS = gpu_bits.Numbers([(5,), (3, 7)])


def test_numbers_hold_what_is_hard() -> None:
    steps = [torch.cat([g.flatten() for g in NUMBERS.at(t, torch.float64, CPU)]) for t in range(9)]
    large = gpu_bits.wild(np.random.default_rng(1), 2_000)
    assert np.isnan(large).any()
    assert (large == math.inf).any()
    assert ((large != 0) & (abs(large) < 1e-300)).any()
    assert (large == 0).any()
    assert not steps[4].any()
    assert all(step.count_nonzero() == len(step) for step in (steps[0], steps[1], steps[2]))
    fresh = NUMBERS.at(0, torch.float32, CPU)
    assert [(place[1], g.storage_offset()) for place, g in zip(NUMBERS.places, fresh, strict=True)] == [
        (0, 0), (1, 1), (0, 0), (1, 1),
    ]  # fmt: skip


def _is_told(check: gpu_bits.Check, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> list[str]:
    """Return what a check tells when the second of its two optimizers is changed."""
    made: list[torch.optim.Optimizer] = []

    def make(params: Any) -> torch.optim.Optimizer:
        made.append(check.make(params))
        if len(made) == 2:
            change(made[1])
        return made[-1]

    return gpu_bits.run_check(gpu_bits.Check(check.name, check.dtype, make), NUMBERS, CPU)


def test_a_check_tells_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    check = gpu_bits.checks()[0]
    assert _is_told(check, monkeypatch, lambda optimizer: None) == []

    def off_by_one_bit(optimizer: torch.optim.Optimizer) -> None:
        param = optimizer.param_groups[0]["params"][2]
        param.view(torch.int32)[1, 2] ^= 1

    told = _is_told(check, monkeypatch, off_by_one_bit)
    assert re.match(
        r"after 6 calm steps, \(3, 7\) param: 1 of 21 differ, first at \(1, 2\): .* \(0x\w+ instead", told[0]
    )


def test_a_check_tells_a_gradient_that_was_read_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(optimizer: Any) -> None:
        step = optimizer.step
        old: list[Tensor] = []

        def reads_the_first() -> None:
            params = optimizer.param_groups[0]["params"]
            old.extend(param.grad for param in params if not old[len(params) - 1 :])
            now = [param.grad for param in params]
            for param, grad in zip(params, old, strict=True):
                param.grad = grad
            step()
            for param, grad in zip(params, now, strict=True):
                param.grad = grad

        optimizer.step = reads_the_first

    told = _is_told(gpu_bits.checks()[0], monkeypatch, stale)
    assert any("nan" in words for words in told)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_differences_are_those_of_bits(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, math.nan, 1.0], dtype=dtype)
    other_nan = x.clone()
    words = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    other_nan.view(words)[1] ^= 1 << (8 * dtype.itemsize - 1)
    assert gpu_bits.difference(x, other_nan) == ""
    assert "1 of 3 differ, first at (0,)" in gpu_bits.difference(x, torch.tensor([-0.0, math.nan, 1.0], dtype=dtype))
    assert "first at (1,)" in gpu_bits.difference(x, torch.tensor([0.0, 2.0, 1.0], dtype=dtype))
    assert "expected" in gpu_bits.difference(x, x[:2])
    assert "expected" in gpu_bits.difference(x, x.half())
    assert gpu_bits.difference(x[0], x[0]) == ""
    assert gpu_bits.difference(torch.tensor([255], dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8)) == ""


class FakeGraph:
    """What ``captured`` returns, with a replay that takes the step, or none."""

    def __init__(self, step: Callable[[], object], replay: Callable[[], object]) -> None:
        for _ in range(WARM_STEPS):
            step()
        self.replay = replay


@pytest.mark.parametrize(
    ("kind", "dtype", "options"),
    [
        ("Lion", torch.float32, {}),
        ("Lion", torch.bfloat16, {"states": "8bit", "min_elements": 0, "weights": "split24"}),
        ("AdamW", torch.float32, {}),
    ],
)
def test_a_graph_that_does_not_follow_is_told(
    kind: str, dtype: torch.dtype, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_bits, "captured", lambda step: FakeGraph(step, step))
    assert gpu_bits.graph_check(NUMBERS, CPU, kind, dtype, options) == []
    monkeypatch.setattr(gpu_bits, "captured", lambda step: FakeGraph(step, lambda: None))
    told = gpu_bits.graph_check(NUMBERS, CPU, kind, dtype, options)
    assert any("param" in words for words in told)
    assert any("step" in words for words in told)

    def without_the_last_count(step: Any) -> FakeGraph:
        def stuck() -> None:
            for state in step.__self__.state.values():
                state["step"].fill_(WARM_STEPS)
            step()

        return FakeGraph(step, stuck)

    monkeypatch.setattr(gpu_bits, "captured", without_the_last_count)
    told = gpu_bits.graph_check(NUMBERS, CPU, kind, dtype, options)
    assert any("step" in words for words in told)
    assert kind == "Lion" or any("param" in words for words in told)


def test_a_large_tensor_must_repeat_the_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_bits.PERIOD * gpu_bits.PERIODS > 2**31
    assert gpu_bits.large_check(CPU, 70, 5) == []

    class Wraps(torch.optim.SGD):
        def __init__(self, params: Any, rule: str) -> None:
            super().__init__(params, lr=1.0)

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            param = self.param_groups[0]["params"][0]
            param[:3] -= param.grad[:3]

    monkeypatch.setattr("steprule.torch.Optimizer", Wraps)
    assert gpu_bits.large_check(CPU, 70, 5) == ["2 of 5 parts differ, first 3 of 70 elements"]
    monkeypatch.setattr(Wraps, "step", lambda self: None)
    assert gpu_bits.large_check(CPU, 70, 5) == ["nothing moved"]


def test_a_check_that_raises_is_wrong_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(params: Any) -> torch.optim.Optimizer:
        raise RuntimeError("no kernel")

    some = gpu_bits.checks()[:16]
    broken = gpu_bits.Check("broken", torch.float32, fails)
    monkeypatch.setattr(gpu_bits, "checks", lambda: [broken, *some])
    outcome = gpu_bits.compare(CPU, math.inf, small=True)
    assert outcome.planned == outcome.done == 17
    assert outcome.wrong == {"broken": ["RuntimeError: no kernel"]}
    assert gpu_bits.compare(CPU, 0.0, small=True).done == 0


def test_a_state_that_is_missing_is_told() -> None:
    params: list[list[Tensor]] = [NUMBERS.at(0, torch.float32, CPU) for _ in range(2)]
    pairs = [(torch.optim.Adam(own), own) for own in params]
    pairs[0][0].state[params[0][1]]["exp_avg"] = torch.zeros(5)
    told = gpu_bits.differences(pairs, NUMBERS.places)
    assert told == ["(5,), unaligned: the state has [], expected ['exp_avg']"]
