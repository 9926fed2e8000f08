"""Entrants: the rules of a race, each with the hyperparameters that are not raced over."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steprule.errors import HyperparameterError, RuleError
from steprule.rules import Rule
from steprule.rules.combinators import schedule_free
from steprule.rules.load import load_plain
from steprule.rules.settings import labelled, parse, split
from steprule.usercode import user_code

__all__ = ["WARMUP_STEPS", "Entrant", "digest_of", "entrants", "load_rule"]

WARMUP_STEPS = "warmup_steps"
_COMMA = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True)
class Entrant:
    """A rule by its specification, since workers load it themselves, with fixed hyperparameters."""

    spec: str
    """What loads the rule in any process and folder."""
    given: str
    """The specification as the user wrote it."""
    name: str
    hyperparameters: tuple[tuple[str, Any], ...]
    has_lr: bool
    digest: str
    """Of the user's file, so that runs of its earlier versions are not taken for runs of this one."""
    by_name: bool = True
    """Whether the name alone tells it apart from the others."""

    @property
    def label(self) -> str:
        """The name, or the specification if that is needed, with the hyperparameters that were set."""
        return labelled(self.name if self.by_name else self.given, self.hyperparameters)

    @property
    def rule(self) -> Rule:
        """The rule, with its own defaults."""
        return load_rule(self.spec, self.digest)

    @property
    def free(self) -> dict[str, float]:
        """The numbers that the rule has by default, but for those that the user has set: what may be tuned."""
        values = self.rule.resolve(dict(self.hyperparameters))
        given = dict(self.hyperparameters)
        return {
            name: float(value)
            for name, value in values.items()
            if name not in given and isinstance(value, (int, float)) and not isinstance(value, bool)
        }

    @property
    def is_schedule_free(self) -> bool:
        """Whether the rule averages in place of a schedule, as what ``schedule_free`` makes does: lr stays constant."""
        rule = self.rule
        while rule.made_by:
            if rule.made_by[0] is schedule_free:
                return True
            rule = rule.made_by[1][0]
        return False

    @property
    def keeps_rate(self) -> bool:
        """Whether lr stays constant, whatever the schedule: also where, as in Rprop, it is only where steps begin."""
        return self.is_schedule_free or not self.has_lr or self.reads_rate_once

    @property
    def reads_rate_once(self) -> bool:
        """Whether lr is the start of a slot and read no more, so that a schedule of it is refused."""
        rule = self.rule
        return "lr" in rule.read_once(rule.variant(rule.resolve(dict(self.hyperparameters))))

    @property
    def warms_up(self) -> bool:
        """Whether the race chooses how long the rate rises: a schedule-free rule has a count of its own for it."""
        return not self.keeps_rate or WARMUP_STEPS in self.free


def entrants(texts: Iterable[str]) -> tuple[Entrant, ...]:
    """Return the entrants that the texts name, each ``RULE`` or ``RULE(name=value, ...)``, comma-separated.

    Raises:
        RuleError: no such rule, the same entrant twice, or a parenthesis too many or too few.
        HyperparameterError: unknown, out of range, or ``lr``, which the race chooses.
    """
    parsed = [_parse(part.strip()) for text in texts for part in _COMMA.split(text) if part.strip()]
    if not parsed:
        raise RuleError("no rule to race; give --rules adam,sgd")
    counts = Counter(entrant.label for entrant in parsed)
    # A rule of the user's may be called as one of the catalogue's.
    named = [replace(entrant, by_name=counts[entrant.label] == 1) for entrant in parsed]
    for label, count in Counter(entrant.label for entrant in named).items():
        if count > 1:
            raise RuleError(f"{label} is given {count} times; name each rule once")
    return tuple(named)


@functools.lru_cache(maxsize=64)
def load_rule(spec: str, digest: str) -> Rule:
    """Return the rule of a specification without settings, quoting the user's frames on errors.

    One rule is one compiled kernel, so a file is loaded again only when its ``digest`` is another.
    """
    with user_code(f"rule {spec}", RuleError):
        return load_plain(spec)


def digest_of(spec: str) -> str:
    """Return the digest of the file or module that a specification names; empty for the catalogue's rules."""
    return _place(spec)[1]


def _parse(text: str) -> Entrant:
    given, written = split(text)
    spec, digest = _place(given)
    rule = load_rule(spec, digest)
    settings = parse(rule, written, text)
    if "lr" in dict(settings):
        raise HyperparameterError(f"{text}: the race chooses lr; give the learning rates by --lrs")
    return Entrant(spec, given, rule.name, settings, "lr" in rule.hyperparameters, digest)


def _place(spec: str) -> tuple[str, str]:
    """Return the specification with its file's path made absolute, and a digest of that file.

    The digest is of the file or module that is named, also where its rule is made by a combinator;
    empty for the catalogue's rules.
    """
    place, colon, name = spec.rpartition(":") if ":" in spec else (spec, "", "")
    if not place.endswith(".py"):
        return spec, _digest(_source(place, spec)) if colon else ""
    path = Path(place).resolve()
    # A file that is not there keeps its name as the user wrote it, for the message.
    return (f"{path}{colon}{name}", _digest(path)) if path.is_file() else (spec, "")


def _source(module: str, spec: str) -> Path | None:
    load_rule(spec, "")
    source = getattr(sys.modules.get(module), "__file__", None)
    return Path(source) if source else None


def _digest(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
