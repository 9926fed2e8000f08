"""What the tests of the PyTorch door share: torch's own option sets, small networks, comparisons."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor, nn

import steprule.torch as door
from steprule.rules import CATALOGUE, Rule
from tests.cases import sees, unlike_default

STEPS = 20

torch.sparse.check_sparse_tensor_invariants.enable()  # torch warns once a process where nobody has chosen

# Of the norm and of the largest element of a parameter. On the data below torch in float32 stays within 1.7e-6
# of torch in float64, for every option set: what is beyond this bound is no rounding.
BOUND = {torch.float32: 2e-6, torch.complex64: 2e-6, torch.float64: 1e-12, torch.complex128: 1e-12}


def _of_torch() -> tuple[list[Any], list[Any]]:
    """Return torch's own table of optimizers, and the errors of all, without what their import does to others."""
    profile = hypothesis.settings.get_current_profile_name()
    with warnings.catch_warnings():  # its imports add filters
        from torch.testing._internal.common_optimizers import get_error_inputs_for_all_optims, optim_db
    hypothesis.settings.load_profile(profile)  # it loads a profile with ten examples
    return list(optim_db), list(get_error_inputs_for_all_optims("cpu", torch.float32))


_DB, ERRORS_OF_ALL = _of_torch()


_TITLES = {rule.title or rule.name.replace("_", " ").title().replace(" ", ""): rule for rule in CATALOGUE.values()}
MATRICES = ("Muon", *(name for name, rule in _TITLES.items() if rule.needs_matrices and name != "Muon"))
"""The classes that step matrices alone, which have tests of their own: test_muon.py."""
CLASSES = tuple(name for name in door.__all__ if isinstance(getattr(door, name), type) and name not in MATRICES)
TORCH_NAMES = tuple(name for name in CLASSES if name != "Optimizer" and hasattr(torch.optim, name))
INFO = {info.optim_cls.__name__: info for info in _DB if info.optim_cls.__name__ in TORCH_NAMES}
DENSE_NAMES = tuple(name for name in TORCH_NAMES if not INFO[name].only_supports_sparse_grads)

OWN = {name: rule for name, rule in _TITLES.items() if name in CLASSES and name not in TORCH_NAMES}
"""The classes that torch.optim lacks, and their rules."""

# One or two option sets a class that use all of its state and most of its branches.
RICH: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.005, "momentum": 0.8, "nesterov": True, "maximize": True}),
    ("RMSprop", {"lr": 0.005, "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.02}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.02, "initial_accumulator_value": 0.1}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.02, "maximize": True}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "amsgrad": True, "weight_decay": 0.02}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.02, "decoupled_weight_decay": True, "maximize": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    ("Adamax", {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.02}),
    ("NAdam", {"lr": 0.01, "momentum_decay": 0.01, "weight_decay": 0.02, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.02, "maximize": True}),
    ("Rprop", {"lr": 0.02, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.05)}),
    ("ASGD", {"lr": 0.05, "lambd": 0.01, "alpha": 0.6, "t0": 4, "weight_decay": 0.02}),
    ("SparseAdam", {"lr": 0.02, "betas": (0.8, 0.99)}),
    ("Adafactor", {"lr": 0.05, "beta2_decay": -0.7, "eps": (1e-6, 0.02), "d": 1.5, "weight_decay": 0.02}),
    ("Adafactor", {"eps": (1e-8, 1e-3), "maximize": True}),
]
_EXTRA: list[tuple[str, dict[str, Any]]] = [
    ("Lion", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.02}),
    ("AdaBelief", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-8, "weight_decay": 0.02}),
    ("Yogi", {"lr": 0.02, "betas": (0.8, 0.95), "initial_accumulator": 0.01, "bias_correction": True}),
    ("Adan", {"lr": 0.01, "betas": (0.9, 0.8, 0.95), "weight_decay": 0.02}),
    ("ADOPT", {"lr": 0.01, "betas": (0.8, 0.95), "clip": True, "weight_decay": 0.02}),
    ("AdEMAMix", {"lr": 0.01, "betas": (0.8, 0.9, 0.99), "alpha": 3.0, "warmup": 7.0}),
    ("Signum", {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.02}),
    ("AdamWScheduleFree", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.02, "warmup_steps": 4, "r": 0.7}),
    ("SGDScheduleFree", {"lr": 0.05, "momentum": 0.6, "weight_decay": 0.02, "warmup_steps": 4, "weight_lr_power": 1.0}),
]


def _unlike(rule: Rule) -> dict[str, Any]:
    """Return options of a class that torch.optim lacks: of all that have an effect together, none its default."""
    hypers = rule.hyperparameters
    numbers: dict[str, Any] = {
        name: next(choice for choice in hyper.choices if choice != hyper.default)
        if hyper.is_static
        else unlike_default(hyper)
        for name, hyper in hypers.items()
    }
    used = rule.trace(rule.variant(rule.resolve(numbers))).used | set(rule.init.values())
    numbers = {name: value for name, value in numbers.items() if hypers[name].is_static or name in used}
    betas = [name for name in ("beta1", "beta2", "beta3") if name in hypers and not hypers[name].optional]
    if len(betas) > 1:
        numbers["betas"] = tuple(numbers.pop(beta, hypers[beta].default) for beta in betas)
    if "beta" in numbers:
        numbers["momentum"] = numbers.pop("beta")
    return {**numbers, "lr": 0.01, "weight_decay": 0.02}


EXTRA = [*_EXTRA, *((name, _unlike(rule)) for name, rule in OWN.items() if name not in dict(_EXTRA))]
ALL = RICH + EXTRA
DENSE_RICH = [(name, options) for name, options in RICH if name in DENSE_NAMES]
DENSE_ALL = DENSE_RICH + EXTRA
DIFFERENTIABLE = [
    case for case in DENSE_ALL if "differentiable" in inspect.signature(getattr(door, case[0])).parameters
]
ROWS = {name for name in CLASSES if (rule := OWN.get(name)) and rule.view} | {"Adafactor"}
"""The classes that see rows and columns: of real parameters alone."""
TOGETHER = {name for name, rule in OWN.items() if sees(rule) == "all"}
"""The classes whose tensors are stepped together or not at all, since their rules sum over all."""


def with_slots(name: str, formats: dict[str, Any]) -> dict[str, Any]:
    """Return the formats without those of slots, for a class that has none for each element but points."""
    return (
        formats
        if name not in ("Adafactor", "SGDScheduleFree")
        else {key: value for key, value in formats.items() if key == "weights"}
    )


def case_id(value: Any) -> str | None:
    """Return the readable id of one option set; pytest makes that of other values."""
    if isinstance(value, tuple):
        return "-".join(case_id(part) or str(part) for part in value)
    if isinstance(value, dict):
        return "-".join(f"{key}={number}" for key, number in value.items()) or "defaults"
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch use one thread: for tensors this small its threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make dtype the default: torch.optim keeps step, mu_product, eta and mu in it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def reference(name: str, params: Any, **options: Any) -> torch.optim.Optimizer:
    """Make torch's optimizer, on its single-tensor path."""
    cls = getattr(torch.optim, name)
    single = {flag: False for flag in ("foreach", "fused") if flag in inspect.signature(cls).parameters}
    optimizer: torch.optim.Optimizer = cls(params, **{**single, **options})
    return optimizer


def ours(name: str, params: Any, **options: Any) -> torch.optim.Optimizer:
    """Make the optimizer of the same name that is under test."""
    optimizer: torch.optim.Optimizer = getattr(door, name)(params, **options)
    return optimizer


class Problem(nn.Module):
    """A regression on another batch each step: the same numbers for every type and every process."""

    def __init__(self, dtype: torch.dtype = torch.float32, kind: str = "dense", steps: int = 2 * STEPS) -> None:
        super().__init__()
        self.kind, self.complex = kind, dtype.is_complex
        random = torch.Generator().manual_seed(0)
        real = torch.float64

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(*shape, generator=random, dtype=real) - 1

        numbers = torch.complex(uniform(8, 6), uniform(8, 6)) if self.complex else uniform(8, 6)
        self.first = nn.Parameter(numbers.to(dtype))
        self.last = nn.Parameter(uniform(4, 8).to(dtype))
        self.bias, self.end = (nn.Parameter(uniform(n).to(dtype)) for n in (8, 4))
        self.inputs, self.targets = (uniform(steps, 16, n).to(dtype) * 1.7 for n in (6, 4))
        self.rows = torch.randint(0, 8, (steps, 16, 3), generator=random)
        if kind == "sparse":  # only the embedding is trained, and only some of its rows each step
            del self.inputs, self.bias, self.first
            self.first = nn.Parameter(uniform(12, 8).to(dtype))
            for p in (self.last, self.end):
                p.requires_grad_(False)

    def hidden(self, t: int) -> Tensor:
        """Return the first layer's output for the batch of step t."""
        if self.kind == "sparse":
            return nn.functional.embedding(self.rows[t], self.first, sparse=True).sum(1)
        return nn.functional.linear(self.inputs[t], self.first, self.bias)

    def forward(self, t: int) -> Tensor:
        """Return the loss of step t."""
        z = self.hidden(t)  # tanh of a complex number has poles: of each part it is well conditioned
        z = torch.complex(z.real.tanh(), z.imag.tanh()) if self.complex else z.tanh()
        z = nn.functional.linear(z, self.last, self.end) - self.targets[t]
        return (z * z.conj()).real.mean()

    def trained(self) -> list[Tensor]:
        """Return the parameters to optimize."""
        return [p for p in self.parameters() if p.requires_grad]


def problem_for(name: str, dtype: torch.dtype = torch.float32) -> Problem:
    """Return the problem whose gradients suit the class of that name."""
    return Problem(dtype, "sparse" if name == "SparseAdam" else "dense")


def train(problem: Problem, optimizer: torch.optim.Optimizer, steps: int = STEPS, start: int = 0) -> None:
    """Take steps on the problem's own gradients."""
    for t in range(start, start + steps):
        optimizer.zero_grad()
        problem(t).backward()
        optimizer.step()


Make = Callable[..., torch.optim.Optimizer]


def trained_by(make: Make, name: str, dtype: torch.dtype, options: dict[str, Any], steps: int = STEPS) -> list[Tensor]:
    """Return the parameters after a run from the start."""
    problem = problem_for(name, dtype)
    train(problem, make(name, problem.trained(), **copy.deepcopy(options)), steps)
    return list(problem.trained())


def assert_agree(actual: Iterable[Tensor], expected: Iterable[Tensor], what: str = "") -> None:
    """Assert that each tensor equals the other within the bound of its type, in norm and in each element."""
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert (a.dtype, a.shape) == (e.dtype, e.shape), f"{what} {i}"
        assert e.isfinite().all(), f"{what} {i}: the expected numbers are not finite"
        difference, bound = (a.detach() - e.detach()).abs(), BOUND[e.dtype]
        assert difference.norm() <= bound * e.norm(), f"{what} {i}: {difference.norm() / e.norm():.2e} of the norm"
        if e.numel():
            assert difference.max() <= bound * e.abs().max(), f"{what} {i}: {difference.max() / e.abs().max():.2e}"


def assert_moved(params: Iterable[Tensor], before: Iterable[Tensor]) -> None:
    """Assert that a run changed every parameter: nothing is proved by two that stood still."""
    for p, start in zip(params, before, strict=True):
        assert not torch.equal(p, start)


def frozen(value: Any) -> Any:
    """Return a value to compare with ==, in which a tensor is its type, shape and bytes."""
    if isinstance(value, Tensor):
        flat = value.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
        return "tensor", value.dtype, tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [frozen(item) for item in value]
    return type(value), value


def everything(optimizer: torch.optim.Optimizer) -> Any:
    """Return all that an optimizer moves and keeps, every bit of it."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return frozen(params), frozen(optimizer.state_dict())


def tensors_of(optimizer: torch.optim.Optimizer, params: Iterable[Tensor]) -> list[Tensor]:
    """Return copies of parameters and of the tensors of their states, in order."""
    params = list(params)
    states = [optimizer.state[param] for param in params if param in optimizer.state]
    return [*(p.detach().clone() for p in params), *(t.clone() for state in states for t in state.values())]


def assert_equal(a: list[Tensor], b: list[Tensor]) -> None:
    """Assert that tensors are equal, and of the same types."""
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def random_gradients(params: Iterable[Tensor], t: int, name: str = "") -> None:
    """Set gradients that depend on t alone; for SparseAdam sparse ones of two rows."""
    random = torch.Generator().manual_seed(t)
    for p in params:
        real = torch.view_as_real(p.detach().resolve_conj()) if p.is_complex() else p
        g = torch.randn(real.shape, generator=random, dtype=torch.float64).to(real.dtype)
        p.grad = torch.view_as_complex(g) if p.is_complex() else g
        if name == "SparseAdam":
            rows = torch.tensor([[t % p.shape[0], (t + 3) % p.shape[0]]])
            p.grad = torch.sparse_coo_tensor(rows, g[rows[0]], p.shape)


def parameter(dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    """Return a small matrix of ordinary numbers."""
    return torch.nn.Parameter(torch.linspace(-1, 1.2, 12).reshape(4, 3).to(dtype))


def step(optimizer: torch.optim.Optimizer, name: str = "", steps: int = 2, start: int = 0) -> None:
    """Take some steps along gradients that depend on their number."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, start + steps):
        random_gradients(params, t, name)
        optimizer.step()


def backward(problem: Problem, t: int) -> float:
    """Take fresh gradients of the loss at t, and return it."""
    problem.zero_grad()
    loss = problem(t)
    loss.backward()
    return float(loss.detach())
