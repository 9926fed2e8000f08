"""What is shown of measured results: a table for each processor, and the range over processors."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import __main__ as all_benchmarks
from benchmarks import harness, machine

from tests import ROOT

FIGURES = runpy.run_path(str(ROOT / "docs" / "figures.py"))
NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


def _keep(folder: Path, processor: str, name: str, headings: list[str], rows: list[list[str]]) -> None:
    about = {"processor": processor, "threads": 2, "date": "2026-01-01"}
    raw = {"question": f"What of {name}?", "machine": about, "headings": headings, "rows": rows}
    path = folder / machine.slug(processor) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw))


def _all(folder: Path, processor: str, fused: float, tiny: float) -> None:
    """Keep a result of every benchmark that figures are of."""
    beside = ["", "times faster than fused", "times faster than default"]
    _keep(folder, processor, "torch_large", beside, [["Adam", f"{fused}", "9.1"]])
    _keep(folder, processor, "torch_small", beside, [["Adam, 1,000 x 1,000", "7.04", "20"]])
    limit, numpy = "share of the limit (limit / steprule)", "times faster than NumPy"
    _keep(folder, processor, "one_large", ["", "best ms"], [[limit, "0.994"], [numpy, "15.2"]])
    small = [["1 x 10", f"{tiny}"], ["1,000 x 1,000, the same gradients", "712"]]
    _keep(folder, processor, "small", ["arrays", "best us"], small)
    _keep(
        folder, processor, "torch_guards", ["", "", ""], [["large", "clip_norm", "0.7"], ["many", "clip_norm", "0.2"]]
    )
    _keep(folder, processor, "peers", ["", "error, ulp"], [["steprule torch", "2.28"], ["torch fused", "18.0"]])
    for name in ("jax_large", "jax_compile"):
        _keep(folder, processor, name, ["", "share"], [["steprule", f"{fused}"], ["optax", "99"], ["steprule", "1.0"]])


def test_a_figure_is_the_range_over_processors(tmp_path: Path) -> None:
    _all(tmp_path, "A, 2 cores", 1.31, 6.2)
    one = FIGURES["figures"](tmp_path)
    assert one["torch_large"] == "1.3 times as fast (9 times)"
    assert (one["share"], one["tiny"], one["many"], one["times"]) == ("99 %", "6 microseconds", "0.7 ms", "15")
    assert one["jax_large"] == "1.00 to 1.31"
    assert (one["adamw_error"], one["torch_error"]) == ("2.3", "18")
    _all(tmp_path, "B, 2 cores", 0.96, 11.4)
    two = FIGURES["figures"](tmp_path)
    assert two["torch_large"] == "1.0 to 1.3 times as fast (9 times)"
    assert two["tiny"] == "6 to 11 microseconds"
    assert two["jax_large"] == "0.96 to 1.31"
    assert two["torch_many"] == one["torch_many"] == "7.0 times as fast (20 times)"
    assert two["guards"] == "0.70 (20 million in one tensor) and 0.20 (a thousand of a thousand)"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs results of one_large; run: python -m benchmarks\.one_large"):
        FIGURES["figures"](tmp_path)
    _all(tmp_path, "A, 2 cores", 1.0, 6.0)
    _keep(tmp_path, "B, 2 cores", "torch_large", ["", "times faster than fused"], [["AdamW", "1.0"]])
    with pytest.raises(ValueError, match="torch_large on B, 2 cores has no 'times faster than fused' of 'Adam'"):
        FIGURES["figures"](tmp_path)


def test_every_table_has_the_name_of_its_processor(tmp_path: Path) -> None:
    _keep(tmp_path, "Zeta, 2 cores", "rules", ["rule", "ms"], [["adam", "1"]])
    _keep(tmp_path, "Alpha, 4 cores", "rules", ["rule", "ms"], [["adam", "2"]])
    section = FIGURES["page"](tmp_path).split("## What of rules?\n")[1].split("\n## ")[0]
    alpha, zeta = section.split("**Alpha, 4 cores**\n")[1].split("**Zeta, 2 cores**\n")
    assert "| adam | 2 |" in alpha
    assert "| adam | 1 |" in zeta
    assert section.count("| adam |") == 2
    assert "It has not been run on any processor yet: `python -m benchmarks.chunks`" in FIGURES["page"](tmp_path)
    _keep(tmp_path, "Alpha, 4 cores", "nothing", [""], [])
    with pytest.raises(ValueError, match="'nothing'"):
        FIGURES["page"](tmp_path)


def test_committed_results_lie_where_they_say_that_they_ran() -> None:
    paths = list(machine.RESULTS.rglob("*.json"))
    assert paths
    for path in paths:
        about = json.loads(path.read_text())["machine"]
        assert path.parent == machine.RESULTS / machine.slug(about.get("processor") or about["device"])
        assert path.stem in NAMES


@pytest.mark.parametrize(
    ("model", "plain"),
    [
        ("Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz", "Intel Xeon Platinum 8488C"),
        ("AMD EPYC 9R14 96-Core Processor", "AMD EPYC 9R14"),
        ("Apple M2 Pro\n", "Apple M2 Pro"),
    ],
)
def test_names_of_processors_are_plain(model: str, plain: str) -> None:
    assert machine.plain(model) == plain


def test_a_folder_is_named_in_small_letters_and_hyphens() -> None:
    assert machine.slug("AMD EPYC (znver5), 2 cores") == "amd-epyc-znver5-2-cores"
    assert machine.processor() == machine.processor()
    assert machine.slug(machine.processor()).split("-")[-1].startswith("core")


@pytest.mark.parametrize(("words", "is_kept"), [([], True), (["adam"], False)])
def test_only_whole_runs_are_kept(
    words: list[str], is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks/rules.py", *words])
    harness.report("What?", ["rule"], [["adam"]], {})
    kept = tmp_path / machine.slug(machine.processor()) / "rules.json"
    assert list(tmp_path.rglob("*.json")) == [kept] * is_kept


def test_all_benchmarks_run_and_failures_are_repeated(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    commands: list[str] = []

    class Done:
        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command[-1])
            self.returncode = int(command[-1] == "benchmarks.rules")

    monkeypatch.setattr("subprocess.run", Done)
    assert all_benchmarks.main([]) == 1
    assert commands == [f"benchmarks.{name}" for name in all_benchmarks.SPEED]
    out = capsys.readouterr().out
    assert "rules failed with status 1" in out
    assert out.splitlines()[-1] == "failed: rules"
    assert all_benchmarks.main(["memory", "small"]) == 0
    assert commands[-2:] == ["benchmarks.memory", "benchmarks.small"]
    with pytest.raises(SystemExit, match="no benchmarks are called smal; there are threads,"):
        all_benchmarks.main(["smal"])


def test_every_benchmark_whose_results_are_kept_can_be_run_with_all() -> None:
    reporting = {name for name in NAMES if "    report(" in (ROOT / "benchmarks" / f"{name}.py").read_text()}
    assert set(all_benchmarks.SPEED | all_benchmarks.LOSSES) == reporting - {"gpu_step"}
    assert set(FIGURES["_REMARKS"]) == reporting
