"""What is said where a library is missing: a command that works wherever steprule came from."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest

from steprule.install import how_to_install
from tests import ROOT

TEXTS = [
    *(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.py"),
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run",
]  # fmt: skip


def test_the_bounds_are_the_packages_own() -> None:
    assert how_to_install("sympy") == 'pip install "sympy>=1.14"'
    assert how_to_install("Scikit-Learn", "joblib") == 'pip install "Scikit-Learn>=1.5" "joblib>=1.4"'
    assert how_to_install("not-ours") == 'pip install "not-ours"'


def _oldest() -> dict[str, str]:
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_bounds_are_the_versions_that_are_tested() -> None:
    """Of what everybody needs, of the race and of the lab; frameworks take gigabytes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bounds = dict(text.split(">=") for text in project["dependencies"] + extras["race"] + extras["lab"])
    tools = dict(text.split(">=") for text in extras["test"] if re.fullmatch(r"[\w-]+>=[\d.]+", text))
    for name, version in _oldest().items():
        if name == "click":  # no dependency of ours
            continue
        bound = bounds.pop(name, tools.get(name, ""))
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", version), (
            f"{name}: {bound} in pyproject.toml, tested {version}"
        )
    assert not bounds


def test_run_from_a_folder_it_names_the_library_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", nowhere)
    assert how_to_install("sympy") == 'pip install "sympy"'


def test_no_text_tells_to_install_steprule_from_an_index() -> None:
    """There is no such package there; an extra is at hand in a checkout alone."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in TEXTS
        for match in re.finditer(r"pip install[^\n`#&;]*", path.read_text(encoding="utf-8"))
        if re.search(r"[\s'\"]steprule\b", match[0])
    ]
    assert not found


def test_the_torch_door_without_torch_says_what_to_install() -> None:
    script = "import sys; sys.modules['torch'] = None\ntry:\n    import steprule.torch\nexcept ImportError as e:\n"
    done = subprocess.run([sys.executable, "-c", f"{script}    print(e)"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'steprule.torch needs PyTorch. Install: pip install "torch>=2.6"'
