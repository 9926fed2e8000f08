"""``steprule bench``, as it is typed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from steprule.bench import work
from steprule.bench.alone import Sizes
from steprule.bench.report import check_folder
from steprule.bench.work import Work
from steprule.cli import bench as verb
from steprule.cli import main
from tests.cli.inside import refused


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.argv", ["steprule", "bench", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def test_it_measures_and_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(work, "works", lambda _: [Work("1 x 10", ((10,),)), Work("2 x 3", ((3,), (3,)))])
    tiny = Sizes(elements=5_000, steps=3, error_elements=10, zero_steps=2, zero_elements=10)
    monkeypatch.setattr(verb, "_QUICK", {"turns": 2, "turn": 1e-4, "sizes": tiny})
    _run(monkeypatch, "--quick", "--peers", "numpy,torch fused", "--output", str(tmp_path / "out"))
    check_folder(tmp_path / "out")  # which a second run may write to
    said = capsys.readouterr()
    assert "A step of 1 x 10, in us: 2 rounds" in said.out
    assert "Each in a process of its own" in said.out
    assert "Took part: NumPy by hand" in said.out
    assert "NumPy by hand by itself, 1 of 2" in said.err
    saved = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert sorted(saved["alone"]) == ["NumPy by hand", "torch fused"]
    assert saved["failed"] == {}
    lines = list(csv.DictReader((tmp_path / "out" / "bench.csv").read_text().splitlines()))
    assert {"seconds, 1 x 10", "seconds, 2 x 3", "kept", "error"} <= {line["quantity"] for line in lines}
    assert (tmp_path / "out" / "bench.md").read_text().startswith("# steprule bench\n\n## A step of 1 x 10")


def test_it_lists_without_importing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    _run(monkeypatch, "--list", "--peers", "numpy,heavyball")
    said = capsys.readouterr().out
    assert said.startswith("NumPy by hand")
    assert "heavyball" in said
    assert "only with --compiled" in " ".join(said.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peers", "torhc"], "--peers: nobody is called 'torhc'. Did you mean 'torch'"),
        (["--list", "--quick"], "--list only lists, so --compiled, --quick and --output do nothing; drop them"),
        (["--output", "."], "has other files in it"),
    ],
)
def test_wrong_words(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert said in " ".join(refused(["bench", *words], tmp_path).split())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
