"""The backends of arrays in this machine's memory, by name."""

from __future__ import annotations

from collections.abc import Mapping

from steprule.errors import TargetError, suggest
from steprule.launch.backend import Backend
from steprule.launch.machine import MACHINE
from steprule.launch.referee import REFEREE

__all__ = ["BACKENDS", "find_backend"]

BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in (MACHINE, REFEREE)}
"""Machine code, which is the default, and the referee."""


def find_backend(backend: str | Backend) -> Backend:
    """Return the backend of that name, or the one that is given.

    Raises:
        TargetError: when there is none.
    """
    if not isinstance(backend, str):
        return backend
    if backend not in BACKENDS:
        raise TargetError(f"no backend is called {backend!r}.{suggest(backend, BACKENDS)}")
    return BACKENDS[backend]
