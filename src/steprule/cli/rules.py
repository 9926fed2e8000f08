"""``steprule rules``: the catalogue."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steprule.backends import latex
from steprule.engine import plan
from steprule.formats import FORMATS
from steprule.rules import CATALOGUE, Rule, load

__all__ = ["rules"]


def rules(
    names: Annotated[list[str] | None, typer.Argument(help="Rules to show in full (a name, or file.py:name).")] = None,
) -> None:
    """Show the catalogue: slots, bytes a parameter, paper and formula of every rule."""
    console = Console()
    if names:
        for rule in [load(name) for name in names]:  # all of them before the first is shown
            _show(console, rule)
        return
    for rule in CATALOGUE.values():
        kept = f"slots {slots(rule)}" if rule.slots else "no slots"
        console.print(f"[bold]{rule.name}[/bold]  {bytes_a_parameter(rule)} bytes, {escape(kept)}")
        console.print(Padding(f"[dim]{escape(rule.paper)}[/dim]", (0, 0, 0, 2)))
        console.print(Padding(Text(latex.text(rule)), (0, 0, 1, 4)))
    console.print("Slots in parentheses are kept by some options only; bytes are those of a float32 parameter with its")
    console.print("slots, by default. `steprule rules NAME` tells all of one rule.")


def slots(rule: Rule) -> str:
    """Return the slots that the default options keep, and in parentheses those that others keep."""
    trace = rule.trace()
    kept = [slot for slot in rule.slots if slot in trace.slots or slot in trace.scalars]
    others = [slot for slot in rule.slots if slot not in kept]
    return " ".join([", ".join(kept), f"({', '.join(others)})" if others else ""]).strip() or "none"


def bytes_a_parameter(rule: Rule) -> int:
    """Return the bytes of a float32 parameter and its slots, with the default options."""
    recipe = plan(rule, rule.variant(rule.resolve({})), FORMATS["float32"])
    return sum(np.dtype(plane.dtype).itemsize for plane in recipe.planes if plane.name != rule.gradient)


def _show(console: Console, rule: Rule) -> None:
    console.print(f"[bold]{escape(rule.name)}[/bold]  {escape(rule.paper)}\n")
    console.print(Text(latex.text(rule)))
    for paragraph in rule.doc.split("\n\n"):
        console.print(f"\n{escape(' '.join(paragraph.replace('``', '`').split()))}")
    console.print()
    table = Table("hyperparameter", "default", "values")
    for hyper in rule.hyperparameters.values():
        table.add_row(hyper.name, repr(hyper.default), escape(hyper.kind))
    console.print(table)
    console.print(f"slots: {slots(rule)}; {bytes_a_parameter(rule)} bytes a float32 parameter, slots included\n")
