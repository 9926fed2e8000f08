"""The catalogue in the documentation: a page for each rule, their table, and the combinators."""

from __future__ import annotations

import inspect
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import optax
import torch.optim

import steprule.jax
import steprule.torch
from steprule.backends import latex
from steprule.cli.rules import bytes_per_parameter, bytes_table, fewest, least_bytes, sees, slots
from steprule.lab.entrants import menu
from steprule.report.table import markdown_table
from steprule.rules import CATALOGUE, Rule
from steprule.rules.combinators import COMBINATORS
from steprule.rules.trace import Variant

__all__ = ["pages"]

DOCS = Path(__file__).parent
_ELSEWHERE = tomllib.loads((DOCS / "elsewhere.toml").read_text())
_LAWS = runpy.run_path(str(DOCS / "laws.py"))

_TORCH = {
    "momentum": "SGD(params, momentum=0.9)",
    "amsgrad": "Adam(params, amsgrad=True)",
    "schedule_free_sgd": "SGDScheduleFree(params)",
    "schedule_free_adamw": "AdamWScheduleFree(params)",
}
"""Rules that a class has under another name."""

_RULES = """# All optimizers

Generated from the catalogue by `docs/generate.py`; do not edit. Each rule has a page: its formula and source, what may
be set, what it keeps and in how many bytes, the laws it obeys, how other libraries differ, and its kernels.

*Sees* is what the step of an element depends on. *Slots* are what the rule keeps between steps: moments, averages.
Those in parentheses are kept by some options only. *Bytes* counts a float32 parameter with its slots; *in 4 bits*, a
bfloat16 parameter with 8 extra bits (`split24`) and 4-bit slots ([formats](formats.md)). Slots with one number for a
row, a column or a tensor are not counted.

{table}

[Combinators](combinators.md) make new rules of these. What your own may be: [the reference](rule-reference.md), and a
tutorial, [writing a rule](writing-a-rule.md).

```{{toctree}}
:hidden:

{names}
```
"""

_COMBINATORS = """# Combinators

Generated from docstrings by `docs/generate.py`; do not edit.

Combinators take a rule, or its name, and return a new rule: one fused kernel, like any other. The outermost one acts
on the gradient first. Where the order matters:

| you want | write | not |
|---|---|---|
| C-AdamW: AdamW with a mask | `cautious("adamw")`, which is `decoupled(cautious("adam"))` | |
| ascent, with an L2 penalty on weights | `maximize(l2(rule))` | `l2(maximize(rule))`: it maximizes the penalty, too |
| an unscaled penalty with a scaled loss | `unscaled(l2(rule))` | `l2(unscaled(rule))`: it divides the penalty, too |
| a mask by the gradient including the penalty | `l2(cautious(rule))` | `cautious(l2(rule))`: by the gradient alone |

On the command line, settings follow in parentheses of their own:
`steprule rules 'l2(adam)(weight_decay=0.1, beta2=0.9)'`.
"""

_FORMULA = """An index t - 1 marks a value stored by the previous step{symbols}. Slots, which the rule keeps between
steps, start at zero unless this page says otherwise. Formula and tables are generated from the rule itself by
`docs/generate.py`."""


def pages() -> dict[Path, str]:
    """Return the pages of the catalogue by their files."""
    names = "\n".join(f"rules/{name}" for name in CATALOGUE)
    entries = (f"## {name}\n\n{inspect.getdoc(one)}\n" for name, one in COMBINATORS.items())
    return {
        DOCS / "rules.md": _RULES.format(table=_table(), names=names),
        DOCS / "combinators.md": "\n".join([_COMBINATORS, *entries]),
        **{DOCS / "rules" / f"{rule.name}.md": "\n\n".join(_page(rule)) + "\n" for rule in CATALOGUE.values()},
    }


def _table() -> str:
    """Return the table of all rules, with links to their pages."""
    rows = []
    for rule in CATALOGUE.values():
        link = f"[`{rule.name}`](rules/{rule.name}.md)"
        sizes = [str(bytes_per_parameter(rule)), least_bytes(rule)]
        rows.append([link, rule.trace().sees, slots(rule), *sizes, rule.paper])
    return markdown_table(["rule", "sees", "slots", "bytes", f"in {fewest().title}", "source"], rows)


def _page(rule: Rule) -> Iterator[str]:
    yield f"# {rule.name}"
    yield f"{rule.paper}."
    yield f"$$\n{latex.emit(rule)}\n$$"
    yield rule.doc
    yield _FORMULA.format(symbols=_symbols(rule))
    yield "## What may be set"
    rows = ([f"`{h.name}`", f"`{h.default!r}`", h.kind] for h in rule.hyperparameters.values())
    yield markdown_table(["hyperparameter", "default", "values"], rows)
    yield from _variants(rule)
    yield "## What it keeps"
    yield _kept(rule)
    yield "A row says how the slots are stored, a column how the parameter is ([formats](../formats.md)):"
    headings, sizes = bytes_table(rule)
    yield markdown_table(headings, ([f"`{states}`", *others] for states, *others in sizes))
    yield "## Laws"
    yield (
        "With the default options, found by stepping the rule on a small matrix in float64. *From zero* means that the "
        "parameter starts at 0:"
    )
    yield _LAWS["table"](rule)
    yield from _elsewhere(rule)
    yield from _seen(rule)


def _symbols(rule: Rule) -> str:
    """Return which letters of the formula stand for a hyperparameter of another name."""
    formula = latex.emit(rule)
    rate = re.search(r"\\eta(?!_)", formula)  # with an index it is another: asgd's slot, rprop's factors
    decay = r"\lambda" in formula and "weight_decay" in rule.hyperparameters
    return (", $\\eta$ is `lr`" if rate else "") + (", $\\lambda$ is `weight_decay`" if decay else "")


def _variants(rule: Rule) -> list[str]:
    """Return the lines of the formula that an option changes, set alone."""
    usual = rule.variant(rule.resolve({}))
    plain = _lines(rule, usual)
    others = [(name, other) for name, own in usual for other in rule.hyperparameters[name].statics() if other != own]
    found: list[str] = []
    for name, other in others:
        variant = tuple((key, other if key == name else own) for key, own in usual)
        changed = [line for line in _lines(rule, variant) if line not in plain]
        if changed:  # otherwise it has an effect beside another option
            found.append(f"`{name}`, a number:" if other == "number" else f"`{name}={other!r}`:")
            found.append("$$\n\\begin{aligned}\n" + " \\\\\n".join(changed) + "\n\\end{aligned}\n$$")
    return ["Options, each set alone, change these lines:", *found] if found else []


def _lines(rule: Rule, variant: Variant) -> list[str]:
    text = latex.emit(rule, variant)
    return text.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}").split(" \\\\\n")


def _kept(rule: Rule) -> str:
    starts = "".join(f"; {slot} starts at {start}" for slot, start in rule.init.items())
    sizes = f"{bytes_per_parameter(rule)} bytes for a float32 parameter and its slots"
    point = latex.point(rule)
    where = f" It trains at {rule.parameter} and is evaluated at {point}." if point else ""
    return f"Slots: {slots(rule)}{starts}. {sizes}. The step of an element depends on {sees(rule)}.{where}"


def _elsewhere(rule: Rule) -> Iterator[str]:
    """Return how the rule is called in the doors, and how other libraries differ."""
    yield "## Elsewhere"
    calls = [f'- NumPy: `steprule.Optimizer(params, "{rule.name}")`']
    if called := _in_torch(rule):
        kind = called.partition("(")[0]
        theirs = f", as `torch.optim.{kind}`" if hasattr(torch.optim, kind) else ""
        calls.append(f"- PyTorch: `steprule.torch.{called}`{theirs}")
    if rule.name in steprule.jax.__all__:
        home = next((one.__name__ for one in (optax, optax.contrib) if hasattr(one, rule.name)), "")
        theirs = f", as `{home}.{rule.name}`" if home else ""
        calls.append(f"- JAX: `steprule.jax.{rule.name}(learning_rate)`{theirs}")
    yield "\n".join(calls)
    differ = _ELSEWHERE.get(rule.name, [])
    if differ:
        yield "How others differ from the defaults above (torch 2.13.0, optax 0.2.8, Keras 3.15.1):"
        yield "\n".join(f"- {line}" for line in differ)


def _in_torch(rule: Rule) -> str:
    """Return the call that makes the rule's optimizer there; empty where it has no class."""
    classes = {name.lower(): name for name in steprule.torch.__all__}
    own = classes.get(rule.name.replace("_", ""))
    return _TORCH.get(rule.name) or (f"{own}(params)" if own else "")


def _seen(rule: Rule) -> Iterator[str]:
    """Return the live lab, where it can show the rule, and the kernels."""
    if rule.name in menu():
        yield "## Live"
        yield f"```{{lab-of}} {rule.name}\nsteprule lab {rule.name}\n```"
    yield "## Kernels"
    commands = (f"steprule emit {rule.name} --target {target}" for target in ("c", "llvm", "triton"))
    yield "\n".join(["```{emit}", *commands, "```"])
