"""Running a rule's Python function on symbols instead of arrays."""

from __future__ import annotations

import contextlib
import linecache
import math
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from steprule.errors import RuleError, suggest
from steprule.language import functions
from steprule.language.node import Node, host_call, is_number

__all__ = ["as_tuple", "explain", "naming", "returning", "symbolic", "trace"]


class _SymbolicMath:
    """The math module as a traced rule sees it: its functions accept host symbols."""

    def __getattr__(self, name: str) -> Any:
        return _twin(getattr(math, name), {})


def _twin(value: Any, seen: dict[Any, Any]) -> Any:
    """Return what stands for ``value`` while tracing: math, its functions, and functions that may call them."""
    if value is math:
        return _SymbolicMath()
    if isinstance(value, types.FunctionType) and not (value.__module__ or "").startswith("steprule."):
        return _copy(value, seen)
    if not (isinstance(value, types.BuiltinFunctionType) and value.__module__ == "math"):
        return value
    name = value.__name__

    def call(*args: Any, **named: Any) -> Any:
        if not any(isinstance(arg, Node) for arg in (*args, *named.values())):
            return value(*args, **named)
        if named:
            raise RuleError(f"math.{name} of hyperparameters takes no named arguments in a rule")
        if name == "sqrt" and is_number(args[0]):
            return functions.sqrt(*args)
        return host_call(name, *args)

    return call


def symbolic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of ``function`` that sees ``math`` as functions on symbols.

    ``math.log(symbol)`` would ask the symbol for its float, which it does not have; so the names
    that a rule took from ``math`` are bound to symbolic twins in the copy, and in copies of the
    functions that it calls by name.
    """
    return _copy(function, {}) if isinstance(function, types.FunctionType) else function


def _copy(function: types.FunctionType, seen: dict[Any, Any]) -> Callable[..., Any]:
    if function in seen:
        return seen[function]  # type: ignore[no-any-return]
    code = function.__code__
    world = dict(function.__globals__)
    cells = [types.CellType() for _ in function.__closure__ or ()]
    copy = types.FunctionType(code, world, function.__name__, function.__defaults__, tuple(cells))
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__dict__.update(function.__dict__)
    seen[function] = copy
    world.update({name: _twin(world[name], seen) for name in _names(code) if name in world})
    for cell, old in zip(cells, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a name of the enclosing function that is not bound yet
            cell.cell_contents = _twin(old.cell_contents, seen)
    return copy


def _names(code: types.CodeType) -> set[str]:
    """Return the global names that a function may use, those of functions inside it included."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def trace(function: Callable[..., Any], title: str, elements: list[Node], hosts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Call ``function`` on symbols and return what it returned, as a tuple.

    Raises:
        RuleError: with the line of the source, when the function cannot be run on symbols.
    """
    try:
        result = symbolic(function)(*elements, **hosts)
    except RuleError as error:
        raise explain(function, title, str(error), error) from None
    except NameError as error:
        hint = _where_from(getattr(error, "name", None) or "", function.__code__.co_varnames)
        raise explain(function, title, f"{error}.{hint}", error) from None
    except Exception as error:
        hint = _OF_SYMBOLS if "Node" in str(error) else _OF_SUMS if _AXES.search(str(error)) else ""
        raise explain(function, title, f"{type(error).__name__}: {error}{hint}", error) from None
    return as_tuple(result)


# What Python and other libraries say of a symbol names its class, which nobody has seen who writes a rule.
_OF_SYMBOLS = (
    ". A Node is what stands for an argument while the rule is defined: a symbol of one element, without length, items "
    "or digits. Write the formula of one element with Python's operators, abs, and steprule's sqrt, maximum, minimum, "
    "where and sign"
)
# The arguments of NumPy's and torch's sums of the same names.
_AXES = re.compile(r"\b(total|mean|norm|rms|size|ndim)\(\) got an unexpected keyword argument")
_OF_SUMS = (
    '. Sums have no other argument than over=: "tensor" (when left out), "row" (one number a row), "column" or "all" '
    "(tensors of the optimizer)"
)
_WORDS = ("sqrt", "maximum", "minimum", "where", "sign")


def _where_from(name: str, local: Sequence[str]) -> str:
    """Return a sentence, after a space, about a name that is not defined where a rule is run."""
    words = (*_WORDS, "total", "mean", "norm", "rms", "size", "ndim")
    if name in words:
        return f" It is steprule's: from steprule import {name}"
    if name == "t":
        return " The step number is named after the *, as in (theta, g, *, t, lr: Rate = 0.1)"
    return suggest(name, [*local, *_WORDS])


def as_tuple(result: Any) -> tuple[Any, ...]:
    """Return what a rule's function returned as a tuple: of several values, or of one."""
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


_OWN = ("steprule.language", "steprule.rules.decay", "steprule.rules.rule", "steprule.rules.traced")
"""The modules whose variables are no names of a rule's."""


@contextlib.contextmanager
def naming(labels: dict[Node, str]) -> Iterator[None]:
    """While active, note in ``labels`` a local variable that each traced expression is bound to.

    Formulas are drawn with the rule's own names for its intermediate values. The first function that
    returns with a value in hand names it.
    """

    def watch(frame: types.FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__") or ""
        if event != "return" or module.startswith(_OWN):
            return
        for name, value in frame.f_locals.items():
            if isinstance(value, Node) and value.op not in ("symbol", "const"):
                labels.setdefault(value, name)

    with _profiling(watch):
        yield


@contextlib.contextmanager
def returning(function: Callable[..., Any], names: dict[str, Any]) -> Iterator[None]:
    """While active, note in ``names`` the values of the function's own local variables, as they are when it returns."""
    code = getattr(function, "__code__", None)

    def watch(frame: types.FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code is code:
            names.update(frame.f_locals)

    with _profiling(watch):
        yield


@contextlib.contextmanager
def _profiling(watch: Callable[[types.FrameType, str, Any], None]) -> Iterator[None]:
    """While active, tell a function of all calls and returns; whoever was told before is so again afterwards."""
    before: Any = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        # Before Python 3.12 cProfile is an object that cannot be called: set as it is, every call would raise.
        before.enable() if hasattr(before, "enable") else sys.setprofile(before)


def explain(
    function: Callable[..., Any],
    title: str,
    message: str,
    error: BaseException | None = None,
    *,
    at_return: bool = False,
) -> RuleError:
    """Return a ``RuleError`` that names the rule, the file, the line and its source.

    The line is where ``error`` passed through the rule; else the last one (``at_return``) or the first.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return RuleError(f"rule {title!r}: {message}")
    linecache.checkcache(code.co_filename)  # a file that was corrected, and loaded again, would be quoted as it was
    lines = [number for _, _, number in code.co_lines() if number]
    line = max(lines) if at_return and lines else _definition(code)
    for frame, number in traceback.walk_tb(error.__traceback__ if error else None):
        if frame.f_code is code:
            line = number
    source = linecache.getline(code.co_filename, line).strip()
    quoted = f"\n    {source}" if source else ""
    return RuleError(f"rule {title!r}, {code.co_filename}, line {line}: {message}{quoted}")


def _definition(code: types.CodeType) -> int:
    """Return the line of the signature: Python counts a function from its first decorator, which says nothing."""
    first = code.co_firstlineno
    for number, line in enumerate(linecache.getlines(code.co_filename)[first - 1 :], first):
        if line.lstrip().startswith(f"def {code.co_name}("):
            return number
    return first
