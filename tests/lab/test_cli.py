"""``steprule lab`` from the command line: what it writes, opens, serves, and says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from steprule.lab.presets import presets
from steprule.lab.surfaces import NAMES
from tests.cli.inside import refused

OWN = '''
import steprule as sr
from steprule import Rate


@sr.rule(paper="mine")
def mine(theta, g, *, lr: Rate = 0.1):
    """Mine."""
    return theta - lr * sr.sign(g)
'''


def _run(*arguments: str, cwd: Path, code: int = 0, environment: dict[str, str] | None = None) -> str:
    """Run the command without a display, unless told otherwise; return all that it says, in one line."""
    plain = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    command = [sys.executable, "-m", "steprule", "lab", *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**plain, **(environment or {})}, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def _browser(folder: Path) -> dict[str, str]:
    """Return the environment of a browser that notes what it is asked to open."""
    program = folder / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {folder}/opened\n')
    program.chmod(0o755)
    return {"BROWSER": f"{program} %s"}


def test_it_writes_the_page_and_opens_it(tmp_path: Path) -> None:
    said = _run(cwd=tmp_path, environment=_browser(tmp_path))
    assert re.fullmatch(r"Wrote steprule-lab.html \(0\.\d MB\)\.", said)
    assert (tmp_path / "opened").read_text().strip() == (tmp_path / "steprule-lab.html").as_uri()
    assert (tmp_path / "steprule-lab.html").read_text().startswith("<!doctype html>")


def test_without_a_display_it_says_how_to_look_at_it(tmp_path: Path) -> None:
    said = _run("--output", "there/page.html", cwd=tmp_path)
    assert "Wrote there/page.html" in said
    assert "No browser can be opened here (there is no display). Copy the file" in said
    assert "ssh -L 8470:127.0.0.1:8470" in said
    assert (tmp_path / "there" / "page.html").exists()
    assert "No browser" not in _run("--no-open", cwd=tmp_path)


def test_a_rule_and_a_surface_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "my_rule.py").write_text(OWN)
    _run("my_rule.py", "lion", "--surface", "abs(x) + y**2", "--start", "1,-2", "--no-open", cwd=tmp_path)
    text = (tmp_path / "steprule-lab.html").read_text()
    assert '"rules": "mine,lion", "pairs"' in text
    assert '["surface", "own"]' in text
    assert '["start", "1.0,-2.0"]' in text
    assert '["mine"]: (() => {' in text
    _run("--surface", "sin(x) + y**2", "--box=-12,12,-1,5", "--no-open", cwd=tmp_path)
    assert '"box": [[-12.0, 12.0], [-1.0, 5.0]], "start": [8.0, 4.0]' in (tmp_path / "steprule-lab.html").read_text()


@pytest.mark.parametrize(
    ("rules", "shown", "sliders"),
    [
        (["adam(beta2=0.9)"], "adam,adam (2)", [["adam (2).beta2", "0.9"]]),
        (
            ["adam(beta2=0.9)", "adam(beta2=0.99, lr=0.3)"],
            "adam,adam (2)",
            [["adam.beta2", "0.9"], ["adam (2).beta2", "0.99"], ["adam (2).lr", "0.3"]],
        ),
        (["adam", "lion(beta1=0.5)"], "adam,lion", [["lion.beta1", "0.5"]]),
        (["lion(beta1=0.5)"], "adam,lion", [["lion.beta1", "0.5"]]),
        (["lion", "sgd"], "lion,sgd", []),
        (["adam"], "adam", []),
        (
            ["momentum(nesterov=true, mu=0.5)"],
            "adam,momentum(nesterov=True)",
            [["momentum(nesterov=True).mu", "0.5"]],
        ),
        (["momentum(nesterov=false)"], "adam,momentum", []),
    ],
)
def test_a_rule_with_settings(tmp_path: Path, rules: list[str], shown: str, sliders: list[list[str]]) -> None:
    """Sliders stand where settings say; what no slider can do makes a rule of its own."""
    _run(*rules, "--no-open", cwd=tmp_path)
    found = re.search(r'"first": ({.*})}</script>', (tmp_path / "steprule-lab.html").read_text())
    assert found is not None
    first = json.loads(found[1])
    assert first["rules"] == shown
    pairs = [pair for pair in first["pairs"] if pair[0] not in ("surface", "rules", "look")]
    assert pairs == sliders  # rates that are not given are looked for by the page
    assert first["tunes"]
    looked_at = dict(first["pairs"])["look"]
    assert looked_at == shown.split(",")[-len(rules)]


def test_it_lists_the_surfaces(tmp_path: Path) -> None:
    said = _run("--list", cwd=tmp_path)
    assert all(name in said for name in NAMES)
    assert all(f"{story['key']} {story['title']}." in said for story in presets())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--surface", "beal"], "no surface is called 'beal'. Did you mean 'beale'? Or give an expression in x and y"),
        (["--surface", "Rosenbrok"], "no surface is called 'rosenbrok'. Did you mean 'rosenbrock'?"),
        (["--surface", "beale", "--start", "1e39,1"], "a start on 'beale' lies between -1e+30 and 1e+30, got 1e+39, 1"),
        (["--surface", "abs(x)", "--start", "0,1"], "abs(x) is not differentiable at the start (0, 1): it has a kink"),
        (["--surface", "x*z"], "a surface is a function of x and y, got 'z' as well"),
        (["--surface", "beale", "--start", "1"], "a start on 'beale' has 2 coordinates, got 1"),
        (["--surface", "beale", "--start", "a,b"], "--start takes numbers, as in 1,1.5, got 'a,b'"),
        (
            ["--surface", "x*y", "--box", "1,2,3"],
            "a box has 4 numbers, x from and to and y from and to, as in -2,2,-1,3",
        ),
        (["--surface", "x*y", "--box", "a"], "--box takes numbers, as in -2,2,-1,3, got 'a'"),
        (["--surface", "beale", "--box", "0,1,0,1"], "--box belongs to an expression; 'beale' has its own"),
        (["--box", "0,1,0,1"], "--box belongs to an expression; give one by --surface"),
        (["--start", "1,1"], "--start belongs to a surface; name one by --surface"),
        (["--port", "80"], "--port has no effect without --serve"),
        (["--serve", "--output", "x.html"], "--output has no effect with --serve, which writes no file"),
        (["--list", "--no-open"], "--list only lists surfaces and stories; drop what is given beside it"),
        (["adm"], "no rule is called 'adm'. Did you mean 'adam'"),
        (["two.html"], "two.html is not a rule; to write to that file, put --output before it"),
        (["nowhere.py"], "there is no file 'nowhere.py'"),
        (["adam", "adam(lr=0.1)", "adam(lr=0.2)"], "the page shows a rule in two settings at most, 'adam' beside"),
        (["adam(beta2=0.9)", "adam(beta2=0.9)"], "rule 'adam(beta2=0.9)' is given 2 times; name each rule once"),
        (["adam(beta2=1)"], "beta2 must be a number in [0, 1), got 1 in adam(beta2=1)"),
        (["lion", "lion"], "rule 'lion' is given 2 times; name each rule once"),
        (["--output", "."], "cannot write .: it is a folder. Choose another place: --output FILE"),
        (["--output", "/proc/page.html"], "cannot write /proc/page.html:"),
        (["--serve", "--port", "99999"], "cannot serve on port 99999: there is no such port"),
        (["--serve", "--port", "-1"], "cannot serve on port -1"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], words: str) -> None:
    said = " ".join(refused(["lab", *arguments], tmp_path).split())
    assert f"error: {words}" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_rule_of_ones_own_with_a_mean(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("sr.sign(g)", "(g - sr.mean(g)) / (sr.norm(g) + 1e-6)"))
    assert "Wrote page.html" in _run("own.py:mine", "--output", "page.html", "--no-open", cwd=tmp_path)
    text = (tmp_path / "page.html").read_text()
    assert "return { prelude0, sums0, prelude, kernel };" in text
    assert text.count("function rounded_once(") == 1


def test_a_rule_that_javascript_cannot_say(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        OWN.replace("lr * sr.sign(g)", "math.erf(lr) * g").replace("import s", "import math\nimport s", 1)
    )
    said = _run("odd.py", cwd=tmp_path, code=2)
    assert "the rule calls math.erf with 1 argument, which JavaScript has no function for" in said
    assert "take a target whose numbers of a step are computed by Python" in said


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "steprule", "lab", "--serve", "--port", "0", "--no-open"]
    piped: Any = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with piped as process:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address is not None, line
        with urllib.request.urlopen(address[0]) as answer:
            assert answer.read().startswith(b"<!doctype html>")
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "Ended.\n"
        assert process.wait(timeout=20) == 0
    assert not list(tmp_path.iterdir())


def test_without_sympy_it_says_what_to_install(tmp_path: Path) -> None:
    hidden = (
        "import sys; sys.modules['sympy'] = None; sys.argv = ['steprule', 'lab']; from steprule.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", hidden], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'the lab needs SymPy. Install: pip install "sympy>=1.14"' in done.stderr
