"""``steprule race`` as a person uses it: in a process of its own, interrupted, killed and resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from steprule import install
from steprule.cli import race as verb
from steprule.errors import StepruleError
from steprule.race.problems import NAMES
from tests.race.cases import QUADRATIC, write_quadratic

pytestmark = pytest.mark.apart

COMMAND = [sys.executable, "-c", "from steprule.cli import main; main()", "race"]
SLOW = "\n_evaluate = evaluate\ndef evaluate(p):\n    import time\n    time.sleep(0.05)\n    return _evaluate(p)\n"


def _run(*words: str, cwd: Path, code: int = 0) -> str:
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def _results(folder: Path) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return saved


def _numbers(folder: Path) -> list[tuple[Any, ...]]:
    lines = _results(folder)["runs"]
    return sorted((line["rule"], line["setting"]["lr"], line["seed"], line["history"]) for line in lines)


def test_a_race_from_the_command_line(tmp_path: Path) -> None:
    write_quadratic(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from steprule import rule, Rate, sign\n"
        "@rule\ndef step(theta, g, *, lr: Rate = 0.1):\n    return (theta - lr * sign(g),)\n"
    )
    words = ["quadratic.py", "--rules", "mine.py:step,sgd", "--rules", "adam(beta2=0.9)", "--lrs", "0.001:0.1:3"]
    text = _run(*words, "--seeds", "2", "--jobs", "2", cwd=tmp_path)
    folder = tmp_path / "race-results" / "quadratic"
    assert {path.name for path in folder.iterdir()} == {
        "curves.png", "report.html", "results.json", "runs", "sensitivity.png", "table.csv", "table.tex",
    }  # fmt: skip
    saved = _results(folder)
    assert (saved["complete"], len(saved["runs"])) == (True, 9 + 6)
    assert saved["settings"]["lrs"] == [0.001, 0.01, 0.1]
    # The table names each rule once, in the order of the results.
    order = [line["rule"] for line in saved["table"]]
    assert sorted(order) == ["adam(beta2=0.9)", "sgd", "step"]
    assert [line.split()[0] for line in text.splitlines() if line.split() and line.split()[0] in order][:3] == order
    assert "quadratic: 15 runs" in text
    assert text.splitlines()[-1] == f"Report: {Path('race-results/quadratic/report.html')}"
    again = _run(*words, "--seeds", "2", "--jobs", "1", cwd=tmp_path)
    assert "15 runs, 15 of them from earlier" in again


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(QUADRATIC + SLOW)
    return tmp_path


WORDS = ["slow.py", "--rules", "sgd,adam", "--trials", "4", "--seeds", "2", "--output", "out"]


def _start(folder: Path, jobs: int) -> subprocess.Popen[str]:
    """Start a race and return when some of its runs, and not all, are finished."""
    process = subprocess.Popen(
        [*COMMAND, *WORDS, "--jobs", str(jobs)], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while len(list((folder / "out" / "runs").glob("*.json"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def _finished(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out" / "runs").glob("*.json")}


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_and_resumed(slow: Path, jobs: int) -> None:
    process = _start(slow, jobs)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = _finished(slow)
    assert 2 <= len(kept) < 12
    assert not (slow / "out" / "report.html").exists()
    text = _run(*WORDS, "--jobs", str(jobs), cwd=slow)
    assert f"12 runs, {len(kept)} of them from earlier" in text
    after = _finished(slow)
    assert len(after) == 12
    assert {name: after[name] for name in kept} == kept
    (slow / "slow.py").write_text(QUADRATIC)
    _run(*WORDS[:-1], "quick", "--jobs", "1", cwd=slow)
    assert _numbers(slow / "out") == _numbers(slow / "quick")


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2)])
@pytest.mark.dear
def test_interrupted_it_reports_what_there_is(slow: Path, number: signal.Signals, jobs: int) -> None:
    process = _start(slow, jobs)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    saved = _results(slow / "out")
    assert saved["complete"] is False
    assert 2 <= saved["finished"] < 12
    assert saved["finished"] == len(saved["runs"]) == len(_finished(slow))
    assert "Interrupted. Run the same command again to continue." in out
    assert f"{saved['finished']} of 12 runs" in (slow / "out" / "report.html").read_text()
    assert "Traceback" not in out + err
    assert re.search(r"slow: \d+ of 12 runs, \d+ s\.\n", out)
    assert re.search(r" \d/6 ?\n", out)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
def test_ctrl_c_before_the_first_run_is_finished(slow: Path) -> None:
    (slow / "slow.py").write_text(QUADRATIC + SLOW.replace("0.05", "1"))
    process = subprocess.Popen(
        [*COMMAND, *WORDS, "--jobs", "2"], cwd=slow, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    # It is made before the workers start.
    while not (slow / "out" / "runs").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out == "Interrupted before the first run was finished; nothing to report.\n"
    assert [path.name for path in (slow / "out").iterdir()] == ["runs"]


DEAF = """
_evaluate = evaluate
def evaluate(p):
    import signal
    from pathlib import Path
    Path("deaf").write_text(str(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    return _evaluate(p)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked")
def test_workers_do_not_hear_ctrl_c_from_their_first_moment(
    tmp_path: Path,
) -> None:
    (tmp_path / "spy.py").write_text(QUADRATIC + DEAF)
    _run("spy.py", "--rules", "sgd", "--lrs", "0.1,1", "--seeds", "2", "--jobs", "2", cwd=tmp_path)
    assert (tmp_path / "deaf").read_text() == "True"
    _run("spy.py", "--rules", "sgd", "--lrs", "0.1,1", "--seeds", "2", "--jobs", "1", "--fresh", cwd=tmp_path)
    assert (tmp_path / "deaf").read_text() == "False"


def test_interrupted_while_drawing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steprule.race.write", interrupt)
    with pytest.raises(typer.Exit) as caught:
        verb.race("saddle", ["sgd"], lrs="0.1", seeds=1, jobs=1, output=tmp_path)
    assert caught.value.exit_code == 130
    assert capsys.readouterr().out.startswith("Interrupted while the report was drawn.")
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_what_is_wrong_is_said_in_a_few_lines(tmp_path: Path) -> None:
    source = QUADRATIC.replace("    loss = 0.5", "    1 / 0\n    loss = 0.5")
    (tmp_path / "raises.py").write_text(source)
    text = _run("raises.py", cwd=tmp_path, code=2)
    assert re.search(r"ZeroDivisionError: division by zero\n$", text)
    assert "steprule" not in text
    assert len(text.splitlines()) <= 6
    for words, message in (
        (["digits-mpl"], "Did you mean 'digits-mlp'"),
        (["saddle", "--rules", "adm"], "Did you mean 'adam'"),
        (["momentum", "--rules", "adam,sgd"], "separate rules by commas, without spaces"),
        (["saddle", "long-valley"], "'long-valley' is a word too many: a race has one problem, but for --suite"),
        (["--suite", "--animate"], "--animate makes a film of one race, and a suite has several"),
        (["--suite", "compare", "saddle"], "no problem is called 'compare'"),
        (["saddle", "--output", "raises.py"], "'raises.py': it is a file. Choose another folder by --output"),
        (["saddle", "--lrs", "1:2"], "--lrs takes numbers (0.001,0.01) or LOW:HIGH:POINTS (1e-4:1:9), got '1:2'"),
    ):
        assert message in _run(*words, cwd=tmp_path, code=2)
    assert not (tmp_path / "race-results").exists()


def test_a_suite_from_the_command_line(tmp_path: Path) -> None:
    write_quadratic(tmp_path)
    words = ["--suite", "saddle", "quadratic.py", "--rules", "sgd,adam", "--trials", "2", "--seeds", "6", "--jobs", "1"]
    text = _run(*words, cwd=tmp_path)
    folder = Path("race-results/suite")
    assert f"saddle: 16 runs, {re.findall('saddle: 16 runs, ([0-9]+ s)', text)[0]}. {folder}/saddle/report.html" in text
    assert re.search(r"^ *rule +mean rank +saddle +quadratic +targets", text, re.MULTILINE)
    assert "has the lowest mean rank" in text
    assert text.splitlines()[-1] == f"Report: {folder}/report.html"
    saved = json.loads((tmp_path / folder / "suite.json").read_text())
    assert [one["name"] for one in saved["problems"]] == ["saddle", "quadratic"]
    assert saved["complete"]


def test_list_shows_every_problem(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    verb.race(list_=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[:1] not in ("", " ")][: len(NAMES)] == list(NAMES)
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    "given",
    [{"problem": "saddle"}, {"rules": ["adam"]}, {"seeds": 0}, {"seed": 0}, {"output": Path("x")}, {"fresh": True},
     {"quick": True}, {"trials": 4}, {"tuning_seeds": 2}, {"schedule": "cosine"}],
)  # fmt: skip
def test_options_beside_the_list_do_nothing(given: dict[str, Any]) -> None:
    with pytest.raises(StepruleError, match="--list only lists the problems"):
        verb.race(**given, list_=True)


@pytest.mark.slow
def test_the_table_is_as_wide_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words = ["saddle", "--quick", "--rules", "sgd,adam(beta2=0.9)", "--output", "out"]
    assert max(map(len, _run(*words, cwd=tmp_path).splitlines())) <= 60
    monkeypatch.delenv("COLUMNS")
    assert "95 % interval" in _run(*words, cwd=tmp_path)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "find_spec", lambda name: None if name == "sklearn" else object())
    with pytest.raises(StepruleError, match=r'needs scikit-learn\. Install: pip install "scikit-learn>=1\.5"$'):
        verb.race()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.1", (0.1,)), ("1e-3, 0.5", (1e-3, 0.5)), ("1e-4:1:5", (1e-4, 1e-3, 0.01, 0.1, 1.0)), ("1:2:2", (1.0, 2.0))],
)
def test_learning_rates(text: str, expected: tuple[float, ...]) -> None:
    assert verb._rates(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1:2", "2:1:5", "0:1:3", "1:2:1", "1:2:x"])
def test_wrong_learning_rates(text: str) -> None:
    with pytest.raises(StepruleError, match="--lrs takes"):
        verb._rates(text)


def test_interrupting_before_anything_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(settings: object, begin: float, animated: bool) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        return False

    monkeypatch.setattr(verb, "_race", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as caught:
        verb.race("saddle")
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().out == "Interrupted before the first run was finished; nothing to report.\n"
