"""Building machine code and running it. Knows kernels only as addresses."""

from steprule.runtime.launch import Table
from steprule.runtime.pool import get_num_threads, set_num_threads

__all__ = ["Table", "get_num_threads", "set_num_threads"]
