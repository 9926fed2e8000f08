"""The lab: every rule at work in a browser, from the same source: ``steprule lab``.

``page()`` returns the text of the page that the command writes, ``trajectory(...)`` the numbers that it shows,
computed by NumPy, and ``film(...)`` films of its situations. It needs SymPy: ``pip install '.[lab]'`` in a checkout.
"""

from steprule.lab.films import film
from steprule.lab.link import Situation, situation
from steprule.lab.page import page
from steprule.lab.serve import Server
from steprule.lab.surface import Surface
from steprule.lab.surfaces import own, surface, surfaces
from steprule.lab.trajectory import trajectory
from steprule.lab.view import View
from steprule.lab.write import write

__all__ = [
    "Server",
    "Situation",
    "Surface",
    "View",
    "film",
    "own",
    "page",
    "situation",
    "surface",
    "surfaces",
    "trajectory",
    "write",
]
