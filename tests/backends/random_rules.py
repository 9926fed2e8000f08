"""Rules at random, as source: every operation, both stages, sums, every kind of slot and option of the language.

A rule follows from a number; every third has sums over its tensor. Numbers of the host are kept within bounds, so that
Python raises nothing; numbers of elements mostly so, so that infinities and NaN come about and do not hide all else.
"""

from __future__ import annotations

import functools
import linecache
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from steprule.rules import Rule
from tests.cases import Array

_HEAD = """\
import math
from typing import Annotated, Literal

import steprule as sr
from steprule import Decay, Fraction, NonNegative, Positive, Rate, Scalar
from steprule.rules.hyperparameters import Range

"""
_HYPERPARAMETERS = {
    "a: Rate": ("0.05", (0.0, 0.5)),
    "b: Decay": ("0.9", (0.0, 0.999)),
    "c: Fraction": ("0.5", (0.0, 1.0)),
    "d: Positive": ("1e-3", (1e-6, 3.0)),
    "e: NonNegative": ("0.0", (0.0, 2.0)),
    "f: Annotated[float, Range(-2.0, 2.0)]": ("-0.5", (-2.0, 1.9)),
    "k": ("1.5", (-3.0, 3.0)),
}
FUNCTIONS = (
    *("sqrt", "exp", "log", "floor", "ceil", "trunc", "fabs", "tanh", "sin", "cos", "atan", "log1p", "expm1", "cbrt"),
)
_HOST = (
    *("{0} + {1}", "{0} - {1}", "{0} * {1}", "-{0}", "abs({0})", "sr.sqrt(abs({0}))", "sr.maximum({0}, {1})"),
    *("sr.minimum({0}, {1})", "sr.sign({0})", "sr.where({2}, {0}, {1})", "{0} / (1 + {1} * {1})", "{0} ** 2"),
    *("(0.5 + abs({0})) ** {3}", "{0} % (0.5 + abs({1}))", "{0} // (0.5 + abs({1}))", "{0} * {0}"),
    "{0} / (0.5 + {1} ** 2)",
    *("math.sqrt(0.25 + abs({0}))", "math.exp({3})", "math.log(0.25 + abs({0}))", "math.log1p(abs({0}))"),
    *(f"math.{name}({{0}})" for name in ("floor", "ceil", "trunc", "fabs", "tanh", "sin", "cos", "atan", "cbrt")),
    *("math.expm1({3})", "math.hypot({0}, {1})", "math.atan2({0}, {1})", "math.pow(0.5 + abs({0}), {3})"),
)
_ELEMENT = (
    *("{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "{0} / (0.5 + abs({1}))", "-{0}", "abs({0})", "{0} ** 2"),
    *("sr.sqrt(abs({0}))", "sr.sqrt({0})", "sr.maximum({0}, {1})", "sr.minimum({0}, {1})", "sr.sign({0})"),
    *("sr.where({2}, {0}, {1})", "{0} * {0} * {1}", "{3} * {0}", "{0} / (1 + abs({3}))", "{3} - {0}"),
    *("{3} / (1 + {0} ** 2)", "(1 - {3}) * {0} + {3} * {1}", "{0} - {0}", "sr.maximum({0}, {3})"),
    *("sr.where({2}, {3}, {0})", "sr.where({2}, {0}, 0.0)", "sr.where({2}, {3}, 0.3)"),
)
_SUMS = ("total", "mean", "norm", "rms", "size")
_CONDITIONS = ("{0} < {1}", "{0} <= {1}", "{0} > {1}", "{0} >= {1}", "{0} == {1}", "{0} != {1}")
_JOINED = ("{0} & {1}", "{0} | {1}", "~({0})", "({0}) & (flag)", "(flag) | ({0})")
_NUMBERS = ("0.5", "2", "-1.5", "1e-3", "3.0", "0.1", "1", "-0.25", "7")


SOME = range(20)
MANY = range(20, 110)
"""Those of the plain run, which have all that the language has, and those of the slow one."""


@dataclass(frozen=True)
class Random:
    """A rule at random.

    Attributes:
        number: what it follows from.
        rule: the rule.
        source: its text.
        choices: values of hyperparameters, each of another variant.
    """

    number: int
    rule: Rule
    source: str
    choices: tuple[dict[str, Any], ...]

    @property
    def has_sums(self) -> bool:
        """Whether it sums over its tensor."""
        return any(f"= sr.{word}(" in self.source for word in _SUMS)

    def given(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values that have an effect, which an optimizer takes."""
        rule, of_starts = self.rule, {x for x in self.rule.init.values() if isinstance(x, str)}
        used = rule.trace(rule.variant(rule.resolve(values))).used | of_starts
        static = {name for name, hyper in rule.hyperparameters.items() if hyper.is_static}
        return {name: x for name, x in values.items() if name in used | static or x is None}


class _Writer:
    """Writes the body of a function, line by line, of names that it has so far."""

    def __init__(self, rng: np.random.Generator, hosts: list[str], elements: list[str]) -> None:
        self._rng = rng
        self.hosts, self.elements = hosts, elements
        self.sums: list[str] = []
        """What depends on sums, so that no scalar slot may depend on it."""
        self.host_conditions: list[str] = []
        self.conditions: list[str] = []
        self.lines: list[str] = []

    def some(self, *texts: str) -> str:
        return texts[int(self._rng.integers(len(texts)))]

    def chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def late(self, names: list[str]) -> str:
        """Return a name, of those that were made last more often than not: what nothing uses is not computed."""
        return self.some(*(names[-4:] if self.chance(0.65) else names))

    def host(self) -> str:
        return self.some(*_NUMBERS) if self.chance(0.2) else self.late(self.hosts)

    def element(self) -> str:
        return self.late(self.elements)

    def either(self) -> str:
        """Return an element, now and then a number in its place."""
        return self.host() if self.chance(0.15) else self.element()

    def bounded(self) -> str:
        """Return a number of the host from -2 to 2."""
        return f"sr.minimum(sr.maximum({self.late(self.hosts)}, -2.0), 2.0)"

    def host_condition(self) -> str:
        if self.host_conditions and self.chance(0.7):
            return self.late(self.host_conditions)
        return f"({self.some(*_CONDITIONS).format(self.late(self.hosts), self.host())})"

    def condition(self) -> str:
        if self.conditions and self.chance(0.6):
            return self.late(self.conditions)
        if self.chance(0.15):
            return self.host_condition()
        return f"({self.some(*_CONDITIONS).format(self.element(), self.either())})"

    def line(self) -> None:
        """Write one line."""
        kinds, shares = ["element", "host", "condition", "host condition", "if"], [0.5, 0.25, 0.1, 0.07, 0.08]
        kind = self._rng.choice(kinds, p=shares)
        number = len(self.lines)
        if kind == "element":
            text = self.some(*_ELEMENT).format(self.element(), self.either(), self.condition(), self.host())
            self._keep(self.elements, f"x{number}", text)
        elif kind == "host":
            text = self.some(*_HOST).format(self.late(self.hosts), self.host(), self.host_condition(), self.bounded())
            self._keep(self.hosts, f"h{number}", self._within(text))
        elif kind == "condition":
            joined = self.some(*_JOINED).format(self.condition(), self.condition())
            self._keep(self.conditions, f"q{number}", joined)
        elif kind == "host condition":
            asked = f"math.isfinite({self.some(*self.hosts)})"
            joined = self.some(*_JOINED[:3]).format(self.host_condition(), self.host_condition())
            joined = asked if self.chance(0.2) else joined
            self._keep(self.host_conditions, f"p{number}", joined)
        else:
            asked = self.some("flag", "how == 'one'", "how != 'two'", "limit is None")
            one, other = (f"{self.element()} {self.some('+', '-', '*')} {self.host()}" for _ in range(2))
            self._keep(self.elements, f"x{number}", f"{one} if {asked} else {other}")

    def sum(self) -> None:
        """Write a line with a number of the tensor, where that is not too large."""
        word, name = self.some(*_SUMS), f"h{len(self.lines)}"
        summed = (
            f"{self.element()} {self.some('+', '-', '*')} {self.some('theta', 'g')}"  # some are numbers of the host
        )
        self.lines.append(f"z{name} = sr.{word}({summed})")
        self._keep(self.hosts, name, f"sr.where(abs(z{name}) < 50.0, z{name}, 0.5)")
        self.sums.append(name)

    def mixed(self) -> str:
        """Return an element of all that is not used yet: what nothing uses would not be computed."""
        text = "\n".join(self.lines)
        names = re.findall(r"^([xhpq]\d+) =", text, re.MULTILINE)
        ways = {"x": "mixed + {0} / (1 + abs({0}))", "h": "mixed - 0.125 * {0}"}
        self.lines.append(f"mixed = {self.small()}")
        for name in (name for name in names if len(re.findall(rf"\b{name}\b", text)) == 1):
            self.lines.append(f"mixed = {ways.get(name[0], 'sr.where({0}, mixed, 0.5 - mixed)').format(name)}")
        return "mixed"

    def _keep(self, names: list[str], name: str, text: str) -> None:
        self.lines.append(f"{name} = {text}")
        names.append(name)
        if set(re.findall(r"\w+", text)) & set(self.sums):
            self.sums.append(name)

    def without_sums(self) -> list[str]:
        """Return the numbers of the host that a scalar slot may depend on."""
        return [name for name in self.hosts if name not in self.sums]

    def _within(self, text: str) -> str:
        return self.some("sr.minimum(sr.maximum({0}, -50.0), 50.0)", "({0}) / (1 + abs({0}))").format(f"({text})")

    def small(self) -> str:
        """Return an element within bounds, or NaN."""
        x = self.element()
        return self.some(f"{x} / (1 + abs({x}))", f"sr.minimum(sr.maximum({x}, -2.0), 2.0)", f"sr.sign({x})", f"{x}")


_SLOTS = ("plain", "plain", "non-negative", "number", "optional", "last", "written")


def _source(number: int) -> str:
    rng = np.random.default_rng(number)
    own = [str(text) for text in rng.permutation(list(_HYPERPARAMETERS))[: int(rng.integers(2, 6))]]
    names = [text.partition(":")[0] for text in own]
    slots = {f"s{k}": str(rng.choice(_SLOTS)) for k in range(int(rng.integers(0, 4)))}
    scalars = {f"n{k}": bool(rng.random() < 0.7) for k in range(int(rng.integers(0, 3)))}
    uses_t = bool(rng.random() < 0.8) or not names
    hosts = [*names, *(["t"] if uses_t else []), *(name for name, is_read in scalars.items() if is_read)]
    read = [name for name, kind in slots.items() if kind not in ("optional", "written")]
    writer = _Writer(rng, hosts, ["theta", "g", "g", *read])
    writer.lines.append(f"limit_ = 0.75 + 0.125 * {writer.some(*hosts)} if limit is None else limit")
    writer.hosts.append("limit_")
    for k in range(int(rng.integers(6, 24))):
        if number % 3 == 2 and k % 4 == 1:
            writer.sum()
        writer.line()
    returned = [_new(writer, name, kind, hosts) for name, kind in slots.items()]
    writer.hosts = writer.without_sums()
    divided = {name: name if is_read else writer.host() for name, is_read in scalars.items()}
    returned += [f"{writer.some(*writer.hosts)} / (1 + abs({by}))" for by in divided.values()]
    rate = " * ".join([writer.some("0.01", "0.125", *names), *(f"(1 + {name})" for name in [*names, "limit_"])])
    moved = ("theta - {0} * {1}", "(1 - {0} / 64) * theta - {1} * 0.125", "sr.where({2}, theta - {0} * {1}, theta)")
    new = writer.some(*moved)
    writer.lines.append(f"new = {new.format(rate, writer.mixed(), writer.condition())}")
    kinds = {"non-negative": ": NonNegative"}
    elements = ["theta", "g", *(f"{name}{kinds.get(kind, '')}" for name, kind in slots.items())]
    elements += [f"{name}: Scalar" for name in scalars]
    options = [f"{text} = {_HYPERPARAMETERS[text][0]}" for text in own]
    options += ["limit: Positive | None = None", "flag: bool = False", "how: Literal['one', 'two', 'three'] = 'one'"]
    start = {name: writer.some(*names, "0.5", "0.0") for name in [*slots, *scalars] if rng.random() < 0.4}
    start = {name: x for name, x in start.items() if slots.get(name) != "non-negative" or x not in ("f", "k")}
    init = ", ".join(f"'{name}': {repr(x) if x in names else x}" for name, x in start.items())
    return "\n".join(
        [
            f"{_HEAD}@sr.rule(init={{{init}}})",
            f"def random{number}({', '.join(elements)}, *, {'t, ' if uses_t else ''}{', '.join(options)}):",
            *(f"    {line}" for line in writer.lines),
            f"    return {', '.join(['new', *returned])},",
            "",
        ]
    )


def _new(writer: _Writer, name: str, kind: str, hosts: list[str]) -> str:
    """Return the new value of a slot."""
    if kind == "number":
        return writer.some("0.0", "0.5", "-0.0", "3", *hosts, *writer.hosts)
    if kind == "last":
        return writer.some("g", "theta", "-g")
    if kind == "optional":
        return f"({writer.small()}) * 0.5 if flag else None"
    if kind == "non-negative":
        averaged, largest = (
            f"0.9 * {name} + 0.1 * {writer.element()} ** 2",
            f"sr.maximum(0.5 * {name}, abs({writer.small()}))",
        )
        return writer.some(averaged, largest, "0.25", "g ** 2")
    decay = writer.some("0.9", "0.5", "(1 - 0.125)")
    return f"{writer.small()}" if kind == "written" else f"{decay} * {name} + 0.25 * ({writer.small()})"


@functools.cache
def random_rule(number: int) -> Random:
    """Return the rule of that number."""
    source = _source(number)
    file = f"<random rule {number}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    names: dict[str, Any] = {"__name__": f"random_rules_{number}"}
    try:
        exec(compile(source, file, "exec"), names)
    except Exception as error:
        error.add_note(source)
        raise
    rule: Rule = names[f"random{number}"]
    return Random(number, rule, source, _choices(rule, np.random.default_rng([number, 1])))


def _choices(rule: Rule, rng: np.random.Generator) -> tuple[dict[str, Any], ...]:
    found = []
    for flag in (False, True):
        values: dict[str, Any] = {"flag": flag, "how": str(rng.choice(["one", "two", "three"]))}
        values["limit"] = None if rng.random() < 0.5 else float(rng.uniform(0.1, 2))
        for text, (default, (low, high)) in _HYPERPARAMETERS.items():
            name = text.partition(":")[0]
            if name in rule.hyperparameters:
                inside = float(rng.uniform(low, high))
                values[name] = [float(default), low, high, inside, inside][int(rng.integers(5))]
        found.append(values)
    return tuple(found)


def gradients(rng: np.random.Generator, shape: tuple[int, ...], steps: int) -> list[Array]:
    """Return gradients of sizes that occur, with zeros, infinities and NaN now and then."""
    found = []
    for _ in range(steps):
        g = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 2, shape)
        special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 3e4], shape)
        found.append(np.where(rng.random(shape) < 0.06, special, g))
    return found


@contextmanager
def told(rule: Random) -> Iterator[None]:
    """Say the rule where something fails."""
    try:
        yield
    except BaseException as error:
        error.add_note(rule.source)
        raise
