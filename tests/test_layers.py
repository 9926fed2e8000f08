"""The house: imports run one way, and `import steprule` loads no framework and no heavy module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import steprule
import steprule.torch
from steprule.formats import SLOT_FORMATS

SOURCE = Path(steprule.__file__).parent

# Each room may import from the rooms before it. Rooms of one row do not see each other.
ROWS = [
    {"errors", "version", "files", "install", "style"},
    {"language", "usercode", "checkpoint"},
    {"rules", "formats", "schedules"},
    {"compile"},
    {"backends", "runtime"},
    {"coding"},
    {"evaluating"},
    {"engine"},
    {"evaluated"},
    {"launch"},
    {"doors", "film"},
    {"report"},
    {"scipy", "torch", "jax", "convert", "race", "lab", "monitor", "checking"},
    {"figures", "bench"},
    {"cli"},
]
FLOOR = {room: row for row, rooms in enumerate(ROWS) for room in rooms}

HEAVY = [
    "torch",
    "jax",
    "jaxlib",
    "optax",
    "flax",
    "tensorflow",
    "sklearn",
    "matplotlib",
    "joblib",
    "scipy",
    "numba",
    "pandas",
    "rich",
    "typer",
    "safetensors",
    "triton",
]


def _room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Return the rooms of steprule that a file imports, at any depth of nesting."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            # `import steprule` brings every room within reach.
            assert "steprule" not in names or _room(path.relative_to(SOURCE).parts) == "cli", f"{path}: name the room"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("steprule.")}
    return found


def _wrong_arrows(room: str, imported: set[str]) -> set[str]:
    return {other for other in imported - {room} if other not in FLOOR or FLOOR[other] >= FLOOR[room]}


def test_imports_run_one_way() -> None:
    checked = 0
    for path in SOURCE.rglob("*.py"):
        room = _room(path.relative_to(SOURCE).parts)
        if room in ("__init__", "__main__"):
            continue
        imported = _imports(path)
        assert not _wrong_arrows(room, imported), f"{path}: {room} may not import {_wrong_arrows(room, imported)}"
        checked += len(imported - {room})
    assert checked > 50


def test_an_arrow_that_runs_back_is_found(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from steprule.engine import kernel\n    import steprule.rules.rule\n")
    assert _imports(file) == {"engine", "rules"}
    assert _wrong_arrows("rules", _imports(file)) == {"engine"}
    assert _wrong_arrows("cli", {"engine", "doors"}) == set()
    assert _wrong_arrows("backends", {"runtime", "nowhere"}) == {"runtime", "nowhere"}


def _modules() -> dict[str, set[str]]:
    """Return the modules that each module of steprule imports, wherever in it the import stands."""
    paths = {path: path.relative_to(SOURCE).with_suffix("").parts for path in SOURCE.rglob("*.py")}
    names = {".".join(("steprule", *parts)).removesuffix(".__init__"): path for path, parts in paths.items()}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        told = [(f"{node.module}.{alias.name}", str(node.module)) for node in nodes for alias in node.names]
        found[name] = {full if full in names else module for full, module in told} & set(names) - {name}
    return found


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle; none where there is no circle."""
    left = dict(arrows)
    while left:
        within = {name for name, others in left.items() if others & left.keys()} & set().union(*left.values())
        if len(within) == len(left):
            break
        left = {name: others for name, others in left.items() if name in within}
    return sorted(left)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circle(_modules()) == []
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]


def _modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_no_framework() -> None:
    step = "import steprule as sr, numpy as np; sr.Optimizer(np.zeros(3)).step(np.ones(3)); sr.rules.adam; sr.schedules"
    loaded = _modules_after(step)
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
    assert "scipy" in _modules_after("import scipy.optimize")


def test_a_format_is_spelt_in_its_own_file_alone() -> None:
    """Others ask the registry. (bfloat16 is a type of parameters as well, and a peer's class may end in a name.)"""
    coded = {one.name for one in SLOT_FORMATS.values() if one.signed.is_coded}
    assert "8bit" in coded
    for name in coded:
        files = [path for path in SOURCE.rglob("*.py") if re.search(rf"\b{name}\b", path.read_text())]
        assert len(files) == 1, f"{name}: {files}"
        assert files[0].parent == SOURCE / "formats"


def test_files_are_short() -> None:
    long = {str(path): n for path in SOURCE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 320}
    assert not long


def _files_of(step: Callable[[], object]) -> list[str]:
    """Return the longest chain of files of ours, each calling the next, in a call."""
    stack: list[str] = []
    longest: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal longest
        file = frame.f_code.co_filename
        if file.startswith(str(SOURCE)) and event == "call":
            stack.append(file)
            longest = max(longest, list(dict.fromkeys(stack)), key=len)
        elif file.startswith(str(SOURCE)) and event == "return":
            stack.pop()

    sys.setprofile(watch)
    try:
        step()
    finally:
        sys.setprofile(None)
    return longest


@pytest.mark.parametrize("guards", [{}, {"clip_norm": 1.0, "update_clip": True}], ids=str)
def test_a_gradient_passes_few_files(guards: dict[str, Any]) -> None:
    array, g, param = np.zeros(10), np.ones(10), torch.nn.Parameter(torch.zeros(10))
    param.grad = torch.ones(10)
    in_numpy, in_torch = steprule.Optimizer(array, "adam", **guards), steprule.torch.Adam([param], **guards)
    for step in (lambda: in_numpy.step(g), in_torch.step):
        for _ in range(3):  # the first lays out, and torch's second compiles what looks
            step()
        assert 4 <= len(_files_of(step)) <= 6, _files_of(step)
