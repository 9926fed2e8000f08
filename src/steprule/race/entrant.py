"""Entrants: the rules of a race, each with the hyperparameters that are not raced over."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import steprule
from steprule.errors import HyperparameterError, RuleError
from steprule.race.usercode import user_code
from steprule.rules import Rule, load

__all__ = ["Entrant", "entrants", "load_rule"]

_ENTRY = re.compile(r"(?P<spec>.+?)(?:\((?P<settings>[^()]*=[^()]*)\))?")
_COMMA = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True)
class Entrant:
    """A rule by its specification, since workers load it themselves, with fixed hyperparameters."""

    spec: str
    label: str
    hyperparameters: tuple[tuple[str, Any], ...]
    has_lr: bool
    digest: str
    """Of the file that defines the rule, when it is not steprule's own."""


def entrants(texts: Iterable[str]) -> tuple[Entrant, ...]:
    """Return the entrants that the texts name, each ``RULE`` or ``RULE(name=value, ...)``, comma-separated.

    Raises:
        RuleError: no such rule, or the same entrant twice.
        HyperparameterError: unknown, out of range, or ``lr``, which the race chooses.
    """
    parsed = [_parse(part.strip()) for text in texts for part in _COMMA.split(text) if part.strip()]
    if not parsed:
        raise RuleError("no rule to race; give --rules adam,sgd")
    counts = Counter(entrant.label for entrant in parsed)
    # A rule of the user's may be called as one of the catalogue's.
    named = [replace(e, label=_title(e.spec, e)) if counts[e.label] > 1 else e for e in parsed]
    for label, count in Counter(entrant.label for entrant in named).items():
        if count > 1:
            raise RuleError(f"{label} is given {count} times; name each rule once")
    return tuple(named)


def load_rule(spec: str) -> Rule:
    """Return the rule of a specification (see ``steprule.rules.load``), quoting the user's frames on errors."""
    with user_code(f"rule {spec}", RuleError):
        return load(spec)


def _parse(text: str) -> Entrant:
    match = _ENTRY.fullmatch(text)
    assert match is not None
    spec = match["spec"].strip()
    rule = load_rule(spec)
    settings = tuple(_setting(item, text) for item in (match["settings"] or "").split(",") if item.strip())
    if "lr" in dict(settings):
        raise HyperparameterError(f"{text}: the race chooses lr; give the learning rates by --lrs")
    rule.resolve(dict(settings), f" of {text}")
    entrant = Entrant(spec, rule.name, settings, "lr" in rule.hyperparameters, _digest(rule))
    return replace(entrant, label=_title(rule.name, entrant))


def _setting(item: str, text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in item.partition("="))
    if not equals:
        raise HyperparameterError(f"{text}: {item.strip()!r} is no name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        # A choice such as none or before_max needs no quotes in a shell.
        return name, value


def _title(name: str, entrant: Entrant) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in entrant.hyperparameters)
    return f"{name}({settings})" if settings else name


def _digest(rule: Rule) -> str:
    """Return a digest of the user's file in which the rule stands; empty for steprule's own rules."""
    try:
        source = inspect.getsourcefile(inspect.unwrap(rule.function))
    except TypeError:
        return ""
    if source is None or not Path(source).is_file():
        return ""
    path = Path(source).resolve()
    if path.is_relative_to(Path(steprule.__file__).resolve().parent):
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()
