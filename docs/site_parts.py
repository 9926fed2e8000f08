"""What the documentation's site adds to Sphinx: the lab in pages, ``{lab} STORY``, and formulas that need no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from steprule import lab
from steprule.lab.presets import presets

_PAGE = "_static/lab.html"
_STORIES = {one["key"]: one for one in presets()}


def _hash(story: str) -> str:
    pairs = [*_STORIES[story]["pairs"], ["preset", story]]
    return "#" + "&".join(f"{quote(str(key), safe='*.')}={quote(str(value), safe=',')}" for key, value in pairs)


class Lab(SphinxDirective):
    """``{lab} STORY``: the story, live, with a link to it in a window of its own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the frame."""
        story = self.arguments[0]
        if story not in _STORIES:
            raise self.error(f"there is no story {story!r}; there are {', '.join(_STORIES)}")
        place = "../" * self.env.docname.count("/") + _PAGE + _hash(story)
        title = _STORIES[story]["title"]
        html = (
            f'<figure class="lab"><iframe src="{place}" loading="lazy" title="{title}"></iframe>'
            f'<figcaption><a href="{place}" target="_blank">{title}</a></figcaption></figure>'
        )
        return [nodes.raw("", html, format="html")]


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
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Let Sphinx know."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("lab", Lab)
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("autodoc-process-docstring", _bars)
    app.connect("build-finished", _write_lab)
    return {"version": "1", "parallel_read_safe": True}
