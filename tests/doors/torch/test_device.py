"""The PyTorch door on a device with kernels, without a GPU: Triton interprets them (``torch_device_*.py``)."""

from __future__ import annotations

import pytest

from tests.conftest import Apart

DEVICE = [f"tests/doors/torch/apart_device_{name}.py" for name in ("bits", "steps")]


@pytest.mark.apart(
    "tests/doors/torch/apart_device_bits.py", "tests/doors/torch/apart_device_steps.py", "-m", "not slow"
)
def test_on_a_device(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart(*DEVICE, "-m", "slow")
def test_on_a_device_at_length(apart: Apart) -> None:
    apart.check()
