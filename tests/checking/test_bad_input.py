"""What cannot be checked is said in words, with a way out; and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import steprule as sr
from steprule.cli.main import app
from steprule.errors import CheckError
from tests import ROOT
from tests.checking.hand_written import bad
from tests.cli.inside import refused

FOLDER = Path(bad.__file__).parent
BAD, STYLES, TORCH = FOLDER / "bad.py", FOLDER / "styles.py", FOLDER / "bad_torch.py"

_REFUSED = [
    ("nothing", "the parameters are what they were after three steps"),
    ("does_nothing", "the parameters are what they were after three steps"),
    ("shapes", "parameters of shape (1, 4), (1, 2), (1, 3) in the place of (4,), (2,), (3,)"),
    ("raises", ': return params["w"] - grads["w"])'),
    ("many", "many(params, grads, m, v, t) needs 5 arguments"),
    ("three", "it returned a value of type tuple in the place of an array"),
    ("random_steps", "does not do the same twice"),
    ("nan", "NaN or infinite in every step"),
    ("divides", "most often a step counter that starts at 0"),
    ("a_number", "and no function, class or object with a method step"),
    ("Stepless", "class Stepless has no method step"),
]


@pytest.mark.parametrize(("name", "said"), _REFUSED)
def test_what_cannot_be_run_is_said(name: str, said: str) -> None:
    with pytest.raises(CheckError) as caught:
        sr.check(f"{BAD}:{name}")
    text = str(caught.value)
    assert said in text, text
    assert name in text


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere.py:adam", "there is no file 'nowhere.py'"),
        ("no.module:adam", "no module is called 'no'. Of a file, give its path"),
        (f"{BAD}:adma", "has no 'adma'"),
        (f"{BAD}:noize", "Did you mean 'noise'"),
        (f"{BAD}", "say which function or class is meant"),
        (f"{BAD}:noise(0.1)", "must be settings"),
        ("not a module:adam", "names no file and no module"),
        ("adm", "Did you mean 'adam'"),
        (f"{STYLES}:closure(lrr=0.1)", "closure has no setting 'lrr'. Did you mean 'lr'?"),
        ("torch.optim:Adam(epps=0.1)", "Adam has no setting 'epps'. Did you mean 'eps'?"),
        (f"{BAD}:Renamed", "It has apply; if apply makes a step, write in the class: step = apply"),
        (f"{BAD}:by_name", "Loop over the keys that there are: for name in params"),
        (f"{str(BAD)[:-3]}", "For what is in the file"),
        (f"{ROOT / 'docs'}:adam", "is a folder. Give a file in it"),
        (f"{ROOT / 'docs'}", "is a folder. Give a file in it"),
        ("torch.optim.Adam", "the name stands behind a colon: torch.optim:Adam"),
        (f"{BAD}:by_keyword", "by_keyword(*, params, grads, state) needs 3 arguments, 3 by name"),
        (f"{BAD}:NeedsARate", "Give it as a setting behind the name, as in '...:NeedsARate(lr=0.01)'"),
        (f"{TORCH}:BindsAnew", "return the new ones, or write p -= ..."),
        (f"{TORCH}:ForgetsNoGrad", "Put @torch.no_grad() above the step"),
    ],
)
def test_what_is_not_there_is_said(place: str, said: str) -> None:
    assert said in " ".join(refused(["check", place]).split())


def test_a_file_that_raises_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("x = 1\nraise ValueError('not today')\n")
    text = refused(["check", str(tmp_path / "own.py:adam")])
    assert "line 2" in text
    assert "ValueError: not today" in text
    assert "site-packages" not in text


def test_what_keeps_something_outside_is_said_once_and_is_well_from_its_file() -> None:
    with pytest.raises(CheckError, match="keep everything in the state"):
        sr.check(bad.keeps)
    assert sr.check(f"{BAD}:keeps").rule == "momentum"  # its file is run anew for each run


@pytest.mark.slow
def test_noise_is_no_rule() -> None:
    answer = sr.check(bad.noise)
    assert (answer.rule, answer.mistakes, answer.is_right) == ("", (), False)
    assert answer.difference is not None
    text = str(answer)
    assert text.startswith("noise is none of the known rules, with or without the known mistakes.")
    assert f"The nearest is {answer.nearest}. It first differs at step 1, in element" in text


@pytest.mark.slow
def test_a_step_that_depends_on_the_norm_is_no_rule_of_elements() -> None:
    answer = sr.check(bad.clips)
    assert not answer.rule
    assert any("depends on others" in remark for remark in answer.remarks)


def test_what_has_no_state_is_run_all_the_same() -> None:
    assert sr.check(f"{TORCH}:OfNothing").rule == "sgd"


def test_what_a_file_prints_is_not_in_the_way_of_json(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "print('hello')\ndef own(params, grads): return [p - g for p, g in zip(params, grads)]\n"
    )
    found = CliRunner().invoke(app, ["check", str(tmp_path / "own.py:own"), "--json"])
    assert json.loads(found.stdout)["headline"] == "own is sgd."


def test_what_it_prints_is_counted_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    answer = sr.check(bad.prints)
    assert answer.rule == "sgd"
    assert any(remark.startswith("It printed ") for remark in answer.remarks)
    assert capsys.readouterr().out == ""


def _command(*words: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["check", *words], env={"NO_COLOR": "1", "COLUMNS": "80", **environment})


def test_the_command_says_what_it_is() -> None:
    done = _command(f"{STYLES}:on_one_array")
    assert done.exit_code == 0
    assert done.stderr.split()[:5] == ["This", "runs", "the", "code", "of"]
    assert done.stdout.startswith("on_one_array is Adam.\n")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_the_command_ends_with_1_for_a_mistake(tmp_path: Path) -> None:
    source = (FOLDER / "styles.py").read_text().replace("(np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, t)",
                                                        "np.sqrt(v / (1 - 0.999**t) + 1e-8), (m, v, t)")  # fmt: skip
    (tmp_path / "own.py").write_text(source)
    done = _command(str(tmp_path / "own.py:on_one_array"), "--json")
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert [one["name"] for one in answer["mistakes"]] == ["epsilon inside the root"]
    assert answer["hyperparameters"]["beta2"]["text"] == "0.999"
    assert answer["difference"]["step"] == 1


def test_settings_stand_behind_the_name() -> None:
    answer = sr.check(f"{STYLES}:closure(lr=0.25, b1=0.5)")
    assert answer.hyperparameters["lr"].text == "0.25"
    assert answer.hyperparameters["beta1"].text == "0.5"


def test_what_never_ends_is_ended() -> None:
    command = [sys.executable, "-m", "steprule", "check", f"{BAD}:never", "--seconds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, timeout=60)
    assert done.returncode == 2
    assert "was not done after 2 seconds" in done.stderr
    assert "Traceback" not in done.stderr
