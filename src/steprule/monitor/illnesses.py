"""What can be wrong with a run: for each illness a score of a reading, 1 from where on it counts, and words.

Where a threshold has no source, it was chosen from the table in docs/monitor.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf, isfinite, isnan, log10
from typing import Any

from steprule.monitor.seen import Seen
from steprule.monitor.statistics import QUANTISATION

__all__ = ["ILLNESSES", "LEAST", "WINDOW", "Illness"]

WINDOW = 5
"""The readings that a diagnosis looks back at."""
LEAST = 3
"""Of these, how many must agree where a single one may be chance."""

FULL_STEP = 0.1
"""The learning rate over the root mean square of the weights, from which on rules like Adam step too far.

Usual settings stay below 0.04, Adam at ten times its default rate at 0.06; from 0.17 on networks are spoilt.
"""
CONTRADICTION = 0.25
"""The signal-to-noise ratio below which successive gradients contradict each other; runs start above 0.4."""
LARGE_UPDATE = 0.1
"""The update ratio that is too large for rules without such a ratio: a hundred times the usual 1e-3."""
USUAL_UPDATE = 1e-3
"""The update ratio of healthy runs, as practice has it."""
TINY_UPDATE = 5e-5
"""The update ratio that moves hardly anything: a twentieth of the usual 1e-3, and less than careful fine-tuning has."""
AGREEMENT = 0.3
"""The signal-to-noise ratio from which on gradients agree; it is lower in runs that have learnt for a while."""
EPSILON = 0.7
"""The share of elements whose step epsilon more than halves. Yogi's own epsilon, 1e-3, makes up to 0.5."""
FROZEN = 0.5
"""The share of updates that rounding swallows whole."""
IDLE, ALWAYS_IDLE = 0.7, 0.8
"""The share of elements without a gradient for long; and their share of those without one in this step: rows of an
embedding come and go, dead units do not come back."""
UPDATE_RMS = 2.3
"""The root mean square of gradients over the root of v that precedes loss spikes by 1 to 8 steps (Wortsman et al. 2023,
section 3.4, arXiv:2304.13013). Single steps of healthy runs reach 4, so one reading is not enough."""
GROWTH = 3.5
"""The same while v warms up. Gradients that grow at the start of a run, as of low-rank adapters, make up to 2.6."""
_BY_CHANCE = {"stochastic", "split24"}


@dataclass(frozen=True)
class Illness:
    """One illness.

    Attributes:
        name: what it is called.
        score: of one reading of one parameter; None where it has no meaning.
        times: of how many of the last readings the score must reach 1; ``WINDOW``: of all, and at least ``LEAST``.
        evidence: the numbers of a reading that show it.
        what: the sentence that tells them.
        remedy: what to try, whatever the numbers are or depending on them.
        by_rate: it is one of a learning rate: at least half of the matrices that share the rate must have it.
        first: the first step counts as well, whose averages are of one gradient.
    """

    name: str
    score: Callable[[Seen], float | None]
    times: int
    evidence: Callable[[Seen], dict[str, Any]]
    what: Callable[[Mapping[str, Any]], str]
    remedy: str | Callable[[Mapping[str, Any]], str]
    by_rate: bool = False
    first: bool = False


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else min(one, other)


def _above(value: float | None, threshold: float) -> float | None:
    return None if value is None or isnan(value) else value / threshold


def _below(value: float | None, threshold: float) -> float | None:
    return None if value is None or isnan(value) else threshold / value if value else inf


def _rows(*keys: str) -> Callable[[Seen], dict[str, Any]]:
    return lambda seen: {key: seen.row[key] for key in keys if seen.row[key] is not None}


def _nonfinite(seen: Seen) -> float | None:
    return _above(seen.row["nonfinite"], 1.0)


def _nonfinite_evidence(seen: Seen) -> dict[str, Any]:
    norm = seen.row["weight_norm"]
    return _rows("nonfinite")(seen) | ({} if norm is None or isfinite(norm) else {"weight_norm": norm})


def _nonfinite_words(numbers: Mapping[str, Any]) -> str:
    before = ", and the parameter was so before that step: an earlier one has spoilt it" * ("weight_norm" in numbers)
    return (
        f"{numbers['nonfinite']:,} elements of the gradient were infinite or NaN at step {numbers['step']:,}{before}."
    )


def _nonfinite_remedy(numbers: Mapping[str, Any]) -> str:
    if "weight_norm" in numbers:  # nothing that guards steps to come brings it back
        return "Go back to a checkpoint from before, and go on from there with nonfinite='skip'."
    return "Pass nonfinite='skip' and clip_norm, lower lr, or look for what overflows in the loss."


def _power(ratio: float) -> int:
    """Return the power of ten below a ratio, at least 10."""
    return 10 ** max(1, min(floor(log10(ratio)), 30)) if 0 < ratio < inf else 10


def _too_high(seen: Seen) -> float | None:
    noise = seen.row["signal_to_noise"]
    if noise is None:
        return _above(seen.row["update_ratio"], LARGE_UPDATE)
    return _both(_above(seen.full_step, FULL_STEP), _below(noise, CONTRADICTION))


def _too_high_evidence(seen: Seen) -> dict[str, Any]:
    full = {} if seen.row["signal_to_noise"] is None else {"full_step": seen.full_step}
    return _rows("lr", "update_ratio", "signal_to_noise")(seen) | full


def _too_high_words(numbers: Mapping[str, Any]) -> str:
    if "full_step" not in numbers:
        return f"a step moves the weights by {numbers['update_ratio']:.0%} of their norm; about 0.1% is usual."
    return (
        f"with lr {numbers['lr']:.2g} a full step is {numbers['full_step']:.0%} of a typical weight, and successive "
        f"gradients contradict each other (signal-to-noise {numbers['signal_to_noise']:.2g})."
    )


def _too_high_remedy(numbers: Mapping[str, Any]) -> str:
    size, threshold = (
        (numbers["full_step"], FULL_STEP) if "full_step" in numbers else (numbers["update_ratio"], LARGE_UPDATE)
    )
    factor = _power(10 * size / threshold)
    return f"Lower lr by a factor of {'3 to 10' if factor == 10 else f'{factor:,}'}."


def _too_low(seen: Seen) -> float | None:
    lr = seen.row["lr"]
    if not lr or lr < 0.5 * seen.peak or lr > 1.01 * seen.before:  # a schedule at its end, or warming up
        return None
    if (seen.row["frozen_share"] or 0) >= FROZEN or (seen.live_epsilon or 0) >= EPSILON:
        return None  # then that is why
    return _both(_below(seen.row["update_ratio"], TINY_UPDATE), _above(seen.row["signal_to_noise"], AGREEMENT))


def _frozen(seen: Seen) -> float | None:
    # Stochastic rounding is right on average, however seldom an element moves.
    if not _BY_CHANCE.isdisjoint(seen.reading.formats.values()):
        return None
    return _above(seen.row["frozen_share"], FROZEN)


def _dead(seen: Seen) -> float | None:
    idle: float | None = seen.row["idle_share"]
    zero: float | None = seen.row["zero_share"]
    if zero is None:
        return None
    none_at_all = 1.0 if zero == 1 else 0.0
    if not idle or not zero:
        return none_at_all
    return max(none_at_all, min(idle / IDLE, idle / zero / ALWAYS_IDLE))


def _is_warm(seen: Seen) -> bool:
    """Whether v has seen as many steps as it averages over."""
    return seen.reading.t * (1 - (seen.decay or 0.0)) >= 1


def _warming(seen: Seen) -> float | None:
    return None if _is_warm(seen) else _above(seen.excess, GROWTH)


def _spiking(seen: Seen) -> float | None:
    return _above(seen.excess, UPDATE_RMS) if _is_warm(seen) else None


def _rms_evidence(seen: Seen) -> dict[str, Any]:
    decay, name = seen.decay or 0.0, seen.decay_name
    return {"update_rms": seen.row["update_rms"], "memory": 1 / (1 - decay)} | ({name: decay} if name else {})


def _forget(numbers: Mapping[str, Any]) -> str:
    """Return how v forgets faster, in the rule's own words where they name its decay."""
    name = next((key for key in numbers if key not in ("update_rms", "memory", "step", "readings")), None)
    return f"lower {name}" if name else "let v average over fewer steps"


def _slot_evidence(seen: Seen) -> dict[str, Any]:
    return dict([seen.worst_slot]) if seen.worst_slot else {}


def _slot_words(numbers: Mapping[str, Any]) -> str:
    key = next(key for key in numbers if key.startswith(QUANTISATION))
    slot = key.removeprefix(QUANTISATION)
    return f"what is kept of slot {slot} is off by {numbers[key]:.0%}: its numbers are too small for the format."


ILLNESSES: Sequence[Illness] = (
    Illness(
        "non-finite gradients",
        _nonfinite,
        1,
        _nonfinite_evidence,
        _nonfinite_words,
        _nonfinite_remedy,
        first=True,
    ),
    Illness(
        "learning rate too high",
        _too_high,
        LEAST,
        _too_high_evidence,
        _too_high_words,
        _too_high_remedy,
        by_rate=True,
    ),
    Illness(
        "learning rate too low",
        _too_low,
        LEAST,
        _rows("lr", "update_ratio", "signal_to_noise"),
        lambda e: (
            f"successive gradients agree (signal-to-noise {e['signal_to_noise']:.2g}), yet with lr {e['lr']:.2g} a "
            f"step moves the weights by {e['update_ratio']:.2g} of their norm; about 1e-3 is usual."
        ),
        lambda e: f"Raise lr by a factor of {_power(USUAL_UPDATE / e['update_ratio']) if e['update_ratio'] else 10:,}.",
        by_rate=True,
    ),
    Illness(
        "epsilon too large",
        lambda seen: _above(seen.live_epsilon, EPSILON),
        LEAST,
        lambda seen: {"eps": seen.reading.hyperparameters.get("eps"), "epsilon_share": seen.live_epsilon},
        lambda e: (
            f"eps {e['eps']:.2g} more than halves the steps of {e['epsilon_share']:.0%} of the elements that have "
            "gradients: it is larger than the root of v."
        ),
        "Lower eps, or scale the loss up.",
    ),
    Illness(
        "weights frozen by rounding",
        _frozen,
        LEAST,
        _rows("frozen_share"),
        lambda e: (
            f"{e['frozen_share']:.0%} of the elements that a step should move are rounded back to where they were."
        ),
        "Pass weights='split24' or 'stochastic', or keep the weights in float32.",
    ),
    Illness(
        "dead parameters",
        _dead,
        WINDOW,
        _rows("zero_share", "idle_share"),
        lambda e: (
            f"{e['zero_share']:.0%} of the elements have no gradient"
            + (f", {e['idle_share']:.0%} have had none for long." if "idle_share" in e else ".")
        ),
        "Look for dead units (lower lr, another activation or start), and for what the loss does not depend on.",
    ),
    Illness(
        "v still warming up",
        _warming,
        LEAST,
        _rms_evidence,
        lambda e: (
            f"at step {e['step']:,} the gradients are {e['update_rms']:.1f} times the root of v, which averages over "
            f"{e['memory']:,.0f} steps: they grow faster than it follows."
        ),
        lambda e: f"Warm lr up for as many steps, {_forget(e)}, or pass update_clip=True.",
    ),
    Illness(
        "loss spikes ahead",
        _spiking,
        2,
        _rms_evidence,
        lambda e: (
            f"at step {e['step']:,} the gradients were {e['update_rms']:.1f} times the root of v, which averages over "
            f"{e['memory']:,.0f} steps; above 2.3 the loss often jumps within 8 steps."
        ),
        lambda e: f"Pass update_clip=True, or {_forget(e)}.",
    ),
    Illness(
        "slot precision too low",
        lambda seen: None if seen.worst_slot is None else seen.worst_slot[1] / seen.limit(seen.worst_slot[0]),
        LEAST,
        _slot_evidence,
        _slot_words,
        "Scale the loss up, or keep the slot in float32.",
    ),
)
