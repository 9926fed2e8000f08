"""What is to be checked: found by its place, and how it is called found out by trying."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steprule.checking.forms import FORMS, Arrays, libraries
from steprule.checking.sessions import (
    BoundSession,
    FunctionSession,
    OptaxSession,
    RuleSession,
    Session,
    TorchSession,
)
from steprule.errors import CheckError, suggest
from steprule.rules import CATALOGUE, Rule
from steprule.rules.load import load, load_file
from steprule.usercode import user_code

__all__ = ["Opener", "Subject", "openers", "subject_at", "subject_of"]

_EXAMPLES = "path/to/file.py:adam, package.module:Adam or 'torch.optim:Adam(lr=0.01)'"


@dataclass(frozen=True)
class Subject:
    """An optimizer to be checked.

    Attributes:
        name: what it is called.
        fresh: the thing itself; from a file, as the file defines it when it is run anew.
        settings: keyword arguments that it is given.
        reloads: whether what it keeps outside of its arguments is gone when it is fetched anew.
    """

    name: str
    fresh: Callable[[], Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    reloads: bool = False


@dataclass(frozen=True)
class Opener:
    """A way in which it may be called: in words, and what begins a session."""

    words: str
    open: Callable[[Any, Arrays], Session]
    most: int = 1000
    alone: bool = False


def subject_of(thing: Any, settings: Mapping[str, Any] | None = None) -> Subject:
    """Return an object as a subject. Of an instance, each session gets a copy."""
    name = getattr(thing, "__name__", None) or getattr(thing, "name", None) or type(thing).__name__
    is_instance = hasattr(thing, "step") and not isinstance(thing, type)
    return Subject(str(name), (lambda: copy.deepcopy(thing)) if is_instance else (lambda: thing), settings or {})


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
        rule = load(text)
        return subject_of(rule)
    is_file = place.endswith(".py")
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


def _load(place: str, *, is_file: bool) -> Any:
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
        raise CheckError(
            f"no module is called {error.name!r}. Of a file, give its path: path/to/{place.split('.')[-1]}.py:NAME; "
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


def openers(subject: Subject) -> list[Opener]:
    """Return the ways in which a subject may be called, the likeliest first.

    Raises:
        CheckError: for what is no optimizer.
    """
    return list(_openers(subject.fresh(), subject.settings, subject.name))


def _openers(thing: Any, settings: Mapping[str, Any], name: str) -> Iterator[Opener]:
    torch = sys.modules.get("torch")
    base: Any = torch.optim.Optimizer if torch is not None else ()
    if isinstance(thing, Rule):
        yield Opener("a rule of steprule", lambda own, arrays: RuleSession(own, arrays))
    elif isinstance(thing, type) and base and issubclass(thing, base):
        _check_settings(thing, settings, name)
        make = functools.partial(_settled, settings=settings)
        yield Opener("a class of PyTorch's optimizers", lambda own, arrays: TorchSession(make(own), arrays))
    elif base and isinstance(thing, base):
        raise CheckError(
            f"{name} is an optimizer that has its parameters already; give its class, or a function that makes it"
        )
    elif callable(getattr(thing, "init", None)) and callable(getattr(thing, "update", None)):
        yield Opener("a transformation of optax", lambda own, arrays: OptaxSession(own, arrays))
    elif isinstance(thing, type):
        yield from _of_class(thing, settings, name)
    elif callable(getattr(thing, "step", None)):
        yield from _of_function(lambda own: own.step, thing.step, {}, f"{name}.step")
    elif callable(thing):
        yield from _of_function(lambda own: own, thing, settings, name)
    else:
        raise CheckError(
            f"{name} is of type {type(thing).__name__!r}, and no function, class or object with a method step."
            + _other_methods(type(thing))
        )


def _other_methods(kind: type) -> str:
    """Return which methods a class has, one of which may be its step by another name."""
    own = [key for key, value in vars(kind).items() if not key.startswith("_") and inspect.isfunction(value)]
    return f" It has {', '.join(own)}; if {own[0]} makes a step, write in the class: step = {own[0]}." if own else ""


def _check_settings(thing: Any, settings: Mapping[str, Any], name: str) -> None:
    """Check that it takes these settings.

    Raises:
        CheckError: for one that it does not know.
    """
    try:
        known = inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        return
    own = [key for key, one in known.items() if one.default is not inspect.Parameter.empty]
    for setting in sorted(settings.keys() - known.keys()):
        raise CheckError(f"{name} has no setting {setting!r}.{suggest(setting, own)}")


def _settled(make: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
    return functools.partial(make, **settings)


def _of_class(thing: Any, settings: Mapping[str, Any], name: str) -> Iterator[Opener]:
    if not callable(getattr(thing, "step", None)):
        raise CheckError(
            f"class {name} has no method step(gradients), nor step(params, gradients).{_other_methods(thing)}"
        )
    _check_settings(thing, settings, name)
    steps = _required(thing.step) - 1
    for form in FORMS:
        for library in libraries():
            words = f"a class whose step takes {form.name}" + (
                "" if library.name == "NumPy arrays" else f", {library.name}"
            )
            if steps <= 1:
                yield Opener(words, _bound(settings, form, library), form.most, form.alone)
            else:
                begin = functools.partial(_called, lambda own: own(**settings).step, form, library, lambda: ())
                yield Opener(words, begin, form.most, form.alone)


def _bound(settings: Mapping[str, Any], form: Any, library: Any) -> Callable[[Any, Arrays], Session]:
    return lambda own, arrays: BoundSession(functools.partial(own, **settings), form, library, arrays)


def _called(
    get: Callable[[Any], Any], form: Any, library: Any, state: Callable[[], tuple[Any, ...]], own: Any, arrays: Arrays
) -> Session:
    return FunctionSession(get(own), form, library, state(), arrays)


def _required(function: Any) -> int:
    """Return how many positional arguments a function needs; 3 where that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds and one.default is inspect.Parameter.empty for one in parameters)


def _of_function(get: Callable[[Any], Any], function: Any, settings: Mapping[str, Any], name: str) -> Iterator[Opener]:
    """Return the ways to call a function: with parameters, gradients and a state, or as what makes an optimizer."""
    _check_settings(function, settings, name)
    settled = functools.partial(function, **settings) if settings else function
    needed = _required(settled)
    if needed == 0:
        with user_code(f"{name}()", CheckError):
            made = settled()
        for one in _openers(made, {}, f"{name}()"):
            yield Opener(f"what {name}() returns, {one.words}", _of_made(one, get, settings), one.most, one.alone)
        return
    if needed not in (2, 3):
        raise CheckError(_other_signature(function, name, needed))
    states: list[tuple[str, Callable[[], tuple[Any, ...]]]] = [("", lambda: ())]
    if needed == 3 or _takes_three(settled):
        states = [(" and a state that begins as {}", lambda: ({},)), (" and as None", lambda: (None,))]
    for form in FORMS:
        for library in libraries():
            for words, state in states:
                begin = functools.partial(_called, functools.partial(_given, get, settings), form, library, state)
                where = "" if library.name == "NumPy arrays" else f" ({library.name})"
                yield Opener(f"a function of {form.name}{where}{words}", begin, form.most, form.alone)


def _given(get: Callable[[Any], Any], settings: Mapping[str, Any], own: Any) -> Any:
    return functools.partial(get(own), **settings) if settings else get(own)


def _of_made(one: Opener, get: Callable[[Any], Any], settings: Mapping[str, Any]) -> Callable[[Any, Arrays], Session]:
    return lambda own, arrays: one.open(get(own)(**settings), arrays)


def _takes_three(function: Any) -> bool:
    try:
        inspect.signature(function).bind(1, 2, 3)
    except (TypeError, ValueError):
        return False
    return "state" in inspect.signature(function).parameters


def _other_signature(function: Any, name: str, needed: int) -> str:
    signature = inspect.signature(function)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    names = [one.name for one in plain]
    wrapper = (
        f"def checked(params, grads, state):\n    ...  # {name}({', '.join(names)}); what it keeps goes into state\n"
        "    return params, state"
    )
    return (
        f"{name}{inspect.Signature(plain)} needs {needed} arguments; an optimizer that is checked is called as "
        f"(params, grads, state) and returns params, or (params, state). Write around it\n{wrapper}"
    )
