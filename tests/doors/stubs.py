"""What type checkers see of a door whose names follow from the catalogue."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import steprule as sr


def assert_stub_has(door: str, names: Iterable[str]) -> None:
    """Assert that the stub of a door defines its public names, in their order, and no others."""
    tree = ast.parse((Path(sr.__file__).parent / f"{door}.pyi").read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    imported = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    public = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
    )
    assert public == sorted(names)
    assert set(public) <= defined | imported
    assert defined <= set(public)
