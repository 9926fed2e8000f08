"""What pages have in common: their style, and pictures within them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from steprule.style import DARK, LIGHT

__all__ = ["figure", "style"]


def style() -> str:
    """Return the style sheet of a page, light and dark."""
    sheet = (files("steprule.race") / "report.css").read_text(encoding="utf-8")
    return Template(sheet).substitute(light=LIGHT.css(), dark=DARK.css())


def figure(pictures: Mapping[str, bytes], caption: str) -> str:
    """Return a picture within the page, and a caption.

    Args:
        pictures: PNGs by theme, ``light`` and ``dark``.
        caption: below it, and for those who do not see it.
    """
    light, dark = (_inline(pictures[theme]) for theme in ("light", "dark"))
    return (
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(caption)}" src="{light}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
