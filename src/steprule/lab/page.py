"""The page: one HTML file with everything in it, that needs no server and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from steprule.backends import javascript
from steprule.lab.entrants import Shown, menu, shown
from steprule.lab.link import FORMAT
from steprule.lab.presets import first_view, presets
from steprule.lab.surface import Surface
from steprule.lab.surfaces import surfaces
from steprule.lab.view import View
from steprule.style import DARK, DASHES, LIGHT, SHAPES, THEMES
from steprule.version import __version__

__all__ = ["constants", "page", "paints"]

_SCRIPTS = (
    *(
        "numbers",
        "simulation",
        "state",
        "looks",
        "view",
        "surface_map",
        "solid",
        "charts",
        "formula",
        "thousand",
        "picture",
    ),
    *("controls", "input", "main"),
)
_FOLDER = "assets"


def page(view: View | None = None) -> str:
    """Return the text of the page.

    Args:
        view: what it shows first, and what it has beside the menu. Default: six rules in a long valley.

    Raises:
        TargetError: when a rule calls what JavaScript has no function for.
    """
    view = view or View()
    rules = {**menu(), **{rule.name: rule for rule in view.added}}
    entries = {name: shown(rule) for name, rule in rules.items()}
    grounds = {**surfaces(), **({view.surface.key: view.surface} if view.surface else {})}
    kernels = {name: _scoped(text, _functions(facts)) for name, (facts, text) in entries.items()}
    code = _table("RULES", kernels) + _table("SURFACES", {key: _of_surface(one) for key, one in grounds.items()})
    facts = {
        "version": __version__,
        "rules": [facts for facts, _ in entries.values()],
        "surfaces": [_facts(ground) for ground in grounds.values()],
        "presets": presets(),
        "first": first_view(view),
    }
    return Template(_asset("page.html")).substitute(
        style=f"{_font()}\n{_asset('vendor/uPlot.min.css')}\n{paints()}{_asset('style.css')}",
        library=_asset("vendor/uPlot.iife.min.js"),
        facts=_json(facts),
        code=f"{constants()}{javascript.helpers(code)}\n{code}",
        script="\n".join(_asset(f"{name}.js") for name in _SCRIPTS),
        version=__version__,
    )


def _functions(facts: Shown) -> list[str]:
    point = [facts["point"]] if facts["point"] else []
    return [one[name] for one in (*facts["passes"], *point) for name in ("prelude", "kernel")]


def constants() -> str:
    """Return what the scripts share with Python, as JavaScript: the format of links, and looks."""
    shared = {
        **FORMAT,
        "PALETTES": {name: theme.palette for name, theme in THEMES.items()},
        "SHADES": {
            name: {"low": theme.low, "high": theme.high, "line": theme.contour} for name, theme in THEMES.items()
        },
        "DASHES": DASHES,
        "SHAPES": SHAPES,
    }
    return "".join(f"const {name} = {_json(value)};\n" for name, value in shared.items())


def paints() -> str:
    """Return the colours of the page as CSS: light, or dark where the system or the reader wants that."""
    dark = DARK.css()
    return (
        f":root {{ {LIGHT.css()} }}\n"
        f"@media (prefers-color-scheme: dark) {{\n  :root:not([data-theme=light]) {{ {dark} }}\n}}\n"
        f":root[data-theme=dark] {{ {dark} }}\n"
    )


def _json(value: Any) -> str:
    """Return JSON in which no text can end the script that it is in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (files("steprule.lab") / _FOLDER / name).read_text(encoding="utf-8")


def _font() -> str:
    """Return the rule for the font of formulas: without one, roots and braces stay small, and indices fall too low."""
    data = base64.b64encode((files("steprule.lab") / _FOLDER / "vendor" / "formulas.woff2").read_bytes()).decode(
        "ascii"
    )
    source = f'url("data:font/woff2;base64,{data}") format("woff2")'
    return f'@font-face {{ font-family: "steprule formulas"; font-display: block; src: {source}; }}'


def _table(name: str, entries: Mapping[str, str]) -> str:
    return f"const {name} = {{\n" + ",\n".join(f"[{_json(key)}]: {text}" for key, text in entries.items()) + "\n};\n"


def _scoped(text: str, names: Sequence[str]) -> str:
    return f"(() => {{\n{text}return {{ {', '.join(names)} }};\n}})()"


def _of_surface(surface: Surface) -> str:
    names = ["value", "slope", *(["kinks"] if surface.kinks else [])]
    return _scoped(surface.javascript(), names)


def _facts(surface: Surface) -> dict[str, Any]:
    return {
        "key": surface.key,
        "title": surface.title,
        "about": surface.about,
        "formula": surface.formula(),
        "box": surface.box,
        "start": surface.start,
        "minima": surface.minima,
        "steps": surface.steps,
        "noise": surface.noise,
        "limits": surface.limits,
        "soft": surface.soft,
        "dimensions": surface.dimensions,
        "kinks": list(surface.kinks),
        "draws": surface.sampled is not None and "u" in map(str, surface.sampled.free_symbols),
    }
