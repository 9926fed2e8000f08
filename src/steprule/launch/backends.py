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
    if isinstance(backend, str):
        if backend not in BACKENDS:
            raise TargetError(f"no backend is called {backend!r}.{suggest(backend, BACKENDS)}")
        return BACKENDS[backend]
    if isinstance(backend, type):
        raise TargetError(f"backend is the class {backend.__name__}, expected an instance; write {backend.__name__}()")
    if not all(hasattr(backend, name) for name in ("name", "load", "table")):
        known = " or ".join(map(repr, BACKENDS))
        raise TargetError(
            f"backend must be {known}, or an object with name, load and table (see steprule.launch.backend), "
            f"got {backend!r}"
        )
    return backend
