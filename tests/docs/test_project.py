"""The files about the project say what the package says."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from steprule.version import __version__
from tests import ROOT

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_version_to_cite_is_this_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.stem)
def test_forms_are_forms(path: Any) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    for field in form["body"]:
        assert field["type"] == "textarea"
        assert field["attributes"]["label"]
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names)


def test_what_lies_in_changes_is_of_a_kind_that_there_is() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    told = (ROOT / "changes" / "README.md").read_text()
    assert all(f"`{kind}`" in told for kind in kinds)
    for path in (ROOT / settings["directory"]).iterdir():
        assert path.name == "README.md" or re.fullmatch(rf"\+?[\w-]+\.({'|'.join(kinds)})\.md", path.name), path.name
    assert settings["start_string"] in (ROOT / settings["filename"]).read_text()


def test_hooks_run_what_ci_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = {hook["entry"].replace(" --force-exclude", "") for hook in hooks}
    ci = (ROOT / ".ci" / "run").read_text()
    assert entries >= {"ruff check", "ruff format --check", "mypy"}
    for entry in entries - {"python docs/generate.py --check"}:  # which tests/docs calls
        assert re.search(rf"^{re.escape(entry)}\b", ci, re.MULTILINE), entry
