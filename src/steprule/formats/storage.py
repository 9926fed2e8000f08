"""Which format each value of a parameter has: what was asked for, and what a tensor is fit for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from steprule.errors import HyperparameterError, StructureError, suggest
from steprule.formats.codec import Codec, plain
from steprule.formats.plain import Format
from steprule.formats.registry import SLOT_FORMATS, STATES
from steprule.formats.weights import WEIGHTS, weights
from steprule.language.matrices import Along, View

__all__ = [
    "MIN_ELEMENTS",
    "WEIGHT_FORMATS",
    "Formats",
    "Storage",
    "check_effects",
    "check_seed",
    "saved_codec",
    "without_effect",
]

WEIGHT_FORMATS = tuple(WEIGHTS["bfloat16"])
_ELSEWHERE = "give it to a group of its own with states='float32'"
MIN_ELEMENTS = 4096
"""Elements below which slots stay float32: there is little to save, and one number of a small tensor may mean much."""


@dataclass(frozen=True)
class Storage:
    """How a kernel stores a parameter and its slots.

    Attributes:
        parameter: the parameter's type.
        weights: how its numbers are rounded to it, and what is kept besides.
        slots: the formats of slots that are not kept in the type of the arithmetic.
        is_small: whether low-precision slots were asked for, and the tensor is too small for them.
        is_cut: whether they were asked for, and the tensor is a vector in shards.
        flushes: whether slots below the smallest normal number are made zero. Not where the target computes so anyway.
        gradient: the gradient's type, where it is not the parameter's; steps on both are computed in one type.
    """

    parameter: Format
    weights: str = "nearest"
    slots: tuple[tuple[str, str], ...] = ()
    is_small: bool = field(default=False, compare=False)
    flushes: bool = True
    gradient: Format | None = None
    is_cut: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.slots and self.parameter.compute != "float32":
            raise StructureError(
                f"slots of {self.parameter.name} parameters are {self.parameter.compute}; {self.slots[0][1]} is for "
                "slots that are computed in float32"
            )

    @property
    def is_plain(self) -> bool:
        """Whether every value is one plane of numbers, rounded to nearest."""
        return not self.slots and self.weights == "nearest"

    def uncoded(self) -> Storage:
        """Return the same without low-precision slots, for a vector in shards."""
        return replace(self, slots=(), is_cut=True)

    def of_parameter(self) -> Codec:
        """Return the codec of the parameter."""
        return weights(self.parameter.name, self.weights)

    def of_gradient(self) -> Codec:
        """Return the codec of the gradient: that of a parameter of its type."""
        return weights((self.gradient or self.parameter).name, "nearest")

    def of_vector(self, per: Along, view: View) -> Codec:
        """Return the codec of a slot of rows or columns."""
        return plain(self.parameter.compute, self.flushes, per, view)

    def of_slot(self, slot: str, non_negative: bool, is_point: bool = False) -> Codec:
        """Return the codec of a slot. One that begins as the parameter does not decay into subnormal numbers."""
        chosen = SLOT_FORMATS.get(dict(self.slots).get(slot, "float32"))
        if chosen:
            return chosen.codec(non_negative=non_negative)
        return plain(self.parameter.compute, self.flushes and not is_point)


@dataclass(frozen=True)
class Formats:
    """What was asked for, for the parameters of an optimizer or a group.

    Attributes:
        states: the format of every slot, by name; those that are not named are float32.
        weights: how parameters of 16 bits are kept.
        min_elements: tensors with fewer elements keep float32 slots.
    """

    states: tuple[tuple[str, str], ...] = ()
    weights: str = "nearest"
    min_elements: int = MIN_ELEMENTS

    @classmethod
    def of(
        cls,
        states: str | Mapping[str, str],
        weights: str,
        min_elements: int,
        slots: Sequence[str],
        where: str = "",
        numbers: Collection[str] = (),
        points: Collection[str] = (),
    ) -> Formats:
        """Return the checked choice for a rule with these slots, and with others that have no number for each element.

        ``points`` are slots that begin as the parameter: they are as large as it is, and steps change them by little,
        which a low-precision format would round away. They have one only where a dict names them.

        Raises:
            HyperparameterError: for a format or a slot that does not exist.
        """
        others = [slot for slot in slots if slot not in points]
        by_slot = states if isinstance(states, Mapping) else dict.fromkeys(others, states)
        for slot, name in by_slot.items():
            if slot in numbers:
                raise HyperparameterError(
                    f"states names {slot!r}, which is not kept for each element and has no format{where}; remove it"
                )
            if slot not in slots:
                raise HyperparameterError(
                    f"states names {slot!r}, which is not a slot{where}; slots are {', '.join(slots) or 'none'}."
                    f"{suggest(str(slot), slots)}"
                )
            _check("states", name, STATES, where)
        if not isinstance(states, Mapping):
            _check("states", states, STATES, where)
            if states != "float32" and not others:
                beside = f" but {', '.join(points)}, which is as the parameter" if slots else ""
                raise HyperparameterError(
                    f"states={states!r} has no effect: the rule keeps no slots of elements{beside}{where}; remove it"
                )
        _check("weights", weights, WEIGHT_FORMATS, where)
        if isinstance(min_elements, bool) or not isinstance(min_elements, int) or min_elements < 0:
            raise HyperparameterError(f"min_elements must be an integer of at least 0, got {min_elements!r}{where}")
        low = tuple((slot, name) for slot, name in by_slot.items() if name != "float32")
        return cls(low, weights, min_elements)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the defaults was asked for."""
        return not self.states and self.weights == "nearest"

    @property
    def is_stochastic(self) -> bool:
        """Whether anything is rounded stochastically."""
        return bool(self.states) or self.weights in ("stochastic", "split24")

    def storage(
        self, parameter: Format, shape: Sequence[int], kept: Iterable[str], what: str, elsewhere: str = _ELSEWHERE
    ) -> Storage:
        """Return how a parameter is stored.

        Args:
            parameter: its type.
            shape: its shape.
            kept: the slots that the rule keeps in this variant.
            what: how messages name it.
            elsewhere: how messages tell to give it another format than others.

        Raises:
            StructureError: when low-precision slots were asked for a parameter of float64.
        """
        names = set(kept)
        slots = tuple((slot, name) for slot, name in self.states if slot in names)
        if slots and parameter.compute != "float32":
            raise StructureError(
                f"{what} has the type {parameter.name}, whose slots are {parameter.compute}: states={slots[0][1]!r} is "
                f"for float32, float16 and bfloat16 parameters. Convert it to float32, or {elsewhere}"
            )
        is_small = bool(slots) and prod(shape) < self.min_elements
        weights = self.weights if parameter.name in WEIGHTS else "nearest"
        return Storage(parameter, weights, () if is_small else slots, is_small)


def check_effects(
    given: Mapping[str, object], formats: Sequence[Formats], storages: Sequence[Storage], elements: Sequence[int]
) -> None:
    """Refuse options that have no effect on any parameter. That they have none on some (biases) is usual.

    Args:
        given: the options that were given, those that are defaults left out.
        formats: of every group.
        storages: of every parameter; none where they are not known yet.
        elements: of every parameter.

    Raises:
        HyperparameterError: naming the option.
    """
    words = without_effect(given, formats, storages, elements)
    if words:
        raise HyperparameterError(words)
    asked = {chosen.weights for chosen in formats} - {"nearest"}
    if asked and storages and all(storage.weights == "nearest" for storage in storages):
        raise HyperparameterError(
            f"weights={min(asked)!r} has no effect: no parameter is float16 or bfloat16; remove it, or keep the "
            "parameters in 16 bits (in PyTorch: model.bfloat16() before the optimizer is made)"
        )
    if "min_elements" in given and not any(chosen.states for chosen in formats):
        raise HyperparameterError(
            f"min_elements={given['min_elements']} has no effect where all states are float32; remove it"
        )
    if "seed" in given and not any(chosen.is_stochastic for chosen in formats):
        raise HyperparameterError(
            f"seed={given['seed']} has no effect: nothing is rounded stochastically here; remove it"
        )


def without_effect(
    given: Mapping[str, object], formats: Sequence[Formats], storages: Sequence[Storage], elements: Sequence[int]
) -> str:
    """Return what is wrong where low-precision slots were asked for and none has them; empty else."""
    # A rule that keeps no slots with these options has not taken them over.
    told = {str(given["states"])} if isinstance(given.get("states"), str) else set()
    asked = sorted((told | {name for chosen in formats for _, name in chosen.states}) - {"float32"})
    if not asked or any(storage.slots for storage in storages) or not any(elements):
        return ""
    if not any(storage.is_small for storage in storages):
        return f"states={asked[0]!r} has no effect: no parameter has a slot that can be kept so; remove it"
    least = min(chosen.min_elements for chosen in formats if chosen.states)
    small = [n for n, storage in zip(elements, storages, strict=True) if storage.is_small]
    of_all = "" if len(small) == len(elements) else " that asks for it"
    return (
        f"states={asked[0]!r} has no effect: the largest parameter{of_all} has {max(small):,} elements, and slots of "
        f"those with fewer than min_elements={least} stay float32. Give a lower min_elements (0: all), or remove states"
    )


def check_seed(seed: object, where: str = "") -> None:
    """Refuse what is not a seed.

    Raises:
        HyperparameterError: with the value.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise HyperparameterError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}{where}")


def saved_codec(id_: str, parameter: Format, *, is_slot: bool) -> Codec | None:
    """Return the codec that a checkpoint means by an ``id``; None if it is unknown."""
    if is_slot:
        known = [plain(parameter.compute, flushes=True)]
        known += (
            [codec for one in SLOT_FORMATS.values() for codec in one.codecs] if parameter.compute == "float32" else []
        )
    else:
        known = list(WEIGHTS.get(parameter.name, {}).values())
    return next((codec for codec in known if codec.id == id_), None)


def _check(option: str, name: object, choices: Sequence[str], where: str) -> None:
    if name not in choices:
        raise HyperparameterError(
            f"{option} must be one of {', '.join(choices)}, got {name!r}{where}.{suggest(str(name), choices)}"
        )
