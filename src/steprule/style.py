"""Colours, dashes and shapes: the one source of how the lab, films and the race's figures look."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DARK", "DASHES", "LIGHT", "SHAPES", "THEMES", "Style", "Theme"]

DASHES: tuple[tuple[int, ...], ...] = ((), (7, 3), (2, 3), (9, 3, 2, 3))
"""Of a line that is two units wide: on, off, ..."""
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
"""Of the head of a path, beside its colour, so that no colour says it alone."""
_Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Style:
    """How one rule is drawn."""

    color: str
    dash: tuple[int, ...]
    shape: str


@dataclass(frozen=True)
class Theme:
    """Colours of a page or a figure.

    Attributes:
        name: light or dark.
        paper: what is drawn on.
        back: what pages lie on.
        text: of words.
        muted: of words that come second.
        line: of grids and borders.
        soft: of fields.
        accent: of what can be pressed.
        on_accent: of words on it.
        warn: of warnings.
        low: of the ground of a surface where it is lowest.
        high: where it is highest.
        contour: of lines of equal height, and of where there is no height.
        palette: of rules, told apart by colour-blind readers (after Okabe & Ito 2008, "Color Universal Design", with
            the contrast that thin lines need).
    """

    name: str
    paper: str
    back: str
    text: str
    muted: str
    line: str
    soft: str
    accent: str
    on_accent: str
    warn: str
    low: _Rgb
    high: _Rgb
    contour: _Rgb
    palette: tuple[str, ...]

    def style(self, slot: int) -> Style:
        """Return how the rule in a slot is drawn: seven colours, then the same ones dashed."""
        rounds = slot // len(self.palette) % len(DASHES)
        return Style(self.palette[slot % len(self.palette)], DASHES[rounds], SHAPES[slot % len(SHAPES)])

    def css(self) -> str:
        """Return the colours as properties of CSS: ``--paper``, ..., and ``--rule-0``, ... of the palette."""
        names = ("paper", "back", "text", "muted", "line", "soft", "accent", "on_accent", "warn")
        colors = {name.replace("_", "-"): getattr(self, name) for name in names}
        colors |= {f"rule-{slot}": color for slot, color in enumerate(self.palette)}
        return " ".join([*(f"--{name}: {color};" for name, color in colors.items()), f"color-scheme: {self.name};"])


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    back="#f3f5f8",
    text="#1b1f24",
    muted="#5b6470",
    line="#e1e5ea",
    soft="#f0f3f6",
    accent="#0072b2",
    on_accent="#ffffff",
    warn="#a64d00",
    low=(252, 253, 254),
    high=(172, 190, 214),
    contour=(88, 108, 138),
    palette=("#0067b0", "#bf3b00", "#1aa37a", "#c26aa6", "#ab8e00", "#1b1f24", "#4a97d8"),
)
DARK = Theme(
    name="dark",
    paper="#171b21",
    back="#0f1216",
    text="#e8eaed",
    muted="#9aa4b1",
    line="#2b3139",
    soft="#20262e",
    accent="#56b4e9",
    on_accent="#0d1116",
    warn="#e6a23c",
    low=(24, 28, 35),
    high=(84, 101, 128),
    contour=(150, 166, 190),
    palette=("#4fa8e0", "#f08a4b", "#2dc29a", "#e29ac4", "#e6b13c", "#e8eaed", "#8fd0f5"),
)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}
