"""The JAX door, in a process of its own beside the suite, with eight devices made of this processor."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/apart_jax_bits.py")
def test_bits(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_jax_door.py")
def test_the_door(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_jax_agreement.py")
def test_agreement_with_optax(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_jax_example.py")
def test_the_example(apart: Apart) -> None:
    apart.check()
