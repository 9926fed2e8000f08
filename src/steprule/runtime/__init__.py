"""Building machine code and running it. Knows kernels only as addresses."""

from steprule.runtime.launch import Table, parts_of
from steprule.runtime.pool import Team, get_num_threads, own_team, set_num_threads

__all__ = ["Table", "Team", "get_num_threads", "own_team", "parts_of", "set_num_threads"]
