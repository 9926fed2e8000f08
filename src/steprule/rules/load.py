"""Rules by specification, as the command line takes them: a name, or a place in the user's code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import zlib
from pathlib import Path
from types import ModuleType

from steprule.errors import RuleError, StepruleError, suggest
from steprule.rules.catalogue import CATALOGUE, find
from steprule.rules.combinators import COMBINATORS
from steprule.rules.rule import Rule
from steprule.rules.settings import parse, split, with_defaults
from steprule.usercode import user_code

__all__ = ["load", "load_file", "load_plain"]

_OF_ONES_OWN = re.compile(r"(?P<maker>\w+)\((?P<file>[^()=]+\.py):?(?P<name>\w*)\)")


def load(text: str) -> Rule:
    """Return the rule that ``text`` names, with the defaults that it sets.

    Args:
        text: a name of the catalogue (``adam``, ``l2(adam)``), a file and a name (``my_rule.py:mine``), a file
            that defines one rule (``my_rule.py``), or a module and a name (``package.module:mine``). Then perhaps
            settings in parentheses: ``adam(beta2=0.9, eps=1e-6)``.

    Raises:
        RuleError: when there is none, or the file raises; then with the user's own traceback.
        HyperparameterError: for a setting that is unknown or out of range.
    """
    spec, settings = split(text)
    rule = load_plain(spec)
    return with_defaults(rule, parse(rule, settings, text.strip()))


def load_plain(spec: str) -> Rule:
    """Return the rule of a specification without settings.

    Raises:
        RuleError: as ``load`` does.
    """
    place, _, name = (spec, "", "") if spec.endswith(".py") or ":" not in spec else spec.rpartition(":")
    combined = _OF_ONES_OWN.fullmatch(spec)
    if combined and combined["maker"] in COMBINATORS:
        file, name = combined["file"], combined["name"] or "mine"
        raise RuleError(
            f"{spec!r}: combinators are named with rules of the catalogue, as in {combined['maker']}(adam). Of a "
            f"rule of your own, write in its file\n    combined = steprule.{combined['maker']}({name})\nand give "
            f"{file}:combined"
        )
    if name and not place.endswith(".py") and not all(part.isidentifier() for part in place.split(".")):
        raise RuleError(f"{spec!r} names no file or module before the colon")
    if place.endswith(".py"):
        with user_code(f"rule file {place!r}", RuleError):
            module = load_file(Path(place))
        return _pick(module, name, place)
    if name:
        try:
            with user_code(f"module {place!r}", RuleError):
                return _pick(_import(place), name, place)
        except _NoModuleError:
            raise RuleError(f"no module is called {place!r}; for a file write path/to/file.py:{name}") from None
    return find(spec)


class _NoModuleError(StepruleError):
    """The module itself is missing, not one that it imports."""


def _import(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            raise _NoModuleError from None
        raise


def load_file(path: Path) -> ModuleType:
    """Import a Python file by its path and return the module.

    Raises:
        RuleError: when there is no such file.
    """
    if not path.is_file():
        raise RuleError(f"there is no file {str(path)!r} (from {Path.cwd()})")
    name = f"_steprule_user_{path.stem}_{zlib.crc32(os.fsencode(path.resolve())):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _pick(module: ModuleType, name: str, place: str) -> Rule:
    rules = {key: value for key, value in vars(module).items() if isinstance(value, Rule)}
    if name in rules:
        return rules[name]
    own = {key: rule for key, rule in rules.items() if getattr(rule.function, "__module__", "") == module.__name__}
    # Without a rule of its own, a file may have one that it makes by a combinator.
    own = own or {key: rule for key, rule in rules.items() if rule.made_by and rule not in CATALOGUE.values()}
    if not name and len(own) == 1:
        return next(iter(own.values()))
    if name:
        raise RuleError(f"{place} defines no rule {name!r}.{suggest(name, rules)}")
    if not own:
        found = f", though it has {', '.join(rules)}: give {place}:{next(iter(rules))}" if rules else ""
        raise RuleError(f"{place} defines no rule{found or '; decorate a function with @steprule.rule'}")
    raise RuleError(f"{place} defines {len(own)} rules ({', '.join(own)}); say which: {place}:{next(iter(own))}")
