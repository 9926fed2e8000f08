"""The PyTorch door on a device with kernels, without a GPU: Triton interprets them (``torch_device_*.py``)."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/torch_device_bits.py", "tests/torch_device_steps.py", "-m", "not slow")
def test_on_a_device(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/torch_device_bits.py", "tests/torch_device_steps.py", "-m", "slow")
def test_on_a_device_at_length(apart: Apart) -> None:
    apart.check()
