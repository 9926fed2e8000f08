"""What the pages of a race and of a suite share: the frame with its style, figures inside it, numbers in prose."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from steprule.style import DARK, LIGHT
from steprule.version import __version__

__all__ = ["Pictures", "details", "figure", "number", "page", "prose", "sentence"]

Pictures = Mapping[str, Mapping[str, bytes]]
"""PNGs by figure (``curves``, ``profile``, ...) and theme (``light``, ``dark``)."""


def page(body: str, title: str, **parts: str) -> str:
    """Return a page that needs no other file: ``parts``, which are HTML, filled into the file of its body."""
    folder = files("steprule.race")
    frame, inside = (Template((folder / name).read_text(encoding="utf-8")) for name in ("page.html", body))
    words = {"title": escape(title), "version": escape(__version__)}
    return frame.substitute(words, light=LIGHT.css(), dark=DARK.css(), body=inside.substitute(words, **parts))


def sentence(text: str) -> str:
    """Return a text with a full stop, where it has none."""
    return escape(text if text.endswith((".", "!", "?")) or not text else f"{text}.")


def number(text: str) -> str:
    """Return a number that no line breaks in two, as browsers do after the hyphen of 3.7e-05."""
    return f'<span class="number">{escape(text)}</span>'


def prose(text: str) -> str:
    """Return a sentence in which no number is broken in two."""
    return re.sub(r"(?<![\w.])\d[\d.]*e[-+]\d+", lambda found: number(found[0]), escape(text))


def details(title: str, table: str, note: str) -> str:
    """Return a table that is shown when asked for."""
    inside = f'<div class="scroll">{table}</div><p class="note">{note}</p>'
    return f'<details class="table"><summary>{title}</summary>{inside}</details>'


def figure(heading: str, caption: str, picture: Mapping[str, bytes] | None) -> str:
    """Return heading and figure, dark where the reader's screen is; nothing where there is no such picture."""
    if picture is None:
        return ""
    light, dark = (_inline(picture[theme]) for theme in ("light", "dark"))
    return (
        f"<h2>{heading}</h2>"
        f'<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{escape(caption)}" src="{light}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
