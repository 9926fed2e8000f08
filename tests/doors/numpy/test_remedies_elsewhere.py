"""What messages tell those to do who give tensors or arrays of JAX to the NumPy door."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import steprule as sr
from steprule.errors import StructureError
from tests.doors.numpy.test_remedies import helped, told

pytestmark = pytest.mark.apart


def test_parameters() -> None:
    assert helped({"w": jnp.ones(2)}).tolist() == [0, 0]
    for tensor in (torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2))):
        assert helped({"w": tensor}).tolist() == [0, 0]
        assert tensor.tolist() == [0, 0]


@pytest.mark.parametrize("grad", [jnp.full(2, 0.5), torch.full((2,), 0.5, requires_grad=True)])
def test_gradients(grad: Any) -> None:
    params = {"w": np.ones(2, np.float32)}
    optimizer, grads = sr.Optimizer(params, "sgd", lr=1.0), {"w": grad}
    with pytest.raises(StructureError) as caught:
        optimizer.step(grads)
    optimizer.step({"w": eval(told(caught.value), {"np": np, "grads": grads})})
    assert params["w"].tolist() == [0.5, 0.5]
