"""A rule with settings, as it is written on a command line: ``adam(beta2=0.9)``."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import replace
from itertools import takewhile
from typing import Any

from steprule.errors import HyperparameterError, RuleError
from steprule.rules.catalogue import CATALOGUE, find
from steprule.rules.combinators import COMBINATORS
from steprule.rules.rule import Rule

__all__ = ["Settings", "labelled", "parse", "read", "split", "with_defaults", "without_defaults"]

Settings = tuple[tuple[str, Any], ...]
"""Hyperparameters as they were written, in that order."""

_WRITTEN = re.compile(r"(?P<spec>.+?)\((?P<settings>[^()]*)\)", re.DOTALL)
_COMBINED = re.compile(rf"(?P<spec>({'|'.join(COMBINATORS)})\([^=]*?\))\s*(\((?P<settings>[^()]*)\))?", re.DOTALL)
_EXAMPLE = "Write for example adam(beta2=0.99, eps=1e-6)"
_WORDS = {"true": True, "false": False, "none": None}


def split(text: str) -> tuple[str, str]:
    """Return the specification of a rule, and what stands in the parentheses behind it.

    Raises:
        RuleError: for a parenthesis too many or too few, and for combinators that are written in another way; it says
            the right one.
    """
    text = text.strip()
    if text.endswith(".py"):
        return text, ""  # a file may have any name
    if text.count("(") != text.count(")"):
        wrong = "the parenthesis is not closed" if text.count("(") > text.count(")") else "there is a ) without a ("
        raise RuleError(f"{text}: {wrong}. {_EXAMPLE}")
    pieces = [piece.strip() for piece in re.split(r"[(),]", text) if piece.strip()]
    if pieces and pieces[0] in COMBINATORS:
        return _combined(text, pieces)
    match = _WRITTEN.fullmatch(text)
    if match and match["spec"].isidentifier() and match["spec"] not in CATALOGUE and "=" not in match["settings"]:
        return text, ""  # a combinator that there is not
    return (match["spec"].strip(), match["settings"]) if match else (text, "")


def _combined(text: str, pieces: list[str]) -> tuple[str, str]:
    """Return what ``split`` does of combinators and the rest, which ``pieces`` are between parentheses and commas."""
    names = [piece for piece in pieces if "=" not in piece]
    outer = list(takewhile(COMBINATORS.__contains__, names))
    base = next(iter(names[len(outer) :]), "adam")
    spec = "(".join([*outer, base]) + ")" * len(outer)
    settings = ", ".join(piece for piece in pieces if "=" in piece)
    match = _COMBINED.fullmatch(text)
    if match and "".join(match["spec"].split()) == "".join(spec.split()):
        return match["spec"], match["settings"] or ""
    if ".py" in base or ":" in base:
        return spec, settings  # which no combinator is named with, and the loader tells what to do
    find(spec)
    where = ", with settings in parentheses of their own" if settings else ""
    right = f"{spec}({settings})" if settings else spec
    raise RuleError(f"{text}: {outer[0]} is a combinator, which makes a rule of a rule: write {right}{where}")


def parse(rule: Rule, settings: str, text: str) -> Settings:
    """Return the hyperparameters that ``name=value, ...`` says, checked for the rule; ``text`` is named in messages.

    Raises:
        HyperparameterError: for one that is unknown, out of range, given twice, does nothing, or is no ``name=value``.
    """
    found = tuple(_setting(rule, item, text) for item in settings.split(",") if item.strip())
    for name, count in Counter(name for name, _ in found).items():
        if count > 1:
            raise HyperparameterError(f"{text}: {name} is given {count} times")
    values = rule.resolve(dict(found), f" in {text}" if text != rule.name else "")
    used = rule.trace(rule.variant(values)).named | {*rule.init.values()}
    for name, _ in found:
        hyper = rule.hyperparameters[name]
        if not hyper.is_static and values[name] is not None and name not in used:
            raise HyperparameterError(f"{text}: {name} does nothing beside the other settings; remove it")
    return found


def _setting(rule: Rule, item: str, text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in item.partition("="))
    if not equals:
        raise HyperparameterError(f"{text}: {item.strip()!r} is not a name=value. {_EXAMPLE}")
    return name, read(rule, name, value)


def read(rule: Rule, name: str, text: str) -> Any:
    """Return the value that a text says, for ``rule.resolve`` to check: true, none and choices need no quotes."""
    hyper = rule.hyperparameters.get(name)
    if hyper is not None and text in hyper.choices:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def labelled(name: str, settings: Settings) -> str:
    """Return the name with the hyperparameters that were set, such as ``adam(beta2=0.9)``."""
    written = ", ".join(f"{key}={value}" for key, value in settings)
    return f"{name}({written})" if written else name


def with_defaults(rule: Rule, settings: Settings) -> Rule:
    """Return the rule with these defaults in place of its own, under the name that says so.

    Raises:
        HyperparameterError: for one that is unknown or out of range.
    """
    if not settings:
        return rule
    values = rule.resolve(dict(settings))
    hyperparameters = {name: replace(hyper, default=values[name]) for name, hyper in rule.hyperparameters.items()}
    name = labelled(rule.name, settings)
    return replace(rule, name=name, hyperparameters=hyperparameters, made_by=(with_defaults, (rule, settings)))


def without_defaults(rule: Rule) -> tuple[Rule, Settings]:
    """Return what ``with_defaults`` has made a rule of; any other rule, and no settings."""
    if rule.made_by and rule.made_by[0] is with_defaults:
        plain, settings = rule.made_by[1]
        return plain, settings
    return rule, ()
