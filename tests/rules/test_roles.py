"""Roles of slots: what is read of moments, guarded and named follows from what a signature declares, not from names."""

from __future__ import annotations

import inspect
import pickle
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import steprule as sr
import steprule.torch
from steprule import Decay, FirstMoment, NonNegative, Positive, Range, Rate, Rule, Scalar, SecondMoment, rule, sqrt
from steprule.doors.foreign.names import NAMES, slot_names
from steprule.errors import HyperparameterError, RuleError, StateError
from steprule.formats import SLOT_FORMATS
from tests.cases import FOR_VECTORS as CATALOGUE
from tests.cases import Array, assert_same_bits

DOORS = ("llvm", "numpy", "torch")
MOMENTS = ("signal_to_noise", "idle_share", "update_rms")
PLAIN = [name for name, own in CATALOGUE.items() if not own.made_by]


def renamed(given: Rule, names: Mapping[str, str]) -> Rule:
    """Return the rule of a source in which variables are called otherwise."""
    source = textwrap.dedent(inspect.getsource(given.function))
    source = source[source.index("def ") :]
    source = re.sub(r"\b[A-Za-z_]\w*\b", lambda word: names.get(word[0], word[0]), source)
    world = dict(given.function.__globals__)
    exec(source, world)  # what a user might have written
    init = {names.get(slot, slot): start for slot, start in given.init.items()}
    made = sr.rule(init=init)(world[given.function.__name__])
    assert made.slots == tuple(names.get(slot, slot) for slot in given.slots)
    return made


def otherwise(given: Rule) -> dict[str, str]:
    """Return other names for the slots, of which some are those that other rules have for other slots."""
    taken = iter(("v", "m", "n", "m1", "b", "u"))
    source = inspect.getsource(given.function)
    free = [name for name in taken if not re.search(rf"\b{name}\b", source)]
    new = dict(zip(given.slots, [*free, *(f"x{k}" for k in range(9))], strict=False))
    return {**new, **{f"{slot}_hat": f"{name}_hat" for slot, name in new.items()}}


def gradients(steps: int) -> list[Array]:
    """Gradients of many sizes that grow; some of them are zero from the second step on."""
    rng = np.random.default_rng(5)
    scale = 10.0 ** rng.uniform(-9, 1, (5, 130))
    found = [(rng.standard_normal(scale.shape) * scale * 3.0**t).astype(np.float32) for t in range(steps)]
    for g in found[1:]:
        g[0] = 0
    return found


def run(own: Rule, door: str = "numpy", steps: int = 4, **options: Any) -> tuple[list[dict[str, Any]], Array]:
    """Return all that is read of some steps, and where they end."""
    theta = np.full((5, 130), 0.5, np.float32)
    param = nn.Parameter(torch.from_numpy(theta))
    optimizer: Any = (
        steprule.torch.Optimizer([param], own, **options)
        if door == "torch"
        else sr.Optimizer(theta, own, backend=door, **options)
    )
    with sr.Monitor(optimizer, every=1) as monitor:
        for g in gradients(steps):
            if door == "torch":
                param.grad = torch.from_numpy(g)
                optimizer.step()
            else:
                optimizer.step(g)
    return [{k: v for k, v in row.items() if not k.startswith(("name", "quant"))} for row in monitor.rows], theta


def same_runs(one: Rule, other: Rule, door: str = "numpy", **options: Any) -> list[dict[str, Any]]:
    """Compare what is read of two rules, and where they end, by equality."""
    (rows, end), (others, other_end) = run(one, door, **options), run(other, door, **options)
    assert rows == others
    assert_same_bits(end, other_end)
    return rows


def clips(own: Rule) -> bool:
    """Whether updates of a rule may be clipped."""
    try:
        sr.Optimizer(np.ones(3), own, update_clip=True)
    except HyperparameterError:
        return False
    return True


# What slots are called decides nothing.


@pytest.mark.parametrize("name", PLAIN)
def test_slots_may_be_called_otherwise(name: str) -> None:
    given = CATALOGUE[name]
    own = renamed(given, otherwise(given))
    assert set(own.slots).isdisjoint(given.slots)
    assert [own.roles.get(slot) for slot in own.slots] == [given.roles.get(slot) for slot in given.slots]
    same_runs(given, own)
    assert clips(own) == clips(given)
    if clips(given):
        same_runs(given, own, update_clip=True)


CORRECTED = [
    ("adam", {}),
    ("adam", {"bias_correction": False}),
    ("adan", {}),
    ("ademamix", {}),
    ("radam", {}),
    ("yogi", {"bias_correction": True}),
    *(("amsgrad", {"correction": way}) for way in ("none", "after_max", "before_max")),
]


@pytest.mark.parametrize(("name", "options"), CORRECTED, ids=str)
def test_the_correction_of_moments_may_be_called_anything(name: str, options: dict[str, Any]) -> None:
    given = CATALOGUE[name]
    hats = {f"{slot}_hat": f"corrected_{slot}" for slot in given.slots}
    rows = same_runs(given, renamed(given, {**hats, "v_max": "top"}), **options)
    assert all(row[key] is not None for row in rows for key in MOMENTS)


LOOKED_AT: list[dict[str, Any]] = [
    {},
    {"update_clip": True},
    *({"states": states, "min_elements": 0} for states in SLOT_FORMATS),
]


@rule
def bare_adam(theta, w, a: FirstMoment, nu: SecondMoment, *, t, lr: Rate = 1e-3, eps: NonNegative = 1e-8):
    """Adam without a name for anything between."""
    a = 0.9 * a + (1 - 0.9) * w
    nu = 0.999 * nu + (1 - 0.999) * w**2
    return theta - lr * (a / (1 - 0.9**t)) / (sqrt(nu / (1 - 0.999**t)) + eps), a, nu


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("options", LOOKED_AT, ids=str)
def test_an_adam_of_ones_own_is_read_and_guarded_as_adam(door: str, options: dict[str, Any]) -> None:
    rows = same_runs(bare_adam, CATALOGUE["adam"], door, **options)
    assert all(row[key] is not None for row in rows for key in MOMENTS)
    if "update_clip" in options:
        assert max(row["update_rms"] for row in rows) > 1  # else clipping would do nothing


@pytest.mark.parametrize("combine", [sr.l2, sr.decoupled, sr.maximize, sr.unscaled, sr.cautious])
def test_rules_of_rules_keep_roles(combine: Callable[[Rule], Rule]) -> None:
    own = combine(bare_adam)
    assert own.roles == bare_adam.roles
    assert clips(own)
    choices: list[dict[str, Any]] = [{}, {"update_clip": True}]
    for options in choices:
        rows, found = run(own, **options)
        expected, same = run(combine(CATALOGUE["adam"]), **options)
        assert [[row[key] for key in MOMENTS] for row in rows] == [[row[key] for key in MOMENTS] for row in expected]
        assert_same_bits(found, same, own.name)


@rule
def unrelated(theta, g, m, v: NonNegative, *, lr: Rate = 1e-3, beta: Decay = 0.9):
    """Not Adam: v is the largest gradient so far, and m what the last step was."""
    v = sr.maximum(v, abs(g))
    m_hat = g / (v + 1e-8)
    v_hat = m_hat
    return theta - lr * (v_hat + beta * m), m_hat, v


@pytest.mark.parametrize("door", DOORS)
def test_slots_without_a_role_are_nothing_but_slots(door: str) -> None:
    rows, _ = run(unrelated, door)
    assert [row[key] for row in rows for key in MOMENTS] == [None] * len(MOMENTS) * len(rows)
    options: dict[str, Any] = {"update_clip": True}
    with pytest.raises(HyperparameterError, match=r"'unrelated' does not keep \(a slot annotated SecondMoment\)"):
        run(unrelated, door, **options)


@rule
def divided(theta, g, a: FirstMoment, b: SecondMoment, *, t, lr: Rate = 1e-3, slow: Decay = 0.5, fade: Decay = 0.25):
    """Averages that are divided by this and that, but not corrected for bias."""
    a = 0.5 * a + 0.5 * g
    b = 0.5 * b + 0.5 * g**2
    return theta - lr * (a / (1 - slow) / (1 + fade * t)) / sqrt(b / (2 - fade**t)), a, b


def test_not_every_division_is_a_correction() -> None:
    rows, _ = run(divided, steps=3)
    a: Array = np.zeros((5, 130), np.float32)
    b = a
    half = np.float32(0.5)
    for row, g in zip(rows, gradients(3), strict=True):
        a, b = half * a + half * g, half * b + half * (g * g)
        signal = np.abs(a[b > 0]) / np.sqrt(b[b > 0])
        assert row["signal_to_noise"] == pytest.approx(signal.astype(np.float64).sum() / a.size, rel=1e-12)


# Declarations.


def test_a_second_moment_is_never_below_zero() -> None:
    assert bare_adam.non_negative == {"nu"}
    assert bare_adam.roles == {
        "a": sr.rules.hyperparameters.Role.FIRST_MOMENT,
        "nu": sr.rules.hyperparameters.Role.SECOND_MOMENT,
    }
    assert not unrelated.roles


def two_first(theta, g, fast: FirstMoment, slow: FirstMoment, *, lr: Rate = 0.1):
    return theta - lr * (fast + slow), g, g


def two_second(theta, g, fast: SecondMoment, slow: SecondMoment, *, lr: Rate = 0.1):
    return theta - lr * g / sqrt(fast + slow), g**2, g**2


def scalar(theta, g, v: Scalar | SecondMoment, *, lr: Rate = 0.1):
    return theta - lr * g, v


def twice(theta, g, m: FirstMoment | NonNegative, *, lr: Rate = 0.1):
    return theta - lr * m, g


def maybe(theta, g, v: SecondMoment | None, *, lr: Rate = 0.1):
    return theta - lr * g, g**2


def both(theta, g, v: FirstMoment | SecondMoment, *, lr: Rate = 0.1):
    return theta - lr * g, g**2


def late(theta, g, *, lr: Rate = 0.1, beta: FirstMoment = 0.5):
    return (theta - lr * beta * g,)


def ranged(theta, g, m: Decay, *, lr: Rate = 0.1):
    return theta - lr * m, g


def rated(theta, g, v: Rate, *, lr: Rate = 0.1):
    """Not another word for NonNegative: v would lose its sign in few bits."""
    return theta - lr * v, g


def positive(theta, g, v: Positive, *, lr: Rate = 0.1):
    return theta - lr * g / v, abs(g)


def perhaps(theta, g, v: NonNegative | None, *, lr: Rate = 0.1):
    return theta - lr * g, g**2


def one_number_perhaps(theta, g, v: Scalar | None, *, t, lr: Rate = 0.1):
    return theta - lr * g, t


def switched(theta, g, m: bool, *, lr: Rate = 0.1):
    return theta - lr * g, g


def chosen(theta, g, m: Literal["a", "b"], *, lr: Rate = 0.1):
    return theta - lr * g, g


def of_a_range(theta, g, m: Annotated[float, Range(-1.0, 1.0)], *, lr: Rate = 0.1):
    return theta - lr * g, g


def scalar_parameter(theta: Scalar, g, *, lr: Rate = 0.1):
    return (theta - lr * g,)


def averaged_parameter(theta: FirstMoment, g, *, lr: Rate = 0.1):
    return (theta - lr * g,)


def squared_gradient(theta, g: SecondMoment, *, lr: Rate = 0.1):
    return (theta - lr * g,)


def gradient_of_a_sign(theta, g: NonNegative, *, lr: Rate = 0.1):
    return (theta - lr * g,)


def counted(theta, g, *, t: Positive, lr: Rate = 0.1):
    return (theta - lr * g / t,)


REMEDY = (
    ", which says nothing about a slot; write FirstMoment, SecondMoment, NonNegative, Scalar, PerTensor, PerRow, "
    r"PerColumn or nothing, and put a hyperparameter after the \*$"
)
WRONG: list[tuple[Callable[..., Any], str]] = [
    (two_first, "slots 'fast' and 'slow' are both FirstMoment, and a rule has one: .* leave the other without a role$"),
    (two_second, "slots 'fast' and 'slow' are both SecondMoment, .* NonNegative if it is never below zero"),
    (scalar, "slot 'v' is annotated SecondMoment and more, .* it is no Scalar, since a moment has a number for each"),
    (twice, "slot 'm' is annotated FirstMoment and more, but FirstMoment stands alone"),
    (maybe, "slot 'v' is annotated SecondMoment and more, .* a variant without it returns None"),
    (both, "slot 'v' is annotated FirstMoment and more"),
    (ranged, f"'m' is annotated Decay{REMEDY}"),
    (rated, f"'v' is annotated Rate{REMEDY}"),
    (positive, f"'v' is annotated Positive{REMEDY}"),
    (perhaps, rf"'v' is annotated NonNegative \| None{REMEDY}"),
    (one_number_perhaps, rf"'v' is annotated Scalar \| None{REMEDY}"),
    (switched, f"'m' is annotated bool{REMEDY}"),
    (chosen, rf"'m' is annotated typing.Literal\['a', 'b'\]{REMEDY}"),
    (of_a_range, r"'m' is annotated typing.Annotated\[float, Range\(low=-1.0, .*which says nothing about a slot"),
    (scalar_parameter, "'theta' is annotated Scalar, which says nothing about a parameter; leave the annotation away$"),
    (averaged_parameter, "'theta' is annotated FirstMoment, which says nothing about a parameter; leave"),
    (
        squared_gradient,
        "'g' is annotated SecondMoment, which says nothing about a gradient; leave",
    ),
    (gradient_of_a_sign, "'g' is annotated NonNegative, which says nothing about a gradient; leave"),
    (counted, "'t' is annotated Positive, which says nothing about a step number; leave the annotation away$"),
    (late, r"hyperparameter 'beta' is annotated FirstMoment, which is for slots: put it before the \*"),
]


@pytest.mark.parametrize(("function", "message"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_wrong_roles_are_refused_with_the_line(function: Callable[..., Any], message: str) -> None:
    line = function.__code__.co_firstlineno
    with pytest.raises(RuleError, match=rf"(?ms)rule '{function.__name__}', .*test_roles.py, line {line}: {message}"):
        rule(function)


def typed(
    theta: NDArray[Any], g: torch.Tensor, m: float, v: Annotated[NDArray[Any] | None, "mine"], *, t: int, lr: Rate = 0.1
):
    return theta - lr * g / t, m, v


def non_negative(theta, g, v: Annotated[float, Range(0.0)], *, lr: Rate = 0.1):
    """What NonNegative stands for."""
    return theta - lr * g, v


def test_types_for_type_checkers_are_not_looked_at() -> None:
    own = rule(typed)
    assert not own.roles
    assert not own.non_negative
    assert not own.scalars
    assert rule(non_negative).non_negative == {"v"}


def test_state_dicts_and_pickles_have_the_rules_own_names() -> None:
    array = np.ones(3, np.float32)
    optimizer = sr.Optimizer(array, bare_adam)
    optimizer.step(np.ones(3, np.float32))
    assert list(optimizer.slots) == ["a", "nu"]
    assert pickle.loads(pickle.dumps(bare_adam)) is bare_adam
    again = pickle.loads(pickle.dumps(optimizer))
    assert again.rule.roles == bare_adam.roles
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    other = steprule.torch.Optimizer([param], bare_adam)
    other.step()
    assert set(other.state[param]) == {"step", "a", "nu"}


# Other libraries.


def mu_and_b(theta, g, m: FirstMoment, mu, *, lr: Rate = 0.1):
    return theta - lr * (m + mu), g, g


def nu_and_mu(theta, g, nu: FirstMoment, mu: SecondMoment, *, lr: Rate = 0.1):
    return theta - lr * nu / sqrt(mu), g, g**2


def test_names_of_other_libraries_follow_from_roles() -> None:
    assert slot_names(bare_adam, "torch") == {"a": "exp_avg", "nu": "exp_avg_sq"}
    assert slot_names(sr.l2(bare_adam), "optax") == {"a": "mu", "nu": "nu"}
    assert slot_names(bare_adam, "bitsandbytes") == {"a": "state1", "nu": "state2"}
    assert slot_names(rule(mu_and_b), "optax") == {}  # two slots would have one name
    assert slot_names(rule(nu_and_mu), "optax") == {"nu": "mu", "mu": "nu"}


@rule(name="adam")
def not_adam(theta, g, m: NonNegative, v, *, lr: Rate = 1e-3):
    """A rule that is called as another one, with its slots in the other's places."""
    return theta - lr * v, g * g, g


def test_states_of_torch_go_on_in_a_rule_of_ones_own_and_back() -> None:
    params = [nn.Parameter(torch.full((4, 3), 0.5))]
    theirs = torch.optim.Adam(params, lr=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(3):
        params[0].grad = torch.from_numpy(rng.standard_normal((4, 3)).astype(np.float32))
        theirs.step()
    ends = []
    for own in (bare_adam, CATALOGUE["adam"]):
        optimizer = sr.Optimizer([params[0].detach().numpy().copy()], own)
        optimizer.load_state_dict(sr.convert.from_torch(theirs.state_dict(), optimizer))
        assert_same_bits(next(iter(optimizer.slots.values()))[0], theirs.state[params[0]]["exp_avg"].numpy())
        optimizer.step([np.ones((4, 3), np.float32)])
        ends.append((optimizer.params[0], sr.convert.to_torch(optimizer, theirs.state_dict())["state"][0]))
    assert_same_bits(ends[0][0], ends[1][0])
    assert set(ends[0][1]) == {"step", "exp_avg", "exp_avg_sq"}
    for key, value in ends[0][1].items():
        assert torch.equal(value, ends[1][1][key])


def test_a_rule_of_the_catalogue_needs_no_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(NAMES, "yogi")
    monkeypatch.delitem(NAMES, "adan")
    assert slot_names(CATALOGUE["yogi"], "torch") == {"m": "exp_avg", "v": "exp_avg_sq"}
    assert slot_names(CATALOGUE["adan"], "optax") == {"m": "mu", "n": "nu"}
    # Its class in steprule.torch calls other slots as the rule does; optax has no place for them.
    theirs = {"m": "exp_avg", "n": "exp_avg_sq", "v": "v", "g_prev": "g_prev"}
    entry = {"step": torch.tensor(2.0), **{key: torch.full((4,), 3.0) for key in theirs.values()}}
    optimizer = sr.Optimizer(np.zeros(4), "adan")
    optimizer.load_state_dict(
        sr.convert.from_torch({"state": {0: entry}, "param_groups": [{"params": [0]}]}, optimizer)
    )
    assert all(optimizer.slots[slot].tolist() == [3.0] * 4 for slot in theirs)
    with pytest.raises(
        StateError, match=r"optax has no state .* rule 'adan': it knows moments, .* and not its v, g_prev"
    ):
        sr.convert.from_optax(ScaleByAdamState(np.array(3), np.ones(4), np.ones(4)), optimizer)


@rule
def late_adam(theta, g, q: FirstMoment, r: SecondMoment, *, t, lr: Rate = 1e-3):
    """Divides by the average of the step before, and averages that."""
    q = 0.5 * q + 0.5 * g / sqrt(r + 1.0)
    r = 0.5 * r + 0.5 * g**2
    return theta - lr * q, q, r


def test_an_average_of_what_was_divided_is_its_own_signal() -> None:
    rows, _ = run(late_adam)
    half, one = np.float32(0.5), np.float32(1.0)
    q: Array = np.zeros((5, 130), np.float32)
    r = q
    for row, g in zip(rows, gradients(4), strict=True):
        q, r = half * q + half * g / np.sqrt(r + one), half * r + half * (g * g)
        assert row["signal_to_noise"] == pytest.approx(np.abs(q).astype(np.float64).mean(), rel=1e-12)
        assert row["idle_share"] == np.count_nonzero((g == 0) & (np.abs(q) <= np.float32(1e-4))) / g.size
        assert row["update_rms"] is None


@rule
def looking_ahead(theta, g, q: FirstMoment, r: SecondMoment, *, t, lr: Rate = 1e-3):
    """Corrects both moments in other ways than by dividing them."""
    q = 0.5 * q + 0.5 * g
    r = 0.5 * r + 0.5 * g**2
    q_hat = 0.5 * q + 0.25 * g
    r_hat = r * 2.0
    return theta - lr * q_hat / sqrt(r_hat + 1.0), q, r


def test_other_corrections_are_told_by_their_names() -> None:
    rows, _ = run(looking_ahead)
    half, quarter, two = np.float32(0.5), np.float32(0.25), np.float32(2.0)
    q: Array = np.zeros((5, 130), np.float32)
    r = q
    for row, g in zip(rows, gradients(4), strict=True):
        q, r = half * q + half * g, half * r + half * (g * g)
        ahead, size = half * q + quarter * g, r * two
        signal = np.abs(ahead[size > 0]) / np.sqrt(size[size > 0])
        assert row["signal_to_noise"] == pytest.approx(signal.astype(np.float64).sum() / g.size, rel=1e-12)


@rule
def with_peak(theta, g, q: FirstMoment, peak: NonNegative, last: NonNegative, r: SecondMoment, *, t, lr: Rate = 1e-3):
    """Divides by the largest corrected r; the maximum that it keeps of two others is no largest so far."""
    q = 0.5 * q + 0.5 * g
    r = 0.5 * r + 0.5 * g**2
    larger = sr.maximum(r, abs(g))
    peak = sr.maximum(peak, r / (1 - 0.5**t))
    return theta - lr * q / sqrt(peak + 1.0), q, peak, larger, r


@rule
def with_maximum(theta, g, q: FirstMoment, last: NonNegative, r: SecondMoment, *, lr: Rate = 1e-3):
    q = 0.5 * q + 0.5 * g
    r = 0.5 * r + 0.5 * g**2
    return theta - lr * q / sqrt(r + 1.0), q, sr.maximum(r, abs(g)), r


@pytest.mark.parametrize("own", [with_peak, with_maximum], ids=lambda own: own.name)
def test_the_largest_so_far_is_what_a_slot_keeps_of_itself(own: Rule) -> None:
    rows, _ = run(own)
    half = np.float32(0.5)
    q: Array = np.zeros((5, 130), np.float32)
    r = peak = q
    for t, (row, g) in enumerate(zip(rows, gradients(4), strict=True), 1):
        q, r = half * q + half * g, half * r + half * (g * g)
        peak = np.maximum(peak, r / np.float32(1 - 0.5**t))
        size = peak if own is with_peak else r
        signal = np.abs(q[size > 0]) / np.sqrt(size[size > 0])
        assert row["signal_to_noise"] == pytest.approx(signal.astype(np.float64).sum() / g.size, rel=1e-12)


class ScaleByAdamState(NamedTuple):
    """As optax has it."""

    count: Any
    mu: Any
    nu: Any


def test_states_of_optax_and_bitsandbytes_go_on_in_a_rule_of_ones_own() -> None:
    theirs = ScaleByAdamState(np.array(3), np.full(4, 2.0), np.full(4, 5.0))
    optimizer = sr.Optimizer(np.zeros(4), bare_adam)
    optimizer.load_state_dict(sr.convert.from_optax(theirs, optimizer))
    assert optimizer.t == 3
    assert optimizer.slots["a"].tolist() == [2.0] * 4
    assert optimizer.slots["nu"].tolist() == [5.0] * 4
    back = sr.convert.to_optax(optimizer, theirs)
    assert back.mu.tolist() == theirs.mu.tolist()
    entry = {"step": 2, "state1": torch.full((4,), 3.0), "state2": torch.full((4,), 7.0)}
    state = {"state": {0: entry}, "param_groups": [{"params": [0]}]}
    optimizer.load_state_dict(sr.convert.from_bitsandbytes(state, optimizer))
    assert optimizer.slots["nu"].tolist() == [7.0] * 4


def no_slots(theta, g, *, lr: Rate = 0.1):
    return (theta - lr * g,)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (not_adam, "and not its m, v"),
        (unrelated, "and not its m, v"),
        (rule(mu_and_b), "and not its mu"),
        (rule(no_slots), "and not a rule without slots"),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_what_no_role_names_is_refused(own: Rule, why: str) -> None:
    optimizer = sr.Optimizer(np.zeros(4), own)
    entry = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(4), "exp_avg_sq": torch.zeros(4)}
    state = {"state": {0: entry}, "param_groups": [{"params": [0]}]}
    with pytest.raises(StateError, match=f"torch has no state that means the same as that of rule '{own.name}'.*{why}"):
        sr.convert.from_torch(state, optimizer)
