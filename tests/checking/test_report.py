"""The page of a check, its picture, and what is said when it ends early."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import steprule as sr
from steprule.checking import Answer, page, write
from steprule.cli.main import app
from steprule.errors import CheckError, StepruleError
from steprule.style import DARK, LIGHT
from tests.checking.hand_written import bad
from tests.checking.hand_written.slips import adam
from tests.cli.inside import refused

BAD = Path(bad.__file__)
WRONG = ("both stored", "eps inside")


@pytest.fixture(scope="module")
def wrong() -> Answer:
    return sr.check(adam(WRONG))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)
        assert tag not in ("script", "link", "iframe")
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(path: Path) -> _Page:
    found = _Page()
    html = path.read_text()
    found.feed(html)
    assert found.open == []
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    assert not re.search(r"https?://|url\(|@import|\$[a-z]", html)
    return found


def test_the_page_says_all_that_the_answer_says(wrong: Answer, tmp_path: Path) -> None:
    path = write(wrong, tmp_path / "out", "steprule check own.py:adam")
    assert sorted(one.name for one in path.parent.iterdir()) == ["answer.json", "index.html", "steps.png"]
    found = _read(path)
    assert len(found.links) == 2  # the picture, light and dark
    said = [wrong.headline, wrong.called, wrong.evidence, str(wrong.difference), "steprule check own.py:adam", "numpy"]
    said += [part for mistake in wrong.mistakes for part in (mistake.what, mistake.remedy)]
    said += [line.instead for lines in wrong.lines.values() for line in lines]
    said += ["beta2", "0.999", "to rounding"]
    for text in said:
        assert text in found.text
    assert (path.parent / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_the_answer_beside_it_is_for_programs(wrong: Answer, tmp_path: Path) -> None:
    write(wrong, tmp_path, "steprule check own.py:adam")
    saved = json.loads((tmp_path / "answer.json").read_text())
    assert saved["kind"] == "steprule check"
    assert saved["headline"] == wrong.headline
    assert saved["is_right"] is False
    assert [one["name"] for one in saved["mistakes"]] == [one.name for one in wrong.mistakes]
    assert saved["deviations"]["rule"] == list(wrong.deviations.rule)
    assert saved["versions"]["steprule"] == sr.__version__
    assert saved["lines"]["epsilon inside the root"][0]["number"] > 1


def test_a_page_may_be_written_anew_and_no_other_files_are_mixed_with(wrong: Answer, tmp_path: Path) -> None:
    write(wrong, tmp_path)
    write(wrong, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(StepruleError, match="has other files in it"):
        write(wrong, other)
    (other / "answer.json").write_text('{"kind": "another"}')
    with pytest.raises(StepruleError, match="has other files in it"):
        write(wrong, other)
    assert sorted(one.name for one in other.iterdir()) == ["answer.json", "thesis.tex"]
    with pytest.raises(StepruleError, match="it is a file"):
        write(wrong, other / "thesis.tex")


def test_without_what_draws_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(CheckError, match=r'needs matplotlib\. pip install "matplotlib'):
        page.check_folder(tmp_path)


def test_names_are_escaped(tmp_path: Path) -> None:
    def own(params: Any, grads: Any, state: Any) -> Any:
        return [p - 0.1 * g for p, g in zip(params, grads, strict=True)]

    own.__name__ = "<b>own & only</b>"
    assert "&lt;b&gt;own &amp; only&lt;/b&gt; is sgd." in write(sr.check(own), tmp_path).read_text()


def _by_hand(wrongly: bool) -> tuple[Callable[..., Any], list[Any]]:
    """Return Adam as a loop, and a list into which it writes its steps."""
    steps: list[Any] = []

    def own(params: Any, grads: Any, state: Any) -> Any:
        if not state:
            state.update(t=0, m=[0 * p for p in params], v=[0 * p for p in params])
        state["t"] += 1
        new = []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            state["m"][i] = 0.9 * state["m"][i] + 0.1 * g
            state["v"][i] = 0.999 * state["v"][i] + 0.001 * g * g
            m_hat, v_hat = state["m"][i] / (1 - 0.9 ** state["t"]), state["v"][i] / (1 - 0.999 ** state["t"])
            right = 0.01 * m_hat / (np.sqrt(v_hat) + 1e-3)
            theirs = 0.01 * m_hat / np.sqrt(v_hat + 1e-3) if wrongly else right
            new.append(p - theirs)
            steps.append((state["t"], new[-1] - p, right))
        return new

    return own, steps


def test_deviations_are_those_of_a_loop() -> None:
    """Relative to the larger step, root mean square over the elements of three tensors, in the last run of float64."""
    own, steps = _by_hand(wrongly=True)
    answer = sr.check(own)
    runs = [
        steps[i : i + 90] for i in range(len(steps) - 89) if [t for t, *_ in steps[i : i + 90 : 3]] == [*range(1, 31)]
    ]
    expected = []
    for first in range(0, 90, 3):
        theirs = np.concatenate([run for _, run, _ in runs[0][first : first + 3]])
        right = np.concatenate([run for *_, run in runs[0][first : first + 3]])
        relative = np.abs(theirs + right) / np.maximum(np.abs(theirs), np.abs(right))
        expected.append(np.sqrt(np.mean(relative**2)))
    assert len(answer.deviations.rule) == 30
    np.testing.assert_allclose(answer.deviations.rule, expected, rtol=1e-6)
    assert max(answer.deviations.explained) < 1e-9 < min(answer.deviations.rule)


def test_what_has_no_mistake_has_one_line_and_that_is_rounding() -> None:
    own, _ = _by_hand(wrongly=False)
    found = sr.check(own).deviations
    assert found.explained == ()
    assert np.median(found.rule) <= 10 * np.median(found.rounding)
    assert max(found.rule) < 1e-9


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_the_figure_has_both_lines(wrong: Answer, theme: Any) -> None:
    (axes,) = wrong.figure(theme).axes
    with_them, rule = (np.asarray(line.get_ydata()) for line in axes.lines if np.size(line.get_xdata()) == 30)
    assert list(rule) == pytest.approx(list(wrong.deviations.rule))
    assert with_them.max() < rule.min()
    assert axes.get_yscale() == "log"


def test_a_step_that_is_no_number_is_drawn_open() -> None:
    answer = sr.check(adam(["t from 0"]))
    assert answer.deviations.rule[0] == float("inf")
    (axes,) = answer.figure().axes
    assert sum(np.size(line.get_xdata()) == 1 for line in axes.lines) == 1


@pytest.mark.parametrize(
    ("slip", "step"), [("beta2", 2), ("l2", 1), ("scaled", 1), ("t per tensor", 1), ("shared", 1), ("writes", None)]
)
def test_every_mistake_that_shows_in_steps_has_a_first_one(slip: str, step: int | None) -> None:
    found = sr.check(adam([slip])).difference
    assert (found and found.step) == step
    assert found is None or found.theirs != found.rules


def _command(*words: str) -> Any:
    return CliRunner().invoke(app, ["check", *words], env={"NO_COLOR": "1", "COLUMNS": "80"})


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    done = _command("adam", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0
    assert done.stdout.endswith(f"Page: {tmp_path / 'out' / 'index.html'}\n")
    assert f"steprule check adam --output {tmp_path / 'out'}" in _read(tmp_path / "out" / "index.html").text
    both = _command("adam", "--output", str(tmp_path / "out"), "--json")
    assert json.loads(both.stdout)["is_right"] is True


def test_a_folder_of_others_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "own.py").write_text("open('ran', 'w').close()")
    said = refused(["check", "own.py:adam", "--output", "."], tmp_path)
    assert "has other files in it" in said
    assert not (tmp_path / "ran").exists()


_UNTIL_FITTED = """
import sys
import steprule.checking.search as search
from steprule.cli import main

def fit(candidate, seen, real=search.fit, count=[0]):
    count[0] += 1
    if count[0] == 12:
        raise KeyboardInterrupt
    return real(candidate, seen)

search.fit = fit
sys.argv[1:] = ["check", sys.argv[1]]
main()
"""


def test_interrupted_it_says_what_is_known() -> None:
    words = [sys.executable, "-c", _UNTIL_FITTED, f"{BAD}:noise"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, timeout=120)
    said = " ".join(done.stderr.split())
    assert done.returncode == 130, said
    assert "Interrupted while fitting the rules to its steps. " in said
    assert "rules were tried so far, and none explains every step; the nearest is " in said
    assert "Traceback" not in said
    assert done.stdout == ""


def test_a_signal_ends_code_that_never_ends(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import time\ndef never(params, grads, state):\n    print(end='', flush=True)\n"
        "    open('begun', 'w').close()\n    while True:\n        time.sleep(0.01)\n"
    )
    words = [sys.executable, "-m", "steprule", "check", "own.py:never"]
    begun = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not (tmp_path / "begun").exists():
        assert begun.poll() is None
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert "Interrupted while finding out how it is called." in said


def test_code_that_catches_the_interrupt_is_ended(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import time\ndef never(params, grads, state):\n    while True:\n        try:\n"
        "            time.sleep(1)\n        except:\n            pass\n"
    )
    words = [sys.executable, "-m", "steprule", "check", "own.py:never", "--seconds", "1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert "does not let itself be interrupted" in done.stderr
