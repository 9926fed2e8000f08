"""Settings of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

import steprule as sr

hypothesis.settings.register_profile("default", deadline=None, max_examples=60)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = sr.get_num_threads()
    yield
    sr.set_num_threads(before)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> int:
    sr.set_num_threads(request.param)
    return int(request.param)
