"""The rules on the page: the catalogue, two that presets compare them with, and the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from steprule.backends import javascript, latex, mathml
from steprule.compile import Plan
from steprule.engine import plan
from steprule.errors import TargetError
from steprule.evaluated import Evaluated, evaluated
from steprule.formats import FORMATS, Storage
from steprule.lab.uncorrected import adam_uncorrected
from steprule.rules import CATALOGUE, Rule, l2
from steprule.rules.hyperparameters import Hyperparameter
from steprule.rules.named import named, probes
from steprule.rules.settings import without_defaults

__all__ = ["Shown", "menu", "numbers", "plan_of", "shown", "stepped", "told_apart"]

Shown = dict[str, Any]
"""What the page knows of a rule, as JSON."""
_PROBE = "probe."


@cache
def menu() -> dict[str, Rule]:
    """Return the rules of the page by name: the catalogue, and what presets compare it with.

    Rules that need matrices are left out: what moves on the page is a point of two numbers.
    """
    extra = (adam_uncorrected, l2(CATALOGUE["adam"]))
    plain = {name: rule for name, rule in CATALOGUE.items() if not rule.needs_matrices}
    return {**plain, **{one.name: one for one in extra}}


def told_apart(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules with names that differ, from each other and those of the page: one's own ``adam (mine.py)``."""
    of_name: dict[str, set[Rule]] = {name: {rule} for name, rule in menu().items()}
    for rule in rules:  # one with settings is made anew whenever it is named
        of_name.setdefault(rule.name, set()).add(without_defaults(rule)[0])
    return tuple(
        rule if len(of_name[rule.name]) == 1 or menu().get(rule.name) is rule else replace(rule, name=_placed(rule))
        for rule in rules
    )


def _placed(rule: Rule) -> str:
    """Return a rule's name with the file or the module that it comes from."""
    code = getattr(rule.function, "__code__", None)
    place = Path(code.co_filename).name if code else getattr(rule.function, "__module__", "")
    return f"{rule.name} ({place})"


def plan_of(rule: Rule) -> Plan:
    """Return the plan that the page steps by: float32, with the values that the rule's source names."""
    return plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float32"]), kind="probe", rides=False)


def shown(rule: Rule) -> tuple[Shown, str]:
    """Return what the page shows of a rule, and its functions in JavaScript.

    Raises:
        TargetError: when the rule calls what JavaScript has no function for.
    """
    facts, code = stepped(rule)
    hypers = numbers(rule)
    kept = [*facts["slots"], *facts["probes"], *facts["scalars"]]
    written = mathml.symbols(rule, [*kept, *(hyper.name for hyper in hypers)])
    words: Shown = {
        "name": rule.name,
        "paper": rule.paper,
        "about": " ".join(rule.doc.split("\n\n")[0].replace("``", "").split()),
        "text": latex.text(rule),
        "hypers": [_hyper(hyper, written[hyper.name]) for hyper in hypers],
        "parameter": rule.parameter,
        "gradient": rule.gradient,
        "symbols": written,
        "lines": [vars(line) for line in mathml.lines(rule)],
        "pointLine": mathml.lines(rule)[-1].name if facts["point"] else "",
    }
    return {**words, **facts}, code


def stepped(rule: Rule) -> tuple[Shown, str]:
    """Return what the page's simulation knows of a rule, and its functions in JavaScript.

    Raises:
        TargetError: when the rule calls what JavaScript has no function for.
    """
    if rule.needs_matrices:
        raise TargetError(
            f"rule {rule.name!r} steps matrices, and what moves in the lab is a point of two numbers; leave it out. "
            "steprule.Optimizer, steprule.torch and steprule.jax step matrices by it"
        )
    recipe = plan_of(rule)
    slots = [plane.name for plane in recipe.kept_planes[2:] if not plane.name.startswith(_PROBE)]
    inside = probes(named(rule, rule.variant(rule.resolve({}))))
    scalars = list(recipe.prelude.scalar_slots)
    found = evaluated(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float32"]))
    taken = {name for one in (*recipe.before, recipe) for name in javascript.arguments(one)}
    facts: Shown = {
        "passes": [_pass(part) for part in javascript.parts(recipe)],
        "row": len(recipe.prelude.conditions),
        "sums": recipe.view is not None or not taken.isdisjoint(javascript.LATE),
        "seesRows": recipe.view is not None,
        "scalars": scalars,
        "slots": slots,
        "ofRows": [slot for slot in slots if slot in rule.per_row],
        "probes": list(inside),
        "hosts": [name for name, node in inside.items() if node.stage == "host"],
        "init": {name: rule.init[name] for name in rule.init if name in {*slots, *scalars} - rule.points},
        "points": [slot for slot in slots if slot in rule.points],
        "point": None if found is None else _point(found),
    }
    return facts, javascript.functions(recipe, evaluated=None if found is None else found.plan)


def _point(found: Evaluated) -> dict[str, Any]:
    """Return how the page computes the evaluated point: of which arrays and hyperparameters, by which functions."""
    part = javascript.point_part(found.plan)
    return {"prelude": part.prelude, "kernel": part.kernel, "arguments": found.arguments, "reads": found.reads}


def _pass(part: javascript.Part) -> dict[str, Any]:
    return {
        "prelude": part.prelude,
        "kernel": part.kernel,
        "arguments": javascript.arguments(part.plan),
        "behind": javascript.behind(part.plan),
    }


def numbers(rule: Rule) -> list[Hyperparameter]:
    """Return the hyperparameters that the page has sliders for, and links have values for."""
    return [hyper for hyper in rule.hyperparameters.values() if _is_number(rule, hyper)]


def _is_number(rule: Rule, hyper: Hyperparameter) -> bool:
    """Whether a hyperparameter is a number in the variant of the default values."""
    return (
        not hyper.is_static and hyper.default is not None and hyper.name in rule.trace().named | {*rule.init.values()}
    )


def _hyper(hyper: Hyperparameter, written: str) -> dict[str, Any]:
    limits = hyper.range
    return {
        "name": hyper.name,
        "symbol": written,
        "default": hyper.default,
        "low": limits.low if limits.low > -1e300 else None,
        "high": limits.high if limits.high < 1e300 else None,
        "open": limits.open_low,
        "closed": limits.closed_high,
    }
