"""Documents: what they show runs, and what is generated is fresh."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from steprule.rules import CATALOGUE

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run_and_print_what_they_say(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for index, block in enumerate(_blocks(page, "python")):
        file = tmp_path / f"block{index}.py"
        file.write_text(block)
        names |= runpy.run_path(str(file), names)  # blocks of a page build on one another
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        printed = capsys.readouterr().out
        if said:
            assert printed.splitlines() == said


def test_the_readme_has_blocks() -> None:
    assert len(_blocks(ROOT / "README.md", "python")) >= 4


@pytest.fixture(scope="module")
def generate() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_generated_pages_are_fresh(generate: dict[str, Any]) -> None:
    for path, text in generate["targets"]().items():
        assert path.read_text() == text, f"{path.name} is stale; run: python docs/generate.py"


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
