"""The command line, as a person types it (the race has its own file)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.cli.rules import bytes_per_parameter, slots
from steprule.rules import CATALOGUE
from steprule.rules.papers.adafactor import adafactor
from steprule.rules.papers.adam_mini import adam_mini
from steprule.rules.papers.came import came
from tests.cases import Direct, assert_same_bits
from tests.cli.inside import refused


def _run(*words: str, code: int = 0, cwd: Path | None = None) -> str:
    environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from steprule.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_version_and_help() -> None:
    assert _run("--version").strip() == f"steprule {sr.__version__}"
    text = _run("--help")
    for verb in ("race", "rules", "emit"):
        assert verb in text


def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).parent / "steprule"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"steprule {sr.__version__}"


def test_rules_lists_the_catalogue() -> None:
    text = _run("rules")
    for name in CATALOGUE:
        assert f"\n{name}  " in f"\n{text}"
    assert "m ← β₁·m + (1 - β₁)·g" in text


def test_rules_tells_all_of_one() -> None:
    text = _run("rules", "amsgrad")
    assert "'none' or 'after_max' or 'before_max'" in text
    assert "Reddi, Kale & Kumar 2018" in text
    assert "16 bytes per float32 parameter" in text


def test_slots_of_rows_and_columns_cost_an_element_nothing() -> None:
    found = [(slots(own), bytes_per_parameter(own)) for own in (adafactor, came, adam_mini, CATALOGUE["adam"])]
    assert found == [
        ("r a row, c a column (m)", 4),
        ("m, r a row, c a column, r_s a row, c_s a column", 8),
        ("m, v a row", 8),
        ("m, v", 12),
    ]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("llvm", "define void @kernel"),
        ("asm", "kernel:"),
        ("triton", "tl.sqrt_rn("),
        ("jax", "from steprule.backends.jax_math import divide, divide_by, load, root, store"),
        ("c", "void adam(size_t n, float *theta, const float *g, float *m, float *v, double beta1,"),
        ("javascript", "export { prelude, kernel };"),
        ("numpy", "def kernel("),
        ("latex", r"\begin{aligned}"),
    ],
)
def test_emit_writes_every_target(target: str, words: str) -> None:
    assert words in _run("emit", "adam", "--target", target)


@pytest.mark.parametrize("target", ["numpy", "llvm", "asm", "c", "javascript", "jax", "latex", "triton"])
def test_every_target_takes_slots_of_numbers_of_the_host(target: str, tmp_path: Path) -> None:
    """Also a scalar slot that is written and never read, for a look."""
    source = (
        "import steprule as sr\n@sr.rule\ndef own(theta, g, mean, zero, last: sr.Scalar, *, t, lr: sr.Rate = 0.1):\n"
    )
    source += "    rate = lr / t\n    return theta - rate * g, rate, 0.0, rate\n"
    (tmp_path / "own.py").write_text(source)
    assert _run("emit", "own.py", "--target", target, cwd=tmp_path)


_SCALED = """\
import steprule as sr


@sr.rule
def scaled(theta, g, m, *, lr: sr.Rate = 0.1, beta: sr.Decay = 0.9):
    m = beta * m + (1 - beta) * g
    return theta - lr * sr.norm(theta) / (sr.rms(m) + 1e-6) * m, m
"""
_MARKS = {"llvm": ";", "asm": "#", "triton": "#", "c": "//", "javascript": "//", "numpy": "#"}


@pytest.mark.parametrize("target", _MARKS)
def test_emit_says_what_each_pass_moves(target: str, tmp_path: Path) -> None:
    """Bytes of an element, to and from memory: of a rule without sums in one pass, and of one with sums in two."""
    mark = _MARKS[target]
    plain = _run("emit", "adam", "--target", target)
    words = "which moves 28 bytes of each: reads theta g m v, writes theta m v."
    assert plain.startswith(f"{mark} One pass over the elements, {words}\n")
    assert "Pass 1" not in plain
    (tmp_path / "own.py").write_text(_SCALED)
    text = _run("emit", "own.py", "--target", target, cwd=tmp_path)
    lines = text.splitlines()
    assert lines[:3] == [
        f"{mark} 2 passes over the elements, which move 32 bytes of each:",
        f"{mark}   sums0: 12 bytes; reads theta g m, sums up _total0 _total1",
        f"{mark}   step: 20 bytes; reads theta g m, writes theta m",
    ]
    names = {"c": ["void scaled_sums0(", "void scaled_step(", "void scaled("]}
    names["javascript"] = ["function sums0(", "function kernel("]
    parts = names.get(target, [f"{mark} Pass 1 of 2, sums0:", f"{mark} Pass 2 of 2, step:"])
    assert all(text.count(part) == 1 for part in parts)


_IN_FACTORS = """\
import steprule as sr


@sr.rule
def factors(theta, g, m, r: sr.PerRow, c: sr.PerColumn, *, lr: sr.Rate = 0.1, beta: sr.Decay = 0.9):
    r = beta * r + (1 - beta) * sr.mean(g * g, over="row")
    c = beta * c + (1 - beta) * sr.mean(g * g, over="column")
    m = beta * m + (1 - beta) * g / sr.sqrt(r / sr.mean(r, over="column") * c)
    return theta - lr * m, m, r, c
"""


@pytest.mark.parametrize("target", [target for target in _MARKS if target != "triton"])
def test_emit_says_what_passes_move_of_rows_and_columns(target: str, tmp_path: Path) -> None:
    """They are named, and not among the bytes of an element; what is computed of them between passes is there."""
    mark = _MARKS[target]
    (tmp_path / "own.py").write_text(_IN_FACTORS)
    text = _run("emit", "own.py", "--target", target, cwd=tmp_path)
    lines = text.splitlines()
    assert lines[:3] == [
        f"{mark} 2 passes over the elements, which move 24 bytes of each:",
        f"{mark}   sums0: 4 bytes; reads g, sums up of rows _row0, of columns _column1",
        f"{mark}   step: 20 bytes; reads theta g m, of rows _of_row0 r, of columns _of_column1 c, writes theta m, "
        "of rows r, of columns c",
    ]
    between = {
        "numpy": "\ndef vectors(values, scalars, tensors):\n",
        "llvm": "define void @vectors(",
        "asm": "\nvectors:",
    }
    assert text.count(between.get(target, "def vectors(")) == int(target in between)


def test_emit_counts_what_formats_move() -> None:
    """A code is a byte, and a scale one for 128 elements; half a byte where two share one."""
    text = _run("emit", "adam", "--target", "numpy", "--states", "8bit", "--dtype", "bfloat16")
    words = "10.03 bytes of each: reads theta g m m.scale v v.scale, writes theta m m.scale v v.scale."
    assert words in text.splitlines()[0]
    text = _run("emit", "adam", "--target", "numpy", "--states", "4bit")
    assert "which moves 14.03 bytes of each" in text.splitlines()[0]


def test_the_emitted_numpy_text_is_the_step() -> None:
    names: dict[str, Any] = {}
    exec(_run("emit", "adamw", "--target", "numpy", "--set", "scale_by_lr=false"), names)
    rule = CATALOGUE["adamw"]
    values = rule.resolve({"scale_by_lr": False})
    theta, g = np.linspace(-1, 1, 9, dtype=np.float32), np.linspace(3, -2, 9, dtype=np.float32)
    direct = Direct(rule, theta.copy(), scale_by_lr=False)
    m, v = np.zeros(9, np.float32), np.zeros(9, np.float32)
    prelude, kernel = names["prelude"], names["kernel"]
    assert callable(prelude)
    assert callable(kernel)
    arguments = prelude.__code__.co_varnames[: prelude.__code__.co_argcount]
    kernel(theta, g, m, v, prelude(*[values.get(name, 1) for name in arguments]))
    direct.step(g)
    assert_same_bits(theta, direct.theta)


def test_emit_takes_options_types_and_machines() -> None:
    assert "g_{t} + \\mu \\, b_{t}" in _run("emit", "momentum", "--target", "latex", "--set", "nesterov=true")
    assert "g_{\\mathrm{avg}, t}" in _run(
        "emit", "rmsprop", "--target", "latex", "--set", "centered=true", "--set", "momentum=0.9"
    )
    assert "load half" in _run("emit", "sgd", "--dtype", "float16")
    assert "fdiv\tv" in _run("emit", "adam", "--target", "asm", "--triple", "aarch64-linux-gnu")


def test_every_verb_takes_a_rule_with_settings() -> None:
    """The race and the lab have files of their own; these are `rules` and `emit`."""
    text = _run("rules", "adam(beta2=0.9)", "momentum(nesterov=true)")
    assert "adam(beta2=0.9)  Kingma & Ba" in text
    assert re.search(r"beta2 +│ 0.9 ", text)
    assert "momentum(nesterov=True)  Polyak" in text
    assert "step ← g + μ·b" in text
    plain = _run("emit", "adam", "--target", "c")
    assert _run("emit", "adam(beta2=0.9, eps=1e-6)", "--target", "c") == (
        f"// To be given to every step: beta2 = 0.9, eps = 1e-06\n{plain}"
    )
    nesterov = _run("emit", "momentum", "--set", "nesterov=true", "--target", "latex")
    assert _run("emit", "momentum( nesterov = True )", "--target", "latex") == nesterov


@pytest.mark.slow
def test_a_line_on_settings_is_a_comment_of_every_target() -> None:
    marks = {
        "llvm": ";",
        "asm": "#",
        "triton": "#",
        "jax": "#",
        "c": "//",
        "javascript": "//",
        "numpy": "#",
        "latex": "%",
    }
    for target, mark in marks.items():
        words = ("--target", target)
        assert _run("emit", "sgd(lr=0.5)", *words) == f"{mark} To be given to every step: lr = 0.5\n" + _run(
            "emit", "sgd", *words
        )


def test_settings_that_do_nothing_are_refused(tmp_path: Path) -> None:
    head = "import steprule as sr\n\n@sr.rule\n"
    body = "def mine(theta, g, *, lr: sr.Rate = 0.1, k: float = 2.0, odd: bool = False):\n    return theta - lr * g * "
    (tmp_path / "mine.py").write_text(f"{head}{body}(k if odd else 1)\n")
    text = _run("rules", "mine.py(k=3)", code=2, cwd=tmp_path)
    assert "mine.py(k=3): k does nothing beside the other settings; remove it" in text
    assert "mine(k=3, odd=True)" in _run("rules", "mine.py:mine(k=3, odd=true)", cwd=tmp_path)


def test_emit_takes_a_rule_of_ones_own(tmp_path: Path) -> None:
    head = "import steprule as sr\n\n@sr.rule\n"
    body = "def mine(theta, g, *, lr: sr.Rate = 0.1):\n    return theta - lr * abs(g) * g\n"
    (tmp_path / "my_rule.py").write_text(head + body)
    assert "\\left|g_{t}\\right|" in _run("emit", "my_rule.py", "--target", "latex", cwd=tmp_path)
    assert "mine" in _run("rules", "my_rule.py:mine", cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["emit", "adm"], "no rule is called 'adm'. Did you mean 'adam'"),
        (["emit", "adam", "--set", "lr"], "'lr' must be NAME=VALUE"),
        (["emit", "rmsprop", "--set", "momentum=-1"], "momentum must be a number of at least 0 or None, got -1"),
        (["emit", "adam", "--set", "lr=0.1"], "--set lr=0.1 has no effect"),
        (["emit", "adam", "--target", "latex", "--dtype", "float16"], "--dtype has no effect"),
        (["emit", "adam(beta2=2)"], "beta2 must be a number in [0, 1), got 2 in adam(beta2=2)"),
        (["emit", "momentum(nesterov=true)", "--set", "nesterov=true"], "nesterov is given twice"),
        (["emit", "momentum", "--set", "nesterov=true", "--set", "nesterov=false"], "--set nesterov is given twice"),
        (["rules", "adam(beta3=0.9)"], "no hyperparameter 'beta3' in adam(beta3=0.9). Did you mean 'beta2' or 'beta1'"),
        (
            ["rules", "adam(beta2)"],
            "adam(beta2): 'beta2' is not a name=value. Write for example adam(beta2=0.99, eps=1e-6)",
        ),
        (["rules", "adam(beta2=0.9"], "the parenthesis is not closed. Write for example adam("),
        (["rules", "adam)"], "there is a ) without a ("),
        (["rules", "adam(beta2=0.9, beta2=0.8)"], "beta2 is given 2 times"),
        (["rules", "momentum(nesterov=maybe)"], "nesterov must be False or True, got 'maybe'"),
        (["rules", "radam(eps=1e-6"], "the parenthesis is not closed"),
        (["rules", "adm(beta2=0.9)"], "no rule is called 'adm'. Did you mean 'adam'"),
        (["rules", "l2(adm)"], "no rule is called 'adm'. Did you mean 'adam'"),
        (["emit", "cautious(adam)(lr=x)"], "lr must be a number"),
        (["emit", ":x"], "names no file or module before the colon"),
        (["rules", "adam", "sdg"], "Did you mean 'sgd'"),
        (["emit", "adam", "--set", "nesterov=true"], "rule 'adam' has no hyperparameter 'nesterov'"),
        (["emit", "adam", "--triple", "aarch64-linux-gnu"], "--triple and --cpu choose a machine for --target asm"),
        (["emit", "adam", "--target", "triton", "--cpu", "sm_80"], "--cpu a GPU for ptx and amdgcn; triton has none"),
        (["emit", "adam", "--target", "ptx", "--triple", "nvptx64"], "--triple has no effect on --target ptx"),
        (
            ["emit", "adam", "--target", "ptx", "--cpu", "gfx942"],
            "--cpu gfx942 is not a GPU of --target ptx; choose one of",
        ),
        (["emit", "adam", "--target", "jax", "--dtype", "bfloat16"], "--dtype bfloat16 has no effect on --target jax"),
        (["emit", "adam", "--target", "amdgcn", "--cpu", "sm_90"], "choose one of gfx942, gfx90a"),
        (["emit", "adam", "--target", "asm", "--cpu", "znver4"], "--cpu needs --triple"),
        (["emit", "adam", "--target", "asm", "--triple", "nonsense"], "nonsense"),
        (
            ["emit", "adam", "--target", "asm", "--triple", "aarch64-linux-gnu", "--cpu", "nope"],
            "'nope' is not a processor of aarch64-linux-gnu",
        ),
        (["emit", "adam", "--target", "c", "--dtype", "float16"], "C has no type float16. Take --dtype bfloat16 or"),
        (["emit", "nowhere.py"], "there is no file 'nowhere.py'"),
        (["rules", "lionn"], "Did you mean 'lion'"),
    ],
)
def test_wrong_words_are_answered_in_one_message(words: list[str], said: str) -> None:
    text = refused(words)
    assert text.startswith("error: ")
    assert said in text
    assert "Traceback" not in text


def test_a_wrong_rule_file_is_answered_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "import steprule as sr\n\n@sr.rule\ndef mine(theta, g):\n    return theta - gg\n"
    )
    text = _run("emit", "wrong.py", code=2, cwd=tmp_path)
    assert "wrong.py, line 5: name 'gg' is not defined" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def broken(:\n", ["is not valid Python", "def broken(:"]),
        ("import math\n\nmath.sqrt(-1.0)\n", ["raised an exception", "line 3", "ValueError"]),
        ("raise SystemExit(3)\n", ["ended the program"]),
    ],
)
def test_a_rule_file_that_raises_shows_the_users_traceback(tmp_path: Path, source: str, words: list[str]) -> None:
    (tmp_path / "mine.py").write_text(source)
    text = _run("emit", "mine.py", code=2, cwd=tmp_path)
    for word in ["rule file 'mine.py'", *words]:
        assert word in text
    assert "typer" not in text
    assert "steprule/" not in text


def test_modules_that_raise_or_are_missing(tmp_path: Path) -> None:
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "pkg.py").write_text("import pk\n")
    (tmp_path / "rule (1).py").write_text("import steprule as sr\n\n@sr.rule\ndef f(theta, g):\n    return theta - g\n")
    environment_words = {
        "raises:f": "ZeroDivisionError",
        "pkg:f": "No module named 'pk'",
        "nowhere:f": "no module is called 'nowhere'",
        "./:x": "names no file or module",
        "..a:b": "names no file or module",
    }
    for spec, words in environment_words.items():
        text = _run("emit", spec, code=2, cwd=tmp_path)
        assert words in text, spec
        assert "steprule/" not in text
    assert "def kernel" in _run("emit", "rule (1).py", "--target", "numpy", cwd=tmp_path)


def test_output_that_is_not_unicode() -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "steprule", "rules", "adam"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"Kingma" in done.stdout


def test_a_users_folder_beside_the_package_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule import usercode

    package, beside = tmp_path / "steprule", tmp_path / "steprule_rules"
    monkeypatch.setattr(usercode, "_FOREIGN", (package,))
    assert usercode._is_users(str(beside / "mine.py"))
    assert not usercode._is_users(str(package / "engine.py"))


def test_assembly_for_a_processor_without_vectors_is_quiet() -> None:
    words = ["emit", "adam", "--target", "asm", "--triple", "thumbv7em-none-eabihf"]
    command = [sys.executable, "-c", "from steprule.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert ".eabi_attribute" in done.stdout
