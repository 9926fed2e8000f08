"""Random histories beside torch.optim, for all classes that both have."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from steprule.doors.torch.launch import TensorLaunch
from tests import ROOT
from tests.doors.histories import check, drawn
from tests.doors.torch.cases import TORCH_NAMES, one_thread
from tests.doors.torch.histories import WEIGHTS, play
from tests.doors.torch.histories.case import OPTIONS
from tests.doors.torch.histories.compare import DIFFERENCES

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def played(seeds: range, length: int) -> Counter[str]:
    """Play the histories of many seeds, and return what came of their operations."""
    came: Counter[str] = Counter()
    for seed in seeds:
        came += check(play, seed, drawn(seed, WEIGHTS, length))
    return came


def test_histories_agree_with_torch() -> None:
    assert set(OPTIONS) == set(TORCH_NAMES)
    came = played(range(96), 30)
    # Nothing is shown by operations that fail on both sides.
    refused = {name for name in WEIGHTS if "refused" in name or name == "state_of_another_shape"}
    assert {name for name in WEIGHTS if came[f"{name}: done"] < 5} <= refused, came
    assert all(came[f"{name}: raised"] >= 5 for name in refused), came
    assert not came["step: raised"], came


def test_what_histories_leave_out_is_documented() -> None:
    text = (ROOT / "docs" / "torch.md").read_text()
    assert [found.row for found in DIFFERENCES if f"| {found.row} |" not in text] == []
    assert all(found.dtype is not None or found.how for found in DIFFERENCES)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_thousand_histories_agree_with_torch(part: int) -> None:
    played(range(1000 + 250 * part, 1250 + 250 * part), 30)


def test_a_fault_is_found_and_cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that does nothing shows at the first step along a gradient, whatever came before."""
    monkeypatch.setattr(TensorLaunch, "take", lambda self, factor, entries, names, readings: None)
    with pytest.raises(AssertionError) as caught:
        check(play, 4, drawn(0, WEIGHTS, 40))
    words = str(caught.value)
    assert re.search(r"torch.histories.play.play\(4, \[\n( +\('\w+', \d+\),\n){1,2}\]\)$", words), words
