"""What rules with sums make of tensors of zeros, of one element, of none, of infinite norms, of NaN in one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import steprule as sr
import steprule.torch as door
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import MATRICES, Array, Direct, assert_same_bits, same, sees
from tests.covering import rotated

SUMMING = [name for name, rule in CATALOGUE.items() if sees(rule) != "element"]
TOGETHER = [name for name in SUMMING if sees(CATALOGUE[name]) == "all"]
DTYPES = ["float32", "float64"]
ONES = np.ones((3, 4))
RAMP = np.linspace(-1.5, 2.0, 12).reshape(3, 4)
# Parameter and gradient, of which all is finite afterwards.
TAME: dict[str, tuple[Array, Array]] = {
    "a parameter of zeros": (0 * ONES, RAMP),
    "a gradient of zeros": (RAMP, 0 * ONES),
    "both": (0 * ONES, 0 * ONES),
    "one element": (np.array([0.5]), np.array([-2.0])),
    "one element of two axes": (np.array([[0.5]]), np.array([[-2.0]])),
    "no axes": (np.array(0.5), np.array(-2.0)),
    "a vector": (RAMP.ravel(), RAMP.ravel()[::-1]),
    "one row": (RAMP.reshape(1, 12), RAMP.reshape(1, 12)[:, ::-1]),
    "one column": (RAMP.reshape(12, 1), RAMP.reshape(12, 1)[::-1]),
    "a row and a column of zeros": (RAMP, RAMP * np.outer([1, 0, 1], [1, 1, 0, 1])),
    "no elements": (np.zeros(0), np.zeros(0)),
    "no rows": (np.zeros((0, 3)), np.zeros((0, 3))),
    "no columns": (np.zeros((3, 0)), np.zeros((3, 0))),
}
# Of these the rule called on arrays says what comes of them.
WILD: dict[str, tuple[Array, Array]] = {
    "squares beyond float32": (RAMP * 1e25, RAMP * 1e25),
    "squares below float32": (RAMP * 1e-30, RAMP * 1e-30),
    "squares beyond float64": (RAMP, RAMP * 1e200),
    "an infinite gradient": (RAMP, np.where(RAMP > 1.9, np.inf, RAMP)),
    "an infinite parameter": (np.where(RAMP > 1.9, np.inf, RAMP), RAMP),
    "NaN in the gradient": (RAMP, np.where(RAMP > 1.9, np.nan, RAMP)),
}
ALL = {**TAME, **WILD}


def arrays_of(what: str, dtype: str) -> tuple[Array, Array]:
    with np.errstate(over="ignore", under="ignore"):
        theta, g = (np.array(array, dtype, order="C") for array in ALL[what])
    return theta, g


def by_torch(name: str, theta: Array, g: Array, steps: int) -> tuple[Array, Any]:
    param = torch.from_numpy(theta.copy())
    optimizer = door.Optimizer([param], name)
    for _ in range(steps):
        param.grad = torch.from_numpy(g.copy())
        optimizer.step()
    return param.numpy(), optimizer.state[param]


@pytest.mark.parametrize(("what", "dtype"), rotated(ALL, DTYPES))
@pytest.mark.parametrize("name", SUMMING)
def test_steps_are_the_rule_called_on_arrays_everywhere(name: str, what: str, dtype: str) -> None:
    theta, g = arrays_of(what, dtype)
    direct = Direct(CATALOGUE[name], theta.copy())
    optimizers = [sr.Optimizer(theta.copy(), name, backend=backend) for backend in ("llvm", "numpy")]
    for _ in range(3):
        direct.step(g)
        for optimizer in optimizers:
            optimizer.step(g)
    for optimizer in optimizers:
        assert_same_bits(optimizer.params, direct.theta, f"{name}: {what}")
    param, state = by_torch(name, theta, g, 3)
    assert_same_bits(param, direct.theta, f"{name} in torch: {what}")
    for slot in CATALOGUE[name].numbers & state.keys():
        assert same(state[slot].item(), direct.slots[slot])
    assert what in WILD or np.isfinite(direct.theta).all()


@pytest.mark.parametrize("backend", ["llvm", "numpy", "torch"])
@pytest.mark.parametrize("name", TOGETHER)
def test_nan_in_one_tensor_leaves_the_others_and_the_estimate(name: str, backend: str) -> None:
    """What it is over all: a sum that is NaN says nothing of how far away the solution is, and d stays."""
    arrays = [RAMP.copy(), ONES.ravel().copy()]
    params = [torch.from_numpy(array) for array in arrays]
    optimizer: Any = door.Optimizer(params, name) if backend == "torch" else sr.Optimizer(arrays, name, backend=backend)
    before = None
    for t in range(6):
        grads = [RAMP + t, ONES.ravel() * (1 + t)]
        if t == 3:
            before = _estimate(optimizer, params)
            grads[0][0, 0] = np.nan
        if backend == "torch":
            for param, g in zip(params, grads, strict=True):
                param.grad = torch.from_numpy(g)
            optimizer.step()
        else:
            optimizer.step(grads)
    assert np.isnan(arrays[0][0, 0])
    assert np.isfinite(arrays[0].ravel()[1:]).all()
    assert np.isfinite(arrays[1]).all()
    assert before == _estimate(optimizer, params)
    assert before is not None
    assert before > 1e-6, "nothing is proved by an estimate that never grew"


def _estimate(optimizer: Any, params: list[Any]) -> float:
    if isinstance(optimizer, door.Optimizer):
        return float(optimizer.state[params[0]]["d"])
    return float(optimizer.slots["d"][0])


@pytest.mark.parametrize("name", sorted(MATRICES))
def test_describe_says_that_a_vector_is_one_row(name: str) -> None:
    matrix, vector = np.zeros((3, 4), np.float32), np.zeros(4, np.float32)
    lines = sr.Optimizer([matrix, vector], name).describe().splitlines()
    assert "(one row)" in lines[-1]
    assert "(one row)" not in lines[-2]
    params = [torch.zeros(3, 4), torch.zeros(4)]
    lines = door.Optimizer(params, name).describe().splitlines()
    assert "(one row)" in lines[-1]
    assert "(one row)" not in lines[-2]


@pytest.mark.parametrize("name", SUMMING)
def test_what_sees_more_than_an_element_refuses_sparse_gradients(name: str) -> None:
    param = torch.ones(4, 3)
    before = param.clone()
    param.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 3), (4, 3), check_invariants=True)
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        door.Optimizer([param], name).step()
    assert torch.equal(param, before)
