"""A page that needs no other file and no network: light and dark, wide and narrow, on a screen and on paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from steprule.style import DARK, LIGHT

__all__ = ["details", "facts", "number", "page", "picture", "prose"]


def page(title: str, body: str) -> str:
    """Return a page.

    Args:
        title: as text.
        body: as HTML; what of it is text has been escaped.
    """
    frame = Template((files("steprule.report") / "page.html").read_text(encoding="utf-8"))
    return frame.substitute(light=LIGHT.css(), dark=DARK.css(), title=escape(title), body=body)


def picture(pngs: Mapping[str, bytes], caption: str) -> str:
    """Return a figure, within the page.

    Args:
        pngs: by theme, ``light`` and ``dark``.
        caption: as text.
    """
    light, dark = (_inline(pngs[theme]) for theme in ("light", "dark"))
    return (
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(caption)}" src="{light}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def details(title: str, table: str, note: str) -> str:
    """Return a table that is shown on demand, with a note below it; all of it HTML."""
    return f'<details><summary>{title}</summary><div class="scroll">{table}</div><p class="note">{note}</p></details>'


def facts(told: Mapping[str, str]) -> str:
    """Return a list of names and what they are, of texts."""
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in told.items())}</dl>"


def number(text: str) -> str:
    """Return a number that no line breaks in two, as browsers do after the hyphen of 3.7e-05."""
    return f'<span class="number">{escape(text)}</span>'


def prose(text: str) -> str:
    """Return a text in which no number is broken in two."""
    return re.sub(r"(?<![\w.])-?\d[\d.]*e[-+]?\d+", lambda found: number(found[0]), escape(text))
