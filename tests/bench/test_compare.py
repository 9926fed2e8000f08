"""Who takes part, what is measured of them, and what becomes of those who fail."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steprule.bench import compare as comparing
from steprule.bench.alone import Alone, AloneError, Sizes, alone, errors, measured
from steprule.bench.compare import Comparison, Settings, compare
from steprule.bench.contestant import kept_bytes
from steprule.bench.on_numpy import ByHand
from steprule.bench.peers import PEERS, Peer, chosen, named
from steprule.bench.report import Shown, markdown, notes, tables
from steprule.bench.work import Work, gpt2, works
from steprule.errors import HyperparameterError

TINY = Sizes(elements=2_000, steps=5, error_elements=50, zero_steps=3, zero_elements=100)
MEASURED = Alone(0.5, 0.25, 12.0, None, 1.5, None, None)
WORKS = [Work("one", ((3,),)), Work("two", ((2, 2), (5,)))]
QUICK = Settings(WORKS, turns=2, turn=1e-6, sizes=TINY)


class Fake(ByHand):
    """An optimizer that fails at a step."""

    def __init__(self, thetas: Sequence[NDArray[Any]], fails_at: int) -> None:
        super().__init__(thetas)
        self.steps, self.fails_at = 0, fails_at

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise ValueError("no more\nof this")
        super().step()


def _peer(name: str, fails_at: int = 0, **rest: Any) -> Peer:
    return Peer(name, "a fake", "fake", "fake", lambda thetas: Fake(thetas, fails_at), rest.pop("needs", ()), **rest)


def _compare(peers: Sequence[Peer], settings: Settings = QUICK, **rest: Any) -> Comparison:
    return compare(peers, settings, by_itself=lambda *_: MEASURED, **rest)


def test_every_round_has_everyone_of_it() -> None:
    found = _compare([_peer("a"), _peer("b")])
    assert found.is_whole
    assert {work: [sorted(one) for one in own] for work, own in found.rounds.items()} == {
        "one": [["a", "b"]] * 2,
        "two": [["a", "b"]] * 2,
    }


@pytest.mark.parametrize("fails_at", [1, 4])
def test_one_that_fails_is_told_of_and_left_out_of_the_rounds(fails_at: int) -> None:
    found = _compare([_peer("a"), _peer("bad", fails_at)])
    assert found.is_whole
    assert found.absent["one"] == {"bad": "ValueError: no more"}
    assert [sorted(one) for one in found.rounds["one"]] == [["a"]] * 2
    assert any(note == "bad took no part in one: ValueError: no more" for note in notes(found))


def test_one_whose_first_step_takes_too_long_is_given_up() -> None:
    class Compiles(Fake):
        def step(self) -> None:
            time.sleep(20)

    slow = replace(_peer("slow"), make=lambda thetas: Compiles(thetas, 0))
    found = _compare([_peer("a"), slow], replace(QUICK, seconds=0.2))
    assert found.is_whole
    assert found.absent == {one: {"slow": "TimeoutError: no step within 0.2 s"} for one in ("one", "two")}


def test_one_that_cannot_be_made_is_told_of() -> None:
    def make(_: object) -> Fake:
        raise RuntimeError("needs another machine")

    found = _compare([_peer("a"), replace(_peer("bad"), make=make)])
    assert found.absent == {one: {"bad": "RuntimeError: needs another machine"} for one in ("one", "two")}
    assert not found.failed


def test_one_that_does_not_work_by_itself_takes_no_part() -> None:
    def by_itself(peer: Peer, *_: object) -> Alone:
        if peer.name == "bad":
            raise AloneError("no GPU")
        return MEASURED

    found = compare([_peer("a"), _peer("bad")], QUICK, by_itself=by_itself)
    assert found.failed == {"bad": "no GPU"}
    assert list(found.alone) == list(found.rounds["one"][0]) == ["a"]


def test_who_is_missing_or_waits_for_a_compiler_is_said() -> None:
    peers = [_peer("a"), _peer("gone", needs=("no_such_module",)), _peer("slow", compiles=True)]
    found = _compare(peers)
    assert found.missing == {"gone": ["no_such_module"]}
    assert list(found.left_out) == ["slow"]
    text = " ".join(notes(found))
    assert "Not installed: gone (no no_such_module)." in text
    assert "slow (it waits for a compiler: --compiled)" in text
    assert list(_compare(peers, compiled=True).rounds["one"][0]) == ["a", "slow"]


def test_what_is_known_when_it_is_interrupted_is_kept() -> None:
    def say(doing: str) -> None:
        if doing == "two, side by side":
            raise KeyboardInterrupt

    found = _compare([_peer("a")], say=say)
    assert not found.is_whole
    assert len(found.rounds["one"]) == 2
    assert len(tables(found)) == 2
    assert "It was interrupted" in " ".join(notes(found))


def test_an_interruption_in_a_round_leaves_whole_rounds_of_those_who_work() -> None:
    class Interrupts(Fake):
        def step(self) -> None:
            self.steps += 1
            if self.steps == 6:  # two calls to warm up and two in each round: in the second round
                raise KeyboardInterrupt

    peers = [_peer("a"), _peer("bad", 3), replace(_peer("b"), make=lambda thetas: Interrupts(thetas, 0))]
    found = _compare(peers, replace(QUICK, works=WORKS[:1]))
    assert not found.is_whole
    assert [sorted(one) for one in found.rounds["one"]] == [["a", "b"]]
    assert list(found.absent["one"]) == ["bad"]


def test_what_stands_in_for_a_work_that_memory_would_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "available_bytes", lambda: 18 * 2 * 11)
    smaller = (Work("of 8", ((8,),)), Work("of 7", ((3,), (4,))), Work("of 1", ((1,),)))
    found = _compare([_peer("a"), _peer("b")], Settings([Work("of 9", ((9,),), smaller), Work("v", ((20,),))], 1, 1e-6))
    assert list(found.rounds) == [
        "of 7",
        "v",
    ]  # 70 % of what is free holds seven elements for each; v has nothing smaller
    assert found.smaller == {"of 9": "of 7"}
    assert "Memory would not hold of 9 once for each; of 7 stands in for it." in list(notes(found))


def _straight(gradients: list[list[float]], theta: list[float]) -> list[float]:
    """AdamW (Loshchilov & Hutter 2019), number by number."""
    out = []
    for i, start in enumerate(theta):
        x, m, v = start, 0.0, 0.0
        for t, g in enumerate(gradients, 1):
            m = 0.9 * m + 0.1 * g[i]
            v = 0.999 * v + 0.001 * g[i] * g[i]
            x -= 0.001 * 0.01 * x
            x -= 0.001 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        out.append(x)
    return out


def test_adamw_in_float64_is_a_loop_over_numbers() -> None:
    rng = np.random.default_rng(3)
    theta, gradients = rng.standard_normal(4), rng.standard_normal((7, 4))
    made = ByHand([theta])
    for gradient in gradients:
        made.give([gradient])
        made.step()
    expected = _straight(gradients.tolist(), theta.tolist())
    np.testing.assert_allclose(made.parameters()[0], expected, rtol=1e-14, atol=0)


def test_an_error_is_counted_in_last_places() -> None:
    class Off:
        """What float64 does, and then three last places too far, but for one number, which is five off."""

        def __init__(self, thetas: Sequence[NDArray[Any]]) -> None:
            self.exact = ByHand([theta.astype(np.float64) for theta in thetas])
            self.step, self.kept = self.exact.step, self.exact.kept

        def give(self, gradients: Sequence[NDArray[Any]]) -> None:
            self.exact.give([gradient.astype(np.float64) for gradient in gradients])

        def parameters(self) -> list[NDArray[np.float64]]:
            off = np.full(50, 3.0)
            off[7] = -5.0
            return [self.exact.parameters()[0] + off * np.spacing(np.float32(1.5)).astype(np.float64)]

    mean, largest = errors(Off, TINY)
    assert (round(mean, 6), round(largest, 6)) == (3.04, 5.0)
    assert 0 < errors(ByHand, TINY)[0] < 3


def test_bytes_are_counted_once_and_within_what_holds_them() -> None:
    array, tensor = np.zeros(10, np.float32), torch.zeros(6, dtype=torch.bfloat16)
    assert kept_bytes({"a": [array, array], "b": (tensor, tensor[2:], None, 3.0, "text")}) == 40 + 12
    assert kept_bytes([SimpleNamespace(codes=np.zeros(5, np.uint8), scale=np.zeros(1, np.float32))]) == 9


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [("NumPy by hand", 12), ("steprule NumPy", 12), ("steprule torch", 12), ("torch fused", 12)],
)
def test_a_contestant_by_itself(name: str, bytes_: int) -> None:
    found = measured(named(name), TINY, 0.5)
    assert found.import_seconds == 0.5
    assert bytes_ <= found.kept < bytes_ + 0.02
    assert found.zero_ratio > 0
    assert found.error is not None
    assert found.largest_error is not None
    assert 0 < found.error <= found.largest_error < 20


def test_coded_slots_take_fewer_bytes_and_have_larger_errors() -> None:
    plain, *coded = [peer for peer in PEERS if peer.name.startswith("steprule torch")]
    sizes = replace(TINY, elements=20_000, error_elements=5_000, zero_elements=5_000)
    kept = [measured(peer, sizes, 0.0).kept for peer in (plain, *coded)]
    assert len(kept) == 4
    assert kept[0] > 12 > 7 > max(kept[1:])
    assert all(errors(peer.make, sizes)[0] > 5 * errors(plain.make, sizes)[0] for peer in coded)


def test_a_process_of_its_own_says_what_went_wrong() -> None:
    with pytest.raises(AloneError, match="No module named 'no_such_module'"):
        alone(replace(named("NumPy by hand"), module="no_such_module"), TINY, 60)
    with pytest.raises(AloneError, match="not done after 0 s"):
        alone(named("NumPy by hand"), TINY, 0.01)


def test_a_process_of_its_own_measures() -> None:
    found = alone(named("NumPy by hand"), TINY, 60)
    assert found.import_seconds > 0
    assert found.kept == 12.0


def test_peers_are_chosen_by_library_or_name() -> None:
    assert [peer.name for peer in chosen(["numpy", "torch fused"])] == ["NumPy by hand", "torch fused"]
    assert chosen(None) == list(PEERS)
    with pytest.raises(HyperparameterError, match=r"nobody is called 'optx'\. Did you mean 'optax'"):
        chosen(["optx"])
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert all(peer.name.isprintable() and not set("|,") & set(peer.name) for peer in PEERS)


def test_gpt2_has_its_148_tensors() -> None:
    assert (len(gpt2().shapes), gpt2().elements) == (148, 124_439_808)
    assert [len(work.shapes) for work in works("usual")] == [1, 148, 1_000, 1]


def test_tables_have_the_fastest_first_and_its_times_as_ratios() -> None:
    found = Comparison(_compare([]).about, rounds={"w": [{"a": 4e-3, "b": 1e-3}, {"a": 6e-3, "b": 3e-3}]})
    assert tables(found) == [
        Shown(
            "A step of w, in ms: 2 rounds",
            ["", "median", "quartiles", "times the fastest"],
            [["b", "2.00", "1.50 to 2.50", "1.00"], ["a", "5.00", "4.50 to 5.50", "3.00"]],
        )
    ]
    assert "| a | 5.00 | 4.50 to 5.50 | 3.00 |" in markdown(found)


def test_what_is_saved_comes_back() -> None:
    found = _compare([_peer("a")])
    assert Comparison.of(json.loads(json.dumps(found.as_json()))) == found
