"""The emitted C, compiled by gcc: self-contained, without warnings, and with the referee's bits."""

from __future__ import annotations

import ctypes
import math
import re
import subprocess
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.backends import c, javascript
from steprule.backends.c_helpers import HELPERS
from steprule.compile import Plan
from steprule.engine import plan
from steprule.errors import TargetError
from steprule.formats import FORMATS, Storage
from steprule.language.matrices import matrix_shape
from steprule.language.sums import ALL_SIZE, NDIM, rounded_once
from steprule.rules import load
from tests import ROOT
from tests.backends.emitted import MATRIX, STEPS, recorded
from tests.backends.exact_sums import HARD
from tests.cases import Array, assert_same_bits
from tests.formats.test_kernels import rows_and_groups

pytestmark = pytest.mark.apart

BESIDE, FILL = 4, 7.25
FLAGS = ["-O2", "-march=native", "-ffp-contract=off", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def compiled(folder: Path, texts: dict[str, str], *flags: str, compiler: str = "gcc") -> Path:
    """Return the library of some files, by name and text."""
    suffix = "cpp" if compiler == "g++" else "c"
    files = [folder / f"{name}.{suffix}" for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text)
    out = folder / "emitted.so"
    command = [compiler, *flags, "-shared", "-fPIC", "-o", str(out), *map(str, files), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return out


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Every case as a function of its own, in one library."""
    texts = {f"case{number}": c.emit(case.plan, f"case{number}") for number, case in enumerate(MATRIX.values())}
    return ctypes.CDLL(str(compiled(tmp_path_factory.mktemp("c"), texts, "-std=c99", *FLAGS)))


class Steps:
    """Calls an emitted function as a C program does."""

    def __init__(self, function: Any, recipe: Plan, planes: dict[str, Array], slots: dict[str, float]) -> None:
        self._function, self._recipe, self.planes = function, recipe, planes
        self._slots = {name: ctypes.c_double(value) for name, value in slots.items()}

    @property
    def slots(self) -> dict[str, float]:
        return {name: cell.value for name, cell in self._slots.items()}

    def step(self, t: int, values: dict[str, Any], shape: tuple[int, ...], seed: int, tensor: int) -> None:
        memory = memory_of(self._recipe, shape)
        self.call(self._function, self._recipe, memory, t, values, shape, seed, tensor)
        for array in memory:
            assert (array[-BESIDE:] == FILL).all(), "written behind the memory that the head asks for"

    def call(
        self,
        function: Any,
        recipe: Plan,
        memory: list[Array],
        t: int,
        values: dict[str, Any],
        shape: tuple[int, ...],
        seed: int = 0,
        tensor: int = 0,
    ) -> None:
        """Call the function of all passes, or that of one."""
        axes = [len(shape)] if any(NDIM in one.prelude.arguments for one in (*recipe.before, recipe)) else []
        arguments: list[Any] = [ctypes.c_size_t(size) for size in (*sizes_of(recipe, shape), *axes)]
        arguments += [ctypes.c_void_p(self.planes[plane.name].ctypes.data) for plane in recipe.kept_planes]
        arguments += [ctypes.c_void_p(array.ctypes.data) for array in memory]
        if ALL_SIZE in recipe.prelude.arguments:
            arguments.append(ctypes.c_double(max(1, self.planes[recipe.planes[0].name].size)))
        arguments += [ctypes.c_uint64(seed), ctypes.c_uint64(tensor)] if recipe.inputs else []
        late = {*recipe.late_arguments, ALL_SIZE} - {*self._slots}
        names = [name for name in recipe.prelude.arguments if name not in late]
        for name in [*names, *(["t"] if recipe.inputs and "t" not in names else [])]:
            number = self._slots[name].value if name in self._slots else t if name == "t" else values.get(name)
            is_written = name in recipe.prelude.scalar_slots
            arguments.append(ctypes.byref(self._slots[name]) if is_written else ctypes.c_double(float(number or 0.0)))
        function(*arguments)


def sizes_of(recipe: Plan, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes that functions of a plan take."""
    if recipe.view is None:
        rows, length, _ = rows_and_groups(shape)
        return (rows, length) if recipe.has_groups else (rows * length,)
    return matrix_shape(shape, recipe.view)[0 if recipe.view == "last" else 1 :]


def memory_of(recipe: Plan, shape: tuple[int, ...]) -> list[Array]:
    """Return the arrays that the function of all passes works in, as long as its head says, and more behind them."""
    head = " ".join(c.emit(recipe, "x").split())
    found = re.findall(r"(sums|vectors): memory for (.*?) numbers", head)
    if recipe.view is None:
        found += re.findall(r"(sums): (\d+) numbers? of each array", head)
    names = ("rows", "columns") if recipe.view == "first" else ("matrices", "rows", "columns")
    sizes = dict(zip(names, sizes_of(recipe, shape), strict=True)) if recipe.view else {}
    kinds = {"sums": "float64", "vectors": recipe.compute}
    return [np.full(eval(count, sizes) + BESIDE, FILL, kinds[name]) for name, count in found]


@pytest.mark.parametrize("name", MATRIX)
def test_every_rule_has_the_referees_bits(library: ctypes.CDLL, name: str) -> None:
    case, expected = MATRIX[name], recorded(name)
    function = getattr(library, f"case{list(MATRIX).index(name)}")
    planes = {key: array.copy() for key, array in expected.start.items()}
    steps = Steps(function, case.plan, planes, expected.scalars)
    for t in range(1, STEPS + 1):
        planes[case.rule.gradient][...] = expected.gradients[t - 1]
        steps.step(t, case.values, case.shape, 9, 4)
        expected.check(t - 1, planes, steps.slots, name)


def test_sums_are_rounded_once(tmp_path: Path) -> None:
    """Whatever the order: an exact sum, in the text that every rule with sums has."""
    main = """
double sum_of(size_t count, const double *numbers)
{
    exact_sum sum = {{0}, 0.0};
    for (size_t i = 0; i < count; ++i)
        exact_add(&sum, numbers[i]);
    return exact_rounded(&sum);
}
"""
    head = "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n"
    for flags in (("gcc", "-std=c99"), ("g++", "-std=c++17", "-O3")):
        folder = tmp_path / flags[0]
        folder.mkdir()
        text = f"{head}{HELPERS['exact_add']}{main}"
        text = text if flags[0] == "gcc" else text.replace("\ndouble sum_of", '\nextern "C" double sum_of')
        out = compiled(folder, {"sums": text}, *flags[1:], *FLAGS, compiler=flags[0])
        function = ctypes.CDLL(str(out)).sum_of
        function.restype = ctypes.c_double
        for numbers in HARD:
            given = (ctypes.c_double * len(numbers))(*numbers)
            found = np.array([function(ctypes.c_size_t(len(numbers)), given)])
            assert_same_bits(found, np.array([rounded_once(numbers)]), str(numbers))


def _adam() -> str:
    rule = sr.rules.adam
    return c.emit(plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float32"])), "adam")


def test_contraction_would_change_bits(tmp_path: Path) -> None:
    """What the flag is for: GCC's own default joins products and sums where the processor can."""
    with_fma = ctypes.CDLL(str(compiled(tmp_path, {"adam": _adam()}, "-O2", "-mfma", "-ffp-contract=fast")))
    rng = np.random.default_rng(0)
    theta, m, v = (np.zeros(1000, np.float32) for _ in range(3))
    ours = theta.copy()
    optimizer = sr.Optimizer(ours)
    numbers = [ctypes.c_double(x) for x in (0.9, 0.999, 1e-8, 1e-3)]
    for t in range(1, 20):
        g = rng.standard_normal(1000).astype(np.float32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (theta, g, m, v)]
        with_fma.adam(ctypes.c_size_t(1000), *pointers, *numbers, ctypes.c_double(t))
        optimizer.step(g)
    np.testing.assert_allclose(theta, ours, rtol=1e-4)
    assert (theta != ours).any()


@pytest.mark.slow
def test_it_is_cplusplus_too(tmp_path: Path) -> None:
    some = list(MATRIX.values())[::9]
    texts = {f"case{number}": c.emit(case.plan, f"case{number}") for number, case in enumerate(some)}
    library = ctypes.CDLL(str(compiled(tmp_path, texts, "-std=c++17", *FLAGS, compiler="g++")))
    assert library.case0  # under its plain name


@pytest.mark.parametrize(("flag", "words"), [("-ffast-math", "compile without it"), ("-mfpmath=387", "-mfpmath=sse")])
def test_flags_that_change_bits_are_refused(tmp_path: Path, flag: str, words: str) -> None:
    file = tmp_path / "adam.c"
    file.write_text(_adam())
    done = subprocess.run(
        ["gcc", flag, "-c", str(file), "-o", "/dev/null"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert words in done.stderr


def test_names_of_c_are_avoided(tmp_path: Path) -> None:
    @sr.rule()
    def double(theta, g, int, float, mixed, *, lr=0.1, t, n=2.0, sqrt=3.0):
        return theta - lr * (g + n * int + sqrt * float * mixed) / t, g, int, float

    recipe = plan(double, double.variant(double.resolve({})), Storage(FORMATS["float32"]))
    text = c.emit(recipe, "double")
    assert ctypes.CDLL(str(compiled(tmp_path, {"named": text}, "-std=c99", *FLAGS))).double_


@pytest.mark.parametrize(
    "name",
    [
        *(
            "round",
            "fmax",
            "gamma",
            "index",
            "y1",
            "memcpy",
            "nan",
            "double",
            "class",
            "nullptr",
            "NULL",
            "main",
            "i",
            "seed",
        )
    ],
)
@pytest.mark.parametrize("flags", [("gcc", "-std=c99"), ("gcc", "-std=gnu17"), ("g++", "-std=c++20")])
def test_rules_and_slots_may_be_called_anything(tmp_path: Path, name: str, flags: tuple[str, str]) -> None:
    source = f"import steprule as sr\n@sr.rule(name={name!r})\ndef step(theta, g, {name}_, new_{name}, *, t, s0=0.5):\n"
    source += f"    return theta - s0 * g - {name}_, g + {name}_, new_{name} + t\n"
    file = tmp_path / "own.py"
    file.write_text(source.replace(f"{name}_,", f"{name},") if name.isidentifier() and not iskeyword(name) else source)
    rule = load(f"{file}:step")
    recipe = plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float32"]))
    compiler, standard = flags
    compiled(tmp_path, {"named": c.emit(recipe, name)}, standard, *FLAGS, compiler=compiler)


def test_what_a_variant_does_not_read_is_no_warning(tmp_path: Path) -> None:
    @sr.rule()
    def idle(theta, g, m, *, lr=0.1, mu=0.9, flag: bool = False):
        return sr.where(flag, (1 - lr) * theta, theta - lr * mu * g), sr.where(flag, 0.5, m)

    recipe = plan(idle, idle.variant(idle.resolve({"flag": True})), Storage(FORMATS["float32"]))
    text = c.emit(recipe, "idle")
    assert "(void)mu;" in text
    assert ctypes.CDLL(str(compiled(tmp_path, {"idle": text}, "-std=c99", *FLAGS))).idle


def test_a_name_cannot_end_the_comment(tmp_path: Path) -> None:
    @sr.rule(name="a*/ int broken; /*")
    def sly(theta, g, *, lr=0.1):
        return theta - lr * g

    recipe = plan(sly, sly.variant(sly.resolve({})), Storage(FORMATS["float32"]))
    text = c.emit(recipe, sly.name)
    assert ctypes.CDLL(str(compiled(tmp_path, {"sly": text}, "-std=c99", *FLAGS))).a_int_broken


def test_the_head_says_how_to_call() -> None:
    rule = sr.rules.rprop
    recipe = plan(rule, rule.variant(rule.resolve({})), Storage(FORMATS["float32"]))
    text = c.emit(recipe, rule.name, rule.init)
    assert "Before the first step delta = lr; other slots are 0." in " ".join(text.split())
    assert "-ffp-contract=off" in text
    assert "-lm" in text
    assert "encode: how a slot is stored until the next step" in text
    assert "encode" not in c.emit(
        plan(sr.rules.sgd, sr.rules.sgd.variant(sr.rules.sgd.resolve({})), Storage(FORMATS["float32"])), "sgd"
    )


def test_what_c_cannot_say() -> None:
    rule = sr.rules.adam
    variant = rule.variant(rule.resolve({}))
    with pytest.raises(TargetError, match=r"C has no type float16\. Take --dtype bfloat16 or float32"):
        c.emit(plan(rule, variant, Storage(FORMATS["float16"])), "adam")

    @sr.rule()
    def counted(theta, g, *, t, lr=0.1):
        return theta - lr / math.comb(t, 1) * g

    recipe = plan(counted, counted.variant(counted.resolve({})), Storage(FORMATS["float32"]))
    with pytest.raises(TargetError, match=r"calls math.comb with 2 arguments, which C has no function for"):
        c.emit(recipe, "counted")


def _example(language: str) -> str:
    page = (ROOT / "docs" / "c.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_examples_of_the_docs_run(tmp_path: Path) -> None:
    """In C and in JavaScript, with the numbers of the same steps in NumPy."""
    theta, scale, least = np.zeros(2, np.float32), np.array([2, 20], np.float32), np.array([1, -2], np.float32)
    optimizer = sr.Optimizer(theta, "adam", lr=0.1)
    for _ in range(500):
        optimizer.step(scale * (theta - least))
    (tmp_path / "adam.c").write_text(_adam())
    (tmp_path / "main.c").write_text(_example("c"))
    sources = [str(tmp_path / name) for name in ("adam.c", "main.c")]
    subprocess.run(["gcc", *FLAGS, "-std=c99", "-o", str(tmp_path / "main"), *sources, "-lm"], check=True)
    said = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True).stdout
    assert said == f"{theta[0]:.4f} {theta[1]:.4f}\n" == "1.0000 -2.0000\n"
    assert '"%.4f %.4f\\n", theta[0], theta[1]); /* 1.0000 -2.0000 */' in _example("c")
    recipe = plan(sr.rules.adam, sr.rules.adam.variant(sr.rules.adam.resolve({})), Storage(FORMATS["float32"]))
    (tmp_path / "adam.mjs").write_text(javascript.emit(recipe))
    (tmp_path / "main.mjs").write_text(_example("js"))
    said = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(np.array(said.split(), float), theta, atol=1e-4)
