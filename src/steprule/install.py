"""What to type where a library is missing: by its own name, which works wherever steprule came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec

__all__ = ["how_to_install", "lacking"]

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<bounds>[^;\[]*)")


def lacking(needed: Mapping[str, str]) -> list[str]:
    """Return the packages that are not installed, of modules and the packages that have them."""
    return [package for module, package in needed.items() if find_spec(module) is None]


def how_to_install(*packages: str) -> str:
    """Return the command that installs packages in a version that steprule was tested with.

    An extra, as in ``pip install '.[lab]'``, is at hand in a checkout alone, and ``steprule`` is not a name that a
    package index knows. In double quotes, which every shell takes, Windows' as well.
    """
    return "pip install " + " ".join(f'"{package}{_bounds().get(package.lower(), "")}"' for package in packages)


def _bounds() -> dict[str, str]:
    """Return the bounds of what steprule may need, extras included; nothing where it is run without being installed."""
    from importlib.metadata import PackageNotFoundError, requires  # late: where nothing is missing it costs nothing

    try:
        found = (_REQUIREMENT.match(text) for text in requires("steprule") or [])
    except PackageNotFoundError:
        return {}
    return {match["name"].lower(): match["bounds"].strip() for match in found if match}
