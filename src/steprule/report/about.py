"""What a report says of where it was made."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version

from steprule.version import __version__

__all__ = ["versions"]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of steprule, Python and some packages, which numbers may depend on."""
    return {
        "steprule": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
