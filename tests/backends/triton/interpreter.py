"""Triton where it interprets kernels: it knows no library of a vendor then, and Python's own functions stand in."""

from __future__ import annotations

import importlib
import math
import os
import sys
from typing import Any

import numpy as np
import pytest

from steprule.backends import triton_math

if os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError("this changes Triton's library, which tests that compile would find: mark the file as apart")
if sys.platform != "linux":
    pytest.importorskip("triton", reason="Triton is made for Linux, and not installed here")
triton: Any = importlib.import_module("triton")
tl: Any = importlib.import_module("triton.language")
libdevice: Any = importlib.import_module("triton.language.extra.libdevice")

np.seterr(all="ignore")


def _in_python(name: str) -> Any:
    function = getattr(math, name)

    def call(*args: Any) -> Any:
        numbers = [arg.handle.data.item() for arg in args]
        try:
            result = float(function(*numbers))
        except OverflowError:
            result = math.inf
        except (ValueError, ZeroDivisionError):
            result = math.nan
        return tl.core.tensor(triton.runtime.interpreter.TensorHandle(np.array([result]), tl.float64), tl.float64)

    return call


for _name in (*triton_math.LIBRARY, "ldexp"):
    setattr(libdevice, _name, _in_python(_name))
