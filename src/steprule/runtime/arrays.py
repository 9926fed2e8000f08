"""Looking at many arrays in one call: which are not as expected, and where do they lie?

Many thousands of arrays may be others than in the step before. In Python each question about one costs some tens of
nanoseconds, and more where its object has left the processor's caches. So the fields of the array object are read where
``addresses`` reads the first of them, once a trial on fresh arrays has shown that they lie there in this interpreter.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.runtime.addresses import HEADER, address
from steprule.runtime.driver import driver
from steprule.runtime.jit import build
from steprule.runtime.sharing import word

__all__ = ["ArrayCheck"]

_MANY = 4
"""Arrays from which on a call of machine code takes less time than Python."""
_WRITEABLE = 0x400


class _Fields(ctypes.Structure):
    """An array object after its header."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_int),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        ("dtype", ctypes.c_void_p),
        ("flags", ctypes.c_int),
    )


class ArrayCheck:
    """Finds the arrays that are not as expected, and where the others lie.

    Args:
        like: plain arrays, whose types, shapes and strides those must have that are looked at.
        owners: arrays that must be writeable.

    Attributes:
        found: the addresses of the arrays that were as expected, after ``odd``; the others' are to be set.
    """

    def __init__(self, like: Sequence[NDArray[Any]], owners: Sequence[NDArray[Any]]) -> None:
        self._expected = [(a.shape, a.dtype, a.strides, owner) for a, owner in zip(like, owners, strict=True)]
        self.found: NDArray[np.int64] = np.zeros(len(like), np.int64)
        self._words = memoryview(self.found.data)
        axes = [(*shape, *strides) for shape, _, strides, _ in self._expected]
        self._axes = np.array([n for line in axes for n in line], np.int64)
        starts = np.cumsum([0, *map(len, axes)]) * self._axes.itemsize + address(self._axes)
        # What the machine code reads of each: the axes, where their shape and strides are, the type, and the owner.
        self._rows = np.array(
            [
                (a.ndim, start, id(a.dtype), id(owner))
                for a, start, owner in zip(like, starts[:-1].tolist(), owners, strict=True)
            ],
            np.int64,
        )
        self._at = address(self._rows), address(self.found)

    def odd(self, arrays: list[Any]) -> Sequence[int]:
        """Return the places of arrays that are not as expected, or whose owners are not writeable."""
        if len(arrays) >= _MANY and driver.cache_info().currsize:
            look = _compiled()
            if look is not None:
                return self._looked(arrays, look)
        odd: list[int] = []
        for place, (array, (shape, dtype, strides, owner)) in enumerate(zip(arrays, self._expected, strict=True)):
            if (
                type(array) is np.ndarray
                and array.shape == shape
                and array.dtype is dtype
                and array.strides == strides
                and owner.flags.writeable
            ):
                self._words[place] = address(array)
            else:
                odd.append(place)
        return odd

    def _looked(self, arrays: list[Any], look: Callable[..., int]) -> Sequence[int]:
        count = len(self._expected)
        if len(arrays) != count:
            raise ValueError(f"{len(arrays)} arrays, but {count} are expected")
        if not look(arrays, count, *self._at, np.ndarray):
            return ()
        odd: list[int] = np.flatnonzero(self.found == 0).tolist()
        return odd


def _ir(get_item: int) -> str:
    """Return ``@look(list, n, rows, found, type)``: how many are not as expected; their addresses are then 0.

    Arrays lie scattered: fetching those further on while one is looked at hides most of the wait for memory.
    """

    def field(name: str, of: str, kind: str = "ptr", register: str = "") -> str:
        register, at = register or name, HEADER + getattr(_Fields, name).offset
        return f"""
  %{register}.at = getelementptr i8, ptr %{of}, i64 {at}
  %{register} = load {kind}, ptr %{register}.at"""

    int_kind = f"i{8 * ctypes.sizeof(ctypes.c_int)}"
    return f"""
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

define i64 @look(ptr %list, i64 %n, ptr %rows, ptr %found, ptr %plain) {{
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %over
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %end ]
  %odd = phi i64 [ 0, %entry ], [ %odd.now, %end ]
  %ahead = add i64 %i, 12
  %ahead.in = icmp slt i64 %ahead, %n
  %ahead.safe = select i1 %ahead.in, i64 %ahead, i64 %i
  %later = call ptr inttoptr (i64 {get_item} to ptr)(ptr %list, i64 %ahead.safe)
  call void @llvm.prefetch.p0(ptr %later, i32 0, i32 3, i32 1)
  %later.more = getelementptr i8, ptr %later, i64 64
  call void @llvm.prefetch.p0(ptr %later.more, i32 0, i32 3, i32 1)
  %row = getelementptr [4 x i64], ptr %rows, i64 %i
  %later.row = getelementptr [4 x i64], ptr %rows, i64 %ahead.safe
{word("later.owner", "later.row", 3, "ptr")}
  %later.flags = getelementptr i8, ptr %later.owner, i64 {HEADER + _Fields.flags.offset}
  call void @llvm.prefetch.p0(ptr %later.flags, i32 0, i32 3, i32 1)
{word("axes", "row", 0)}
{word("expected", "row", 1, "ptr")}
{word("kind", "row", 2, "ptr")}
{word("owner", "row", 3, "ptr")}
{field("flags", "owner", int_kind, "owner.flags")}
  %writeable = and {int_kind} %owner.flags, {_WRITEABLE}
  %is.writeable = icmp ne {int_kind} %writeable, 0
  %array = call ptr inttoptr (i64 {get_item} to ptr)(ptr %list, i64 %i)
  %type.at = getelementptr i8, ptr %array, i64 {HEADER - ctypes.sizeof(ctypes.c_void_p)}
  %type = load ptr, ptr %type.at
  %is.plain = icmp eq ptr %type, %plain
  %may = and i1 %is.plain, %is.writeable
  br i1 %may, label %fields, label %end
fields:
{field("data", "array", "i64")}
{field("ndim", "array", int_kind)}
{field("shape", "array")}
{field("strides", "array")}
{field("dtype", "array")}
  %ndim.wide = sext {int_kind} %ndim to i64
  %same.ndim = icmp eq i64 %ndim.wide, %axes
  %same.type = icmp eq ptr %dtype, %kind
  %same = and i1 %same.ndim, %same.type
  %checked = select i1 %same, i64 %axes, i64 0
  %expected.strides = getelementptr i64, ptr %expected, i64 %axes
  br label %axis
axis:
  %k = phi i64 [ 0, %fields ], [ %k.next, %compare ]
  %ok = phi i1 [ %same, %fields ], [ %ok.now, %compare ]
  %more.axes = icmp slt i64 %k, %checked
  br i1 %more.axes, label %compare, label %end
compare:
  %size.at = getelementptr i64, ptr %shape, i64 %k
  %size = load i64, ptr %size.at
  %expected.size.at = getelementptr i64, ptr %expected, i64 %k
  %expected.size = load i64, ptr %expected.size.at
  %stride.at = getelementptr i64, ptr %strides, i64 %k
  %stride = load i64, ptr %stride.at
  %expected.stride.at = getelementptr i64, ptr %expected.strides, i64 %k
  %expected.stride = load i64, ptr %expected.stride.at
  %same.size = icmp eq i64 %size, %expected.size
  %same.stride = icmp eq i64 %stride, %expected.stride
  %same.axis = and i1 %same.size, %same.stride
  %ok.now = and i1 %ok, %same.axis
  %k.next = add i64 %k, 1
  br label %axis
end:
  %is.as.expected = phi i1 [ false, %loop ], [ %ok, %axis ]
  %lies.at = phi i64 [ 0, %loop ], [ %data, %axis ]
  %address = select i1 %is.as.expected, i64 %lies.at, i64 0
  %to = getelementptr i64, ptr %found, i64 %i
  store i64 %address, ptr %to
  %one = select i1 %is.as.expected, i64 0, i64 1
  %odd.now = add i64 %odd, %one
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %n
  br i1 %again, label %loop, label %over
over:
  %result = phi i64 [ 0, %entry ], [ %odd.now, %end ]
  ret i64 %result
}}
"""


@functools.cache
def _compiled() -> Callable[..., int] | None:
    if not _fields_hold():
        return None
    get_item = ctypes.cast(ctypes.pythonapi.PyList_GetItem, ctypes.c_void_p).value
    (look,) = build(_ir(get_item or 0), "look")
    word, pointer, thing = ctypes.c_int64, ctypes.c_void_p, ctypes.py_object
    return ctypes.PYFUNCTYPE(word, thing, word, pointer, pointer, thing)(look)


def _fields_hold() -> bool:
    """Whether the fields are found where they are expected, in arrays of several kinds."""
    ends = HEADER + ctypes.sizeof(_Fields)
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_ssize_t) != 8 or np.ndarray.__basicsize__ < ends:
        return False
    locked = np.zeros((2, 3, 4), np.float16).T
    locked.flags.writeable = False
    kinds: list[NDArray[Any]] = [np.zeros(3), locked, np.zeros((6, 5), np.float32)[::-2, 1:], np.zeros(())]
    return all(map(_has_fields, kinds))


def _has_fields(array: NDArray[Any]) -> bool:
    kind = ctypes.c_void_p.from_address(id(array) + HEADER - ctypes.sizeof(ctypes.c_void_p)).value
    own = _Fields.from_address(id(array) + HEADER)
    found = kind, own.data, own.ndim, own.dtype, bool(own.flags & _WRITEABLE)
    lies_at = array.__array_interface__["data"][0]
    if found != (id(np.ndarray), lies_at, array.ndim, id(array.dtype), array.flags.writeable):
        return False  # before an address is followed that may be none
    if not array.ndim:
        return True
    axes = ctypes.c_ssize_t * array.ndim
    pairs = (own.shape, array.shape), (own.strides, array.strides)
    return all(at and tuple(axes.from_address(at)) == expected for at, expected in pairs)
