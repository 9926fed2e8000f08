"""Tests that have a process of their own are tests like all others, and what happens to the process happens to them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

HEAD = "import os, sys, pytest\npytestmark = pytest.mark.apart\n"
FILES = {
    "test_here.py": "import os\ndef test_blue_here(): assert 'TRITON_INTERPRET' not in os.environ\n",
    "test_elsewhere.py": HEAD
    + """
@pytest.mark.parametrize("colour", ["blue", "red"])
def test_environment(colour):
    assert os.environ["TRITON_INTERPRET"] == "1"
    assert "device_count=8" in os.environ["XLA_FLAGS"]
def test_wrong():
    print("printed there")
    assert [1] == [2]
@pytest.mark.skip(reason="no need")
def test_skipped(): ...
@pytest.mark.xfail(strict=True)
def test_expected(): assert False
@pytest.mark.slow
def test_long(): ...
""",
    "test_killed.py": HEAD
    + """
def test_before(): ...
def test_killed(): os.abort()
def test_after(): ...
""",
    "test_at_exit.py": HEAD
    + "import atexit\ndef test_ends_ill(): atexit.register(os._exit, 3)\ndef test_ends(): ...\n",
    "test_broken.py": HEAD + "import nothing_of_that_name\n",
    "test_absent.py": HEAD + "pytest.skip('not made for this', allow_module_level=True)\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the settings of this one and other tests."""
    place = tmp_path_factory.mktemp("place")
    (place / "tests" / "room").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", place)
    for name in ("__init__", "apart", "conftest", "thinning"):
        shutil.copy(ROOT / "tests" / f"{name}.py", place / "tests")
    for name, text in FILES.items():
        (place / "tests" / "room" / name).write_text(text)
    return place


def run(place: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "-rA", *arguments]
    # Where CI is set, pytest repeats whole messages in its summary; without it, what a line holds.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def outcomes(said: str) -> dict[str, str]:
    """Return how the tests ended, by their names."""
    return dict(re.findall(r"^tests/room/\S+::(\S+) (\w+)", said, re.MULTILINE))


def test_each_is_reported_by_its_name(place: Path) -> None:
    code, said = run(place, "--continue-on-collection-errors")
    assert code == 1, said
    assert outcomes(said) == {
        "test_blue_here": "PASSED",
        "test_environment[blue]": "PASSED",
        "test_environment[red]": "PASSED",
        "test_wrong": "FAILED",
        "test_skipped": "SKIPPED",
        "test_expected": "XFAIL",
        "test_before": "PASSED",
        "test_killed": "FAILED",
        "test_after": "FAILED",
        "test_ends_ill": "PASSED",
        "test_ends": "FAILED",
    }, said
    assert "assert [1] == [2]" in said
    assert "printed there" in said
    assert said.count("it was not run to its end: its process ended with code -6") == 2
    assert "Fatal Python error: Aborted" in said
    assert "its process ended with code 3" in said
    assert "No module named 'nothing_of_that_name'" in said
    assert "not made for this" in said
    assert re.search(r"4 failed, 6 passed, 2 skipped, 1 deselected, 1 xfailed, 1 error in", said), said


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["-m", "slow or not apart", "-k", "blue or long"], {"test_blue_here", "test_long"}),
        (["tests/room/test_elsewhere.py::test_environment"], {"test_environment[blue]", "test_environment[red]"}),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_they_are_selected_by_name_and_marker(place: Path, arguments: list[str], names: set[str]) -> None:
    code, said = run(place, "--ignore=tests/room/test_broken.py", *arguments)
    assert code == 0, said
    assert outcomes(said) == dict.fromkeys(names, "PASSED")
