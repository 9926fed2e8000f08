"""Finding what is to be checked by its place: in a file, in a module, or a rule by its name."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Any

from steprule.checking.subject import Subject, subject_of
from steprule.errors import CheckError, suggest
from steprule.rules import CATALOGUE
from steprule.rules.load import load, load_file
from steprule.usercode import user_code

__all__ = ["subject_at"]

_EXAMPLES = "path/to/file.py:adam, package.module:Adam or 'torch.optim:Adam(lr=0.01)'"


def subject_at(text: str) -> Subject:
    """Return what stands at ``file.py:name`` or ``module:name``, with ``(name=value, ...)`` behind it, or a rule.

    Raises:
        CheckError: when there is none, or its file raises.
        RuleError: for a name without a place that is no rule.
    """
    spec, settings = _split(text.strip())
    place, colon, name = spec.rpartition(":")
    if not colon and (spec.endswith(".py") or "." in spec):
        place, name = spec, ""
    elif not colon:
        if text not in CATALOGUE and Path(f"{text}.py").is_file():
            raise CheckError(f"no rule is called {text!r}. For what is in the file {text}.py, write {text}.py:NAME")
        _check_no_folder(text)
        rule = load(text)
        return subject_of(rule)
    is_file = place.endswith(".py")
    if not is_file:
        _check_no_folder(place)
    module = _load(place, is_file=is_file)
    _pick(module, name, place)
    again = (lambda: getattr(_load(place, is_file=True), name)) if is_file else (lambda: getattr(module, name))
    return Subject(name, again, settings, reloads=is_file)


def _split(text: str) -> tuple[str, dict[str, Any]]:
    spec, parenthesis, rest = text.partition("(")
    if not parenthesis or ":" not in spec:
        return text, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        assert isinstance(call, ast.Call)
        assert not call.args
        return spec.strip(), {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError, AssertionError):
        raise CheckError(f"{text}: what stands in parentheses must be settings, as in {_EXAMPLES}") from None


def _check_no_folder(place: str) -> None:
    path = Path(place)
    if path.is_dir() and not (path / "__init__.py").is_file():
        raise CheckError(f"{place!r} is a folder. Give a file in it: {path / 'FILE.py'}:NAME")


def _load(place: str, *, is_file: bool) -> Any:
    """Return a module. What it prints is not shown: an answer in JSON would not be read among it."""
    with contextlib.redirect_stdout(io.StringIO()):
        return _loaded(place, is_file=is_file)


def _loaded(place: str, *, is_file: bool) -> Any:
    path = Path(place)
    if is_file and not path.is_file():
        raise CheckError(f"there is no file {place!r} (from {Path.cwd()}). Give a place such as {_EXAMPLES}")
    if is_file:
        if str(path.resolve().parent) not in sys.path:
            sys.path.append(str(path.resolve().parent))  # it may import what lies beside it, as a script may
        with user_code(f"file {place!r}", CheckError):
            return load_file(path)
    if not all(part.isidentifier() for part in place.split(".")):
        raise CheckError(f"{place!r} names no file and no module. Give a place such as {_EXAMPLES}")
    try:
        with user_code(f"module {place!r}", CheckError):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        parent, dot, name = place.rpartition(".")
        is_thing = dot and error.name == place
        of_module = f" Of what is in a module, the name stands behind a colon: {parent}:{name}." if is_thing else ""
        raise CheckError(
            f"no module is called {error.name!r}.{of_module} Of a file, give its path: path/to/{name}.py:NAME; "
            "a module must be installed, or lie where PYTHONPATH leads"
        ) from None


def _pick(module: Any, name: str, place: str) -> None:
    """Check that a module has such a thing."""
    if name and hasattr(module, name):
        return
    own = [key for key, value in vars(module).items() if _is_candidate(value, module)]
    has = f" It has {', '.join(own)}." if own else ""
    if not name:
        raise CheckError(
            f"{place}: say which function or class is meant, as in {place}:{own[0] if own else 'NAME'}.{has}"
        )
    raise CheckError(f"{place} has no {name!r}.{suggest(name, own)}")


def _is_candidate(value: Any, module: Any) -> bool:
    here = getattr(value, "__module__", "") == module.__name__
    return here and not getattr(value, "__name__", "_").startswith("_") and callable(value)
