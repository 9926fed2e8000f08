"""The JAX door, in a process of its own beside the suite, with eight devices made of this processor."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/doors/jax/apart_bits.py")
def test_bits(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/jax/apart_door.py")
def test_the_door(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/jax/apart_agreement.py")
def test_agreement_with_optax(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/jax/apart_habits.py")
def test_habits(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/jax/apart_remedies.py")
def test_what_messages_say_to_do(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/jax/apart_states.py")
def test_states(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/jax/apart_checkpoint.py")
def test_checkpoints(apart: Apart) -> None:
    apart.check()


REPLACED = ("-p", "tests.doors.jax.optax_replaced", "-W", "default", "--timeout=1200", "--pyargs")
"""optax's own tests, with our transformations in the place of optax's."""


@pytest.mark.apart(
    *REPLACED,
    *(f"optax.transforms._{name}_test" for name in ("masking", "combining", "freezing")),
    "optax.tree_utils._state_utils_test",
    "optax.contrib._schedule_free_test",
    "optax._src.alias_test",
    "-k",
    "not AliasTest or explicit_dtype or preserve_dtype or inject_hyperparams",
)
def test_the_tests_of_optax(apart: Apart) -> None:
    apart.check("skipped", "xfailed", "xpassed")


@pytest.mark.slow
@pytest.mark.apart(*REPLACED, "optax._src.alias_test", "optax.transforms._accumulation_test")
def test_the_tests_of_optax_at_length(apart: Apart) -> None:
    apart.check("skipped", "xfailed", "xpassed")


@pytest.mark.apart("tests/doors/jax/apart_example.py")
def test_the_example(apart: Apart) -> None:
    apart.check()
