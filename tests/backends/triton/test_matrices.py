"""Kernels of rules that see rows and columns: machine code for GPUs that need not be there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from steprule.backends import triton as backend
from steprule.backends import triton_vectors
from steprule.cli import emit
from steprule.cli.compiled import code_of_gpu
from steprule.compile import Plan
from steprule.engine import PassKind, plan
from steprule.errors import TargetError
from steprule.formats import FORMATS, Storage
from steprule.rules import Rule
from steprule.rules.guard import UNGUARDED
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from steprule.runtime import gpu
from tests.backends.triton.test_code import INEXACT_IR, INEXACT_PTX, assembler, assert_exact, is_the_old_root
from tests.launch.row_rules import RULES

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None and sys.platform != "linux", reason="Triton is made for Linux, and not installed here"
)
PAPERS: tuple[Rule, ...] = (adafactor, came, adam_mini)
CASES = [
    (adafactor, "float32", "sm_90"),
    (came, "float64", "sm_80"),
    (adam_mini, "bfloat16", "gfx942"),
    (RULES["mixed"], "float32", "gfx942"),
    (RULES["in_pairs"], "float64", "sm_90"),
]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        patch.delenv("TRITON_INTERPRET", raising=False)
        yield


def plans_of(rule: Rule, dtype: str, kind: PassKind = "step") -> list[Plan]:
    """Return the plans of all passes of a step."""
    step = plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS[dtype]), UNGUARDED, kind)
    return [*step.before, step]


@pytest.mark.parametrize(("rule", "dtype", "target"), CASES, ids=str)
@pytest.mark.dear
def test_walks_over_elements_are_exact(rule: Rule, dtype: str, target: str, tmp_path: Path) -> None:
    for own in plans_of(rule, dtype):
        assert_exact(own, target, tmp_path, guarded=bool(own.stores))


@pytest.mark.parametrize(("rule", "dtype", "target"), CASES, ids=str)
@pytest.mark.dear
def test_numbers_of_rows_and_columns_are_exact(rule: Rule, dtype: str, target: str, tmp_path: Path) -> None:
    texts = [text for own in plans_of(rule, dtype) for text in triton_vectors.texts(own)]
    assert len(texts) > 2
    for text in texts:
        constants = {"GUARDED": True} if "GUARDED" in text else {}
        asm = gpu.compiled(text, target, triton_vectors.THREADS, constants).asm
        assert not [line for line in INEXACT_IR.findall(asm["llir"]) if not is_the_old_root(line, target)]
        if "ptx" in asm:
            assert not INEXACT_PTX.findall(asm["ptx"])
            assert "0 bytes stack frame, 0 bytes spill stores" in assembler(asm["ptx"], tmp_path)


def test_a_monitored_step_is_exact(tmp_path: Path) -> None:
    assert_exact(plans_of(came, "float32", "monitored")[-1], "sm_90", tmp_path)


def test_no_number_is_added_to_by_two_programs() -> None:
    """Sums have one order: no atomic operation, and no sum of more than two numbers by Triton's own order."""
    for rule in (*PAPERS, *RULES.values()):
        for own in plans_of(rule, "float32"):
            for text in [backend.emit(own), *triton_vectors.texts(own)]:
                assert "atomic" not in text
                assert all(
                    re.match(r"tl\.sum\(tl\.reshape\(left, \((\d+, )?2, \d+\)\), axis=", text[at:])
                    for at in at_sums(text)
                )


def at_sums(text: str) -> list[int]:
    return [found.start() for found in re.finditer(r"tl\.(sum|reduce|max|cumsum|associative_scan)\(", text)]


def test_loads_of_a_walk_come_before_what_is_computed() -> None:
    """A division has a branch, before which nothing behind it would be loaded: sums would wait for every number."""
    (walk,) = re.findall(r"def walk_tiles.*?\n\n", backend.emit(plans_of(adafactor, "float32")[1]), re.DOTALL)
    turns = walk.partition("while ")[2]
    assert turns.count("tl.load(p1 + at_") == 16
    assert turns.rindex("tl.load(") < turns.index("tl.div_rn(")


def test_emit_shows_all_kernels_of_a_pass() -> None:
    own = plans_of(adafactor, "float32")[1]
    text = emit._TEXTS[emit.Target.triton](own)
    assert text.count("def kernel(") == 3
    assert text.startswith(backend.emit(own))
    ptx = code_of_gpu(own, "ptx", "sm_90")
    assert ptx.count(".visible .entry kernel") == 3


def test_groups_of_elements_beside_rows_are_refused() -> None:
    slots = tuple((slot, "8bit") for slot in RULES["by_neuron"].slots if slot == "m")
    storage = Storage(FORMATS["float32"], slots=slots)
    rule = RULES["by_neuron"]
    own = plan(rule, rule.variant(rule.resolve({})), storage)
    with pytest.raises(TargetError, match=r"slots in groups .* are not written for Triton yet; use states='float32'"):
        backend.emit(own)
