"""A plugin of pytest: optax's own tests, with our transformations in the place of optax's.

``python -m pytest -p tests.doors.jax.optax_replaced -W default --pyargs optax._src.alias_test``

What is only about transformations that are not ours is left out, and so is what this version of optax itself fails.
"""

from __future__ import annotations

import re

import optax
import pytest
from optax._src import alias

import steprule.jax as ours
from steprule.doors.jax.alias import NAMES

REPLACED = [name for name in NAMES if hasattr(alias, name)]
for _name in REPLACED:
    setattr(alias, _name, getattr(ours, _name))
    setattr(optax, _name, getattr(ours, _name))

_PLACES = "reads optax's own named tuples by their places in the state of a chain; ours is State(count, slots)"
DIFFERENT: dict[str, str] = {
    r"AliasTest.*params_dtype='bfloat16', state_dtype=None": "moments of 16-bit parameters are float32 here",
    r"AliasTest.*params_dtype=('bfloat16'|'float32'|None), state_dtype='complex64'": "moments of real numbers are real",
    r"AliasTest.*params_dtype='complex64', state_dtype='(bfloat16|float32)'": "moments of complex numbers are complex",
    "test_masked_state_structure": _PLACES,
    "StateUtilsTest::test_adam": _PLACES,
    "StateUtilsTest::test_inject_hparams": _PLACES,
    "test_map_non_params_to_none": _PLACES,
    "test_map_params_to_none": _PLACES,
    r"test_optimizers_can_be_wrapped_in_inject_hyperparams\d+ .*opt_name='adafactor'": (
        "traces decay_offset, which must be known; it is to be among static_args"
    ),
    # A number of each tensor is a pair of float32, whose second part another rounding of lr may change.
    r"test_optimizers_can_be_wrapped_in_inject_hyperparams\d+ .*opt_name='novograd'": (
        "asks for equal second parts of float64 numbers, 1e-15 of the first"
    ),
    r"AliasTest.*opt_name='adafactor'.*, dtype=<class 'jax\.numpy\.complex": (
        "rows and columns of complex arrays are refused, as torch.optim.Adafactor refuses them"
    ),
    "test_schedule_free_adamw": (
        "compares with optax's own Adam to 1e-6, whose 1 - 0.999**t in float32 is off by 3 in 10^5; ours is not"
    ),
}
"""What of optax's tests asks for something else, by a pattern of the test and its parameters, and why."""
_BROKEN = ("FreezeTest::test_bad_structure_raises", "test_selective_bad_structure")
"""Tests that ask for the words of an error of JAX, which has others by now."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not ours, and expect what differs to fail."""
    apart = []
    for item in items:
        of_test = f"{item.nodeid} {getattr(getattr(item, 'function', None), '__x_params_repr__', '')}"
        named = re.search(r"opt_name='(\w+)'", of_test)
        is_ours = named is None or named[1] in (*REPLACED, "sgd_mom")
        if not is_ours or "LBFGSTest" in of_test or any(name in of_test for name in _BROKEN):
            apart.append(item)
        for pattern, reason in DIFFERENT.items():
            if re.search(pattern, of_test):
                # What fails in a subtest alone is expected there, and the test around it passes.
                strict = not pattern.endswith(("state_dtype=None", "'novograd'"))
                item.add_marker(pytest.mark.xfail(reason=reason, strict=strict))
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if item not in apart]
