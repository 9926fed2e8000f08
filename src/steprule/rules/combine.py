"""How combinators make a rule of a rule, once."""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from steprule.errors import RuleError
from steprule.language import computing
from steprule.language.node import Node
from steprule.rules.hyperparameters import Hyperparameter
from steprule.rules.registry import find
from steprule.rules.rule import Rule

__all__ = ["combinator", "computed", "computed_together", "wrap"]

_last: deque[Rule] = deque(maxlen=32)


def wrap(
    maker: Callable[..., Rule],
    inner: Rule,
    name: str,
    function: Callable[..., Any],
    doc: str,
    paper: str,
    *extra: Hyperparameter,
    **changes: Any,
) -> Rule:
    """Return the rule of a function around a rule, with hyperparameters of both.

    Args:
        maker: the combinator.
        inner: the rule inside.
        name: of the new rule.
        function: its step.
        doc: what it says before what the rule inside says.
        paper: where it comes from, if that is a paper.
        extra: hyperparameters that it has besides.
        changes: fields of the rule that differ from those of the rule inside otherwise.

    Raises:
        RuleError: when the rule inside has one of these already.
    """
    for hyper in extra:
        if hyper.name in {*inner.hyperparameters, *inner.slots}:
            what = "hyperparameter" if hyper.name in inner.hyperparameters else "slot"
            raise RuleError(f"{name}: rule {inner.name!r} already has a {what} {hyper.name!r}")
    hyperparameters = {**inner.hyperparameters, **{hyper.name: hyper for hyper in extra}}
    sources = "; ".join(source for source in (inner.paper, paper) if source)
    own = {"hyperparameters": hyperparameters, "uses_t": True, "made_by": (maker, (inner, name)), **changes}
    return replace(inner, function=function, name=name, doc=f"{doc}\n\n{inner.doc}".strip(), paper=sources, **own)


def combinator(make: Callable[[Rule, str], Rule], last: deque[Rule] = _last) -> Callable[..., Rule]:
    """Let a combinator take a rule's name as well, and make each rule once, since each is a kernel.

    Once for as long as somebody has it, or it is among the last that were made: a sweep that writes
    ``cautious("adam")`` in its loop compiles it once, and a search over thousands of rules keeps few.
    """
    made: weakref.WeakValueDictionary[tuple[Rule, str], Rule] = weakref.WeakValueDictionary()

    @functools.wraps(make)
    def combine(rule: str | Rule, name: str | None = None) -> Rule:
        inner = find(rule)
        key = inner, name or f"{make.__name__}({inner.name})"
        found = made.get(key)
        if found is None:
            found = made.setdefault(key, make(*key))
            last.append(found)
        return found

    return combine


def computed(rule: Rule, root: Node, elements: Sequence[Any], t: Any, values: Mapping[str, Any]) -> Any:
    """Return an expression of a rule's symbols, computed on other values."""
    (found,) = computed_together(rule, [root], elements, t, values)
    return found


def computed_together(
    rule: Rule, roots: Sequence[Node], elements: Sequence[Any], t: Any, values: Mapping[str, Any]
) -> list[Any]:
    """Return expressions of a rule's symbols, computed on other values; what they have in common is computed once."""
    names = (rule.parameter, rule.gradient, *rule.slots)
    return computing.computed_together(roots, {**values, "t": t, **dict(zip(names, elements, strict=True))})
