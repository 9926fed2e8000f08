"""Parts are done once, kept, resumed, and interrupted; and what is written of them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from steprule.cli.main import app
from steprule.errors import HyperparameterError, StepruleError
from steprule.figures import PAPERS, do_parts, figures_of, make, write
from steprule.figures.claims_moments import StepBound
from steprule.figures.figure import part
from tests.cli.inside import refused
from tests.figures.cases import Squares, called


def test_parts_that_follow_are_done_and_none_twice(tmp_path: Path) -> None:
    figure = Squares(tmp_path / "log")
    work = do_parts([figure, figure], tmp_path / "out", jobs=1)
    assert called(tmp_path / "log") == [1, 2]
    assert [work.results[figure.part(n)] for n in (1, 2)] == [{"square": 1}, {"square": 4}]
    assert (work.resumed, work.interrupted, work.expected, work.is_done(figure)) == (0, False, 2, True)


def test_what_the_folder_holds_is_not_done_again(tmp_path: Path) -> None:
    figure, out = Squares(tmp_path / "log"), tmp_path / "out"
    first = do_parts([figure], out, jobs=1)
    again = do_parts([figure], out, jobs=1)
    assert again.results == first.results
    assert (again.resumed, called(tmp_path / "log")) == (2, [1, 2])
    next((out / "parts").glob(f"{figure.part(2).key}.json")).write_text("{")  # cut short by something else
    do_parts([figure], out, jobs=1)
    assert called(tmp_path / "log") == [1, 2, 2]
    do_parts([figure], out, jobs=1, fresh=True)
    assert called(tmp_path / "log") == [1, 2, 2, 1, 2]


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    figure = Squares(tmp_path / "log", stop=True)
    seen: list[int] = []
    work = do_parts([figure], tmp_path / "out", jobs=1, watch=lambda work: seen.append(len(work.results)))
    assert (work.interrupted, work.is_done(figure), seen[-1]) == (True, False, 1)
    whole = do_parts([Squares(tmp_path / "log")], tmp_path / "out", jobs=1)
    assert called(tmp_path / "log") == [1, 2, 2]  # the interrupted one alone is done again
    assert whole.resumed == 1


def test_a_result_is_the_same_as_from_the_disk(tmp_path: Path) -> None:
    """A NaN is None in both, as JSON has no word for it."""
    figure = Squares(tmp_path / "log", second=3)
    fresh, resumed = (do_parts([figure], tmp_path / "out", jobs=1).results for _ in range(2))
    assert fresh == resumed
    assert fresh[figure.part(3)] == {"square": None}


def test_processes_do_not_change_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepBound, "steps", 100)
    figures = figures_of("adam", ["adam-claim-step-bound"])
    one, two = (do_parts(figures, tmp_path / str(jobs), jobs=jobs).results for jobs in (1, 2))
    assert len(one) == 2
    assert one == two


def test_a_part_has_another_key_where_numbers_may_differ() -> None:
    keys = {part("a:b", x=1).key, part("a:b", x=2).key, part("a:c", x=1).key, part("a:b", "digest", x=1).key}
    assert len(keys) == 4
    assert part("a:b", x=1, y=2).key == part("a:b", y=2, x=1).key


def test_the_folder_can_be_sent(tmp_path: Path) -> None:
    figure, out = Squares(tmp_path / "log"), tmp_path / "out"
    page = write("adam", do_parts([figure], out, jobs=1), out)
    assert {path.name for path in out.iterdir()} == {
        *("index.html", "parts", "squares.csv", "squares.png", "squares.svg", "verdicts.csv"),
    }
    text = page.read_text()
    assert not re.search(r"""(src|href|srcset)=["'](?!data:|#)""", text)
    assert "Of 2 claims, 1 hold here and 1 do not." in text
    assert "Squares &amp; &lt;others&gt;" in text
    assert "They &lt;grow&gt;." in text
    with (out / "squares.csv").open(newline="") as file:
        assert [*csv.reader(file)] == [["n", "square"], ["1", "1"], ["2", "4"]]
    with (out / "verdicts.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["claim"], row["holds"], row["why_not"]) for row in rows] == [
        ("Squares grow.", "True", ""),
        ("Squares fall.", "False", "They <grow>."),
    ]


def test_the_same_results_make_the_same_files(tmp_path: Path) -> None:
    figure = Squares(tmp_path / "log")
    work = do_parts([figure], tmp_path / "out", jobs=1)
    one, two = (write("adam", work, tmp_path / name).parent for name in ("one", "two"))
    for name in ("squares.png", "squares.svg", "index.html"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_what_is_not_finished_or_cannot_be_made_is_named(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    lacking = Squares(log)
    lacking.__class__ = type("Lacking", (Squares,), {"name": "cubes", "needs": {"no_such_module": "nothing"}})
    page = write("adam", do_parts([Squares(log, stop=True)], out, jobs=1), out, [lacking]).read_text()
    assert "<b>Not finished:</b> squares." in page
    assert "<b>Left out:</b> cubes, for lack of nothing." in page
    assert not (out / "squares.png").exists()


@pytest.mark.parametrize("paper", PAPERS)
def test_figures_of_a_paper_have_names_of_their_own(paper: str) -> None:
    figures = figures_of(paper)
    names = [figure.name for figure in figures]
    assert len(set(names)) == len(names)
    for figure in figures:
        assert figure.name.startswith(f"{paper}-")
        assert figure.left({}), "there is something to do"
        assert figure.title
        assert figure.source
        assert figure.setting.endswith(".")
    assert figures_of(paper, [names[-1]])[0].name == names[-1]


def test_wrong_words_are_told(tmp_path: Path) -> None:
    assert "no figures of 'adm'. Did you mean 'adam'" in refused(["figures", "adm"])
    assert "adam has no figure 'adam-1'. Did you mean 'adam-1-" in refused(["figures", "adam", "--only", "adam-1"])
    assert "jobs must be at least 1, got 0" in refused(["figures", "adam", "--jobs", "0"], tmp_path)
    (tmp_path / "file").write_text("")
    said = refused(["figures", "adam", "--only", "adam-claim-memory", "--output", "file"], tmp_path)
    assert "'file': it is a file. Choose another folder by --output" in said
    with pytest.raises(HyperparameterError, match="no figures of 'adm'"):
        figures_of("adm")


def test_the_command_writes_says_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["figures", "adam", "--only", "adam-claim-memory", "--jobs", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "adam-claim-memory is done, 1 of 1." in done.output
    assert "Adam has little memory requirements.\n    Holds here. It keeps 8 bytes" in done.stdout
    assert "Does not hold here. Adam 8 bytes, momentum 4. Momentum keeps one array" in " ".join(done.stdout.split())
    assert Path("figures/adam/index.html").is_file()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is done already")

    monkeypatch.setattr("steprule.figures.claims_generalization.memory", never)
    assert CliRunner().invoke(app, words).exit_code == 0
    # Those of another paper would write their page over this one.
    others = ["figures", "amsgrad", "--only", "amsgrad-2-network", "--output", "figures/adam"]
    assert "has other files in it" in " ".join(refused(others, tmp_path).split())


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    words = ["figures", "adam", "--only", "adam-claim-memory", "--output", str(tmp_path)]
    assert "has other files in it" in " ".join(refused(words, tmp_path).split())
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    with pytest.raises(StepruleError, match="has other files in it"):
        make("adam", str(tmp_path), only=["adam-claim-memory"])


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match="jobs must be at least 1"):
        make("adam", tmp_path / "new", only=["adam-claim-memory"], jobs=0)
    assert not (tmp_path / "new").exists()


def test_ctrl_c_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steprule.figures.claims_generalization.memory", stop)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["figures", "adam", "--only", "adam-claim-memory", "--jobs", "1"])
    assert done.exit_code == 130
    assert done.stdout.endswith("Interrupted. Run the same command again to continue.\n")


def test_what_lacks_a_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steprule.cli.arguments._RACE_EXTRA", {"no_such_module": "nothing"})
    assert "figures need nothing. Install: pip install" in refused(["figures", "adam"])


def test_an_error_of_a_part_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int, log: str) -> dict[str, int]:
        if number == 2:
            raise StepruleError("a part went wrong")
        return {"square": number}

    monkeypatch.setattr("tests.figures.cases.square", fail)
    with pytest.raises(StepruleError, match="a part went wrong"):
        do_parts([Squares(tmp_path / "log")], tmp_path / "out", jobs=1)
    (kept,) = (tmp_path / "out" / "parts").iterdir()
    assert json.loads(kept.read_text()) == {"square": 1}
