"""A situation of the page from its link, or from a story: what ``assets/state.js`` reads there, read in Python."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_to_bytes

from steprule.errors import ProblemError, suggest
from steprule.lab.entrants import menu, numbers
from steprule.lab.presets import first_view, presets
from steprule.lab.rates import best_rate
from steprule.lab.surface import Surface
from steprule.lab.surfaces import surfaces
from steprule.lab.view import TWIN, View
from steprule.rules import CATALOGUE, Rule
from steprule.rules.hyperparameters import Hyperparameter

__all__ = ["FIRST", "FORMAT", "Entry", "Situation", "situation"]

FIRST = "page"
"""Names what the page shows when it is opened."""
LIMITS: dict[str, tuple[float, float]] = {
    "noise": (0, 1e6), "scale": (1e-9, 1e9), "seed": (0, 4294967295), "steps": (1, 10000), "t": (0, 10000),
    "from": (0, 10000),
}  # fmt: skip
WHOLE = ("seed", "steps", "t", "from")
VIEWS = ("map", "solid", "thousand")
SPEEDS = ("", "4", "20", "60", "240")
TURN = (-0.6, 1.05)
UP = (0.15, 1.5)
"""How far the camera goes up."""
FAR = 1e30
"""Of a start, without limits of the surface's own."""
MARKS = 1000
FORMAT: dict[str, Any] = {
    "LIMITS": LIMITS, "WHOLE": WHOLE, "VIEWS": VIEWS, "SPEEDS": SPEEDS, "TURN": TURN, "UP": UP, "FAR": FAR,
    "MARKS": MARKS, "TWIN": TWIN,
}  # fmt: skip
"""What links may hold, as the page's constants: both readers have them from here."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CALLED = {"from": "since"}  # a word of Python
_OTHERS = ("axis", "inside", "line", "scope", "preset")
"""Of the page around the picture: a film has none of it."""


@dataclass(frozen=True)
class Entry:
    """A rule of a situation: its name there, the slot that says how it is drawn, and the hyperparameters it is given.

    Hyperparameters that the link does not give have the rule's defaults, and are not among ``values``.
    """

    name: str
    rule: Rule
    slot: int
    values: Mapping[str, float]


@dataclass
class Situation:
    """What a link holds of paths and of how they are seen.

    Attributes:
        surface: the ground.
        start: where paths begin.
        story: its name; empty without one.
        title: of the story.
        entries: the rules.
        look: the one that is looked into, and drawn over the others.
        noise, scale, seed, steps: as of ``trajectory``.
        t: the step that is shown.
        since: the step that the page's curves begin with.
        view: map, solid or thousand.
        turn: of the camera.
        theme: light, dark, or empty: as the system has it.
        speed: steps a second; empty: all in six seconds.
    """

    surface: Surface
    start: tuple[float, ...]
    story: str = ""
    title: str = ""
    entries: list[Entry] = field(default_factory=list)
    look: str = ""
    noise: float = 0.0
    scale: float = 1.0
    seed: int = 1
    steps: int = 300
    t: int = 300
    since: int = 0
    view: str = "map"
    turn: tuple[float, float] = TURN
    theme: str = ""
    speed: str = ""

    @property
    def key(self) -> str:
        """The name of the story, or else of the surface."""
        return self.story or self.surface.key


def situation(text: str, view: View | None = None) -> Situation:
    """Return the situation of a story or of a link.

    Args:
        text: the name of a story, ``page`` for what the page shows when it is opened, with the rates that it looks for
            then, or a link: an address of the page, or what follows its ``#``.
        view: the rules, the surface and the start of one's own that the page was written with.

    Raises:
        ProblemError: when there is no such story, or the link names what is not there.
    """
    view = view or View()
    first = first_view(view)
    found = _Reader(view, first["surface"], first["rules"])
    linked = _pairs(text)
    done = found.read(linked or [*map(_pair, first["pairs"])])
    if found.problems:
        raise ProblemError(f"{' '.join(found.problems)} The link is {text!r}")
    done.surface.check_start(done.start)
    if not done.entries:
        raise ProblemError(f"the link {text!r} shows no rule; name some, as in rules=sgd,adam")
    if first["tunes"] and not linked:
        done.entries = [_tuned(done, entry) for entry in done.entries]
    return done


def _tuned(found: Situation, entry: Entry) -> Entry:
    """Return a rule with the rate that the page finds for it; one whose rate is set, or that has none, as it is."""
    if "lr" in entry.values or all(one.name != "lr" for one in numbers(entry.rule)):
        return entry
    rate = best_rate(
        entry.rule, found.surface, found.steps, start=found.start, noise=found.noise, scale=found.scale,
        seed=found.seed, **entry.values,
    )  # fmt: skip
    return entry if rate is None else replace(entry, values={**entry.values, "lr": rate})


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return keys and values, in order; none for what the page shows when it is opened."""
    stories = {story["key"]: story["pairs"] for story in presets()}
    if text in stories:
        return [*map(_pair, stories[text]), ("preset", text)]
    if text == FIRST:
        return []
    before, mark, after = text.partition("#")
    if not mark and "=" not in text:
        link = f"#surface={text if text in surfaces() else 'beale'}&rules=sgd,adam"
        raise ProblemError(
            f"no story is called {text!r}.{suggest(text, [*stories, FIRST])} Or give a link, as in '{link}'"
        )
    return [_decoded(part) for part in (after if mark else before).split("&") if part]


def _pair(pair: Sequence[str]) -> tuple[str, str]:
    return pair[0], pair[1]


def _decoded(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    try:
        return unquote_to_bytes(key).decode(), unquote_to_bytes(value).decode()
    except UnicodeDecodeError:  # a program has cut the link within a letter
        return key, value


def _parted(text: str) -> list[str]:
    return [name.replace("%2C", ",").replace("%25", "%") for name in text.split(",")]


def _numbers_in(text: str) -> list[float]:
    parts = [part.strip() for part in text.split(",")]
    return [float(part) if _NUMBER.fullmatch(part) else math.nan for part in parts]


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


class _Reader:
    """Reads pairs as ``readState`` of the page does; what it cannot read is named in ``problems``."""

    def __init__(self, view: View, surface: str, rules: str) -> None:
        self.problems: list[str] = []
        self._surface, self._rules = surface, rules
        self._surfaces = {**surfaces(), **({view.surface.key: view.surface} if view.surface else {})}
        self._known = {**menu(), **{rule.name: rule for rule in view.added}}

    def read(self, pairs: Sequence[tuple[str, str]]) -> Situation:
        given = dict(pairs)
        name = given.pop("surface", self._surface)
        if name not in self._surfaces:
            self.problems.append(f"There is no surface {name!r}.{suggest(name, self._surfaces)}")
            name = self._surface
        ground = self._surfaces[name]
        found = Situation(ground, ground.start, noise=ground.noise, steps=ground.steps)
        self._start(found, given.pop("start", None))
        names = self._names(given.pop("rules", self._rules))
        look, marks = given.pop("look", ""), _numbers_in(given.pop("marks", ""))
        found.look = look if look in names else names[-1] if names else ""
        for key in LIMITS:
            if key == "t":
                found.t = found.steps
            self._number(found, key, given.pop(key, None))
        found.t = min(found.t, found.steps)
        self._seen(found, given)
        story = given.get("preset", "")
        titles = {one["key"]: one["title"] for one in presets()}
        found.story, found.title = (story, titles[story]) if story in titles else ("", "")
        for key in _OTHERS:
            given.pop(key, None)
        self._entries(found, names, marks, given)
        return found

    def _start(self, found: Situation, text: str | None) -> None:
        if text is None:
            return
        start, count = tuple(_numbers_in(text)), found.surface.dimensions
        low, high = found.surface.limits or (-FAR, FAR)
        if len(start) == count and all(low <= x <= high for x in start):
            found.start = start
        else:
            self.problems.append(f"The start has to be {count} numbers from {low:g} to {high:g}, not {text!r}.")

    def _rule(self, name: str) -> Rule | None:
        """Return the rule of a name; one with the sign of a twin is made when it is named."""
        base = name.removesuffix(TWIN)
        return self._known.get(name) or (self._known.get(base) if name.endswith(TWIN) else None)

    def _names(self, text: str) -> list[str]:
        found: list[str] = []
        for name in filter(None, _parted(text)):
            if self._rule(name) is None:
                matrices = " The page shows no rules that step matrices alone." if name in CATALOGUE else ""
                self.problems.append(f"There is no rule {name!r}.{matrices or suggest(name, self._known)}")
            elif name not in found:
                found.append(name)
        return found

    def _number(self, found: Situation, key: str, text: str | None) -> None:
        if text is None:
            return
        value, (low, high) = _numbers_in(text)[0], LIMITS[key]
        if low <= value <= high:
            setattr(found, _CALLED.get(key, key), _rounded(value) if key in WHOLE else value)
        else:
            self.problems.append(f"{key} has to be a number from {low:g} to {high:g}, not {text!r}.")

    def _seen(self, found: Situation, given: dict[str, str]) -> None:
        """Read how paths are seen. Here the page takes what it cannot read for what it has by default."""
        view, theme, speed = (given.pop(key, "") for key in ("view", "theme", "speed"))
        if view in VIEWS and not (view == "solid" and found.surface.dimensions == 1):
            found.view = view
        turn = _numbers_in(given.pop("turn", ""))
        if len(turn) == 2 and all(map(math.isfinite, turn)):
            found.turn = (turn[0], min(max(turn[1], UP[0]), UP[1]))
        found.theme = theme if theme in ("light", "dark") else ""
        found.speed = speed if speed in SPEEDS else ""

    def _entries(self, found: Situation, names: list[str], marks: list[float], given: Mapping[str, str]) -> None:
        common: dict[str, float] = {}
        own: dict[str, dict[str, float]] = {}
        for key, text in given.items():
            holder, _, name = key.rpartition(".")
            value = self._hyper(key, holder or "*", name, text)
            if value is not None:
                (common if holder in ("", "*") else own.setdefault(holder, {}))[name] = value
        fits = len(marks) == len(names) == len(set(marks)) and all(0 <= mark < MARKS for mark in marks)
        for place, name in enumerate(names):
            rule = self._rule(name)
            assert rule is not None
            shared = {
                one.name: common[one.name] for one in numbers(rule) if common.get(one.name, math.nan) in one.range
            }
            slot = _rounded(marks[place]) if fits else place
            found.entries.append(Entry(name, rule, slot, {**shared, **own.get(name, {})}))

    def _hyper(self, key: str, rule: str, name: str, text: str) -> float | None:
        """Return the value of a hyperparameter: ``lr=`` is for all rules, ``adam.lr=`` for one."""
        one = self._rule(rule)
        holders = [*self._known.values()] if rule == "*" else [one] if one else []
        hypers: list[Hyperparameter] = [hyper for holder in holders for hyper in numbers(holder) if hyper.name == name]
        value = _numbers_in(text)[0]
        if not hypers:
            self.problems.append(f"Nothing in the lab is called {key!r}.")
        elif not any(value in hyper.range for hyper in hypers):
            self.problems.append(f"{key} cannot be {text!r}: it takes {hypers[0].range}.")
        else:
            return value
        return None
