"""Random histories beside torch.optim, for all classes that both have."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.histories import check, drawn
from tests.torch_cases import one_thread
from tests.torch_histories import WEIGHTS, play

pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def played(seeds: range, length: int) -> Counter[str]:
    """Play the histories of many seeds, and return what came of their operations."""
    came: Counter[str] = Counter()
    for seed in seeds:
        came += check(play, seed, drawn(seed, WEIGHTS, length))
    return came


def test_histories_agree_with_torch() -> None:
    came = played(range(80), 30)
    print(came)
