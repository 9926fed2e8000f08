"""Documents: what they show runs, and what is generated is fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from steprule.rules import CATALOGUE

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


# A process of its own for each page: JAX warns of every fork in a process that it has once been imported in.
_RUN = """\
import runpy, sys
names = {}
for block in sys.argv[1:]:
    names |= runpy.run_path(block, names)  # blocks of a page build on one another
    print("\\0", end="", flush=True)
"""


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run_and_print_what_they_say(page: Path, tmp_path: Path) -> None:
    blocks = _blocks(page, "python")
    files = [tmp_path / f"block{index}.py" for index in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    command = [sys.executable, "-W", "error", "-c", _RUN, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("\0")
    assert len(printed) == len(blocks) + 1
    for block, lines in zip(blocks, printed, strict=False):
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        if said:
            assert lines.splitlines() == said


def test_the_readme_has_blocks() -> None:
    assert len(_blocks(ROOT / "README.md", "python")) >= 4


def test_what_is_generated_is_fresh() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]  # it imports JAX
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_rule_has_its_entry() -> None:
    page = (ROOT / "docs" / "rules.md").read_text()
    for name in CATALOGUE:
        assert f"\n## {name}\n" in page


def test_ci_calls_the_readmes_test_command() -> None:
    commands = [line for block in _blocks(ROOT / "README.md", "console") for line in block.splitlines()]
    tests = [line for line in commands if "pytest" in line]
    assert len(tests) == 1
    assert tests[0] in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_page_names_this_machine() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        assert not re.search(r"/(work|root|home)/", page.read_text()), page.name
