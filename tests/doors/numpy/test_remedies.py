"""What a message of the NumPy door tells the caller to do is done here, as it is written, and helps."""

from __future__ import annotations

from typing import Any

import ml_dtypes  # registers bfloat16 and types of 8 bits with NumPy
import numpy as np
import pytest

import steprule as sr
from steprule.errors import HyperparameterError, StructureError


def told(error: BaseException) -> str:
    """The code that a message ends with."""
    return str(error).rsplit(": ", 1)[1]


def helped(params: dict[str, Any]) -> Any:
    """Do with ``params['w']`` what the message says, and take a step; return what was stepped."""
    with pytest.raises(StructureError) as caught:
        sr.Optimizer(params, "sgd", lr=1.0)
    before = params["w"]
    params["w"] = eval(told(caught.value), {"np": np, "params": params})
    sr.Optimizer(params, "sgd", lr=1.0).step({"w": np.ones_like(params["w"])})
    assert params["w"] is not before
    return params["w"]


COMPLEX = np.array([1 + 2j, 3 - 4j, 5.5j])
PARTS = np.array([1.0, 2, 3, -4, 0, 5.5])


@pytest.mark.parametrize(("whole", "part"), [("complex64", "float32"), ("complex128", "float64")])
def test_complex_parameters_are_stepped_where_they_lie(whole: str, part: str) -> None:
    for array in (COMPLEX.astype(whole), np.repeat(COMPLEX.astype(whole), 2)[::2, None], np.array(1 + 2j, whole)):
        before = array.copy()
        stepped = helped({"w": array})
        assert stepped.dtype == part
        assert np.shares_memory(stepped, array)
        np.testing.assert_array_equal(array, before - (1 + 1j))


@pytest.mark.parametrize("type_", [">c16", ">c8", np.clongdouble])
def test_complex_numbers_that_no_view_shows_are_copied_with_both_parts(type_: Any) -> None:
    assert helped({"w": COMPLEX.astype(type_)}).tolist() == (PARTS - 1).tolist()


def test_complex_numbers_apart_are_copied_with_both_parts() -> None:
    assert helped({"w": np.repeat(COMPLEX, 2)[::2]}).tolist() == (PARTS - 1).tolist()


@pytest.mark.parametrize(
    ("type_", "kept"),
    [
        (">f8", "float64"),
        (">f4", "float32"),
        (">f2", "float16"),
        (np.int64, "float64"),
        (np.uint32, "float64"),
        (np.int16, "float32"),
        (bool, "float32"),
        (object, "float64"),
        (np.longdouble, "float64"),
        (ml_dtypes.float8_e4m3fn, "float32"),
    ],
)
def test_other_types_lose_nothing_that_can_be_kept(type_: Any, kept: str) -> None:
    numbers = np.array([1, 0, 1]).astype(type_)
    if np.dtype(type_).itemsize >= 4:
        # Not a float32: one bit more than it holds. (But for the one type that holds no more.)
        numbers[0] = 2**24 if kept == "float32" else 2**24 + 1
    stepped = helped({"w": numbers})
    assert stepped.dtype == kept
    assert stepped.tolist() == [float(number) - 1 for number in numbers.tolist()]


def test_what_is_lost_of_a_longdouble_is_said() -> None:
    with pytest.raises(StructureError, match="which rounds it"):
        sr.Optimizer(np.ones(2, np.longdouble))


class Table:
    """What a data frame is to NumPy."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([1.0, 2.0], dtype)


def test_what_is_no_array_of_numpys() -> None:
    assert helped({"w": Table()}).tolist() == [0, 1]
    assert helped({"w": 1.0}).tolist() == 0
    assert helped({"w": np.float32(1.0)}).tolist() == 0
    assert helped({"w": np.array([1.0, 2.0])[::-1].view(np.ma.MaskedArray)}).tolist() == [1, 0]
    assert helped({"w": np.broadcast_to(1.0, (2,))}).tolist() == [0, 0]
    assert helped({"w": np.lib.stride_tricks.as_strided(np.ones(3), (2, 2), (8, 8))}).tolist() == [[0, 0], [0, 0]]
    for leaf in (None, "abc"):
        with pytest.raises(StructureError, match=r"params\['w'\] is .* Leave it out"):
            sr.Optimizer({"w": leaf, "b": np.ones(2)})


def test_lists_of_numbers_become_arrays() -> None:
    params: Any = {"w": [1.0, 2.0]}
    with pytest.raises(StructureError) as caught:
        sr.Optimizer(params)
    whole = "np.array(params['w'], 'float64')"
    assert whole in str(caught.value)
    known = {"np": np, "params": params}
    sr.Optimizer({"w": eval(whole, known)}).step({"w": np.ones(2)})
    assert eval(told(caught.value), known) == np.array(1.0)


PARAMETER = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("grad", "meant"),
    [
        (None, [0, 0]),
        ([0.1, 3], [0.1, 3]),
        (Table(), [1, 2]),
        (np.array([0.1, 3], ">f8"), [0.1, 3]),
        (np.array([0.1, 3], np.longdouble), [0.1, 3]),
        (np.array([1, 3]), [1, 3]),
        (np.array([1, 3], object), [1, 3]),
        (np.array([1 + 1e-17j, 3]), [1, 3]),
        (np.array([1 + 3j]), [1, 3]),
        (np.array(1 + 3j), [1, 3]),
        (np.array([[0.1, 3]]), [0.1, 3]),
        (np.ma.array([0.1, 5], mask=[False, True]), [0.1, 0]),
        (np.array([[1], [3]], np.float32), [1, 3]),
    ],
)
def test_gradients(grad: Any, meant: Any) -> None:
    params = {"w": PARAMETER.copy()}
    optimizer, grads = sr.Optimizer(params, "sgd", lr=1.0), {"w": grad}
    for _ in range(3):
        try:
            optimizer.step(grads)
        except StructureError as error:
            np.testing.assert_array_equal(params["w"], PARAMETER)
            grads["w"] = eval(told(error), {"np": np, "grads": grads})
    assert optimizer.t >= 1
    np.testing.assert_array_equal(params["w"], PARAMETER - optimizer.t * np.array(meant))


def test_a_number_for_a_parameter_of_one_number_with_axes() -> None:
    params = {"w": np.ones((1, 1), np.float32)}
    optimizer, grads = sr.Optimizer(params, "sgd", lr=1.0), {"w": np.float64(0.5)}
    with pytest.raises(StructureError) as caught:
        optimizer.step(grads)
    grads["w"] = eval(told(caught.value), {"np": np, "grads": grads})
    optimizer.step(grads)
    assert params["w"].tolist() == [[0.5]]
    with pytest.raises(StructureError, match=r"one number for every number of its parameter$"):
        sr.Optimizer(np.ones(2)).step(0.5)


def test_a_parameter_that_became_read_only() -> None:
    params = {"w": np.ones(2)}
    optimizer = sr.Optimizer(params, "sgd", lr=1.0)
    params["w"].flags.writeable = False
    with pytest.raises(StructureError) as caught:
        optimizer.step({"w": np.ones(2)})
    exec(str(caught.value).rsplit("Set ", 1)[1], {"params": params})
    optimizer.step({"w": np.ones(2)})
    assert params["w"].tolist() == [0, 0]


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("guards", [{}, {"clip_norm": 1e9}])
@pytest.mark.parametrize("grad", [0.5, np.float64(0.5), np.float64(1) - np.mean([0.25, 0.75]), np.array(0.5)])
def test_a_parameter_without_axes_takes_numbers(grad: Any, guards: dict[str, Any], backend: str) -> None:
    params = {"w": np.zeros(3), "b": np.array(1.0)}
    optimizer = sr.Optimizer(params, "sgd", lr=1.0, backend=backend, **guards)
    for t in range(1, 4):
        optimizer.step({"w": np.ones(3), "b": grad})
        assert params["b"] == 1 - 0.5 * t
    alone = np.array(1.0)
    sr.Optimizer(alone, "sgd", lr=1.0).step(grad)
    assert alone == 0.5


def test_numbers_have_the_type_of_their_parameter() -> None:
    params = {"b": np.array(1.0, np.float32)}
    optimizer, grads = sr.Optimizer(params, "sgd", lr=1.0), {"b": np.float64(0.1)}
    with pytest.raises(StructureError, match="type float64, but the parameter has type float32") as caught:
        optimizer.step(grads)
    grads["b"] = eval(told(caught.value), {"np": np, "grads": grads})
    optimizer.step(grads)
    # A number of Python's own has no type, in NumPy's arithmetic as here.
    optimizer.step({"b": 0.1})
    assert params["b"] == np.float32(1) - np.float32(0.1) - np.float32(0.1)
    for wrong in (True, np.True_, 1j, "1"):
        with pytest.raises(StructureError):
            optimizer.step({"b": wrong})
    assert optimizer.t == 2


def test_hints_name_what_the_door_takes_and_was_not_written() -> None:
    optimizer = sr.Optimizer(np.zeros(2))
    with pytest.raises(HyperparameterError, match="make a new one with clip_norm=1"):
        optimizer.groups[0]["clip_norm"] = 1
    with pytest.raises(HyperparameterError, match=r"no hyperparameter 'clip_nrm'. Did you mean 'clip_norm'"):
        sr.Optimizer(np.zeros(2), clip_nrm=1)
    for name in ("clip_norm", "clip_nrm", "states", "backend"):
        with pytest.raises(HyperparameterError) as caught:
            sr.rules.find("adam")(0.0, 1.0, 0.0, 0.0, **{name: 1})
        hint = str(caught.value).split(".", 1)[1]
        assert not any(option in hint for option in ("clip_norm", "states", "backend"))
