"""The NumPy door: an optimizer over arrays that are updated in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from steprule.doors.arrays import prepared, state_of
from steprule.doors.describe import describe
from steprule.doors.dicts import dict_of, from_dict
from steprule.doors.evaluating import Evaluating
from steprule.doors.group import grouping, seed_groups
from steprule.doors.layout import check_disjoint, check_parameter, check_type
from steprule.doors.leaf import Leaf, make_numbers, make_state
from steprule.doors.matrices import check_matrix
from steprule.doors.state import State
from steprule.doors.structure import keystr
from steprule.errors import StructureError
from steprule.formats import MIN_ELEMENTS, Formats, check_effects
from steprule.launch.backend import Backend
from steprule.launch.backends import find_backend
from steprule.launch.evaluate import Scalars
from steprule.launch.guards import Guards
from steprule.launch.readings import StepMonitor
from steprule.rules import Rule, find
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Optimizer"]


class Optimizer(Evaluating):
    """Steps NumPy arrays in place by a rule, or each by one of several, in one fused pass over all of them.

    Args:
        params: an array of float16, float32 or float64, or nested lists, tuples and dicts of them,
            or a list of ``Group``. They must be writeable and must not overlap.
        rule: a name of the catalogue, or any ``Rule``; or None, if the groups or the routes name all there is.
        routes: which parameters another rule is for: a list of ``(selector, rule, options)``. The first whose selector
            matches decides; what none matches is stepped by ``rule``. A selector is ``"matrices"`` (two dimensions, by
            its name neither embedding nor head), a pattern for names (``"layers.*.w"``), or a function of name and
            array that returns a boolean. Options are hyperparameters, and what groups may have (docs/routing.md).
        backend: ``"llvm"``, or ``"numpy"`` for the referee (slow, the same bits); or one of your own (see
            ``steprule.launch.backend``).
        states: the format of the slots: ``"float32"``, or a low-precision one (docs/formats.md compares them); or a
            dict of these by slot. ``"float32"`` stands for float64 where the parameter is float64.
        weights: how float16 and bfloat16 parameters are kept: rounded to ``"nearest"``, ``"stochastic"``
            (unbiased), or with further bits beside them, ``"split24"`` (8) or ``"split32"`` (16).
        min_elements: arrays with fewer elements keep float32 slots; 0: none do. Where all do, states are an error.
        seed: what random rounding depends on besides the step, the array and the element. Default 0.
        clip_norm: before the step the gradients are scaled so that their norm, over all groups, is at most this: by
            ``min(1, clip_norm / (norm + 1e-6))``. They are read once more for this, and not written.
        clip_value: elements of gradients are clipped to ``[-clip_value, clip_value]``, before the norm is computed.
        nonfinite: what happens when a gradient has infinite or NaN elements: ``"propagate"`` (default), ``"skip"`` the
            step, which leaves parameters, slots and t as they are, or ``"raise"``.
        max_skips: after so many skipped steps in a row the next one raises. Default 10.
        update_clip: the learning rate of each array is divided by ``max(1, RMS)``, the root mean square of
            ``g / sqrt(max(v_hat, eps**2))`` (StableAdamW: Wortsman et al. 2023, Algorithm 2, arXiv:2304.13013).
        hyperparameters: those of the rule; numbers may be schedules, functions of the step number
            t (1 at the first step).

    Attributes:
        groups: the hyperparameters of each group, to be read and set by name, and its rule: ``groups[0].rule``. With
            routes there is a group for each, and then one for the rest.
        guards: ``clip_norm`` and the options after it.

    Example:
        >>> import numpy as np, steprule as sr
        >>> x = np.zeros(3)
        >>> opt = sr.Optimizer(x, rule="adam", lr=0.1)
        >>> opt.step(np.ones(3))
        >>> x
        array([-0.1, -0.1, -0.1])

    Raises:
        StructureError: parameters that cannot be updated in place.
        HyperparameterError: unknown, out of range, or without effect.
        RuleError: no such rule, or none for a parameter.
        TargetError: no such backend.
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self,
        params: Any,
        rule: str | Rule | None = "adam",
        *,
        routes: Sequence[Any] | None = None,
        backend: str | Backend = "llvm",
        states: str | Mapping[str, str] = "float32",
        weights: str = "nearest",
        min_elements: int = MIN_ELEMENTS,
        seed: int | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "propagate",
        max_skips: int | None = None,
        update_clip: bool = False,
        **hyperparameters: Any,
    ) -> None:
        own = None if rule is None else find(rule)
        self._backend = find_backend(backend)
        grouped = grouping(params, own, routes)
        self.rule = own if own is not None and own in grouped.rules else grouped.rules[0]
        self.guards = Guards(
            clip_norm=clip_norm,
            clip_value=clip_value,
            nonfinite=nonfinite,
            max_skips=max_skips,
            update_clip=update_clip,
        )
        self.groups = grouped.values(own, hyperparameters, self.guards)
        self._check_clips()
        self.guards.note_clips([group.guard.clips_update for group in self.groups])
        self._structure = grouped.structure
        formats = grouped.formats(states, weights, min_elements)
        self._leaves = self._make_leaves(grouped.trees, grouped.of_leaves, formats)
        given = {"min_elements": min_elements} if min_elements != MIN_ELEMENTS else {}
        given |= {} if seed is None else {"seed": seed}
        storages, elements = [leaf.storage for leaf in self._leaves], [leaf.array.size for leaf in self._leaves]
        check_effects(given, formats, storages, elements)
        seed_groups(seed, grouped.groups, self.groups, self._leaves)
        self._count = np.zeros(1, np.int64)
        self._is_stepping = False
        self._monitor: StepMonitor | None = None
        self._trained = None
        self._lay_out()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: arrays, slots and groups, but no addresses and no machine code."""
        # By identity: groups are mappings, and those with the same options are equal.
        places = {id(group): place for place, group in enumerate(self.groups)}
        leaves = [
            (leaf.place, leaf.base, places[id(leaf.group)], leaf.storage, leaf.state, dict(leaf.numbers))
            for leaf in self._leaves
        ]
        own = ("rule", "groups", "guards", "_backend", "_structure", "_count", "_trained")
        return {**{name: getattr(self, name) for name in own}, "leaves": leaves}

    def __copy__(self) -> NoReturn:
        raise TypeError("a shallow copy of an optimizer would share its slots and not its t; use copy.deepcopy")

    def __setstate__(self, state: dict[str, Any]) -> None:
        leaves = state.pop("leaves")
        for name, value in state.items():
            setattr(self, name, value)
        self._is_stepping = False
        self._monitor = None
        self._leaves = []
        self._trained = state.get("_trained")  # older pickles have no evaluated point
        for number, (place, given, index, storage, kept, *numbers) in enumerate(leaves):
            group = self.groups[index]
            own = Scalars(*numbers) if numbers else make_numbers(group)  # those of older pickles have none
            self._leaves.append(Leaf(place, number, given, self._kernel(group, storage), storage, group, kept, own))
        self._lay_out()

    def __repr__(self) -> str:
        skipped = f", skipped={self.skipped}" if self.skipped else ""
        return f"Optimizer({self._rules}, {len(self._leaves)} arrays, t={self.t}{skipped}, {list(self.groups)})"

    def step(self, grads: Any) -> None:
        """Take one step along ``grads``, which have the structure of the parameters and are only read.

        A call that raises changes nothing, and the next one continues from there. This holds for signal handlers, too:
        a handler that would run in the middle of a step runs when the step is complete and counted. A handler may
        save the optimizer, but not step it or load into it while a step is in progress.

        Raises:
            StructureError: a gradient of another structure, shape or type.
            HyperparameterError: a schedule returned what is not a number in range.
            NonFiniteError: as ``nonfinite`` says. (What a monitor's writer raises comes after the step was taken.)
            StateError: when called while a step is in progress, or while the parameters are the evaluated point.
        """
        self._refuse_reentry("step()")
        self._refuse_evaluated()
        try:
            self._is_stepping = True
            self._step(grads)
        finally:
            self._is_stepping = False

    @property
    def params(self) -> Any:
        """The parameters, in the structure they were given."""
        return self._structure.rebuild([leaf.base for leaf in self._leaves])

    @property
    def slots(self) -> dict[str, Any]:
        """The slots by name: arrays, or numbers, in the structure of the parameters; scalar slots a list, one a group.

        Low-precision slots are given as the float32 numbers that they hold, in arrays of their own. None stands where
        the options of a group do not keep a slot that another's do.
        """
        rules = list(dict.fromkeys(group.rule for group in self.groups))
        every = list(dict.fromkeys(slot for rule in rules for slot in rule.slots))
        names = [name for name in every if any(name in leaf.kernel.slots for leaf in self._leaves)]
        slots: dict[str, Any] = {n: self._structure.rebuild([leaf.slot(n) for leaf in self._leaves]) for n in names}
        for name in every:
            if any(name in leaf.numbers for leaf in self._leaves):
                slots[name] = self._structure.rebuild([leaf.numbers.get(name) for leaf in self._leaves])
        for name in sorted({name for rule in rules for name in rule.scalars}):
            if any(name in group.scalars for group in self.groups):
                slots[name] = [group.scalars.get(name) for group in self.groups]
        return slots

    def describe(self) -> str:
        """Return a table of what each parameter actually uses: shape, dtype, formats and bytes."""
        return describe(f"{self._rules} by {self._backend.name}", self._leaves)

    @property
    def _rules(self) -> str:
        """The names of all rules, in the order of the groups."""
        return " and ".join(dict.fromkeys(group.rule.name for group in self.groups))

    def state_dict(self, *, decode: bool = False) -> dict[str, Any]:
        """Return a copy of everything that a later run needs to continue bit for bit: slots, t, hyperparameters.

        Arrays are NumPy arrays, low-precision slots as they are stored, codes and scales; of a schedule only that
        there is one.

        Args:
            decode: give low-precision slots as float32 numbers, for other libraries.
        """
        return dict_of(state_of(self), self, decode=decode)

    def load_state_dict(self, state: Mapping[str, Any], *, hyperparameters: bool = True, convert: bool = False) -> None:
        """Continue from a ``state_dict()``.

        Args:
            state: what ``state_dict`` returned, for the same rule, shapes and groups.
            hyperparameters: also take the hyperparameters from it; False keeps the current ones.
            convert: accept slots in other formats, too: they are decoded, and rounded to nearest in the optimizer's
                format.

        Raises:
            StateError: when it does not belong to this optimizer; then nothing is changed.
        """
        take = self._prepared(from_dict(state, self), hyperparameters=hyperparameters, convert=convert)
        with uninterrupted():
            take()

    def _prepared(self, state: State, *, hyperparameters: bool, convert: bool) -> Callable[[], None]:
        """Return what goes on from a state. It only writes, so that it can be kept from being interrupted."""
        self._refuse_reentry("load_state_dict()")
        return prepared(self, state, convert, hyperparameters)

    def _make_leaves(self, trees: Any, of_leaves: Sequence[int], wanted: Sequence[Formats]) -> list[Leaf]:
        paths = list(self._structure.paths())
        places = [f"params{keystr(path)}" for path in paths]
        twice = {place for place in places if places.count(place) > 1} if len(set(places)) < len(places) else set()
        if twice:
            raise StructureError(
                f"several parameters are called {sorted(twice)[0]}: keys of a dict must differ in repr"
            )
        leaves = zip(self._structure.leaves(trees, "params"), places, strict=True)
        arrays = [check_parameter(leaf, place) for leaf, place in leaves]
        kinds = [check_type(array, place) for array, place in zip(arrays, places, strict=True)]
        check_disjoint(arrays, places)
        made: list[Leaf] = []
        for number, (array, place, kind, index) in enumerate(zip(arrays, places, kinds, of_leaves, strict=True)):
            group = self.groups[index]
            check_matrix(group.rule, array.shape, place)
            kept = group.rule.trace(group.variant).slots
            storage = wanted[index].storage(kind, array.shape, kept, place)
            chosen = self._kernel(group, storage)
            state, numbers = make_state(array, chosen, group), make_numbers(group)
            made.append(Leaf(place, number, array, chosen, storage, group, state, numbers))
        return made
