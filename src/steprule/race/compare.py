"""Two races of the same problem side by side: what changed of each rule, seed by seed."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from steprule.errors import StepruleError
from steprule.race.results import FORMAT
from steprule.race.statistics import LEVEL, holm, p_values
from steprule.race.words import counted, loss, loss_name

__all__ = ["compare"]


def compare(first: Path, second: Path) -> list[str]:
    """Return lines that say for each rule of both races how its loss has changed from the first to the second.

    The fresh runs of a rule are compared by Wilcoxon's signed-rank test on the seeds that both races have, with Holm's
    correction for the number of rules.

    Raises:
        StepruleError: when a folder has no results that can be read, or the races cannot be compared.
    """
    one, other = _read(first), _read(second)
    for what, a, b in (
        ("problem", one["problem"]["name"], other["problem"]["name"]),
        ("compared loss", one["problem"]["metric"], other["problem"]["metric"]),
    ):
        if a != b:
            raise StepruleError(f"{first} and {second} have another {what}: {a} and {b}. Compare races of the same one")
    before, after = _losses(one), _losses(other)
    rules = [line["rule"] for line in one["table"] if line["rule"] in after and line["rule"] in before]
    if not rules:
        raise StepruleError(f"no rule has fresh runs in both {first} and {second}; race the same --rules in both")
    seeds = {rule: sorted(before[rule].keys() & after[rule].keys()) for rule in rules}
    if not any(seeds.values()):
        raise StepruleError(f"{first} and {second} have no fresh seed in common; race both with the same --seed")
    pairs = [np.array([[of[rule][seed] for seed in seeds[rule]] for of in (before, after)]) for rule in rules]
    p = holm(np.array([p_values(pair)[0, 1] if pair.size else 1.0 for pair in pairs]))
    name = loss_name(one["problem"]["metric"])
    head = f"{one['problem']['name']}: {name}, median over the fresh seeds of {first} and {second}"
    return [head, *(_line(rule, pair, value) for rule, pair, value in zip(rules, pairs, p, strict=True))]


def _line(rule: str, pair: Any, p: float) -> str:
    if not pair.size:
        return f"{rule}: no seed in common"
    a, b = (statistics.median(values.tolist()) for values in pair)
    change = "cannot be told apart" if p >= LEVEL else "better" if b < a else "worse"
    return f"{rule}: {loss(a)} and {loss(b)}, {change} (p = {p:.2g}, {counted(pair.shape[1], 'seed')})"


def _losses(results: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Return the final losses of the fresh runs by rule and seed."""
    found: dict[str, dict[int, float]] = {}
    for run in results["runs"]:
        if not run["tuning"]:
            last = (run["validation"] or [run["train_loss"]])[-1]
            lost = run["diverged"] or last is None
            found.setdefault(run["rule"], {})[run["seed"]] = math.inf if lost else float(last)
    return found


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StepruleError(f"there is no {path}; give the folder that a race was written to (--output)") from None
    except (OSError, ValueError) as error:
        raise StepruleError(f"{path} cannot be read: {error}") from None
    if results.get("format") != FORMAT:
        raise StepruleError(
            f"{path} has format {results.get('format')!r}, and this version reads {FORMAT}: earlier ones have no fresh "
            "seeds. Run the race again"
        )
    return results
