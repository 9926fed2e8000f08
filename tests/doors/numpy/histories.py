"""An optimizer of NumPy arrays through a history by machine code and by the referee: the same bits after everything."""

from __future__ import annotations

import copy
import pickle
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import steprule as sr
from steprule.errors import HyperparameterError, NonFiniteError, StructureError
from steprule.formats import STATES
from tests.cases import COMBINED, Array, assert_same_bits, unlike_defaults, variants, wild
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.doors.histories import DifferenceError, History, table_of

RULES = {**CATALOGUE, **COMBINED}
SHAPES: list[tuple[int, ...]] = [(), (1,), (5,), (0,), (4, 3), (6, 1, 5), (40, 33), (2, 128)]
LAYOUTS = ("C", "C", "Fortran", "columns", "backwards", "unaligned")


def numbers(r: random.Random, shape: tuple[int, ...], dtype: str) -> Array:
    """Return numbers of order one."""
    return np.random.default_rng(r.getrandbits(32)).standard_normal(shape).astype(dtype)


def laid(layout: str, x: Array) -> Array:
    """Return a copy that lies in memory in some way."""
    if layout == "unaligned":
        home = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    elif layout in ("columns", "backwards") and x.ndim:
        home = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2]
        home = home[::-1] if layout == "backwards" else home
    else:
        home = np.zeros(x.shape, x.dtype, order="F" if layout == "Fortran" else "C")
    home[...] = x
    return home


class Case:
    """What a seed makes: a rule, its options, guards and formats, and arrays in groups."""

    def __init__(self, seed: int) -> None:
        r = random.Random(seed)
        self.name = list(RULES)[seed % len(RULES)]
        self.rule = RULES[self.name]
        self.values = unlike_defaults(self.rule) if r.random() < 0.5 else {}
        self.values |= r.choice(variants(self.rule))
        self.dtype = r.choice(["float32", "float32", "float64", "float16", "bfloat16"])
        self.guards: dict[str, Any] = r.choice(
            [
                {},
                {},
                {"clip_norm": 0.7},
                {"clip_value": 0.6},
                {"nonfinite": "skip"},
                {"nonfinite": "raise", "clip_norm": 2.0, "clip_value": 1.5},
                {"update_clip": True},
            ]
        )
        self.formats: dict[str, Any] = {"states": r.choice(["float32", *STATES])}
        if self.dtype in ("float16", "bfloat16"):
            self.formats["weights"] = r.choice(["nearest", "stochastic", "split24", "split32"])
        if self.formats["states"] != "float32":
            self.formats["min_elements"] = r.choice([0, 1])
        self.groups = [
            [laid(r.choice(LAYOUTS), numbers(r, r.choice(SHAPES), self.dtype)) for _ in range(r.choice([1, 2, 3]))]
            for _ in range(r.choice([1, 1, 2]))
        ]

    def optimizer(self, backend: str) -> sr.Optimizer:
        """Make the optimizer of one side; what the rule has no use for is left out."""
        groups = [sr.Group([kept(array) for array in group]) for group in self.groups]
        for given in ({**self.guards, **self.formats}, self.formats, {}):
            try:
                return sr.Optimizer(groups, self.rule, backend=backend, **given, **self.values)
            except (HyperparameterError, StructureError):
                pass
        return sr.Optimizer(groups, self.rule, backend=backend)

    def __repr__(self) -> str:
        return f"{self.name}({self.values}), {self.dtype}, {self.guards}, {self.formats}"


def kept(array: Array) -> Array:
    """Return a copy with the strides of the array."""
    for layout in dict.fromkeys(LAYOUTS):
        home = laid(layout, array)
        if home.strides == array.strides and home.flags.aligned == array.flags.aligned:
            return home
    return array.copy()


class Side:
    """The optimizer by one of the backends, and what was saved of it."""

    def __init__(self, case: Case, backend: str, folder: Path) -> None:
        self.case, self.optimizer = case, case.optimizer(backend)
        self.file = folder / f"{backend}.safetensors"
        self.start = self.optimizer.state_dict()
        self.saved: list[dict[str, Any]] = []
        self.monitor: sr.Monitor | None = None

    @property
    def leaves(self) -> list[Array]:
        return [array for group in self.optimizer.params for array in group]

    def step(self, leaves: list[Array]) -> None:
        """Take a step along the gradients of the leaves, which are only read."""
        # A gradient that lies in a parameter moves with it.
        apart = [g for g in leaves if not any(np.shares_memory(g, x) for x in self.leaves)]
        before, rest = [g.copy() for g in apart], iter(leaves)
        self.optimizer.step([[next(rest) for _ in group] for group in self.optimizer.params])
        for g, old in zip(apart, before, strict=True):
            assert_same_bits(g, old, "the gradient, which is only read")

    def everything(self) -> dict[str, Any]:
        """Return copies of all that is to be the same, by name."""
        found: dict[str, Any] = {f"parameter {i}": x.copy() for i, x in enumerate(self.leaves)}
        for name, tree in self.optimizer.slots.items():
            scalar = name in self.optimizer.rule.scalars
            slots = tree if scalar else [x for group in tree for x in group]
            found |= {f"{name} of {i}": x if x is None or scalar else np.array(x) for i, x in enumerate(slots)}
        found["t"], found["skipped"] = self.optimizer.t, self.optimizer.guards.skipped
        for index, group in enumerate(self.optimizer.groups):
            found |= {f"{name} of group {index}": repr(value) for name, value in group.items()}
        if self.monitor is not None:
            found["read"] = repr(self.monitor.rows)
        return found


Operation = Callable[[Side, random.Random, Side], Any]
OPERATIONS: dict[str, Operation] = {}
WEIGHTS: dict[str, int] = {}
operation = table_of(OPERATIONS, WEIGHTS)


@operation(20)
def step(side: Side, r: random.Random, other: Side) -> Any:
    side.step([numbers(r, x.shape, x.dtype.name) for x in side.leaves])


@operation(6)
def steps_along_one_gradient(side: Side, r: random.Random, other: Side) -> Any:
    leaves = [numbers(r, x.shape, x.dtype.name) for x in side.leaves]
    for _ in range(3):
        side.step(leaves)


@operation(10)
def step_in_layouts(side: Side, r: random.Random, other: Side) -> Any:
    leaves = [laid(r.choice(LAYOUTS), numbers(r, x.shape, x.dtype.name)) for x in side.leaves]
    for g in leaves:
        g.flags.writeable = r.random() < 0.7
    side.step(leaves)


@operation(6)
def step_along_parameters(side: Side, r: random.Random, other: Side) -> Any:
    """Gradients that lie in the memory of parameters: another one's, crosswise, or its own backwards."""
    leaves = side.leaves
    side.step([r.choice([y for y in leaves if y.shape == x.shape])[::-1] if x.ndim else x for x in leaves])


@operation(6)
def step_along_wild_gradients(side: Side, r: random.Random, other: Side) -> Any:
    """Infinite and NaN ones too, which guards skip or raise."""
    rng = np.random.default_rng(r.getrandbits(32))
    leaves = [wild(rng, x.size, x.dtype.name).reshape(x.shape) for x in side.leaves]
    try:
        side.step(leaves)
    except NonFiniteError as error:
        return str(error)
    return None


@operation(3)
def step_that_does_not_fit(side: Side, r: random.Random, other: Side) -> Any:
    leaves = [numbers(r, x.shape, x.dtype.name) for x in side.leaves]
    index = r.randrange(len(leaves))
    wrong: list[Any] = [np.zeros((7, 9), leaves[index].dtype), leaves[index].astype(np.int64), None]
    wrong += [3.0] if leaves[index].ndim else []  # a parameter without axes takes numbers
    leaves[index] = r.choice(wrong)
    side.optimizer.step([leaves])
    side.optimizer.step(leaves)


@operation(4)
def threads(side: Side, r: random.Random, other: Side) -> Any:
    sr.set_num_threads(r.choice([1, 2, 4]))


@operation(4)
def arrays_changed(side: Side, r: random.Random, other: Side) -> Any:
    for x in side.leaves:
        x[...] = numbers(r, x.shape, x.dtype.name)


@operation(5)
def number_set(side: Side, r: random.Random, other: Side) -> Any:
    group, values = r.choice(side.optimizer.groups), unlike_defaults(side.case.rule)
    name = r.choice(sorted(values))
    group[name] = r.choice([values[name], values[name] / 2])


@operation(3)
def schedule_set(side: Side, r: random.Random, other: Side) -> Any:
    kind = r.choice([sr.schedules.linear_warmup(0.02, 5), sr.schedules.cosine(0.03, 7, final=0.01)])
    r.choice(side.optimizer.groups)["lr"] = kind


@operation(4)
def option_set(side: Side, r: random.Random, other: Side) -> Any:
    """Another variant of the rule, which the next step follows, or which is refused."""
    group, options = r.choice(side.optimizer.groups), r.choice(variants(side.case.rule))
    for name, value in options.items():
        group[name] = value
    side.step([numbers(r, x.shape, x.dtype.name) for x in side.leaves])


@operation(2)
def number_that_is_refused(side: Side, r: random.Random, other: Side) -> Any:
    r.choice(side.optimizer.groups)["lr"] = r.choice([-1.0, float("nan"), "fast", None])


@operation(8)
def begun_anew(side: Side, r: random.Random, other: Side) -> Any:
    """Whatever has become NaN before."""
    side.optimizer.load_state_dict(side.start, hyperparameters=False)
    arrays_changed(side, r, other)


@operation(5)
def state_saved(side: Side, r: random.Random, other: Side) -> Any:
    side.saved.append(side.optimizer.state_dict())


@operation(5)
def state_loaded(side: Side, r: random.Random, other: Side) -> Any:
    """One of its own, or of the other backend's."""
    given, hyperparameters = r.choice([side, other]).saved, r.random() < 0.5
    state = r.choice(given) if given else side.optimizer.state_dict()
    side.optimizer.load_state_dict(state, hyperparameters=hyperparameters)


@operation(2)
def state_that_is_refused(side: Side, r: random.Random, other: Side) -> Any:
    state = side.optimizer.state_dict()
    state.pop(r.choice(sorted(state)))
    side.optimizer.load_state_dict(state)


@operation(3)
def copied(side: Side, r: random.Random, other: Side) -> Any:
    side.optimizer, side.monitor = copy.deepcopy(side.optimizer), None


@operation(3)
def pickled(side: Side, r: random.Random, other: Side) -> Any:
    side.optimizer, side.monitor = pickle.loads(pickle.dumps(side.optimizer)), None


@operation(3)
def file_saved(side: Side, r: random.Random, other: Side) -> Any:
    sr.save(side.file, side.optimizer, True, note=side.optimizer.t)


@operation(3)
def file_loaded(side: Side, r: random.Random, other: Side) -> Any:
    which = r.choice([side, other]).file
    if side.file.exists():
        return sr.load(which, side.optimizer, True).extra
    return None


@operation(4)
def monitor_attached(side: Side, r: random.Random, other: Side) -> Any:
    side.monitor = sr.Monitor(side.optimizer, every=r.choice([1, 2, 3]))


@operation(2)
def monitor_closed(side: Side, r: random.Random, other: Side) -> Any:
    if side.monitor is not None:
        side.monitor.close()
        side.monitor = None


def play(seed: int, history: History) -> Counter[str]:
    """Play a history by both backends."""
    case = Case(seed)
    came: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        referee, machine = Side(case, "numpy", Path(folder)), Side(case, "llvm", Path(folder))
        for place, (name, number) in enumerate(history):
            what = f"{case}: operation {place}, {name}"
            before = machine.everything()
            expected, error = _attempt(name, number, referee, machine)
            actual, own_error = _attempt(name, number, machine, referee)
            if _words(own_error) != _words(error) or actual != expected:
                raise DifferenceError(f"{what}: {own_error!r}, {actual}, expected {error!r}, {expected}") from own_error
            _compare(machine.everything(), referee.everything(), what)
            if error is not None and name not in ("option_set",):
                _compare(machine.everything(), before, f"{what}: it raised {error!r}")
            came[f"{name}: {'done' if error is None else 'raised'}"] += 1
    return came


def _attempt(name: str, number: int, side: Side, other: Side) -> tuple[Any, Exception | None]:
    try:
        return OPERATIONS[name](side, random.Random(number), other), None
    except (NameError, AssertionError):
        raise
    except Exception as error:
        return None, error


def _words(error: Exception | None) -> str:
    """Return what an error says, whichever side's file it is about."""
    return re.sub(r"\w+(?=\.safetensors)", "", repr(error))


def _compare(actual: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    if list(actual) != list(expected):
        raise DifferenceError(f"{what}: there are {list(actual)}, expected {list(expected)}")
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            try:
                assert_same_bits(actual[name], value, f"{what}: {name}")
            except AssertionError as error:
                raise DifferenceError(str(error)) from None
        elif actual[name] != value and not (actual[name] != actual[name] and value != value):
            raise DifferenceError(f"{what}: {name} is {actual[name]}, expected {value}")
