"""Random histories of the NumPy door: machine code and the referee, side by side, in every bit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from steprule.doors.numpy import Optimizer
from steprule.launch.machine import MACHINE
from steprule.runtime import launch
from tests.doors.histories import check, drawn
from tests.doors.numpy.histories import RULES, WEIGHTS, play


@pytest.fixture(autouse=True)
def _small_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let launches of a few elements wake workers, and be of many chunks."""
    monkeypatch.setattr(launch, "WAKE_ELEMENTS", 1)
    monkeypatch.setattr(launch, "GRAIN_ELEMENTS", 1)
    monkeypatch.setattr(launch, "CHUNK", 128)


def played(seeds: range) -> Counter[str]:
    """Play the histories of many seeds, and return what came of their operations."""
    came: Counter[str] = Counter()
    for seed in seeds:
        came += check(play, seed, drawn(seed, WEIGHTS, 25))
    return came


def test_histories_agree_with_the_referee() -> None:
    came = played(range(len(RULES)))
    # Nothing is shown by operations that fail on both sides.
    refused = {"step_that_does_not_fit", "number_that_is_refused", "state_that_is_refused"}
    assert {name for name in WEIGHTS if came[f"{name}: done"] < 3} == refused, came
    assert all(came[f"{name}: raised"] >= 3 for name in refused), came
    assert not came["step: raised"], came


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_many_histories_agree_with_the_referee(part: int) -> None:
    played(range(100 + 50 * part, 150 + 50 * part))


def test_a_fault_is_found_and_cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is not equal in one element."""
    whole = Optimizer.__setstate__

    def lossy(self: Optimizer, state: dict[str, object]) -> None:
        whole(self, state)
        if self._backend is MACHINE:
            self.params[0][0].flat[0] = 7.0

    monkeypatch.setattr(Optimizer, "__setstate__", lossy)
    with pytest.raises(AssertionError) as caught, np.errstate(all="ignore"):
        check(play, 3, [("step", 1), ("copied", 2), ("step", 3), ("step_in_layouts", 4)])
    assert str(caught.value).endswith("tests.doors.numpy.histories.play(3, [\n    ('copied', 2),\n])")
