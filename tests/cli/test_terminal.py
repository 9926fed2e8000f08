"""The command line in any terminal: escape codes, narrow ones, help, completion, what is misspelt, where to write."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from steprule.cli.main import app
from steprule.rules import CATALOGUE
from tests.cli.inside import refused

COMMAND = [sys.executable, "-m", "steprule"]
ESCAPE = "\x1b"
VERBS = ("race", "rules", "emit", "lab", "check")


def _environment(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    return {**kept, "TERM": "xterm-256color", **changed}


def _on_a_terminal(*words: str, **environment: str) -> str:
    """Return all that the command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=_environment(**environment)
    )
    os.close(theirs)
    said = b""
    try:
        while block := os.read(ours, 65536):
            said += block
    except OSError:  # how Linux says that nobody writes to it any more
        pass
    os.close(ours)
    process.wait()
    return said.decode(errors="replace")


def _run(*words: str, code: int = 0, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=_environment(**environment), cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_no_escape_codes_where_none_are_wanted() -> None:
    cases: list[tuple[str, ...]] = [
        ("-h",),
        ("emit", "adm"),
        ("rules", "adam"),
        ("emit", "--targte", "c"),
        ("lab", "--output", ""),
    ]
    plain: list[tuple[tuple[str, ...], dict[str, str]]] = [(words, {"NO_COLOR": "1"}) for words in cases] + [
        (words, {"TERM": "dumb"}) for words in cases[1:3]
    ]
    coloured: list[tuple[tuple[str, ...], dict[str, str]]] = [(words, {}) for words in cases[1:3]] + [
        (cases[1], {"NO_COLOR": ""})
    ]
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda case: _on_a_terminal(*case[0], **case[1]), plain + coloured))
    for (words, environment), text in zip(plain, said, strict=False):
        assert text, words
        assert ESCAPE not in text, (words, environment)
    # There would be some, so that this can fail.
    assert all(ESCAPE in text for text in said[len(plain) :])


def test_what_is_not_shown_by_a_terminal_has_no_escape_codes() -> None:
    for words, code in ((("rules", "adam"), 0), (("emit", "adm"), 2)):
        assert ESCAPE not in _run(*words, code=code)


def _here(*words: str, **environment: str) -> str:
    """Return what the command says, run in this process."""
    result = CliRunner().invoke(app, words, env={"NO_COLOR": "1", **environment})
    assert result.exit_code == 0, result.output
    return result.output


def test_help_has_two_names_everywhere() -> None:
    for verb in [(), *zip(VERBS, strict=True)]:
        text = _here(*verb, "-h")
        assert text == _here(*verb, "--help")
        assert "-h" in text.partition("Options:")[2]
    overview = _here("-h")
    assert all(f"\n  {verb} " in overview for verb in VERBS)
    assert "..." not in overview.partition("Commands:")[2]  # what a verb does is said whole


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_narrow_terminals(columns: int) -> None:
    """Nothing is cut short, and what would stand to the right of names stands below them where there is no room."""
    for words in [(verb, "-h") for verb in VERBS] + [("rules", "amsgrad"), ("rules",), ("lab", "--list")]:
        text = _here(*words, COLUMNS=str(columns))
        assert "…" not in text, words
        wide = [line for line in text.splitlines() if cell_len(line) > columns]
        assert all(len(line.split()) <= 2 for line in wide), (words, wide)  # one long word, perhaps with its place
    shown = " ".join(_here("rules", "amsgrad", COLUMNS=str(columns)).split())
    for word in ("after_max", "hyperparameter", "stochastic", "16", "6.02"):
        assert word in shown
    assert "│" not in _here("rules", "amsgrad", COLUMNS="20")


def test_tables_are_whole_at_every_width() -> None:
    """With both borders and every word, or as a list."""
    for columns in (24, 32, *range(36, 50), 80):
        text = _here("rules", "adam", COLUMNS=str(columns))
        table = text.partition("hyperparameter")[2].partition("slots:")[0]
        words = re.sub(r"[│┃]", " ", table).split()
        assert words.count("number") == words.count("least") + 2 == 5, columns
        rows = [line for line in text.splitlines() if line[:1] in "┃│"]
        assert all(line.rstrip()[-1] == line[0] and cell_len(line) <= columns for line in rows if line), columns


def test_a_shell_completes_verbs_options_rules_and_names() -> None:
    """As bash asks; nothing heavy is imported for it."""

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environment = {
            "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_STEPRULE_COMPLETE": "complete_bash",
        }  # fmt: skip
        script = "import sys; sys.argv[0] = 'steprule'\ntry:\n    from steprule.cli import main; main()\nfinally:\n"
        script += "    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=_environment(**environment)
        )
        loaded = set(done.stderr.split())
        assert "steprule" in loaded, done.stderr
        assert loaded.isdisjoint({"torch", "jax", "optax", "scipy", "sympy", "sklearn", "matplotlib", "joblib"})
        return done.stdout.split()

    expected = {
        "steprule r": ["race", "rules"],
        "steprule rules ada": [name for name in CATALOGUE if name.startswith("ada")],
        "steprule emit adam --ta": ["--target"],
        "steprule emit li": [name for name in CATALOGUE if name.startswith("li")],
        "steprule emit adam --target java": ["javascript"],
        "steprule race long": ["long-valley"],
        "steprule race --rules sgd,li": [f"sgd,{name}" for name in CATALOGUE if name.startswith("li")],
        "steprule lab --surface sp": ["sparse-bowl"],
        "steprule lab my_ru": [],  # and the shell goes on with the names of files
    }
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(expected, pool.map(complete, expected), strict=True))
    assert found == expected


def test_completion_can_be_installed() -> None:
    command = [str(Path(sys.executable).parent / "steprule"), "--show-completion", "bash"]
    environment = _environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")  # in place of the shell's own name
    script = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert "_STEPRULE_COMPLETE=complete_bash" in script
    assert "complete -o default" in script  # names of files, too: my_rule.py


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rles"], "No such command 'rles'"),
        (["emit"], "Missing argument"),
        (["emit", "adam", "--targte", "c"], "No such option: --targte"),
        (["race", "--seeds", "two"], "Invalid value for '--seeds': 'two' is not an integer"),
        (["race", "--jobs", "1.5"], "Invalid value for '--jobs': '1.5' is not an integer"),
        (["lab", "--serve", "--port", "http"], "Invalid value for '--port': 'http' is not an integer"),
        (
            ["lab", "--output", ""],
            "Invalid value for '--output': '' names no place; write ./NAME, or leave --output out",
        ),
        (["race", "saddle", "--output", ""], "Invalid value for '--output': '' names no place"),
        (["race", "saddle", "--output", " "], "Invalid value for '--output': ' ' names no place"),
        (["race", "saddle", "--output", "/proc/nowhere"], "cannot write to '/proc/nowhere"),
        (["race", "saddle", "--output", "f" * 300], "File name too long. Choose another folder by --output"),
        (["lab", "--output", "f" * 300], "File name too long. Choose another place: --output FILE"),
        (["lab", "--output", "file/page.html"], "a part of this path is a file. Choose another place: --output FILE"),
        (["race", "saddle", "--output", "file/folder"], "'file' is a file. Choose another folder by --output"),
    ],
)
def test_what_is_mistyped_is_said_and_nothing_is_written(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    text = refused(words, tmp_path)
    assert said in " ".join(text.split())
    assert "Traceback" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
