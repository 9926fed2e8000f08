"""``steprule rules``: the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steprule.backends import latex
from steprule.cli import terminal
from steprule.cli.arguments import complete_rule
from steprule.compile import Plane
from steprule.engine import plan
from steprule.formats import FORMATS, GROUP, SLOT_FORMATS, STATES, WEIGHT_FORMATS, PlaneSpec, SlotFormat, Storage
from steprule.rules import CATALOGUE, Rule, load

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["rules"]

_SEES = {
    "element": "this element alone",
    "matrix": "all of its matrix",
    "row": "its row",
    "column": "its column",
    "tensor": "its whole tensor",
    "all": "all tensors",
}


def rules(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Rules to show in full: NAME, file.py:NAME, 'NAME(hyper=value, ...)', 'l2(NAME)(hyper=value, ...)'.",
            autocompletion=complete_rule,
        ),
    ] = None,
) -> None:
    """Show the catalogue: slots, bytes per parameter, paper and formula of every rule."""
    console = terminal.console()
    if names:
        for rule in [load(name) for name in names]:  # all of them before the first is shown
            _show(console, rule)
        return
    title = fewest().title
    for rule in CATALOGUE.values():
        kept = f"slots {slots(rule)}" if rule.slots else "no slots"
        sizes = f"{bytes_per_parameter(rule)} bytes ({least_bytes(rule)} in {title})"
        point = f", evaluated at {latex.point(rule)}" if latex.point(rule) else ""
        console.print(f"[bold]{rule.name}[/bold]  {sizes}, {escape(kept)}{escape(point)}")
        console.print(Padding(f"[dim]{escape(rule.paper)}[/dim]", (0, 0, 0, 2)))
        console.print(Padding(Text(latex.text(rule)), (0, 0, 1, 4)))
    console.print("Slots in parentheses are kept by some options only; bytes are those of a float32 parameter with its")
    console.print(f"slots, by default; in {title}, those of a bfloat16 parameter with 8 bits beside it and such slots.")
    console.print("`steprule rules NAME` shows one rule in full.")


def slots(rule: Rule) -> str:
    """Return the slots that the default options keep, and in parentheses those that others keep."""
    of = {**dict.fromkeys(rule.per_row, " a row"), **dict.fromkeys(rule.per_column, " a column")}
    kept = [f"{slot}{of.get(slot, '')}" for slot in rule.slots if slot in rule.trace().kept]
    others = [f"{slot}{of.get(slot, '')}" for slot in rule.slots if slot not in rule.trace().kept]
    return " ".join([", ".join(kept), f"({', '.join(others)})" if others else ""]).strip() or "none"


def bytes_per_parameter(rule: Rule) -> int:
    """Return the bytes of a float32 parameter and its slots, with the default options, but for numbers of rows."""
    return round(_bytes(rule, Storage(FORMATS["float32"])))


def _bytes(rule: Rule, storage: Storage) -> float:
    recipe = plan(rule, rule.variant(rule.resolve({})), storage)
    of_elements = [plane for plane in recipe.kept_planes if plane.per in ("element", "group")]
    return sum(_mean(plane) for plane in of_elements if plane.name != rule.gradient)


def _mean(plane: Plane | PlaneSpec) -> float:
    """Return the bytes of a plane for each element."""
    return plane.bits / 8 / (GROUP if plane.per == "group" else 1)


def fewest() -> SlotFormat:
    """Return the format in which slots take the fewest bytes."""
    return min(SLOT_FORMATS.values(), key=lambda one: sum(map(_mean, one.signed.planes)))


def least_bytes(rule: Rule) -> str:
    """Return the bytes of a parameter with slots of the fewest bytes and split24 weights, in a matrix."""
    kept = tuple((slot, fewest().name) for slot in rule.trace().slots if slot not in rule.points)
    return f"{_bytes(rule, Storage(FORMATS['bfloat16'], 'split24', kept)):.2f}"


def bytes_by_format(rule: Rule) -> list[tuple[str, str, float]]:
    """Return the bytes of a parameter with its slots in the formats that are offered: states, weights, bytes."""
    slots = [slot for slot in rule.trace().slots if slot not in rule.points]
    rows = []
    for states in STATES if slots else STATES[:1]:
        kept = tuple((slot, states) for slot in slots) if states != "float32" else ()
        rows.append((states, "float32", _bytes(rule, Storage(FORMATS["float32"], "nearest", kept))))
        rows += [
            (states, f"bfloat16, {weights}", _bytes(rule, Storage(FORMATS["bfloat16"], weights, kept)))
            for weights in WEIGHT_FORMATS
        ]
    return rows


def _show(console: Console, rule: Rule) -> None:
    console.print(f"[bold]{escape(rule.name)}[/bold]  {escape(rule.paper)}\n")
    console.print(Text(latex.text(rule)))
    for paragraph in rule.doc.split("\n\n"):
        console.print(f"\n{escape(' '.join(paragraph.replace('``', '`').split()))}")
    console.print()
    table = Table("hyperparameter", "default", "values")
    for hyper in rule.hyperparameters.values():
        table.add_row(hyper.name, repr(hyper.default), escape(hyper.kind))
    console.print(terminal.listed(table, console), highlight=False)
    console.print(f"slots: {slots(rule)}; {bytes_per_parameter(rule)} bytes per float32 parameter, slots included")
    console.print(f"the step of an element depends on {sees(rule)}")
    if point := latex.point(rule):
        theta = rule.parameter
        console.print(f"trains at {theta}, is evaluated at {point}: optimizer.eval() and train() switch between them")
    console.print()
    console.print(terminal.listed(_formats(rule), console), highlight=False)


def sees(rule: Rule) -> str:
    """Return what a step of one element depends on, in words."""
    *parts, last = (_SEES[part] for part in rule.trace().sees.split(", "))
    return f"{', '.join(parts)} and {last}" if parts else last


def bytes_table(rule: Rule) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of a table of bytes per parameter: states down, weights across."""
    found = {(states, weights): size for states, weights, size in bytes_by_format(rule)}
    columns = list(dict.fromkeys(weights for _, weights in found))
    rows = [
        [states, *(f"{found[states, column]:.2f}".removesuffix(".00") for column in columns)]
        for states in dict.fromkeys(states for states, _ in found)
    ]
    return ["bytes per parameter, with states in", *columns], rows


def _formats(rule: Rule) -> Table:
    headings, rows = bytes_table(rule)
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    return table
