"""The stubs of the doors: what completion and type checkers see of names that follow from the catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import steprule.jax
import steprule.torch
from steprule.doors.jax.alias import NAMES, theirs_of
from steprule.doors.jax.transformation import transformation
from steprule.doors.torch.derived import annotation
from steprule.doors.torch.more import DERIVED

__all__ = ["classes", "jax_stub", "torch_stub"]

_HEAD = "# Generated from the catalogue by docs/generate.py; do not edit.\n# ruff: noqa\n"
_TORCH = """\
from typing import Literal, Unpack

from torch.optim import lr_scheduler as lr_scheduler
from torch.optim import swa_utils as swa_utils

from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
"""
_JAX = """\
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.typing
import optax

"""
_VALUE = "\n_Value = jax.typing.ArrayLike | Callable[..., Any]\n"


def classes() -> str:
    """Return the names of the classes that torch.optim does not have, in the catalogue's order."""
    *names, last = DERIVED
    return f"{', '.join(names)} and {last}"


def torch_stub() -> str:
    """Return src/steprule/torch.pyi: torch.optim's classes from where they are written, the others here."""
    written = [name for name in steprule.torch.__all__ if name not in DERIVED]
    classes = [_class(kind) for _, kind in sorted(DERIVED.items())]
    return _stub(_TORCH + _imports(steprule.torch, written), steprule.torch.__all__, classes)


def jax_stub() -> str:
    """Return src/steprule/jax.pyi."""
    written = [name for name in steprule.jax.__all__ if name not in NAMES]
    functions = [_transformation(name) for name in sorted(NAMES)]
    return _stub(_JAX + _imports(steprule.jax, written) + _VALUE, steprule.jax.__all__, functions)


def _stub(imports: str, names: Iterable[str], entries: Iterable[str]) -> str:
    public = "".join(f'    "{name}",\n' for name in sorted(names))
    return f"{_HEAD}{imports}\n__all__ = [\n{public}]\n\n" + "\n".join(entries)


def _imports(module: Any, names: Iterable[str]) -> str:
    homes = sorted((getattr(module, name).__module__, name) for name in names)
    return "".join(f"from {home} import {name} as {name}\n" for home, name in homes)


def _class(kind: type) -> str:
    """Return a class; the first argument that is given by name alone has a star before it."""
    own = list(inspect.signature(kind).parameters.values())
    stars = {one.name: "**" if one.kind is one.VAR_KEYWORD else "" for one in own}
    arguments = ["self", *(_shown(stars[one.name] + one.name, one.annotation, one) for one in own)]
    arguments.insert(1 + next(i for i, one in enumerate(own) if one.kind is one.KEYWORD_ONLY), "*")
    body = f"    def __init__(\n{_lines(arguments, 8)}    ) -> None: ...\n"
    return f"class {kind.__name__}(Base):\n{_doc(kind)}\n{body}"


def _shown(name: str, kind: str, argument: inspect.Parameter) -> str:
    default = "" if argument.default is argument.empty else f" = {argument.default!r}"
    return f"{name}: {kind}{default}".replace("'", '"')


def _transformation(name: str) -> str:
    """Return a function. The arguments that optax's has are those of its version, so they are not checked there."""
    function = getattr(steprule.jax, name)
    arguments = inspect.signature(function).parameters
    alias = NAMES[name]
    hypers = {**(alias.other.hyperparameters if alias.other else {}), **alias.plain.hyperparameters}
    kinds = {key: str(one.annotation) for key, one in inspect.signature(transformation).parameters.items()}
    kinds |= {key: annotation(hyper, "_Value", hyper.optional or hyper.name == "lr") for key, hyper in hypers.items()}
    if not theirs_of(name):
        lines = [_shown(key, kinds.get(key, "_Value | None"), one) for key, one in arguments.items()]
        lines = [lines[0], "*", *lines[1:]]
    else:
        own = [f"{key}: {kinds[key]} = ...".replace("'", '"') for key in (*hypers, "states", "min_elements", "seed")]
        lines = ["learning_rate: _Value | None = None", "*args: Any", *own, "**options: Any"]
    returned = "optax.GradientTransformationExtraArgs"
    return f"def {name}(\n{_lines(lines, 4)}) -> {returned}:\n{_doc(function)}    ...\n"


def _lines(arguments: Iterable[str], indent: int) -> str:
    return "".join(f"{' ' * indent}{argument},\n" for argument in arguments)


def _doc(thing: Any) -> str:
    text = (inspect.getdoc(thing) or "").replace("\\", "\\\\")
    first, *rest = text.splitlines()
    lines = [f'    """{first}', *(f"    {line}".rstrip() for line in rest), '    """']
    return "\n".join(lines) + "\n"
