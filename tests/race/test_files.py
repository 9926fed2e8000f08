"""Problem files of the user: their forms, and what is said of those that break the protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from steprule.errors import ProblemError
from steprule.race.check import check_problem
from steprule.race.load import load_problem

GOOD = """
import numpy as np
def init(rng): return rng.normal(size=3)
def batches(rng): yield None
def loss_and_grad(params, batch): return float(params @ params), 2 * params
def evaluate(params): return {"train_loss": float(params @ params)}
"""


def _load(path: Path, source: str) -> Any:
    path.write_text(source)
    loaded = load_problem(str(path))
    check_problem(loaded)
    return loaded


def test_a_problem_file_and_its_options(tmp_path: Path) -> None:
    loaded = _load(tmp_path / "mine.py", '"""Three numbers.\n\nMore."""' + GOOD + "epochs = 7\nlrs = [0.1, 1]\n")
    assert (loaded.name, loaded.description, loaded.epochs, loaded.lrs) == ("mine", "Three numbers", 7, (0.1, 1))
    assert Path(loaded.spec).is_absolute()
    other = _load(tmp_path / "mine.py", GOOD)
    assert other.epochs == 20
    assert other.digest != loaded.digest


@pytest.mark.parametrize("form", ["problem = Mine()", "problem = Mine", "def problem():\n    return Mine()"])
def test_a_problem_file_may_hold_an_object(tmp_path: Path, form: str) -> None:
    lines = [line.replace("(rng)", "(self, rng)").replace("(params", "(self, params") for line in GOOD.splitlines()[2:]]
    body = "\n".join(f"    {line}" for line in lines).replace("float(self, params", "float(params")
    _load(tmp_path / "object.py", f"import numpy as np\nclass Mine:\n    epochs = 3\n{body}\n{form}\n")


def test_a_problem_file_may_import_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "its_neighbour.py").write_text("SIZE = 3\n")
    _load(tmp_path / "mine.py", "from its_neighbour import SIZE\n" + GOOD.replace("size=3", "size=SIZE"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("def evaluate", "def evaluates"), r"bad\.py has no evaluate: a problem has init\(rng\)"),
        (('{"train_loss"', '{"loss"'), r"must return a dict with 'train_loss', got the keys \['loss'\]"),
        (('return {"train_loss": float(params @ params)}', "return 3.0"), "got a float"),
        (("float(params @ params)}", '"low"}'), "train_loss must be a number, got 'low'"),
        (("float(params @ params)}", 'float("nan")}'), "starts at train_loss = nan"),
        (("yield None", "return []"), r"batches\(rng\) yields no batch"),
        (("return float(params @ params), 2 * params", "return 1.0"), r"must return \(loss, gradients\), got a float"),
        (("return float(params @ params), 2 * params", 'return "low", 2 * params'), "loss_and_grad must be a number"),
        (("yield None", "return None"), "batches must yield batches or return a list of them, got a NoneType"),
        (
            ("2 * params", "2 * params[1:]"),
            r"problem bad: the gradients of loss_and_grad do not fit: grads has shape \(2,\), but the parameter has",
        ),
        (("@ params)}", '@ params), "name": "x"}'), "problem bad: name must be a number, got 'x'"),
        (("import numpy as np", "lrs = 0.1"), "lrs must be a sequence of positive numbers, got 0.1"),
        (("2 * params", '(2 * params).astype("f4")'), "has type float32, but the parameter has type float64"),
        (("rng.normal", "np.random.normal"), "gives other parameters when it is called again"),
        (("rng.normal(size=3)", "[1, 2]"), r"problem bad: params\[0\] is a int, not a NumPy array"),
        (("import numpy as np", "epochs = 0"), "epochs must be an integer of at least 1, got 0"),
    ],
)
def test_a_problem_that_breaks_the_protocol(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ProblemError, match=message):
        _load(tmp_path / "bad.py", GOOD.replace(*change))


@pytest.mark.parametrize(
    ("signature", "wrong", "message"),
    [
        ("init(rng)", "init()", r"init must take \(rng\), got init\(\) at sig\.py:3"),
        ("batches(rng)", "batches()", r"batches must take \(rng\), got batches\(\) at sig\.py:4"),
        (
            "loss_and_grad(params, batch)",
            "loss_and_grad(params: list)",
            r"loss_and_grad must take \(params, batch\), got loss_and_grad\(params\) at sig\.py:5",
        ),
        ("evaluate(params)", "evaluate(params, *, x)", r"got evaluate\(params, \*, x\) at sig\.py:6"),
    ],
)
def test_wrong_signatures(tmp_path: Path, signature: str, wrong: str, message: str) -> None:
    assert signature in GOOD
    with pytest.raises(ProblemError, match=f"^problem sig: .*{message}$"):
        _load(tmp_path / "sig.py", GOOD.replace(signature, wrong))


def test_a_function_that_makes_the_problem_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"problem sig: problem must take \(\), got problem\(x\) at sig\.py:1"):
        _load(tmp_path / "sig.py", "def problem(x): pass\n")


@pytest.mark.parametrize("function", ["loss_and_grad", "evaluate"])
@pytest.mark.parametrize(
    ("change", "place"),
    [("p['a'][1][0] += 1", "params['a'][1]"), ("p['b'] = -p['b']", "params['b']"), ("p['b'][0] = np.nan", "")],
)
def test_a_problem_that_changes_its_parameters(tmp_path: Path, function: str, change: str, place: str) -> None:
    lines = [
        "import numpy as np",
        "def init(rng): return {'a': [np.zeros(2), rng.normal(size=2)], 'b': np.array([np.inf, np.nan])}",
        "def batches(rng): yield 1",
        "def loss_and_grad(p, b): return 1.0, p",
        "def evaluate(p): return {'train_loss': 1.0}",
    ]
    source = "\n".join(lines)
    assert check_problem(load_problem(_write(tmp_path / "good.py", source))).start == 1.0
    lines = [line.replace(": return", f":\n    {change}\n    return") if function in line else line for line in lines]
    with pytest.raises(ProblemError, match=re.escape(f"problem bad: {function} changes {place}")):
        _load(tmp_path / "bad.py", "\n".join(lines))


def _write(path: Path, source: str) -> str:
    path.write_text(source)
    return str(path)


@pytest.mark.parametrize("place", ["def evaluate(params):\n    ", ""])
@pytest.mark.parametrize("call", ["import sys; sys.exit(3)", "exit(3)"])
def test_a_problem_that_ends_the_program_does_not(tmp_path: Path, place: str, call: str) -> None:
    with pytest.raises(ProblemError, match=r"(?s)^problem ends(\.py)? ended the program\n.*ends\.py.*SystemExit: 3$"):
        _load(tmp_path / "ends.py", f"{GOOD}\n{place}{call}\n")


def test_what_a_problem_raises_is_shown_with_its_own_frames(tmp_path: Path) -> None:
    source = GOOD.replace("return float(params @ params), 2", "return deeper(params), 2")
    with pytest.raises(ProblemError) as caught:
        _load(tmp_path / "raises.py", source + "def deeper(params):\n    return np.linalg.inv(params)\n")
    text = str(caught.value)
    assert text.startswith("problem raises raised an exception\n")
    assert text.count('File "') == 2
    assert text.count("raises.py") == 2
    assert "in deeper\n    return np.linalg.inv(params)" in text
    assert "LinAlgError" in text.splitlines()[-1]


def test_unknown_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProblemError, match=r"no problem is called 'digits-mpl'. Did you mean 'digits-mlp'"):
        load_problem("digits-mpl")
    with pytest.raises(ProblemError, match=r"there is no file 'none.py' \(from "):
        load_problem("none.py")
    (tmp_path / "mine.py").write_text(GOOD)
    with pytest.raises(ProblemError, match=r"write mine\.py"):
        load_problem("mine")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "mine.txt").write_text(GOOD)
    for spec, message in (
        ("folder.py", "^'folder.py' is a folder"),
        ("mine.txt", r"^'mine\.txt' is not a \.py file"),
        ("momentum", "no problem is called 'momentum', but a rule is. .* by commas, without spaces"),
        ("lion,mom", "by commas, without spaces"),
        ("himmelblau", r"Known: .*\. A problem of your own is a \.py file .* lab --surface himmelblau$"),
        ("x**2+10*y**2", r"is a \.py file .*docs/race\.md\..* steprule lab --surface 'x\*\*2\+10\*y\*\*2'$"),
    ):
        with pytest.raises(ProblemError, match=message):
            load_problem(spec)


def test_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r'(?s)^problem wrong\.py is not valid Python\n.*wrong\.py", line 2'):
        _load(tmp_path / "wrong.py", "x = 1\ny = = 2\n")
    _write(tmp_path / "its_broken_neighbour.py", "x = = 2\n")
    with pytest.raises(ProblemError, match=r"(?s)^problem fine\.py raised an exception\n.*_neighbour\.py"):
        _load(tmp_path / "fine.py", "import its_broken_neighbour\n")
