"""Which parameter is stepped by which rule, of all doors: routes, tried in their order.

A route is ``(selector, rule, options)``. The first whose selector matches a parameter decides; a parameter that none
matches gets the optimizer's own rule. A selector is ``"matrices"``, a pattern for the parameter's name, or a
function of name and array.

Without modules to look at, ``"matrices"`` goes by shapes and names. A parameter is a matrix if it has two dimensions,
both longer than 1, and its name says neither embedding nor head. Names are read in parts, between dots and slashes:

- an embedding: a part has one of ``EMBEDDINGS`` as a word (``tok_embeddings``, ``patchEmbed``, ``Embed_0``, ``wte``);
- a head: a part is one of ``HEADS`` (``lm_head``, ``classifier``), in lower case and without a number at its end, and
  no part before it ends in a number: ``encoder.layer.0.attention.output.dense`` is within a layer, and no head;
- neither a matrix: the last part is ``bias`` or ``scale`` (Flax has biases of two dimensions in attention).

Convolution kernels have more dimensions, in an order that hosts do not agree upon, so they are left to a route of one's
own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np

from steprule.errors import HyperparameterError, RuleError, suggest
from steprule.rules import Rule, find

__all__ = [
    "EMBEDDINGS",
    "HEADS",
    "MATRICES",
    "Route",
    "as_routes",
    "has_head",
    "is_matrix",
    "routed",
    "says_embedding",
    "states_for",
]

MATRICES = "matrices"
EMBEDDINGS = ("embed", "embedded", "embedder", "embedding", "embeddings", "emb", "embs", "wte", "wpe")
HEADS = (
    *("classification_head", "classifier", "embed_out", "head", "heads", "lm_head", "logits", "out_head", "output"),
    *("output_layer", "output_projection", "readout", "score", "unembed", "unembedding"),
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NUMBER = re.compile(r"[_-]?\d+$")
_NAMED = 5

Selector: TypeAlias = "str | Callable[[str, Any], bool]"
IsMatrix: TypeAlias = Callable[[str, Any], bool]


@dataclass(frozen=True)
class Route:
    """Which parameters a rule is for.

    Attributes:
        selector: ``"matrices"``, a pattern, or a function of the name and the array.
        rule: what steps them.
        options: hyperparameters of the rule, and what else a group of them may have.
        place: how messages name it.
    """

    selector: Selector
    rule: Rule
    options: Mapping[str, Any]
    place: str

    @property
    def shown(self) -> str:
        """The route in words."""
        selector = repr(self.selector) if isinstance(self.selector, str) else _name_of(self.selector)
        return f"{self.place}, {selector} to {self.rule.name!r},"

    def matches(self, name: str, array: Any, matrices: IsMatrix) -> bool:
        """Whether it is for a parameter.

        Raises:
            HyperparameterError: when a function returns no boolean.
        """
        if self.selector == MATRICES:
            return matrices(name, array)
        if isinstance(self.selector, str):
            return fnmatchcase(_dotted(name), _dotted(self.selector))
        found = self.selector(name, array)
        if not isinstance(found, bool | np.bool_):
            raise HyperparameterError(
                f"{self.place}: {_name_of(self.selector)} returned {found!r} for {name!r}; return True or False"
            )
        return bool(found)


def as_routes(routes: Any, others: Collection[str] | None = ()) -> list[Route]:
    """Return routes, checked.

    Args:
        routes: tuples ``(selector, rule)`` or ``(selector, rule, options)``.
        others: what options may have besides hyperparameters of the rule; None where the caller checks them.

    Raises:
        HyperparameterError: for what is no route, and for options that its rule has not.
        RuleError: for a rule that is not known.
    """
    if routes is None:
        return []
    if isinstance(routes, (str, Mapping)) or not isinstance(routes, Sequence):
        raise HyperparameterError(f"routes must be a list of {_FORM}, got {_short(routes)}")
    if routes and isinstance(routes, tuple) and not any(isinstance(route, (tuple, list)) for route in routes):
        raise HyperparameterError(f"routes must be a list of {_FORM}, got one alone; write routes=[{_short(routes)}]")
    return [_route(route, f"routes[{number}]", others) for number, route in enumerate(routes)]


_FORM = "tuples (selector, rule, options), such as ('matrices', 'muon', {'lr': 0.02})"


def _route(route: Any, place: str, others: Collection[str] | None) -> Route:
    if not isinstance(route, (tuple, list)) or len(route) not in (2, 3):
        raise HyperparameterError(f"{place} is {_short(route)}; routes are {_FORM}")
    selector, named, options = (*route, {})[:3]
    if not (isinstance(selector, str) and selector) and not callable(selector):
        raise HyperparameterError(
            f"{place} has the selector {_short(selector)}, expected 'matrices', a pattern for names such as "
            "'layers.*.weight', or a function (name, array) -> bool"
        )
    if isinstance(selector, Rule):
        raise HyperparameterError(f"{place} begins with a rule; routes are {_FORM}")
    if named is None:
        raise RuleError(f"{place} has no rule; name one: {_FORM}")
    rule = find(named)
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise HyperparameterError(f"{place} has the options {_short(options)}, expected a dict by name")
    if others is not None:
        rule.resolve({key: value for key, value in options.items() if key not in others}, f" ({place})", others)
    return Route(selector, rule, dict(options), place)


def routed(
    routes: Sequence[Route],
    names: Sequence[str],
    arrays: Sequence[Any],
    own: Rule | None,
    matrices: IsMatrix | None = None,
    *,
    is_checked: bool = True,
) -> list[int]:
    """Return the place of the route of each parameter; how many there are stands for the optimizer's own rule.

    Args:
        routes: as ``as_routes`` returns them.
        names: of the parameters, with dots or slashes between their parts.
        arrays: the parameters, with a ``shape``.
        own: the optimizer's own rule; None if it has none.
        matrices: what ``"matrices"`` selects, by name and array; default: ``is_matrix``.
        is_checked: whether routes that are for no parameter are refused.

    Raises:
        HyperparameterError: for a route that is for no parameter.
        RuleError: for a parameter without a rule.
    """
    decide = matrices or is_matrix
    found = [
        [number for number, route in enumerate(routes) if route.matches(name, array, decide)]
        for name, array in zip(names, arrays, strict=True)
    ]
    for number, route in enumerate(routes if is_checked else ()):
        _check_use(route, number, found, names, routes)
    if own is None:
        left = [name for name, numbers in zip(names, found, strict=True) if not numbers]
        if left:
            raise RuleError(
                f"no rule for {_some(left)}: no route matches. Give the optimizer a rule of its own (rule='adamw'), or "
                "end the routes with ('*', 'adamw')"
            )
    return [numbers[0] if numbers else len(routes) for numbers in found]


def states_for(rule: Rule, states: Any, rules: Sequence[Rule]) -> Any:
    """Return what an optimizer's ``states`` mean for one of its rules, where others have slots that it has not."""
    others = {slot for other in rules if other is not rule for slot in other.element_slots}
    if isinstance(states, Mapping):
        return {slot: name for slot, name in states.items() if slot in rule.slots or slot not in others}
    return "float32" if others and not rule.element_slots else states


def _check_use(
    route: Route, number: int, found: Sequence[Sequence[int]], names: Sequence[str], routes: Sequence[Route]
) -> None:
    """Refuse a route that is for no parameter: it would do nothing."""
    if any(numbers[:1] == [number] for numbers in found):
        return
    matched = [(name, numbers[0]) for name, numbers in zip(names, found, strict=True) if number in numbers]
    if matched:
        first = ", ".join(dict.fromkeys(routes[before].place for _, before in matched))
        raise HyperparameterError(
            f"{route.shown} has no effect: what it matches ({_some([name for name, _ in matched])}) goes by {first} "
            "before it. Put it first, or remove it"
        )
    words = ""
    if route.selector == MATRICES:
        words = " (a matrix has two dimensions, and is neither embedding, head, bias nor scale)"
    elif isinstance(route.selector, str):
        near = suggest(route.selector, [MATRICES])
        words = f" ({near.strip()})" if "mean" in near else " (a pattern matches whole names: '*.weight', not 'weight')"
    raise HyperparameterError(f"{route.shown} matches no parameter{words}. There are {_some(names)}")


def is_matrix(name: str, array: Any) -> bool:
    """Whether a parameter is a matrix, neither embedding nor head, by its shape and its name; see above."""
    shape = tuple(array.shape)
    if len(shape) != 2 or min(shape) < 2:
        return False
    parts = [part for part in _dotted(name).split(".") if part]
    if parts and parts[-1].lower() in ("bias", "scale"):
        return False
    return not (any(map(says_embedding, parts)) or has_head(name))


def says_embedding(part: str) -> bool:
    """Whether a part of a name has a word for embeddings."""
    return any(word.lower() in EMBEDDINGS for word in _WORDS.findall(part))


def has_head(name: str) -> bool:
    """Whether a part of a name says head, outside of the layers that are numbered."""
    for part in _dotted(name).split("."):
        if _NUMBER.sub("", part.lower()) in HEADS:
            return True
        if _NUMBER.search(part):
            return False
    return False


def _dotted(name: str) -> str:
    return name.replace("/", ".")


def _name_of(selector: Callable[..., Any]) -> str:
    return str(getattr(selector, "__name__", None) or type(selector).__name__)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED:,} more" if len(names) > _NAMED else shown or "none"
