"""The NumPy door: an optimizer over arrays that are updated in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from steprule import formats
from steprule.doors.group import Group, GroupValues
from steprule.doors.layout import check_disjoint, check_parameter, like
from steprule.doors.state import load_state, save_state
from steprule.doors.structure import Structure, keystr
from steprule.doors.walk import Leaf, Walk
from steprule.engine import Kernel, check_backend, kernel
from steprule.errors import StructureError
from steprule.rules import Rule, find

__all__ = ["Optimizer"]


class Optimizer:
    """Steps NumPy arrays in place by a rule, in one fused pass over all of them.

    Args:
        params: an array of float16, float32 or float64, or nested lists, tuples and dicts of them,
            or a list of ``Group``. They must be writeable and must not overlap.
        rule: a name of the catalogue, or any ``Rule``.
        backend: ``"llvm"``, or ``"numpy"`` for the referee (slow, the same bits).
        hyperparameters: those of the rule; numbers may be schedules, callables of the step number
            t (1 at the first step).

    Attributes:
        groups: the hyperparameters of each group, to be read and set by name.

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
        RuleError: no such rule.
        TargetError: no such backend.
    """

    # An attribute that is not there (opt.lr = ...) would be set in silence otherwise.
    __slots__ = ("__weakref__", "_backend", "_leaves", "_structure", "_t", "_variants", "_walk", "groups", "rule")

    def __init__(
        self, params: Any, rule: str | Rule = "adam", *, backend: str = "llvm", **hyperparameters: Any
    ) -> None:
        self.rule = find(rule)
        self._backend = check_backend(backend)
        grouped = _as_groups(params)
        trees = params if grouped is None else [group.params for group in grouped]
        self.groups = tuple(
            GroupValues(self.rule, {**hyperparameters, **own}, place) for own, place in _hyperparameters_of(grouped)
        )
        self._structure = Structure.of(trees)
        self._leaves = self._make_leaves(trees, grouped is not None)
        self._t = 0
        self._lay_out()

    @property
    def t(self) -> int:
        """The number of steps taken."""
        return self._t

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: arrays, slots and groups, but no addresses and no machine code."""
        leaves = [(leaf.place, leaf.given, self.groups.index(leaf.group), leaf.slots) for leaf in self._leaves]
        own = ("rule", "groups", "_backend", "_structure", "_t")
        return {**{name: getattr(self, name) for name in own}, "leaves": leaves}

    def __copy__(self) -> NoReturn:
        raise TypeError("a shallow copy of an optimizer would share its slots and not its t; use copy.deepcopy")

    def __setstate__(self, state: dict[str, Any]) -> None:
        leaves = state.pop("leaves")
        for name, value in state.items():
            setattr(self, name, value)
        self._leaves = []
        for place, given, index, slots in leaves:
            group = self.groups[index]
            self._leaves.append(Leaf(place, given, self._kernel(group, formats.find(given.dtype)), group, slots))
        self._lay_out()

    def __repr__(self) -> str:
        return f"Optimizer({self.rule.name}, {len(self._leaves)} arrays, t={self.t}, {list(self.groups)})"

    def step(self, grads: Any) -> None:
        """Take one step along ``grads``, which have the structure of the parameters and are only read.

        A call that raises has changed nothing, and the next one goes on from there.

        Raises:
            StructureError: a gradient of another structure, shape or type.
            HyperparameterError: a schedule returned what is no number in range.
        """
        t = self._t + 1
        # First, since a schedule is the caller's code and may do anything, to gradients and options as well.
        scheduled = [group.scheduled(t) for group in self.groups]
        if [group.variant for group in self.groups] != self._variants:
            self._change_kernels()
        results = [group.evaluate(t, values) for group, values in zip(self.groups, scheduled, strict=True)]
        leaves, unlike = self._walk.check(self._structure.leaves(grads))
        leaves = self._walk.prepare(leaves, unlike)
        before = [dict(group.scalars) for group in self.groups] if self.rule.scalars else ()
        try:
            self._t = t
            for group, result in zip(self.groups, results, strict=True):
                group.commit(*result)
            self._walk.run(leaves)
        except BaseException:  # a signal: either the step has been taken, or nothing has
            if not self._walk.is_done:
                self._t = t - 1
                for group, scalars in zip(self.groups, before, strict=False):
                    group.scalars.update(scalars)
            raise

    @property
    def params(self) -> Any:
        """The parameters, in the structure they were given."""
        return self._structure.rebuild([leaf.given for leaf in self._leaves])

    @property
    def slots(self) -> dict[str, Any]:
        """The slots by name: arrays in the structure of the parameters; scalar slots a list, one a group.

        None stands where the options of a group do not keep a slot that another's do.
        """
        kept = [dict(zip(leaf.kernel.slots, leaf.slots, strict=True)) for leaf in self._leaves]
        names = [name for name in self.rule.slots if any(name in slots for slots in kept)]
        slots: dict[str, Any] = {name: self._structure.rebuild([k.get(name) for k in kept]) for name in names}
        for name in sorted(self.rule.scalars):
            if any(name in group.scalars for group in self.groups):
                slots[name] = [group.scalars.get(name) for group in self.groups]
        return slots

    def describe(self) -> str:
        """Return what each parameter really uses, as a table: shape, types, slots and bytes."""
        rows = [("parameter", "shape", "type", "slots", "bytes a parameter")]
        total = elements = 0
        for leaf in self._leaves:
            size = leaf.array.itemsize + sum(slot.itemsize for slot in leaf.slots)
            total, elements = total + size * leaf.array.size, elements + leaf.array.size
            slots = ", ".join(f"{n}: {s.dtype}" for n, s in zip(leaf.kernel.slots, leaf.slots, strict=True))
            rows.append((leaf.place, str(leaf.array.shape), leaf.array.dtype.name, slots or "none", str(size)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        mean = f", {total / elements:.1f} bytes a parameter" if elements else ""
        summary = f"{self.rule.name} by {self._backend}: {elements:,} parameters, {total:,} bytes with slots{mean}"
        return "\n".join([summary, *lines])

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that a later run needs to go on in every bit: slots, t, hyperparameters.

        Arrays are NumPy arrays; schedules are not stored, only that there is one.
        """
        return save_state(self.rule, self.t, self.groups, self._leaves)

    def load_state_dict(self, state: Mapping[str, Any], *, hyperparameters: bool = True) -> None:
        """Go on from a ``state_dict()``.

        Args:
            state: what ``state_dict`` returned, for the same rule, shapes and groups.
            hyperparameters: also take the hyperparameters from it; False keeps the current ones.

        Raises:
            StateError: when it does not belong to this optimizer; then nothing is changed.
        """
        self._t = load_state(state, self.rule, self.groups, self._leaves, hyperparameters)

    def _make_leaves(self, trees: Any, grouped: bool) -> list[Leaf]:
        paths = list(self._structure.paths())
        places = [f"params{keystr(path)}" for path in paths]
        twice = {place for place in places if places.count(place) > 1} if len(set(places)) < len(places) else set()
        if twice:
            raise StructureError(
                f"several parameters are called {sorted(twice)[0]}: keys of a dict must differ in repr"
            )
        leaves = zip(self._structure.leaves(trees, "params"), places, strict=True)
        arrays = [check_parameter(leaf, place) for leaf, place in leaves]
        kinds = [formats.find(array.dtype, place) for array, place in zip(arrays, places, strict=True)]
        check_disjoint(arrays, places)
        made: list[Leaf] = []
        for array, place, kind, path in zip(arrays, places, kinds, paths, strict=True):
            group = self.groups[path[0] if grouped else 0]
            chosen = self._kernel(group, kind)
            slots = [like(array, kind.compute, group.start_of(slot), f"{slot}{group.place}") for slot in chosen.slots]
            made.append(Leaf(place, array, chosen, group, slots))
        return made

    def _kernel(self, group: GroupValues, kind: formats.Format) -> Kernel:
        return kernel(self.rule, group.variant, kind, self._backend)

    def _change_kernels(self) -> None:
        """Follow a group whose options (nesterov, say) were changed between steps."""
        for leaf in self._leaves:
            leaf.kernel = self._kernel(leaf.group, formats.find(leaf.array.dtype))
        self._lay_out()

    def _lay_out(self) -> None:
        """Bind the leaves to rows of scalars as long as the options of the groups need them."""
        self._variants = [group.variant for group in self.groups]
        for group in self.groups:
            group.make_row()
        self._walk = Walk(self._leaves)


def _as_groups(params: Any) -> list[Group] | None:
    """Return the groups if ``params`` is a list of them, None if it is a plain structure."""
    if isinstance(params, Group):
        return [params]
    if not isinstance(params, (list, tuple)) or not any(isinstance(item, Group) for item in params):
        return None
    for index, item in enumerate(params):
        if not isinstance(item, Group):
            raise StructureError(
                f"params[{index}] is a {type(item).__name__} among groups; wrap it: steprule.Group(...)"
            )
    return list(params)


def _hyperparameters_of(groups: list[Group] | None) -> list[tuple[dict[str, Any], str]]:
    """Return each group's own hyperparameters, and how messages name it."""
    if groups is None:
        return [({}, "")]
    return [(group.hyperparameters, f" (group {index})") for index, group in enumerate(groups)]
