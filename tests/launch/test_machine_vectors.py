"""Numbers of rows and columns by machine code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import llvm, llvm_vectors, numpy_vectors
from steprule.compile import Plan
from steprule.engine import plan
from steprule.formats import FORMATS
from steprule.language.matrices import ROWS
from steprule.language.sums import BLOCK
from steprule.launch.machine import MachineCodeBackend
from steprule.runtime.jit import MachineCode
from steprule.runtime.launch import Table
from tests.cases import assert_same_bits
from tests.launch.row_rules import RULES
from tests.launch.test_rows import SHAPES, starts, stepped

NOT_A_FEW = [(3 * ROWS, 5), (2 * ROWS + 1, 7), (3, 2 * BLOCK + 77), (2, 5 * BLOCK + 3), (2, ROWS + 3, 130)]


def fail(*_: Any) -> Any:
    raise AssertionError("NumPy was asked")


@pytest.mark.parametrize("name", RULES)
def test_machine_code_computes_them_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = SHAPES if name != "mixed" else [(300, 20)]
    arrays, expected = starts("float32", shapes), starts("float32", shapes)
    stepped(sr.Optimizer(expected, RULES[name], backend="numpy"), expected, (1, 2, 3))
    monkeypatch.setattr(numpy_vectors, "load", fail)
    stepped(sr.Optimizer(arrays, RULES[name]), arrays, (1, 2, 3))
    for one, other in zip(arrays, expected, strict=True):
        assert_same_bits(one, other, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mixed", "confident", "crossed"])
def test_sums_of_more_than_a_tile(name: str, dtype: str) -> None:
    for shape in NOT_A_FEW:
        arrays, expected = starts(dtype, [shape]), starts(dtype, [shape])
        referee = stepped(sr.Optimizer(expected, RULES[name], backend="numpy"), expected, (1, 2))
        optimizer = stepped(sr.Optimizer(arrays, RULES[name]), arrays, (1, 2))
        assert_same_bits(arrays[0], expected[0], f"{name} on {shape}")
        for slot in RULES[name].slots:
            own, other = (np.asarray(of.slots[slot][0]) for of in (optimizer, referee))
            assert_same_bits(own, other, f"{slot} of {name} on {shape}")


@dataclass(frozen=True)
class OfWidth(MachineCodeBackend):
    """Machine code whose loops with sums have vectors of so many float32."""

    width: int | None

    def load(self, plan: Plan) -> Any:
        return MachineCode(llvm.emit(plan, self.width), "kernel", llvm_vectors.functions(plan))


@pytest.mark.parametrize("rule", ["lamb", "lars", RULES["factored"], RULES["in_pairs"]])
def test_the_width_of_vectors_does_not_matter(rule: Any) -> None:
    found = []
    for width in (None, 4, 16):
        arrays = starts("float32", [(300, 20), (7,), (2, BLOCK + 77)])
        stepped(sr.Optimizer(arrays, rule, backend=OfWidth(width)), arrays, (1, 2))
        found.append(arrays)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert_same_bits(one, other)


def test_only_loops_with_sums_are_widened() -> None:
    lamb = sr.rules.find("lamb")
    last = plan(lamb, lamb.variant(lamb.resolve({})), FORMATS["float32"])
    widened = "llvm.loop.vectorize.width"
    assert widened in llvm.emit(last.before[0], 16)
    assert widened not in llvm.emit(last, 16)
    assert widened not in llvm.emit(last.before[0])


def chunks_of(sizes: Sequence[int], *, backwards: bool) -> list[list[int]]:
    found: list[list[int]] = Table(sizes, 2, backwards=backwards)._chunks.tolist()
    return found


def test_backwards_the_same_chunks_are_taken_from_the_last_on() -> None:
    sizes = [3, 100_000, 5]
    assert chunks_of(sizes, backwards=True) == chunks_of(sizes, backwards=False)[::-1]
    assert len(chunks_of(sizes, backwards=True)) > len(sizes)


def test_passes_go_to_and_fro() -> None:
    """What a pass has read last, the next reads first."""
    lamb, factored = sr.rules.find("lamb"), RULES["factored"]
    for rule, counts in ((lamb, [0, 1]), (factored, [0, 2, 3]), (sr.rules.find("adam"), [0])):
        last = plan(rule, rule.variant(rule.resolve({})), FORMATS["float32"])
        assert [own.launches_before for own in (*last.before, last)] == counts


def test_what_a_pass_before_has_hoisted_is_not_computed_again() -> None:
    confident = RULES["confident"]
    last = plan(confident, confident.variant(confident.resolve({})), FORMATS["float32"])
    computed = [
        own.vectors and [own.planes[len(own.kept_planes) + k].name for k in own.vectors.computed] for own in last.before
    ]
    assert computed == [[], ["_of_row0", "_of_column1"], []]
    assert llvm_vectors.functions(last) == ("vectors", "written")
    assert llvm_vectors.functions(last.before[2]) == ()
