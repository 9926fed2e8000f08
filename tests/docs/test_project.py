"""The files about the project say what the package says."""

from __future__ import annotations

import importlib
import inspect
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


REFERENCE = "".join(page.read_text() for page in sorted((ROOT / "docs" / "api").glob("*.md")))
MODULES = re.findall(r"^\.\. automodule:: (\S+)$", REFERENCE, re.MULTILINE)
"""The modules of the API reference. Of each Sphinx shows the classes and functions in ``__all__`` with a docstring."""
DATA = re.findall(r"^\.\. autodata:: \S+\.(\w+)$", REFERENCE, re.MULTILINE)


def test_the_reference_has_every_public_module() -> None:
    doors = {"steprule", "steprule.torch", "steprule.jax", "steprule.scipy", "steprule.convert"}
    parts = {"schedules", "errors", "lab", "figures", "race", "checking"}  # rules have pages of their own
    assert set(MODULES) == doors | {f"steprule.{name}" for name in parts}
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_in_the_reference(name: str) -> None:
    """With docstrings, and so is what classes define."""
    module = importlib.import_module(name)
    for public in set(module.__all__) - {"__version__"}:
        one = getattr(module, public)
        if inspect.isclass(one) or inspect.isroutine(one):
            assert inspect.getdoc(one), f"{name}.{public} has no docstring"
        else:
            assert inspect.ismodule(one) or public in DATA, f"{name}.{public} has no place in docs/api"
        for member, value in vars(one).items() if inspect.isclass(one) else ():
            if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert inspect.getdoc(getattr(one, member)), f"{name}.{public}.{member} has no docstring"
