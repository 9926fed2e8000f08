"""Judging a run by its last readings: which parameters score on which illness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steprule.launch.readings import Reading
from steprule.monitor.diagnosis import Diagnoses, Diagnosis
from steprule.monitor.illnesses import ILLNESSES, LEAST, Illness
from steprule.monitor.seen import Seen
from steprule.monitor.statistics import Statistics

__all__ = ["Score", "diagnose", "groups", "look_back", "overall", "scores"]


@dataclass(frozen=True)
class Score:
    """How much of an illness a parameter has: 1 is a diagnosis.

    Attributes:
        value: what as many of the last readings reach as the illness asks for.
        seen: the reading that has just that.
        times: how many of the last readings reach 1.
    """

    value: float
    seen: Seen
    times: int


def look_back(window: Iterable[Sequence[Reading]], peaks: Mapping[str, float], clips: bool) -> dict[str, list[Seen]]:
    """Return the last readings of each parameter.

    Args:
        window: the readings, step by step.
        peaks: the highest learning rate of each parameter.
        clips: whether the optimizer clips updates.
    """
    kept = list(window)
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for reading in (reading for readings in kept for reading in readings):
        shapes.setdefault(reading.name, set()).add(reading.shape)
    found: dict[str, list[Seen]] = {}
    for readings in kept:
        for reading, row in zip(readings, Statistics.of(readings).rows(), strict=True):
            earlier = found.setdefault(reading.name, [])
            lr = row["lr"] or 0.0
            before = (earlier[-1].row["lr"] or 0.0) if earlier else lr
            is_whole = len(shapes[reading.name]) == 1
            earlier.append(Seen(reading, row, peaks.get(reading.name, lr), before, is_whole, clips))
    return found


def diagnose(seen: Mapping[str, Sequence[Seen]]) -> Diagnoses:
    """Return the illnesses of a run.

    Args:
        seen: of ``look_back``.
    """
    found = Diagnoses()
    for illness in ILLNESSES:
        for group in groups(illness, seen):
            judged = scores(illness, group)
            if overall(illness, judged) >= 1:
                found.append(_told(illness, {name: score for name, score in judged.items() if score.value >= 1}))
    return found


def groups(illness: Illness, seen: Mapping[str, Sequence[Seen]]) -> list[Mapping[str, Sequence[Seen]]]:
    """Return the parameters that are judged together: all, or the matrices of one learning rate.

    The ratios of vectors say little: they start at zero or one.
    """
    if not illness.by_rate:
        return [seen]
    found: dict[float | None, dict[str, Sequence[Seen]]] = {}
    for name, series in seen.items():
        if series[-1].is_matrix:
            found.setdefault(series[-1].row["lr"], {})[name] = series
    return list(found.values())


def overall(illness: Illness, judged: Mapping[str, Score]) -> float:
    """Return the score of parameters that are judged together: the highest, or what half of them reach."""
    values = sorted((score.value for score in judged.values()), reverse=True)
    if not values:
        return 0.0
    return values[(len(values) - 1) // 2] if illness.by_rate else values[0]


def scores(illness: Illness, seen: Mapping[str, Sequence[Seen]]) -> dict[str, Score]:
    """Return the scores of all parameters of which an illness can tell."""
    judged = {name: _score(illness, series) for name, series in seen.items()}
    return {name: score for name, score in judged.items() if score is not None}


def _score(illness: Illness, series: Sequence[Seen]) -> Score | None:
    known: list[tuple[float, Seen]] = []
    for one in series:
        # Sums over NaN and infinity say nothing; their count does.
        if illness.first or (one.reading.t > 1 and not one.row["nonfinite"]):
            value = illness.score(one)
            if value is not None:
                known.append((value, one))
    if len(known) < min(illness.times, LEAST):
        return None
    known.sort(key=lambda pair: -pair[0])
    value, reading = known[min(illness.times, len(known)) - 1]
    return Score(value, reading, sum(pair[0] >= 1 for pair in known))


def _told(illness: Illness, ill: Mapping[str, Score]) -> Diagnosis:
    """Return a diagnosis that shows the reading of the parameter that is affected most."""
    names = sorted(ill, key=lambda name: -ill[name].value)
    worst = ill[names[0]]
    evidence = illness.evidence(worst.seen) | {"step": worst.seen.reading.t, "readings": worst.times}
    remedy = illness.remedy if isinstance(illness.remedy, str) else illness.remedy(evidence)
    return Diagnosis(illness.name, tuple(names), illness.what(evidence), evidence, remedy)
