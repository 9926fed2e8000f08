"""The animation of a race: what moves, the GIF, the MP4, and what is said without ffmpeg. Needs ffmpeg and ffprobe."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image, ImageSequence

from steprule.cli import main
from steprule.cli import race as verb
from steprule.errors import HyperparameterError, ProblemError, StepruleError
from steprule.film import NO_FFMPEG, Scene
from steprule.film.ffmpeg import program
from steprule.race import Race, Settings, animate, make_plan, run_plan, summarize
from steprule.race.film import PICTURES
from steprule.race.problem import Array
from steprule.race.run import Run
from steprule.race.scenes import curves_scene, paths_scene
from steprule.race.stages import known
from steprule.report.theme import styles_of
from steprule.style import LIGHT
from tests.race.cases import QUADRATIC, write_quadratic

pytestmark = pytest.mark.apart

RULES = ("sgd", "adam", "adagrad")
STEPS = 20


def _race(problem: str, folder: Path, **more: Any) -> Race:
    plan = make_plan(Settings(problem, **{"rules": RULES, "lrs": (0.1,), "seeds": 1, "schedule": "constant", **more}))
    return run_plan(plan, folder, jobs=1)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Race:
    return _race("saddle", tmp_path_factory.mktemp("plane"), epochs=STEPS // 5)


@pytest.fixture(scope="module")
def film(plane: Race, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A GIF and an MP4 of three pictures."""
    return animate(plane, tmp_path_factory.mktemp("film") / "new", pictures=3)


@pytest.fixture
def quadratic(tmp_path: Path) -> Race:
    return _race(write_quadratic(tmp_path), tmp_path, lrs=(0.01, 0.1), seeds=2)


@pytest.fixture
def no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


def _pictures(gif: Path) -> tuple[list[Array], list[int]]:
    """Return what is shown, and for how many milliseconds."""
    with Image.open(gif) as image:
        frames = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    pictures, times = zip(*frames, strict=True)
    return list(pictures), list(times)


def _rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _heads(race: Race, step: int) -> dict[str, tuple[int, int]]:
    """Return in which row and column of the GIF each rule is after a step."""
    rows = summarize(race.plan, race.runs)
    to_pixels = paths_scene(race.plan, rows).figure.axes[0].transData
    places = {row.entrant.label: row.best.runs[0].path[step] for row in rows if row.best}
    pixels = {label: to_pixels.transform(place) for label, place in places.items()}
    return {label: (round(720 - y), round(x)) for label, (x, y) in pixels.items()}


def test_the_gif_shows_every_rule_where_it_is(plane: Race, film: list[Path]) -> None:
    assert [path.name for path in film] == ["paths.gif", "paths.mp4"]
    assert {path.name for path in film[0].parent.iterdir()} == {"paths.gif", "paths.mp4"}
    pictures, times = _pictures(film[0])
    assert [picture.shape for picture in pictures] == [(720, 1280, 3)] * 3
    assert times == [600, 40, 2000]
    styles = styles_of(RULES, LIGHT)
    # The steps pass as the square of the time. At the start all rules are at one place, and the best is on top.
    for picture, step in zip(pictures[1:], (STEPS // 4, STEPS), strict=True):
        for label, place in _heads(plane, step).items():
            assert picture[place].tolist() == _rgb(styles[label].color), (label, step)
    best = summarize(plane.plan, plane.runs)[0].entrant.label
    assert pictures[0][_heads(plane, 0)[best]].tolist() == _rgb(styles[best].color)
    assert pictures[0][5, 5].tolist() == [255, 255, 255]


def test_the_surface_has_axes_its_minima_and_the_losses(plane: Race) -> None:
    rows = summarize(plane.plan, plane.runs)
    scene = paths_scene(plane.plan, rows)
    scene.move(1.0)
    panels: list[Any] = scene.figure.axes
    axes, chart = panels
    assert (axes.get_xlim(), axes.get_ylim()) == plane.plan.problem.box
    assert (axes.get_xlabel(), axes.get_ylabel(), chart.get_yscale()) == ("x", "y", "log")
    places = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_gid() == "minimum"]
    assert sorted(places) == [[0.0, -1.0], [0.0, 1.0]]
    ends = sorted(float(line.get_ydata()[-1]) for line in chart.lines[::2])
    # A run's last loss is that of the race's table.
    assert ends == pytest.approx(sorted(row.best.median for row in rows if row.best), rel=1e-12)
    assert all(f"lr {row.best.lr:g}" in {text.get_text() for text in scene.figure.texts} for row in rows if row.best)


def test_minima_are_points(tmp_path: Path) -> None:
    problem = tmp_path / "flat.py"
    text = QUADRATIC + "minima = [(0.0, 1), (2, 3)]\n"
    problem.write_text(text)
    assert make_plan(Settings(str(problem), rules=("sgd",))).problem.minima == ((0.0, 1.0), (2.0, 3.0))
    problem.write_text(text.replace("(2, 3)", "2"))
    with pytest.raises(ProblemError, match=r"problem flat: minima must be points, as in \[\(1.0, 1.0\)\], got"):
        make_plan(Settings(str(problem), rules=("sgd",)))


def test_the_same_race_gives_the_same_gif(plane: Race, film: list[Path], tmp_path: Path, no_ffmpeg: None) -> None:
    (gif,) = animate(plane, tmp_path, pictures=3)
    assert gif.read_bytes() == film[0].read_bytes()


def test_heads_that_lie_on_each_other_are_rings(film: list[Path]) -> None:
    plot = _pictures(film[0])[0][0][:, :740].reshape(-1, 3)
    seen = {tuple(color) for color in np.unique(plot, axis=0).tolist()}
    assert {tuple(_rgb(style.color)) for style in styles_of(RULES, LIGHT).values()} <= seen


def _probed(mp4: Path) -> dict[str, Any]:
    shown = "stream=codec_name,width,height,pix_fmt,duration,color_space"
    command = ["ffprobe", "-v", "error", "-show_entries", shown, "-of", "json", str(mp4)]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    return dict(stream)


def test_the_mp4_plays_everywhere(film: list[Path]) -> None:
    data = film[1].read_bytes()
    assert data[4:8] == b"ftyp"
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    probed = _probed(film[1])
    assert float(probed.pop("duration")) == pytest.approx(2.64)
    assert probed == {
        "codec_name": "h264", "width": 1920, "height": 1080, "pix_fmt": "yuv420p", "color_space": "bt709",
    }  # fmt: skip


def test_the_mp4_ends_as_the_gif_does(film: list[Path]) -> None:
    command = f"ffmpeg -v error -sseof -0.1 -i {film[1]} -frames:v 1 -vf scale=1280:720 -pix_fmt rgb24 -f rawvideo -"
    done = subprocess.run(command.split(), check=True, capture_output=True)
    shown = np.frombuffer(done.stdout, np.uint8).reshape(720, 1280, 3)
    difference = np.abs(shown.astype(int) - _pictures(film[0])[0][-1])
    # ffmpeg's way back from video to RGB makes white 253.
    assert difference.mean() < 3
    assert np.percentile(difference, 98) <= 10


def test_an_animation_takes_six_seconds(plane: Race) -> None:
    assert 5.5 < (PICTURES - 2 + 15 + 50) / 25 < 6.5
    with pytest.raises(HyperparameterError, match="pictures must be at least 2"):
        animate(plane, Path(), pictures=1)


def test_long_paths_keep_their_ends_and_know_their_steps(tmp_path: Path) -> None:
    # So slow that they still move at the end.
    done = _race("saddle", tmp_path, rules=("sgd", "adam"), epochs=250, lrs=(0.001,))
    problem = done.plan.problem.problem
    for task, run in done.runs.items():
        assert 300 < len(run.path) == len(run.path_steps) <= 502
        assert (run.path_steps[0], run.path_steps[-1]) == (0, 1250)
        assert run.path[0] == problem.init(np.random.default_rng([task.seed, 0])).tolist()
        assert problem.evaluate(np.array(run.path[-1]))["train_loss"] == run.train_loss
        assert (np.diff(run.path_steps) > 0).all()
    short = _race("saddle", tmp_path, rules=("sgd",), epochs=10, lrs=(0.001,))
    sgd = next(iter(short.runs.values()))
    assert sgd.path_steps == list(range(51))
    # Every point that a thinned path keeps is where the whole path was after that step.
    long = next(run for task, run in done.runs.items() if task.rule == "sgd")
    kept = dict(zip(long.path_steps, long.path, strict=True))
    common = [step for step in sgd.path_steps if step in kept]
    assert len(common) > 10
    assert all(kept[step] == sgd.path[step] for step in common)


def test_a_run_of_an_earlier_version_is_run_again(tmp_path: Path) -> None:
    done = _race("saddle", tmp_path, rules=("sgd",), epochs=2)
    file = tmp_path / "runs" / f"{next(iter(done.runs)).key}.json"
    saved = json.loads(file.read_text())
    del saved["run"]["path_steps"]
    file.write_text(json.dumps(saved))
    again = run_plan(done.plan, tmp_path, jobs=1)
    assert again.resumed == 1
    assert next(iter(again.runs.values())).path_steps == list(range(11))


def _boxes(scene: Scene) -> dict[str, Bbox]:
    texts = [artist for artist in scene.moving if isinstance(artist, Text) and artist.get_text()]
    return {f"{index} {text.get_text()}": text.get_window_extent() for index, text in enumerate(texts)}


LONG = ("adam(beta1=0.85, beta2=0.9)", "momentum_ema")


@pytest.mark.parametrize("rules", [RULES, (*LONG, "sgd", "adam", "lion", "yogi", "nadam", "radam", "rprop", "adan")])
def test_names_ride_beside_their_curves_and_are_never_cut(tmp_path: Path, rules: tuple[str, ...]) -> None:
    done = _race(write_quadratic(tmp_path), tmp_path, rules=rules)
    scene = curves_scene(done.plan, summarize(done.plan, done.runs))
    for moment in np.linspace(0, 1, 9):
        scene.move(float(moment))
        boxes = _boxes(scene)
        assert len(boxes) == 2 * len(rules)
        assert all(0 <= box.x0 < box.x1 <= 1280 and 0 <= box.y0 < box.y1 <= 720 for box in boxes.values())
        assert not [pair for pair in combinations(boxes, 2) if Bbox.intersection(boxes[pair[0]], boxes[pair[1]])]


def _ends(scene: Scene) -> list[list[float]]:
    lines: Sequence[Any] = scene.figure.axes[0].lines
    return sorted([line.get_xdata()[-1], line.get_ydata()[-1]] for line in lines if line.get_marker() == "None")


def test_curves_are_drawn_as_far_as_the_epoch(quadratic: Race) -> None:
    rows = summarize(quadratic.plan, quadratic.runs)
    scene = curves_scene(quadratic.plan, rows)
    histories = [np.median([run.history for run in row.best.runs], axis=0) for row in rows if row.best]
    scene.move(0.5)
    assert np.allclose(_ends(scene), sorted([2, history[2]] for history in histories))
    # In the middle of an epoch the end is in the middle of a line that is straight on the logarithmic axis.
    scene.move(0.375)
    assert np.allclose(_ends(scene), sorted([1.5, math.sqrt(history[1] * history[2])] for history in histories))
    scene.move(1.0)
    assert np.allclose(_ends(scene), sorted([4, history[4]] for history in histories))


def test_losses_below_zero_are_drawn(tmp_path: Path) -> None:
    problem = tmp_path / "low.py"
    problem.write_text(QUADRATIC.replace('{"train_loss": 0.5', '{"train_loss": -1 + 0.5'))
    done = _race(str(problem), tmp_path)
    scene = curves_scene(done.plan, summarize(done.plan, done.runs))
    scene.move(0.3)
    assert np.isfinite(_ends(scene)).all()


def test_other_problems_have_curves(quadratic: Race, tmp_path: Path, no_ffmpeg: None) -> None:
    (gif,) = animate(quadratic, tmp_path / "out", pictures=4)
    assert gif.name == "curves.gif"
    pictures, times = _pictures(gif)
    assert times == [600, 40, 40, 2000]
    assert all((a != b).any() for a, b in combinations(pictures, 2))


def test_without_a_run_that_has_converged_there_is_nothing_to_draw(quadratic: Race, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert animate(Race(quadratic.plan, {}, 1, 0.0, 0, True), folder) == []
    lost = {task: Run(diverged=True, history=[1.0]) for task in known(quadratic.plan, {})}
    assert animate(Race(quadratic.plan, lost, 1, 0.0, 0, False), folder) == []
    assert not folder.exists()


def _stub(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put a program called ffmpeg before all others."""
    folder.mkdir()
    (folder / "ffmpeg").write_text(text)
    (folder / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("#!/bin/sh\necho first >&2\necho \"Unknown encoder 'libx264'\" >&2\nexit 1\n", "Unknown encoder 'libx264'"),
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("no program", "Exec format error"),
    ],
)
def test_an_ffmpeg_that_fails_is_quoted(
    plane: Race, film: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    _stub(tmp_path / "bin", monkeypatch, program)
    folder = tmp_path / "out"
    expected = f"no MP4 was written, only {folder / 'paths.gif'}: ffmpeg failed: "
    with pytest.raises(StepruleError, match=f"^{re.escape(expected)}.*{re.escape(said)}"):
        animate(plane, folder, pictures=3)
    # It was not kept from any of its pictures.
    assert (folder / "paths.gif").read_bytes() == film[0].read_bytes()
    assert len(list(folder.iterdir())) == 1


def test_the_package_imageio_ffmpeg_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ffmpeg: None) -> None:
    assert program() is None
    package: Any = ModuleType("imageio_ffmpeg")
    package.get_ffmpeg_exe = lambda: "/somewhere/ffmpeg"
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)
    assert program() == "/somewhere/ffmpeg"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command draw few pictures."""
    monkeypatch.setattr("steprule.race.animate", partial(animate, pictures=2))


def _command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process; return its exit code."""
    settings = "--rules sgd,adam --lrs 0.1 --seeds 1 --jobs 1 --animate --output"
    problem, output = write_quadratic(folder), str(folder / "out")
    monkeypatch.setattr(sys, "argv", ["steprule", "race", problem, *settings.split(), output])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_the_command_writes_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short: None
) -> None:
    assert _command(tmp_path, monkeypatch) == 0
    folder = tmp_path / "out"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        f"Report: {folder / 'report.html'}",
        f"Animation: {folder / 'curves.gif'}",
        f"Animation: {folder / 'curves.mp4'}",
    ]
    assert {"curves.gif", "curves.mp4", "report.html"} <= {path.name for path in folder.iterdir()}


def test_the_command_says_how_to_get_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short: None, no_ffmpeg: None
) -> None:
    assert _command(tmp_path, monkeypatch) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"Animation: {tmp_path / 'out' / 'curves.gif'}",
        f"No MP4 was written: {NO_FFMPEG}",
    ]
    assert all(way in NO_FFMPEG for way in ("apt install ffmpeg", "brew install ffmpeg", "pip install imageio-ffmpeg"))


def test_the_exit_code_says_that_ffmpeg_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], short: None
) -> None:
    _stub(tmp_path / "bin", monkeypatch, "#!/bin/sh\necho No space left >&2\nexit 1\n")
    assert _command(tmp_path, monkeypatch) == 2
    out, err = capsys.readouterr()
    assert err.endswith("ffmpeg failed: No space left\n")
    assert "Report: " in out


def test_the_command_says_that_there_is_nothing_to_animate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = write_quadratic(tmp_path)
    verb.race(problem, ["sgd"], lrs="1e9", seeds=1, jobs=1, output=tmp_path / "out", animate=True)
    assert capsys.readouterr().out.endswith("Nothing to animate: every run that is finished has diverged.\n")


def test_interrupted_while_the_animation_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steprule.race.animate", interrupt)
    with pytest.raises(typer.Exit) as caught:
        verb.race("saddle", ["sgd"], lrs="0.1", seeds=1, jobs=1, output=tmp_path, animate=True)
    assert caught.value.exit_code == 130
    assert capsys.readouterr().out.splitlines()[-1].startswith("Interrupted while the animation was drawn.")
    assert (tmp_path / "report.html").exists()


def test_without_a_report_there_is_no_animation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    drawn: list[object] = []
    monkeypatch.setattr("steprule.race.write", interrupt)
    monkeypatch.setattr("steprule.race.animate", lambda *args: drawn.append(args))
    with pytest.raises(typer.Exit):
        verb.race("saddle", ["sgd"], lrs="0.1", seeds=1, jobs=1, output=tmp_path, animate=True)
    assert drawn == []
    assert "Animation" not in capsys.readouterr().out


def test_beside_the_list_it_does_nothing() -> None:
    with pytest.raises(StepruleError, match="--list only lists the problems"):
        verb.race(animate=True, list_=True)


def test_an_interrupted_film_leaves_no_process_and_no_file(
    plane: Race, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            started.append(self)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    _stub(tmp_path / "bin", monkeypatch, "#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(subprocess, "Popen", Seen)
    monkeypatch.setattr("steprule.film.scene._Comet.move", interrupt)
    with pytest.raises(KeyboardInterrupt):
        animate(plane, tmp_path / "out", pictures=3)
    assert [process.returncode for process in started] == [-9]
    assert not (tmp_path / "out").exists()
