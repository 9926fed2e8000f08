"""Muon and schedule-free after 50 steps: as far from other libraries as docs/benchmarks.md says, and no further.

Nothing is rounded alike: of the bounds, those of float64 allow some last places, those of float32 as many, and the
one of torch.optim's Muon as it is the rounding of its products, in bfloat16.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
import torch
from benchmarks import agreement

import steprule.torch

BOUNDS = {"float64": 1e-14, "float32": 5e-6}
IN_BFLOAT16 = 2e-2
WITH_EPS = 1e-8
"""optax's Muon adds its eps, of 1e-8, to norms; here they are at least that."""
Rows = Callable[[], Iterator[list[str]]]


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Take one thread for matrices this small, and numbers of 64 bits in JAX."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with jax.enable_x64(True):
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("rows", [agreement.of_muon, agreement.of_schedule_free, agreement.of_optax])
@pytest.mark.dear
def test_fifty_steps_lead_where_those_of_others_do(rows: Rows) -> None:
    if rows is agreement.of_schedule_free:
        pytest.importorskip("schedulefree")
    found = list(rows())
    assert len(found) >= 4
    for words, beside, kind, difference in found:
        bound = IN_BFLOAT16 if "as it is" in beside else BOUNDS[kind]
        bound = max(bound, WITH_EPS) if beside == "optax.contrib.muon" else bound
        assert float(difference) < bound, (words, beside, kind)


@pytest.mark.parametrize("change", [{"momentum": 0.9501}, {"weight_decay": 0.1001}, {"ns_steps": 6}])
def test_another_option_would_be_seen(change: dict[str, Any]) -> None:
    with agreement.wide_products():
        one, other = (
            agreement.through_torch(functools.partial(made, **options), agreement.MATRICES)("float64")
            for made, options in (
                (steprule.torch.Muon, {**agreement.MUON, **change}),
                (torch.optim.Muon, agreement.MUON),
            )
        )
    assert agreement.difference(one, other, agreement.MATRICES) > 1e3 * BOUNDS["float64"]


def test_what_torch_multiplies_in_bfloat16_is_seen() -> None:
    ours, theirs = (
        agreement.through_torch(functools.partial(made, **agreement.MUON), agreement.MATRICES)("float32")
        for made in (steprule.torch.Muon, torch.optim.Muon)
    )
    assert agreement.difference(ours, theirs, agreement.MATRICES) > BOUNDS["float32"]
