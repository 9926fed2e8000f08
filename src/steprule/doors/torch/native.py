"""Looking at many tensors in one call: has anything moved since the last step, and where do the gradients lie?

In Python each question about a tensor costs 50 nanoseconds, and a thousand small parameters have a dozen questions
each. Machine code asks torch's stable C interface (``aoti_torch_get_data_ptr`` and its like take a pointer to the
tensor's handle, which is a word of the Python object) and Python's (``PyDict_GetItemWithError``, ``PyList_GetItem``).
The place of the handle is found by its value, ``tensor._cdata``. Where it is not found, or torch lacks the functions,
``is_unchanged`` is false, and every step is laid out anew.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from steprule.doors.torch.staleness_ir import WORDS, module
from steprule.runtime.jit import build

__all__ = ["WORDS", "dtype_code", "is_unchanged", "words_of"]

_PYTHON = ("PyList_Size", "PyList_GetItem", "PyDict_GetItemWithError")
_TORCH = tuple(f"aoti_torch_get_{what}" for what in ("data_ptr", "dtype", "dim", "sizes", "strides"))


@functools.cache
def dtype_code(dtype: torch.dtype) -> int:
    """Return torch's number of a type; 0 where it cannot be asked."""
    function = getattr(_library(), f"aoti_torch_dtype_{str(dtype).removeprefix('torch.')}", None)
    return int(function()) if function else 0


def is_unchanged(check: int, states: list[Any], grads: list[Any]) -> bool:
    """Return whether all that the check at that address names is unchanged, and note the gradients' addresses."""
    compiled = _compiled()
    return compiled is not None and compiled(check, states, grads, None) == 1


@functools.cache
def _compiled() -> Callable[..., int] | None:
    offset, library = _offset(), _library()
    if offset is None or library is None or sys.implementation.name != "cpython":
        return None
    libs = {**dict.fromkeys(_PYTHON, ctypes.pythonapi), **dict.fromkeys(_TORCH, library)}
    if not all(hasattr(lib, name) for name, lib in libs.items()):
        return None
    functions = {name: ctypes.cast(getattr(lib, name), ctypes.c_void_p).value or 0 for name, lib in libs.items()}
    (looking,) = build(module(offset, functions), "is_unchanged")
    pointer, thing = ctypes.c_void_p, ctypes.py_object
    return ctypes.PYFUNCTYPE(ctypes.c_int64, pointer, thing, thing, thing)(looking)


def words_of(tensor: Any) -> list[tuple[int, int]]:
    """Return where the Python object of a DTensor has its part and its specification, and what is there now.

    Both are found by value; what is not found says that nothing is there, which is never so.
    """
    words = (ctypes.c_size_t * (type(tensor).__basicsize__ // 8)).from_address(id(tensor))
    parts = id(tensor._local_tensor), id(tensor._spec)
    places = [index for index, word in enumerate(words) if word in parts]
    if len(places) != len(parts):
        return [(id(tensor), -1)]
    return [(id(tensor) + 8 * place, int(words[place])) for place in places]


def _offset() -> int | None:
    """Return where in a tensor's Python object its handle is, found by value in two kinds of tensors."""
    found: set[int] = set()
    for tensor in (torch.zeros(3), torch.nn.Parameter(torch.zeros(2))):
        words = (ctypes.c_size_t * (torch.Tensor.__basicsize__ // 8)).from_address(id(tensor))
        places = [index for index, word in enumerate(words) if word == tensor._cdata]
        if len(places) != 1:
            return None
        found.add(8 * places[0])
    return found.pop() if len(found) == 1 else None


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the library that exports torch's C interface, which is loaded already."""
    folder = Path(torch.__file__).parent / "lib"
    files = [folder / name for name in ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll")]
    return next((ctypes.CDLL(str(file)) for file in files if file.exists()), None)
