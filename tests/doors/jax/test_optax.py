"""optax's own tests, with our transformations in the place of optax's: ``optax_replaced.py``."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests import ROOT

pytestmark = pytest.mark.apart

REPLACED = ["-p", "tests.doors.jax.optax_replaced", "-p", "no:cacheprovider", "-W", "default", "--tb=short"]


def run_tests(*arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", *REPLACED, "--timeout=1200", "--pyargs", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\[100%\]", done.stdout), done.stdout + done.stderr


@pytest.mark.timeout(1500)
@pytest.mark.slow
def test_the_tests_of_optax() -> None:
    run_tests(
        *(f"optax.transforms._{name}_test" for name in ("masking", "combining", "freezing")),
        "optax.tree_utils._state_utils_test",
        "optax.contrib._schedule_free_test",
        "optax._src.alias_test",
        "-k",
        "not AliasTest or explicit_dtype or preserve_dtype or inject_hyperparams",
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_tests_of_optax_at_length() -> None:
    run_tests("optax._src.alias_test", "optax.transforms._accumulation_test")
