"""The line of somebody's code that a mistake stands in, and what to write there, in the words of that code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from steprule.checking.mistakes import Mistake

__all__ = ["Line", "lines_of"]

_NUMBER = r"\d[\d.]*e-?\d+"
_EPS = rf"(?P<eps>[\w.]*eps\w*|[\w.]+\[[\"']\w*eps\w*[\"']\]|{_NUMBER})"
_CORRECTION = r"(?P<rest>\(\s*1(\.0)?\s*-.*)"
_REWRITES: dict[str, list[tuple[str, str]]] = {
    "epsilon inside the root": [
        (rf"sqrt\((?P<v>[^()]+(?:\([^()]*\))?[^()]*?)\s*\+\s*{_EPS}\)", r"(sqrt(\g<v>) + \g<eps>)"),
        (rf"\(\((?P<v>[^()]+)\s\+\s*{_EPS}\)\s*\*\*\s*0?\.5\)", r"((\g<v>) ** 0.5 + \g<eps>)"),
        (rf"\((?P<v>[^()]+?)\s*\+\s*{_EPS}\)\s*\*\*\s*0?\.5", r"((\g<v>) ** 0.5 + \g<eps>)"),
    ],
    "beta2 is 0.99": [
        # Both weights of the average, where they are written as numbers; a learning rate may be 0.01 as well.
        (
            r"(?P<a>(?<![\d.])0?\.99)(?P<rest> ?\*[^*].*?)(?<![\d.])0?\.01(?= ?\*[^*]|\)? *$)",
            r"0.999\g<rest>0.001",
        ),
        (r"(?<![\d.])0?\.99(?!\d)", "0.999"),
    ],
    "step counter advances once a tensor": [
        (r"^\s*[\w.\[\]\"']*\b(t|step|steps|count|i)\b[\"'\]]*\s*(\+= 1|=.*\+ 1)\s*$", "")
    ],
    "gradient is written to": [
        (
            r"^(?P<in>\s*)(?P<g>g\w*|grad\w*(\[\w+\])?) (?P<op>[-+*/])= (?P<rest>.*)$",
            r"\g<in>\g<g> = \g<g> \g<op> \g<rest>",
        )
    ],
}
_STORED = (
    (rf"^(?P<in>\s*)(?P<m>[\w.]+(?:\[[^\]]*\])*) = (?P=m) / {_CORRECTION}$"),
    (rf"^(?P<in>\s*)(?P<m>[\w.]+(?:\[[^\]]*\])*) /= {_CORRECTION}$"),
)


@dataclass(frozen=True)
class Line:
    """A line of somebody's code.

    Attributes:
        number: of the line in its file.
        code: what stands there.
        instead: what to write there; ``""`` where the line is to go elsewhere.
    """

    number: int
    code: str
    instead: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.code}" + (f"\n  write: {self.instead}" if self.instead else "")


def lines_of(thing: Any, mistakes: Iterable[Mistake]) -> dict[str, tuple[Line, ...]]:
    """Return for each mistake the lines that it stands in and what to write there, where patterns find them.

    A line that has several mistakes is said with all of them corrected, so that what is written is what is meant.

    Args:
        thing: the function, class or object.
        mistakes: that were found.
    """
    try:
        lines, first = inspect.getsourcelines(
            thing if inspect.isroutine(thing) or inspect.isclass(thing) else type(thing)
        )
    except (OSError, TypeError):
        return {}
    code = {place: line.rstrip().partition("  #")[0] for place, line in enumerate(lines, first)}
    new = dict(code)
    places = {mistake.name: _correct(mistake.name, new) for mistake in mistakes}
    return {
        name: tuple(
            Line(place, code[place].strip(), new[place].strip() if new[place] != code[place] else "")
            for place in sorted(own)
        )
        for name, own in places.items()
        if own
    }


def _correct(name: str, code: dict[int, str]) -> set[int]:
    """Correct a mistake in lines of code where they have it; return which."""
    if "stored" in name:
        return _with_names_of_their_own(code)
    touched = set()
    for place, line in code.items():
        for pattern, instead in _REWRITES.get(name, []):
            if match := re.search(pattern, line):
                touched.add(place)
                code[place] = _replaced(line, match, instead) if instead else line
                break
    return touched


def _with_names_of_their_own(code: dict[int, str]) -> set[int]:
    """Give corrected moments names of their own, where they are made and in the quotients that read them below."""
    hats: dict[str, str] = {}
    touched = set()
    for place, line in code.items():
        match = next((found for pattern in _STORED if (found := re.search(pattern, line))), None)
        if match is not None:
            moment = match["m"]
            hats[moment] = f"{moment.partition('[')[0].rpartition('.')[2]}_hat"
            new = f"{match['in']}{hats[moment]} = {moment} / {match['rest']}"
        else:
            new = _read(line, hats)
        if new != line:
            code[place] = new
            touched.add(place)
    return touched


def _read(line: str, hats: dict[str, str]) -> str:
    """Return a line that reads corrected moments by their names, if it has a quotient or a root: a step."""
    if not re.search(r"/|sqrt|\*\* ?0?\.5", line):
        return line
    for moment, hat in hats.items():
        if not re.match(rf"\s*{re.escape(moment)}\s*[-+*/]?=", line):
            line = re.sub(rf"(?<![\w.\]]){re.escape(moment)}(?![\w\[])", hat, line)
    return line


def _replaced(line: str, match: re.Match[str], instead: str) -> str:
    new = line[: match.start()] + match.expand(instead) + line[match.end() :]
    new = re.sub(r"([\w.]+\.)\(sqrt\(", r"(\1sqrt(", new)  # np.(sqrt(v) is (np.sqrt(v)
    return new.replace(" )", ")")
