"""The language of rules: its operations, and what each of them means on arrays.

A rule uses Python's ``+ - * /``, ``**2``, ``abs``, comparisons, ``& | ~`` on conditions, and the
functions exported here. On arrays they compute; on symbols they build an expression.
"""

from steprule.language.functions import maximum, minimum, sign, sqrt, where
from steprule.language.node import Node
from steprule.language.ops import OPS, Op
from steprule.language.polar import polar
from steprule.language.sums import mean, ndim, norm, rms, size, total
from steprule.language.tracing import trace

__all__ = [
    "OPS",
    "Node",
    "Op",
    "maximum",
    "mean",
    "minimum",
    "ndim",
    "norm",
    "polar",
    "rms",
    "sign",
    "size",
    "sqrt",
    "total",
    "trace",
    "where",
]
