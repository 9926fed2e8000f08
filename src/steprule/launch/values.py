"""The hyperparameters of one group of an optimizer, checked whenever they are set, and what a step makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.compile import Plan
from steprule.engine import PassKey, pass_plan
from steprule.errors import HyperparameterError
from steprule.formats import FORMATS
from steprule.launch.evaluate import Evaluated, Evaluation, RowScalars, Scalars
from steprule.rules import Rule
from steprule.rules.guard import UNGUARDED, Guard
from steprule.rules.hyperparameters import Value
from steprule.rules.rule import ARGUMENTS

__all__ = ["GroupValues"]

_NONE: Mapping[str, float] = {}
_HYPERPARAMETERS = ("_values", "variant", "_evaluations", "_step")
"""What of a group follows from its hyperparameters."""


class GroupValues(MutableMapping[str, Any]):
    """The hyperparameters of one group of an optimizer, by name; numbers, options or schedules.

    A schedule is a callable of the step number t (1 at the first step) that returns a number.
    Setting an item checks it at once, and the next step uses it.
    """

    rule: Rule
    seed: int | None = None
    """What random bits depend on; None where there are none."""
    first_row = 0
    """Where the group's arrays begin in larger ones."""

    def __init__(self, rule: Rule, given: Mapping[str, Any], place: str, guard: Guard = UNGUARDED) -> None:
        self.rule, self.guard = rule, guard
        self.place = place
        self._values = rule.resolve(given, place, options=ARGUMENTS)
        self.variant = rule.variant(self._values)
        for name in given:
            self._check_effect(name)
        self.scalars = Scalars({slot: self.start_of(slot) for slot in rule.trace(self.variant).scalars})
        self._bind()

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        """Show what differs from the rule's defaults."""
        defaults = {name: hyper.default for name, hyper in self.rule.hyperparameters.items()}
        changed = {name: value for name, value in self._values.items() if value != defaults[name]}
        return "{" + ", ".join(f"{name}={value!r}" for name, value in changed.items()) + "}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is bound to machine code and memory."""
        own = {"rule": self.rule, "values": self._values, "place": self.place, "scalars": self.scalars}
        return {**own, "seed": self.seed, "first_row": self.first_row, "guard": self.guard}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.rule, self._values, self.place = state["rule"], state["values"], state["place"]
        self.variant = self.rule.variant(self._values)
        self.scalars = state["scalars"]
        self.seed, self.first_row, self.guard = state["seed"], state["first_row"], state["guard"]
        self._bind()

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        raise HyperparameterError(f"{name} cannot be removed; set it to {self.rule.hyperparameters[name].default!r}")

    def update(self, *others: Any, **named: Any) -> None:
        """Set several hyperparameters, all or none of them.

        Raises:
            HyperparameterError: when a value is out of range, does nothing, or changes which slots
                the rule keeps.
        """
        new = dict(*others, **named)
        for name in new:
            if name in ARGUMENTS:
                raise HyperparameterError(
                    f"{name} is fixed when the optimizer is made; make a new one with {name}={new[name]!r}"
                )
        values = self.rule.resolve({**self._values, **new}, self.place)
        for name in self.rule.read_once(self.variant) & set(new):
            if values[name] != self._values[name]:
                raise HyperparameterError(
                    f"{name} is read before the first step only{self.place}; make a new optimizer"
                )
        self.restore(new)

    def restore(self, new: Mapping[str, Any]) -> None:
        """Set hyperparameters as ``update`` does, with those that are read before the first step only."""
        self.take(self.restored(new))

    def restored(self, new: Mapping[str, Any]) -> GroupValues:
        """Return what this group would be after ``restore``, for ``take``. Changes nothing.

        Raises:
            HyperparameterError: as ``update`` does.
        """
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._values = self.rule.resolve({**self._values, **new}, self.place)
        made.variant = self.rule.variant(made._values)
        made._check_slots(self.variant)
        for name in new:
            if made._values[name] != self._values[name]:
                made._check_effect(name)
        made._bind()
        return made

    def take(self, made: GroupValues) -> None:
        """Take over the hyperparameters of what ``restored`` returned, at once: no signal comes in between."""
        self.__dict__.update({name: made.__dict__[name] for name in _HYPERPARAMETERS})

    def _bind(self) -> None:
        """Lay out the arguments of the step's prelude; those of other tasks when they are asked for."""
        self._evaluations: dict[PassKey, Evaluation] = {}
        self._step = self._evaluation("step")

    def _evaluation(self, which: PassKey) -> Evaluation:
        if which not in self._evaluations:
            what = f"rule {self.rule.name!r}{self.place}"
            own = self._values, self.scalars, set(self.guard), what
            self._evaluations[which] = Evaluation(self.plan(which), *own)
        return self._evaluations[which]

    def new_row(self, which: PassKey = "step") -> NDArray[np.float64]:
        """Return a row that holds what ``evaluate`` returns."""
        return self._evaluation(which).new_row()

    def scheduled(self, t: int, which: PassKey = "step") -> dict[str, Value]:
        """Return what the schedules say for step ``t``. They are the caller's code and may do anything.

        Args:
            t: the number of the step.
            which: the pass that asks.

        Raises:
            HyperparameterError: when one returns what is not a number in range.
        """
        asked = (self._step if which == "step" else self._evaluation(which)).schedules
        if not asked:
            return {}
        values: dict[str, Value] = {}
        for name, schedule in [(name, self._values[name]) for _, name in asked]:
            value, hyper = schedule(t), self.rule.hyperparameters[name]
            if type(value) is not float or value not in hyper.range:
                value = hyper.check(value, f"{self.place} from its schedule at t={t}")
            values[name] = value
        return values

    def evaluate(
        self,
        t: int,
        scheduled: Mapping[str, Value],
        scalars: Mapping[str, float] | None = None,
        numbers: Mapping[str, float] = _NONE,
        which: PassKey = "step",
        per_row: RowScalars | None = None,
    ) -> Evaluated:
        """Return the row of scalars of step ``t`` as bytes, and the new scalar slots.

        Where random bits are asked for, the row ends with the keys of the step.

        Args:
            t: the number of the step.
            scheduled: what ``scheduled`` returned.
            scalars: the scalar slots; default: the group's own.
            numbers: those of the guard, and sums over all, by name.
            which: whose row it is.
            per_row: where each parameter has scalars of its own: these are written, and the row is for none.

        Raises:
            HyperparameterError: when the expressions of the rule have no value.
        """
        evaluation = self._step if which == "step" else self._evaluation(which)
        return evaluation(t, scheduled, scalars or self.scalars, numbers, self.seed, per_row)

    def finish(
        self, which: PassKey, new: tuple[float, ...], sums: Mapping[str, Any], per_row: RowScalars
    ) -> tuple[float, ...]:
        """Return the new scalar slots when a step has summed what they depend on; see ``Evaluation.finish``."""
        return self._evaluation(which).finish(new, sums, per_row)

    def plan(self, which: PassKey) -> Plan:
        """Return the plan of a pass, whose prelude and sums are the same for every storage format."""
        return pass_plan(self.rule, self.variant, FORMATS["float32"], self.guard, which)

    @property
    def per_tensor(self) -> tuple[str, ...]:
        """The slots that are a number of each parameter."""
        return self._step.per_tensor

    @property
    def scalar_places(self) -> list[int]:
        """The addresses of the scalar slots, in the order in which ``evaluate`` gives their new values."""
        return [self.scalars.place(name) for name in self._step.scalar_slots]

    def start_of(self, slot: str) -> float:
        """Return what a slot holds before the first step."""
        start = self.rule.init.get(slot, 0.0)
        value = self._values[start] if isinstance(start, str) else start
        if callable(value):
            raise HyperparameterError(
                f"{start} is read before the first step only{self.place}, so a schedule would do nothing; give a number"
            )
        return float(value)

    def _check_slots(self, before: Any) -> None:
        kept, was = (trace.kept for trace in map(self.rule.trace, (self.variant, before)))
        if set(kept) != set(was):
            raise HyperparameterError(
                f"this would change the slots that {self.rule.name!r} keeps from {tuple(was)} to {tuple(kept)}"
                f"{self.place}; make a new optimizer"
            )

    def _check_effect(self, name: str) -> None:
        """An option that does nothing is an error, not a silence."""
        hyper = self.rule.hyperparameters[name]
        if hyper.is_static or self._values[name] is None or self._values[name] == hyper.default:
            return
        if name not in self.rule.trace(self.variant).named | self.rule.read_once(self.variant):
            options = ", ".join(f"{n}={self._values[n]!r}" for n, h in self.rule.hyperparameters.items() if h.is_static)
            raise HyperparameterError(
                f"{name} does nothing in {self.rule.name!r} with {options}{self.place}; remove it"
            )
