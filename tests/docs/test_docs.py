"""Documents: what they show runs, and what is generated is fresh."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from steprule.cli.main import app
from steprule.rules import CATALOGUE
from tests import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


# What runs, in order, each with the ``text`` right below it: what it prints, or the error that it ends with. A block
# may say in its first line which file it is. Of a console, lines that begin with $ are run.
_STEPS = re.compile(r"^```(python|console)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"# (\w+\.py)\n")


# A process of its own for each page: JAX warns of every fork in a process that it has once been imported in.
_RUN = r"""
import json, pathlib, re, runpy, subprocess, sys, traceback
names = {}
for file, block, has_text in json.load(sys.stdin):
    if not file:
        for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            print(f"$ {command}", flush=True)
            own = f'python() {{ "{sys.executable}" "$@"; }}; steprule() {{ python -m steprule "$@"; }}; '
            subprocess.run(own + command, shell=True, stderr=subprocess.STDOUT, check=True)
        print("\0", end="", flush=True)
        continue
    pathlib.Path(file).write_text(block)
    try:
        names |= runpy.run_path(file, names)  # blocks of a page build on one another
    except Exception as error:
        if not has_text:
            raise
        print("".join(traceback.format_exception_only(error)), end="")
    print("\0", end="", flush=True)
"""


def _outputs(page: Path, folder: Path) -> list[tuple[str, str, str, str]]:
    """Run a page, and return of each step its language, its block, the text below it and what it has printed."""
    steps = _STEPS.findall(page.read_text())
    tasks = []
    for index, (language, block, text) in enumerate(steps):
        named = _NAMED.match(block)
        file = named[1] if named else f"block{index}.py"
        tasks.append((file if language == "python" else "", block, bool(text)))
    command = [sys.executable, "-W", "error", "-c", _RUN]
    done = subprocess.run(command, cwd=folder, input=json.dumps(tasks), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("\0")
    assert len(printed) == len(steps) + 1
    return [(*step, lines) for step, lines in zip(steps, printed, strict=False)]


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=lambda page: page.name)
def test_blocks_run_and_print_what_they_say(page: Path, tmp_path: Path) -> None:
    for language, block, text, lines in _outputs(page, tmp_path):
        if text:
            assert lines == text
        elif language == "console":
            said = [line for line in block.splitlines() if not line.startswith("$ ")]
            assert "$ " not in block or not said or lines == block
        elif said := re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE):
            assert lines.splitlines() == said


def test_the_readme_has_blocks() -> None:
    assert len(_blocks(ROOT / "README.md", "python")) >= 4


def test_what_is_generated_is_fresh() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]  # it imports JAX
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_command_has_its_line() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(re.findall(r"^\| `steprule (\w+)", page, re.MULTILINE)) == names


def test_every_rule_has_its_page() -> None:
    listed = (ROOT / "docs" / "rules.md").read_text()
    assert {path.stem for path in (ROOT / "docs" / "rules").iterdir()} == {*CATALOGUE}
    for name in CATALOGUE:
        assert f"| [`{name}`](rules/{name}.md) |" in listed


def test_what_is_said_of_other_libraries_is_of_rules_that_there_are() -> None:
    assert tomllib.loads((ROOT / "docs" / "elsewhere.toml").read_text()).keys() <= CATALOGUE.keys()


def _laws(rule: str) -> list[str]:
    page = (ROOT / "docs" / "rules" / f"{rule}.md").read_text()
    return re.findall(
        r" \| (.*) \|$", page.partition("| law | obeyed |\n| --- | --- |\n")[2].partition("\n\n")[0], re.MULTILINE
    )


def test_the_laws_on_the_pages_are_those_of_the_formulas() -> None:
    bits, rounded = "yes, in every bit", "yes, but for rounding"
    # Signs, scale-free, proportional, rate, place, rest, first step.
    assert _laws("sgd") == [bits, "no", bits, bits, rounded, bits, "no"]
    assert _laws("adam") == [bits, bits, "no", bits, rounded, bits, "yes, by lr"]
    assert _laws("adamw") == [bits, bits, "no", "no", "no", "no", "yes, by lr"]
    assert _laws("adabelief")[-1] == "yes, by 1.11 lr"  # lr / beta1


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


def test_docstrings_tell_of_arguments_that_there_are() -> None:
    """An argument that was renamed keeps its old name there."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            _, _, told = (ast.get_docstring(node) or "").partition("Args:\n")
            inits = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
            functions = inits if isinstance(node, ast.ClassDef) else [node]
            if not told or not functions or functions[0].args.kwarg:
                continue
            own = functions[0].args
            known = {arg.arg for arg in (*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg) if arg}
            section = re.match(r"(?: {4}.*\n?|\n)*", told)
            lines = re.findall(r"^ {4}(\S[^:\n]*):(?: |$)", section[0] if section else "", re.MULTILINE)
            names = {name.strip("*` ") for line in lines for name in line.split(",")}
            assert names <= known, f"{path.name}: {node.name} tells of {names - known}"
