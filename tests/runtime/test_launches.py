"""A million launches, each once."""

from __future__ import annotations

import pytest

from tests.runtime.test_runtime import script

pytestmark = pytest.mark.apart


@pytest.mark.slow
def test_a_million_launches() -> None:
    script("""
    launch.CHUNK = 16
    theta = np.zeros(64, np.float32)
    opt = sr.Optimizer(theta, "momentum_ema", lr=1e-9)
    g = np.ones(64, np.float32)
    for _ in range(1_000_000):
        opt.step(g)
    assert opt.t == 1_000_000
    # Arrays freed right after a step, gradients new each time.
    for n in range(20_000):
        theta = np.zeros(32 + n % 64)
        sr.Optimizer(theta, "sgd", lr=1.0).step(np.ones_like(theta))
        assert theta[0] == -1 and theta[-1] == -1
    """)
