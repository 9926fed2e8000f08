"""What the documentation's site adds to Sphinx: formulas that need no script, and what follows from rules.

``{lab} STORY`` and ``{lab-of} RULE`` have the lab in the page, ``{emit}`` the code that commands would write.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import sympy
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from typer.testing import CliRunner

from steprule import lab
from steprule.cli.main import app
from steprule.lab.presets import presets
from steprule.rules import CATALOGUE

_LOGGER = getLogger(__name__)
_PAGE = "_static/lab.html"
_STORIES = {one["key"]: one for one in presets()}


_SURFACE = "long-valley"
_RATES = tuple(sorted(base * 10.0**power for base in (1, 3) for power in range(-4, 1)))


def _linked(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{quote(str(key), safe='*.')}={quote(str(value), safe=',')}" for key, value in pairs)


def _frame(place: str, title: str) -> nodes.Node:
    html = (
        f'<figure class="lab"><iframe src="{place}" loading="lazy" title="{title}"></iframe>'
        f'<figcaption><a href="{place}" target="_blank">{title}</a></figcaption></figure>'
    )
    return nodes.raw("", html, format="html")


class Lab(SphinxDirective):
    """``{lab} STORY``: the story, live, with a link to it in a window of its own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the frame."""
        story = self.arguments[0]
        if story not in _STORIES:
            raise self.error(f"there is no story {story!r}; there are {', '.join(_STORIES)}")
        pairs = [*map(tuple, _STORIES[story]["pairs"]), ("preset", story)]
        place = "../" * self.env.docname.count("/") + f"{_PAGE}#{_linked(pairs)}"
        return [_frame(place, _STORIES[story]["title"])]


class LabOf(SphinxDirective):
    """``{lab-of} RULE``: the rule beside gradient descent; what stands in it is the command that shows it elsewhere."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the frame."""
        name = self.arguments[0]
        rates = {one: best_rate(one) for one in dict.fromkeys(("sgd", name))}
        pairs = [("surface", _SURFACE), ("rules", ",".join(rates)), ("look", name)]
        pairs += [(f"{one}.lr", f"{rate:g}") for one, rate in rates.items() if rate is not None]
        place = "../" * self.env.docname.count("/") + f"{_PAGE}#{_linked(pairs)}"
        return [_frame(place, f"{name} beside gradient descent in a long valley, each at the best of a few rates")]


@functools.cache
def best_rate(name: str) -> float | None:
    """Return the rate that is lowest in the valley on the way; None for a rule without one."""
    if "lr" not in CATALOGUE[name].hyperparameters:
        return None
    ground = lab.surface(_SURFACE)
    height = sympy.lambdify([sympy.Symbol(axis, real=True) for axis in "xy"], ground.value)
    paths = {lr: lab.trajectory(name, ground, ground.steps, lr=lr, evaluated=True).astype(float) for lr in _RATES}
    with np.errstate(all="ignore"):  # some rates throw it out
        means = {lr: float(np.mean(height(*path.T))) for lr, path in paths.items()}
    return min((lr for lr in _RATES if math.isfinite(means[lr])), key=means.__getitem__)


class Emit(SphinxDirective):
    """``{emit}``: what each of the commands in it writes, folded."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the code of each command below its summary."""
        found: list[nodes.Node] = []
        for command in self.content:
            _, *arguments = command.split()
            done = CliRunner().invoke(app, arguments)
            code = nodes.literal_block(done.output, done.output, language="c" if command.endswith(" c") else "text")
            found += [
                nodes.raw("", f"<details><summary><code>{escape(command)}</code></summary>", format="html"),
                code,
                nodes.raw("", "</details>", format="html"),
            ]
        return found


def _write_lab(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        path = Path(app.outdir, _PAGE)
        path.parent.mkdir(exist_ok=True)
        path.write_text(lab.page())


def _bars(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Keep bars as they are outside of code: |g| is a size, and no substitution."""
    for at, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[at] = "``".join(parts)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _display(translator: Any, node: nodes.math_block) -> None:
    # The converter does not know aligned, and leaves the ampersands of what it does not know.
    text = node.astext().replace(r"\begin{aligned}", r"\begin{array}{rl}").replace(r"\end{aligned}", r"\end{array}")
    formula = convert(text, display="block")
    if "&amp;" in formula:
        _LOGGER.warning("a formula has an environment that is not converted: %s", text, location=node)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Let Sphinx know."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("lab", Lab)
    app.add_directive("lab-of", LabOf)
    app.add_directive("emit", Emit)
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("autodoc-process-docstring", _bars)
    app.connect("build-finished", _write_lab)
    return {"version": "1", "parallel_read_safe": True}
