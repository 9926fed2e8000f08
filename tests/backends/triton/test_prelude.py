"""The numbers of a step, computed on the device: as machine code for GPUs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from steprule.backends import triton_decide, triton_prelude
from steprule.backends.triton_math import LIBRARY
from steprule.compile import Plan, Prelude
from steprule.compile.prelude import make_prelude
from steprule.engine import plan
from steprule.errors import TargetError
from steprule.formats import FORMATS
from steprule.language.node import host_call, symbol
from steprule.rules.guard import Guard
from steprule.runtime import gpu
from tests.cases import FOR_VECTORS as CATALOGUE

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: it has no build for this platform"
)

_EXACT = {"add.rn.f64", "sub.rn.f64", "mul.rn.f64", "div.rn.f64", "sqrt.rn.f64"}
_ARITHMETIC = r"\b((?:add|sub|mul|div|sqrt|fma|mad|rcp|rsqrt|ex2|lg2)\.(?:\w+\.)*f(?:32|64))\b"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def _plan(name: str, guard: Guard | None = None, **options: Any) -> Plan:
    rule = CATALOGUE[name]
    return plan(rule, rule.variant(rule.resolve(options)), FORMATS["float32"], guard or Guard())


def _prelude(name: str, **options: Any) -> Prelude:
    return _plan(name, **options).prelude


def _inexact(ptx: str) -> set[str]:
    """Return the operations on numbers that are not rounded once, to nearest."""
    return set(re.findall(_ARITHMETIC, ptx)) - _EXACT


def _loose(llir: str) -> set[str]:
    """Return what allows a compiler to change bits."""
    return set(re.findall(r"\b(fast|contract|afn|arcp|reassoc|llvm\.fma\w*|llvm\.fmuladd)\b", llir))


def _check(text: str, target: str, threads: int, constants: dict[str, Any]) -> None:
    assembly = gpu.compiled(text, target, threads, constants).asm
    if "libdevice." in text:  # the library's own functions have all of that
        return
    if "ptx" in assembly:
        assert not _inexact(assembly["ptx"])
    else:  # divisions and roots that are exact are made of fused multiply-adds there
        assert not _loose(assembly["llir"])


@needs_triton
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_rule_compiles(name: str) -> None:
    prelude = _prelude(name)
    # In turns: all of them on all would take three times as long.
    target = ("sm_90", "sm_80", "gfx942")[list(CATALOGUE).index(name) % 3]
    _check(triton_prelude.emit(prelude), target, triton_prelude.threads_of(prelude), {"GUARDED": True})


@needs_triton
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
@pytest.mark.dear
def test_with_the_factors_of_guards(target: str) -> None:
    recipe = _plan("adamw", Guard(clips_norm=True, clips_update=True))
    threads = triton_prelude.threads_of(recipe.prelude, recipe.before)
    assert threads > triton_prelude.threads_of(_prelude("adamw"))
    text = triton_prelude.emit(recipe.prelude, recipe.before)
    assert "power(" in text
    assert "libdevice." not in text
    _check(text, target, threads, {"GUARDED": True})


@needs_triton
@pytest.mark.parametrize(
    ("target", "columns", "skips", "clips"),
    [("sm_90", 1, False, True), ("sm_90", 2, True, True), ("sm_80", 2, True, False), ("gfx942", 2, True, True)],
)
def test_decisions_compile(target: str, columns: int, skips: bool, clips: bool) -> None:
    constants = {"COLUMNS": columns, "SKIPS": skips, "CLIPS": clips}
    _check(triton_decide.emit(), target, triton_decide.THREADS, constants)


@needs_triton
def test_one_block() -> None:
    # Triton takes an argument of 1 for a constant.
    constants = {"blocks": 1, "COLUMNS": 2, "SKIPS": True, "CLIPS": True}
    _check(triton_decide.emit(), "sm_90", triton_decide.THREADS, constants)


@needs_triton
@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_all_functions_are_in_the_libraries(target: str) -> None:
    x, y = symbol("x", "host"), symbol("y", "host")
    two = ("atan2", "copysign", "fmod", "hypot", "nextafter", "pow")
    row = [host_call(name, x, y) if name in two else host_call(name, x) for name in LIBRARY]
    row += [host_call("ldexp", x, host_call("floor", y)), x % y, x // y, host_call("isclose", x, y)]
    prelude = make_prelude(("x", "y"), row, {})
    assert gpu.compiled(triton_prelude.emit(prelude), target, 32, {"GUARDED": False}).asm


@needs_triton
def test_what_is_not_exact_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    prelude = _prelude("adamw")
    text = triton_prelude.emit(prelude)
    exact = gpu.options

    def fused(threads: int, warp_size: int) -> dict[str, Any]:
        return {**exact(threads, warp_size), "enable_fp_fusion": True}

    monkeypatch.setattr(gpu, "options", fused)
    assert "fma.rn.f64" in _inexact(gpu.compiled(text, "sm_90", 32, {"GUARDED": False}).asm["ptx"])
    monkeypatch.undo()
    library = triton_prelude.emit(_prelude("nadam"))
    assert "fma.rn.f64" in _inexact(gpu.compiled(library, "sm_90", 32, {"GUARDED": False}).asm["ptx"])


def test_text_needs_no_triton() -> None:
    prelude = _prelude("nadam")
    assert triton_prelude.width_of(prelude) == len(triton_prelude.WORDS) + 1
    assert "libdevice.pow(" in triton_prelude.emit(prelude)
    with pytest.raises(TargetError, match=r"math\.gamma with 1 argument is not computed on devices"):
        triton_prelude.emit(make_prelude(("x",), [host_call("gamma", symbol("x", "host"))], {}))


def test_what_is_not_used_is_not_loaded() -> None:
    prelude = _prelude("adamw", eps_hat=True)
    unused = make_prelude((*prelude.arguments, "never_used"), list(prelude.results), {})
    assert "never_used" not in triton_prelude.emit(unused).partition("def kernel")[2]


def test_preludes_are_equal_by_their_text() -> None:
    # Kernels are cached by their plans.
    one, other = (make_prelude(("x",), [symbol("x", "host") * 2], {}) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert "results" not in repr(one)
