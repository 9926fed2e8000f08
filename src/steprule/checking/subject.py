"""What is to be checked, and in which ways it may be called."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
from steprule.rules import Rule
from steprule.usercode import user_code

__all__ = ["Opener", "Subject", "openers", "subject_of"]


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
    is_instance = bool(_stepping(thing)) and not isinstance(thing, type)
    return Subject(str(name), (lambda: copy.deepcopy(thing)) if is_instance else (lambda: thing), settings or {})


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
    elif method := _stepping(thing):
        yield from _of_function(lambda own: getattr(own, method), getattr(thing, method), {}, f"{name}.{method}")
    elif callable(thing):
        yield from _of_function(lambda own: own, thing, settings, name)
    else:
        raise CheckError(
            f"{name} is of type {type(thing).__name__!r}, and no function, class or object with a method step."
            + _other_methods(type(thing))
        )


def _stepping(thing: Any) -> str:
    """Return which method of an object or class makes a step: ``step``, its own ``update``, or none (``""``)."""
    if callable(getattr(thing, "step", None)):
        return "step"
    kind = thing if isinstance(thing, type) else type(thing)
    return "update" if inspect.isfunction(getattr(kind, "update", None)) else ""


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
    method = _stepping(thing)
    if not method:
        raise CheckError(
            f"class {name} has no method step(gradients), nor step(params, gradients).{_other_methods(thing)}"
        )
    _check_settings(thing, settings, name)
    steps = _required(getattr(thing, method)) - 1
    if steps == 0 and "torch" in sys.modules:
        make = functools.partial(_settled, settings=settings)
        yield Opener(
            f"a class whose {method} reads what lies in the grad of PyTorch's tensors",
            lambda own, arrays: TorchSession(make(own), arrays, method),
        )
    for form in FORMS:
        for library in libraries():
            words = f"a class whose {method} takes {form.name}" + (
                "" if library.name == "NumPy arrays" else f", {library.name}"
            )
            if steps <= 1:
                yield Opener(words, _bound(settings, method, form, library), form.most, form.alone)
            else:
                get = functools.partial(_method_of, settings=settings, method=method)
                begin = functools.partial(_called, get, form, library, lambda: ())
                yield Opener(words, begin, form.most, form.alone)


def _method_of(own: Any, settings: Mapping[str, Any], method: str) -> Any:
    return getattr(own(**settings), method)


def _bound(settings: Mapping[str, Any], method: str, form: Any, library: Any) -> Callable[[Any, Arrays], Session]:
    return lambda own, arrays: BoundSession(functools.partial(own, **settings), method, form, library, arrays)


def _called(
    get: Callable[[Any], Any], form: Any, library: Any, state: Callable[[], tuple[Any, ...]], own: Any, arrays: Arrays
) -> Session:
    return FunctionSession(get(own), form, library, state(), arrays)


def _required(function: Any) -> int:
    """Return how many positional arguments a function needs; 3 where that cannot be told, as of ``f(*args)``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = sum(one.kind in kinds and one.default is inspect.Parameter.empty for one in parameters)
    return needed or 3 * any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)


def _by_name(function: Any) -> int:
    """Return how many arguments a function needs that are given by name alone."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    named = inspect.Parameter.KEYWORD_ONLY
    return sum(one.kind is named and one.default is inspect.Parameter.empty for one in parameters)


def _of_function(get: Callable[[Any], Any], function: Any, settings: Mapping[str, Any], name: str) -> Iterator[Opener]:
    """Return the ways to call a function: with parameters, gradients and a state, or as what makes an optimizer."""
    _check_settings(function, settings, name)
    settled = functools.partial(function, **settings) if settings else function
    needed, by_name = _required(settled), _by_name(settled)
    if by_name:
        raise CheckError(_other_signature(function, name, f"{needed + by_name} arguments, {by_name} by name"))
    if needed == 0:
        with user_code(f"{name}()", CheckError), contextlib.redirect_stdout(io.StringIO()):
            made = settled()
        for one in _openers(made, {}, f"{name}()"):
            yield Opener(f"what {name}() returns, {one.words}", _of_made(one, get, settings), one.most, one.alone)
        return
    if needed not in (2, 3):
        raise CheckError(_other_signature(function, name, f"{needed} arguments"))
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


def _other_signature(function: Any, name: str, needed: str) -> str:
    signature = inspect.signature(function)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    names = [one.name for one in plain]
    wrapper = (
        f"def checked(params, grads, state):\n    ...  # {name}({', '.join(names)}); what it keeps goes into state\n"
        "    return params, state"
    )
    return (
        f"{name}{inspect.Signature(plain)} needs {needed}; an optimizer that is checked is called as "
        "(params, grads, state) and returns params, or (params, state). Give what is a setting behind its name, as in "
        f"'...:{name}(lr=0.01)', or write around it\n{wrapper}"
    )
