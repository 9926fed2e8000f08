"""Kernels of Triton have the referee's bits, in its interpreter: ``apart_triton_bits.py``, run beside the suite."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/backends/triton/apart_bits.py", "-m", "not slow")
def test_in_the_interpreter(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/backends/triton/apart_bits.py", "-m", "slow")
def test_in_the_interpreter_at_length(apart: Apart) -> None:
    apart.check()
