"""The line of somebody's code that a mistake stands in, and what to write there, in the words of that code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from steprule.checking.mistakes import Mistake

__all__ = ["lines_of"]

_NUMBER = r"\d[\d.]*e-?\d+"
_EPS = rf"(?P<eps>[\w.]*eps\w*|[\w.]+\[[\"']\w*eps\w*[\"']\]|{_NUMBER})"
_CORRECTION = r"(?P<rest>\(\s*1(\.0)?\s*-.*)"
_REWRITES: dict[str, list[tuple[str, str]]] = {
    "epsilon inside the root": [
        (rf"sqrt\((?P<v>[^()]+(?:\([^()]*\))?[^()]*?)\s*\+\s*{_EPS}\)", r"(sqrt(\g<v>) + \g<eps>)"),
        (rf"\(\((?P<v>[^()]+)\s\+\s*{_EPS}\)\s*\*\*\s*0?\.5\)", r"((\g<v>) ** 0.5 + \g<eps>)"),
        (rf"\((?P<v>[^()]+?)\s*\+\s*{_EPS}\)\s*\*\*\s*0?\.5", r"((\g<v>) ** 0.5 + \g<eps>)"),
    ],
    "beta2 is 0.99": [(r"(?<![\d.])0?\.99(?!\d)", "0.999")],
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
_STORED = [
    (rf"^(?P<in>\s*)(?P<m>[\w.]+(?:\[[^\]]*\])*) = (?P=m) / {_CORRECTION}$", r"\g<in>HAT = \g<m> / \g<rest>"),
    (rf"^(?P<in>\s*)(?P<m>[\w.]+(?:\[[^\]]*\])*) /= {_CORRECTION}$", r"\g<in>HAT = \g<m> / \g<rest>"),
]


def lines_of(thing: Any, mistakes: Iterable[Mistake]) -> dict[str, str]:
    """Return for each mistake the line that it stands in and what to write there, where a pattern finds it.

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
    found = {}
    for mistake in mistakes:
        patterns = _STORED if "stored" in mistake.name else _REWRITES.get(mistake.name, [])
        said = [text for place, line in enumerate(lines, first) if (text := _rewritten(line.rstrip(), place, patterns))]
        if said:
            found[mistake.name] = "\n".join(said)
    return found


def _rewritten(line: str, place: int, patterns: list[tuple[str, str]]) -> str:
    """Return a line and what to write in its place, if a pattern is in it."""
    code = line.partition("  #")[0]
    for pattern, instead in patterns:
        match = re.search(pattern, code)
        if match is None:
            continue
        if not instead:
            return f"line {place}: {code.strip()}"
        new = code[: match.start()] + match.expand(instead) + code[match.end() :]
        if "HAT" in instead:
            name = match["m"].partition("[")[0].rpartition(".")[2]
            new = new.replace("HAT", f"{name}_hat")
        new = re.sub(r"([\w.]+\.)\(sqrt\(", r"(\1sqrt(", new)  # np.(sqrt(v) is (np.sqrt(v)
        new = new.replace(" )", ")")
        return f"line {place}: {code.strip()}\n  write: {new.strip()}"
    return ""
