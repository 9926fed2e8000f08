"""Settings of the documentation's site (docs/decisions/site.md says how it is built, and why by these)."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from steprule.version import __version__  # noqa: E402

project = "steprule"
copyright = "The steprule developers"
release = __version__
extensions = ["myst_parser", "site_parts", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

suppress_warnings = ["ref.python"]  # a name in a signature that two classes have needs no link
napoleon_use_ivar = True  # or fields of named tuples would be there twice

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

html_math_renderer = "mathml"  # MathJax would be fetched from elsewhere, whenever a page is read
html_theme = "furo"
html_title = f"steprule {release}"
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_show_sphinx = False
