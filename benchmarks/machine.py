"""The folder of the results of a processor."""

from __future__ import annotations

import re
from pathlib import Path

from steprule.bench.machine import plain, processor

__all__ = ["RESULTS", "plain", "processor", "slug"]

RESULTS = Path(__file__).parent / "results"


def slug(name: str) -> str:
    """Return a name in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
