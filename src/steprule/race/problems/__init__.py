"""The problems that ship: one file each, with a function ``problem()`` that makes it.

The first line of a file's docstring is its description.
"""

from typing import Final

__all__ = ["DOWNLOADED", "NAMES"]

NAMES: Final = (
    "digits-logistic",
    "digits-mlp",
    "docs-bow",
    "associative-memory",
    "char-transformer",
    "drifting-target",
    "long-valley",
    "saddle",
    "mnist-logistic",
    "mnist-mlp",
)
"""Each name's file is that name with underscores."""
DOWNLOADED: Final = ("mnist-logistic", "mnist-mlp")
"""Those whose data are no part of any package."""
