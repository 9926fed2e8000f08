"""What is a backend, and what is none; and which gradients a launch walks as they lie."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import numpy as referee
from steprule.errors import TargetError
from steprule.launch import backend as protocol
from steprule.launch.backends import BACKENDS


def example() -> Any:
    """Return the class that the documentation of the protocol shows, as it stands there."""
    assert protocol.__doc__ is not None
    after = protocol.__doc__.split("For\nexample", 1)[1].split("::\n", 1)[1]
    names: dict[str, Any] = {"compiled": referee.load}
    exec(textwrap.dedent(after.split("``tests/", 1)[0].split("\nWhat ``load``", 1)[0]), names)
    return names["Mine"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_example_of_the_protocol_works_as_written(order: Any) -> None:
    stepped = []
    for backend in (example()(), "numpy"):
        params = [np.ones((3, 4)), np.arange(5.0), np.array(2.0)]
        optimizer = sr.Optimizer(params, "adamw", lr=0.1, backend=backend)
        for t in range(3):
            rng = np.random.default_rng(t)
            optimizer.step([np.asarray(rng.standard_normal(own.shape), order=order) for own in params])
        stepped.append([own.tobytes() for own in params])
    assert stepped[0] == stepped[1]


@pytest.mark.parametrize("given", [3, None, [], object()])
def test_what_is_no_backend_is_refused(given: Any) -> None:
    with pytest.raises(TargetError, match="backend must be 'llvm' or 'numpy', or an object with name, load and table"):
        sr.Optimizer(np.ones(3), backend=given)


def test_a_class_is_no_backend() -> None:
    with pytest.raises(TargetError, match=r"backend is the class Mine, expected an instance; write Mine\(\)"):
        sr.Optimizer(np.ones(3), backend=example())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "update_clip": True}], ids=["alone", "guards"])
def test_arrays_without_elements_have_any_strides(backend: str, options: dict[str, Any]) -> None:
    for theta, g in [
        (np.ones((4, 3))[:0], np.ones((3, 4)).T[:0]),
        (np.ones((4, 3))[:, :0], np.ones((8, 3))[::2, 2:2]),
        (np.ones((5, 2, 3))[:, :0], np.ones((3, 2, 5)).T[:, :0]),
    ]:
        other = np.ones(4)
        optimizer = sr.Optimizer([theta, other], "adam", lr=0.1, backend=backend, **options)
        optimizer.step([g, np.ones(4)])
        sr.Monitor(optimizer, every=1)
        optimizer.step([g, np.ones(4)])
        np.testing.assert_allclose(other, 0.8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_unaligned_gradient_changes_nothing_for_those_after_it(backend: str) -> None:
    """Neither the order of sums, nor that rows ride in one launch."""
    found = []
    for offset in (0, 1):
        rng = np.random.default_rng(0)
        theta = np.asfortranarray(rng.standard_normal((900, 31)).astype(np.float32))
        optimizer = sr.Optimizer(theta, "adam", backend=backend, clip_norm=0.5, update_clip=True)
        monitor = sr.Monitor(optimizer, every=1)
        for t in range(3):
            memory = np.zeros(theta.nbytes + 1, np.uint8)[offset if t == 0 else 0 :]
            g = np.frombuffer(memory.data, np.float32, theta.size).reshape(31, 900).T
            g[...] = rng.standard_normal(g.shape)
            assert g.flags.aligned == (t > 0 or not offset)
            optimizer.step(g)
        assert all(row.is_direct for row in optimizer._layout._launch.rows)
        found.append((theta.tobytes(), str(monitor.rows)))
    assert found[0] == found[1]
