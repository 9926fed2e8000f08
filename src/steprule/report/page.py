"""A page that needs no other file and no network: light and dark, wide and narrow, on a screen and on paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template

from steprule.style import DARK, LIGHT
from steprule.version import __version__

__all__ = ["Pictures", "details", "facts", "figure", "filled", "number", "page", "picture", "prose", "sentence"]

Pictures = Mapping[str, Mapping[str, bytes]]
"""PNGs by figure (``curves``, ``profile``, ...) and theme (``light``, ``dark``)."""


def page(title: str, body: str) -> str:
    """Return a page.

    Args:
        title: as text.
        body: as HTML; what of it is text has been escaped.
    """
    frame = Template((files("steprule.report") / "page.html").read_text(encoding="utf-8"))
    return frame.substitute(light=LIGHT.css(), dark=DARK.css(), title=escape(title), body=body)


def filled(package: str, name: str, title: str, **parts: str) -> str:
    """Return a page whose body is a file of a package, with its parts filled in.

    Args:
        package: in which the file is.
        name: of the file, a `string.Template` that may ask for ``title`` and ``version`` as well.
        title: as text.
        parts: as HTML.
    """
    body = Template((files(package) / name).read_text(encoding="utf-8"))
    return page(title, body.substitute(parts, title=escape(title), version=escape(__version__)))


def figure(heading: str, caption: str, pngs: Mapping[str, bytes] | None) -> str:
    """Return a heading and its picture; nothing where there is no such picture."""
    return "" if pngs is None else f"<h2>{heading}</h2>{picture(pngs, caption)}"


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
    """Return a table that is shown on demand, and always on paper, with a note below it; all of it HTML."""
    inside = f'<div class="scroll">{table}</div><p class="note">{note}</p>'
    return f'<details class="table"><summary>{title}</summary>{inside}</details>'


def facts(told: Mapping[str, str]) -> str:
    """Return a list of names and what they are, of texts."""
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in told.items())}</dl>"


def sentence(text: str) -> str:
    """Return a text with a full stop, where it has none."""
    return escape(text if text.endswith((".", "!", "?")) or not text else f"{text}.")


def number(text: str) -> str:
    """Return a number that no line breaks in two, as browsers do after the hyphen of 3.7e-05."""
    return f'<span class="number">{escape(text)}</span>'


def prose(text: str) -> str:
    """Return a text in which no number is broken in two."""
    return re.sub(r"(?<![\w.])-?\d[\d.]*e[-+]?\d+", lambda found: number(found[0]), escape(text))
