"""Films of the lab: what is drawn, the files, and the command. Needs ffmpeg and ffprobe."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from steprule import lab
from steprule.cli import main
from steprule.errors import HyperparameterError
from steprule.film import NO_FFMPEG, Ground, Scene, Shot, Track, compose, encode, pictures_of
from steprule.film.draw import MINIMUM, START
from steprule.film.relief import Relief
from steprule.film.shots import walked
from steprule.film.views import Map
from steprule.lab.films import lasts, scene, shot
from steprule.lab.presets import presets
from steprule.style import DARK, LIGHT
from tests import ROOT

pytestmark = pytest.mark.apart

STORIES = [story["key"] for story in presets()]
SHORT = "#surface=saddle&steps=32&rules=sgd,adam&sgd.lr=0.1&adam.lr=0.05"
LOST = "#surface=rosenbrock&steps=40&rules=sgd,adam&sgd.lr=0.005&adam.lr=0.05"
SMALL = 320


def _lines(drawn: Scene, name: str) -> list[Any]:
    return [line for line in drawn.figure.axes[0].lines if line.get_gid() == name]


def _words(drawn: Scene) -> list[str]:
    return [text.get_text() for text in _texts(drawn)]


def _texts(drawn: Scene) -> list[Text]:
    """Return all words that are seen: titles, names, numbers at axes."""
    found = list(drawn.figure.texts)
    panels: list[Any] = drawn.figure.axes
    for axes in panels:
        found += axes.texts
        if axes.axison:
            found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
            found += [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def _image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("key", STORIES)
def test_every_story_makes_a_film(key: str) -> None:
    found = lab.film(lab.situation(key), ("gif", "png"), seconds=0.12, width=SMALL)
    gif = _image(found.files["gif"])
    assert (gif.size, gif.n_frames) == ((320, 180), 3)  # type: ignore[attr-defined]
    assert _image(found.files["png"]).size == (320, 180)
    assert not found.no_movie


@pytest.mark.parametrize("view", ["map", "solid"])
def test_points_are_the_referees(view: str) -> None:
    found = lab.situation(f"{SHORT}&view={view}&noise=0.5&seed=3&scale=2&start=-1,0.25")
    drawn = scene([found])
    common: dict[str, Any] = {"start": (-1.0, 0.25), "noise": 0.5, "scale": 2.0, "seed": 3}
    paths = {
        entry.name: lab.trajectory(entry.rule, found.surface, 32, **{**common, **entry.values})
        for entry in found.entries
    }
    for step in (0, 8, 32):
        drawn.move(float(np.sqrt(step / 32)))
        for name, path in paths.items():
            behind, line, head = _lines(drawn, name)
            points = path[: step + 1].astype(float)
            if view == "map":
                np.testing.assert_array_equal(line.get_xydata(), points)
                np.testing.assert_array_equal(head.get_xydata(), points[-1:])
                assert not np.isfinite(behind.get_xydata()).any()
            else:
                places, hidden = Relief(shot(found, LIGHT).ground, found.turn).place(points)
                np.testing.assert_array_equal(line.get_xydata()[~hidden], places[~hidden])
                np.testing.assert_array_equal(head.get_xydata(), places[-1:])
    # The chart beside it has the losses there.
    chart: Any = drawn.figure.axes[1]
    for line, path in zip(chart.lines[::2], paths.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), found.surface.loss(path.T.astype(float)), rtol=1e-12)


def test_between_two_steps_a_head_is_between_two_points() -> None:
    path, steps = np.array([[0.0, 0], [4, 0], [4, 2]]), np.array([0, 2, 4])
    assert walked(path, steps, 3).tolist() == [[0, 0], [4, 0], [4, 1]]
    assert walked(path, steps, 2).tolist() == [[0, 0], [4, 0]]
    assert walked(path, steps, 0).tolist() == [[0, 0]]
    assert walked(path, steps, 9).tolist() == path.tolist()


@pytest.mark.parametrize("link", ["saddle", "#surface=himmelblau&rules=adam&view=solid&steps=20"])
def test_minima_and_the_start_are_marked(link: str) -> None:
    found = lab.situation(link)
    drawn = scene([found])
    for name, points in ((MINIMUM, found.surface.minima), (START, (found.start,))):
        places = [line.get_xydata()[0].tolist() for line in _lines(drawn, name)]
        expected = np.array(points, float)
        if found.view == "solid":
            expected, _ = Relief(shot(found, LIGHT).ground, found.turn).place(expected)
        np.testing.assert_allclose(sorted(places), sorted(expected.astype(np.float32).tolist()), rtol=1e-6)
    assert {"start", "minima"} <= set(_words(drawn))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_axes_names_rates_and_colours(theme: Any) -> None:
    drawn = scene([lab.situation(f"{SHORT}&theme={theme.name}")])
    axes, chart = drawn.figure.axes
    drawn.move(0.5)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert (axes.get_xlim(), axes.get_ylim()) == lab.surface("saddle").box
    assert len(axes.get_xticks()) > 3
    assert chart.get_yscale() == "log"
    assert {"Saddle", "sgd", "adam", "lr 0.1", "lr 0.05", "step 8 of 32", "Loss (logarithmic)"} <= set(_words(drawn))
    for slot, name in enumerate(("sgd", "adam")):
        assert {line.get_color() for line in _lines(drawn, name)} == {theme.palette[slot]}
    assert drawn.figure.get_facecolor()[:3] == pytest.approx([int(theme.paper[k : k + 2], 16) / 255 for k in (1, 3, 5)])


def test_in_three_dimensions_axes_have_numbers_and_names() -> None:
    words = _words(scene([lab.situation(f"{SHORT}&view=solid")]))
    assert {"x", "y", "log loss", "−1", "0", "1"} <= set(words)


def test_on_a_line_time_runs_down() -> None:
    drawn = scene([lab.situation("#surface=reddi&rules=adam&steps=50&lr=0.1")])
    axes = drawn.figure.axes[0]
    assert (axes.get_ylabel(), axes.get_ylim()) == ("step", (50, 0))
    drawn.move(1.0)
    line = _lines(drawn, "adam")[1]
    assert line.get_ydata().tolist() == list(range(51))
    assert _words(drawn).count("Loss") == 1


@pytest.mark.parametrize(("look", "above"), [("sgd", "sgd"), ("adam", "adam"), ("", "adam")])
def test_the_rule_that_is_looked_into_is_drawn_over_the_others(look: str, above: str) -> None:
    drawn = scene([lab.situation(f"{SHORT}&look={look}")])
    heads = [artist.get_gid() for artist in drawn.moving if artist.get_gid() in ("sgd", "adam")]
    assert heads[-1] == above
    names = [word for word in _words(drawn) if word in ("sgd", "adam")]
    assert names == ["sgd", "adam"], "the list keeps its order"


def test_settings_that_are_not_the_defaults_are_named() -> None:
    words = _words(scene([lab.situation("#surface=saddle&steps=9&rules=adam,adam%20(2)&lr=0.1&adam%20(2).beta2=0.9")]))
    assert {"adam", "adam (2)", "lr 0.1", "lr 0.1, beta2 0.9"} <= set(words)


def test_a_run_that_diverges_leaves_the_picture() -> None:
    drawn = scene([lab.situation(LOST)])
    found = lab.situation(LOST)
    path = lab.trajectory("sgd", found.surface, 40, lr=0.005)
    lost = int(np.argmax(~np.isfinite(path).all(axis=1)))
    drawn.move(0.0)
    assert "lr 0.005" in _words(drawn)
    drawn.move(1.0)
    _, line, head = _lines(drawn, "sgd")
    assert len(line.get_xdata()) == lost
    (x0, x1), (y0, y1) = found.surface.box
    drawn_points = line.get_xydata()
    assert np.abs(drawn_points - [(x0 + x1) / 2, (y0 + y1) / 2]).max() < 40 * (y1 - y0), "nothing that overflows"
    assert len(head.get_xdata()) == 0
    assert f"diverged at step {lost}" in _words(drawn)
    assert "lr 0.005" not in _words(drawn)
    # The other rule's losses are not pressed flat.
    low, high = drawn.figure.axes[1].get_ylim()
    losses = found.surface.loss(lab.trajectory("adam", found.surface, 40, lr=0.05).T.astype(float))
    assert low < losses.min()
    assert high < 1e3 * losses.max()


@pytest.mark.parametrize("view", ["map", "solid"])
def test_a_run_leaves_where_there_is_no_loss(view: str) -> None:
    """Below zero a logarithm is undefined, and its slope is not."""
    own = lab.View((), lab.surface("log(x) + y**2"))
    found = lab.situation(f"#surface=own&start=1,2&steps=40&rules=sgd,adam&sgd.lr=0.03&adam.lr=0.01&view={view}", own)
    path = lab.trajectory("sgd", found.surface, 40, start=(1.0, 2.0), lr=0.03).astype(float)
    assert np.isfinite(path).all()
    lost = int(np.argmax(path[:, 0] <= 0))
    drawn = scene([found])
    end = shot(found, LIGHT)
    for step in (lost - 1, lost, 40):
        drawn.move(float(np.sqrt(step / end.end)))
        _, line, head = _lines(drawn, "sgd")
        assert np.isfinite(line.get_xdata()).all()
        assert len(line.get_xdata()) == lost
        assert len(head.get_xdata()) == (step < lost)
        assert (f"no loss at step {lost}" in _words(drawn)) == (step >= lost)
    assert "lr 0.01" in _words(drawn)
    # Its losses are shown to the last.
    low, _ = drawn.figure.axes[1].get_ylim()
    assert low < found.surface.loss(path[lost - 1])


def test_what_is_far_away_is_drawn_in_its_direction() -> None:
    ground = shot(lab.situation(SHORT), LIGHT).ground
    view = Map(scene([lab.situation(SHORT)]).figure.axes[0], ground, LIGHT, 32)
    middle = np.array([np.mean(side) for side in ground.box])
    points = middle + np.array([[1.0, 1.0], [1e9, 2e9], [-1e30, 0.0]])
    places, hidden = view.place(points, np.arange(3))
    np.testing.assert_array_equal(places[0], points[0])
    assert (places[1] - middle)[1] / (places[1] - middle)[0] == pytest.approx(2)
    assert np.abs(places).max() < 200
    assert not hidden.any()


def test_what_the_surface_hides_is_paler() -> None:
    """Behind a hill: points on the far side are hidden, those on the near side are not."""
    ground = Ground("hill", ((-1, 1), (-1, 1)), lambda points: np.exp(-20 * (points**2).sum(axis=0)), soft=1.0)
    relief = Relief(ground, (0.0, 0.2))
    places, hidden = relief.place(np.array([[0.0, 0.5], [0.0, -0.5], [0.9, 0.5], [3.0, 0.0]]))
    assert hidden.tolist()[:3] == [True, False, False]
    assert np.isnan(places[3]).all()
    track = Track("sgd", "", LIGHT.style(0), np.array([[0.0, -0.5], [0.9, 0.5], [0.0, 0.5]]), np.arange(3), np.ones(3))
    drawn = compose([Shot("hill", "", ground, [track], 2, turn=(0.0, 0.2))])
    drawn.move(1.0)
    behind, line, head = _lines(drawn, "sgd")
    assert np.isfinite(line.get_xdata()).tolist() == [True, True, False]
    assert np.isfinite(behind.get_xdata()).tolist() == [False, True, True]
    assert head.get_alpha() == pytest.approx(0.4)


def test_time_passes_as_the_link_says() -> None:
    bound = lab.situation("bound")
    assert lasts(bound) == pytest.approx(270 / 60)
    assert shot(bound, LIGHT).step(0.0) == 4980
    assert shot(bound, LIGHT).step(0.5) == pytest.approx(5115)
    usual = shot(lab.situation(SHORT), LIGHT)
    assert [usual.step(moment) for moment in (0.0, 0.5, 1.0)] == [0, 8, 32]
    assert lasts(lab.situation(SHORT)) == 4


LONG = "#surface=beale&steps=5&rules=" + ",".join(lab.entrants.menu())
SITUATIONS = [
    *STORIES,
    LOST,
    f"{SHORT}&view=solid",
    f"{SHORT}&view=solid&turn=2.5,0.4",
    LONG,
    "#surface=beale&steps=9&rules=adam_uncorrected,adam%20(2)&lr=0.1&beta1=0.8&beta2=0.99&eps=1e-5&noise=3&scale=7",
]


SETTINGS = SITUATIONS[-1]
MANY = "#surface=beale&steps=9&rules=adam,adamw,nadam,amsgrad,l2(adam),lion&beta1=0.8&weight_decay=0.5&beta2=0.99"
WORDY = "x**2" + " + 0.001*sin(x)*cos(y)" * 9
PAIRS = [
    ("page", "saddle"),
    (f"{SHORT}&view=solid", LOST),
    ("valley", "saddle"),
    ("stall", "decay"),
    ("correction", "starts"),
    ("bound", "annealing"),
    (SETTINGS, "bound"),
    (MANY, SETTINGS),
    (LONG, "decay"),
]


@pytest.mark.parametrize("links", [*((link,) for link in (*SITUATIONS, MANY)), *PAIRS])
def test_words_neither_collide_nor_leave_the_picture(links: tuple[str, ...]) -> None:
    drawn = scene([lab.situation(link) for link in links])
    for moment in (0.0, 1.0):
        drawn.move(moment)
        drawn.figure.canvas.draw()
        boxes = {f"{k} {text.get_text()}": text.get_window_extent() for k, text in enumerate(_texts(drawn))}
        width, height = drawn.figure.bbox.size
        assert not [name for name, box in boxes.items() if min(box.x0, box.y0, width - box.x1, height - box.y1) < 0]
        assert not [pair for pair in combinations(boxes, 2) if _overlap(boxes[pair[0]], boxes[pair[1]])]


# Each by itself and each beside its neighbour; in the long sweep every two.
ALL = [*STORIES, SETTINGS]
BESIDE = [
    pair if ALL.index(pair[1]) - ALL.index(pair[0]) == 1 else pytest.param(pair, marks=pytest.mark.slow)
    for pair in combinations(ALL, 2)
]


@pytest.mark.parametrize("links", [*((link,) for link in ALL), *BESIDE])
def test_words_can_be_read(links: tuple[str, ...]) -> None:
    shown = [lab.situation(link) for link in links]
    drawn = compose([Shot(one.title, one.note, one.ground, one.tracks, one.end) for one in map(_brief, shown)])
    drawn.move(1.0)
    assert min(float(text.get_fontsize()) for text in _texts(drawn)) >= 12
    # Titles, steps and settings are all there, in full.
    words = " ".join(" ".join(_words(drawn)).split())
    for one in map(_brief, shown):
        assert one.title in words
        assert all(track.note in words for track in one.tracks)
    titles = {text.get_text(): text for text in _texts(drawn)}
    assert len({text.get_position()[1] for name, text in titles.items() if name.startswith("step ")}) == 1
    beside = [text.get_window_extent() for text in drawn.figure.texts if text.get_visible()]
    assert not [pair for pair in combinations(beside, 2) if _overlap(*pair)]


def _brief(situation: lab.Situation) -> Shot:
    """Return the shot of a situation with the first of its steps alone, over a ground that is drawn in no time."""
    short = shot(replace(situation, steps=min(situation.steps, 2), t=1), LIGHT)
    return replace(short, ground=replace(short.ground, side=9), end=situation.steps, begin=0)


def test_a_title_without_end_is_cut() -> None:
    own = lab.View((), lab.own(WORDY))
    for links in (("#surface=own&steps=2&rules=sgd",), ("#surface=own&steps=2&rules=sgd", "saddle")):
        drawn = scene([lab.situation(link, own) for link in links])
        (title,) = (text for text in _texts(drawn) if text.get_text().startswith("x**2 + "))
        assert title.get_text().endswith("…")
        assert title.get_fontsize() == 12


def _overlap(one: Bbox, other: Bbox) -> bool:
    """Whether two words touch; the empty rim of letters does not count."""
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 1 and both.height > 0.15 * min(one.height, other.height)


def test_the_gif_moves_and_is_held_at_its_ends() -> None:
    found = lab.film(lab.situation(SHORT), ("gif",), seconds=0.2, width=SMALL)
    gif: Any = _image(found.files["gif"])
    times, pictures = [], []
    for frame in range(gif.n_frames):
        gif.seek(frame)
        times.append(gif.info["duration"])
        pictures.append(np.asarray(gif.convert("RGB")).copy())
    assert times == [600, 40, 40, 40, 2000]
    assert gif.info["loop"] == 0
    assert all((a != b).any() for a, b in combinations(pictures, 2))


def test_the_gif_keeps_the_colours_of_pale_heads() -> None:
    link = "#surface=long-valley&view=solid&turn=-0.3,0.9&theme=dark&rules=sgd,adam&sgd.lr=0.07&adam.lr=0.2"
    files = lab.film(lab.situation(link), ("gif", "png"), seconds=0.08, width=640).files
    gif: Any = _image(files["gif"])
    gif.seek(gif.n_frames - 1)
    difference = np.abs(np.asarray(gif.convert("RGB"), int) - np.asarray(_image(files["png"]), int))
    assert difference.max() < 40
    assert difference.mean() < 1


def test_the_same_film_has_the_same_bytes() -> None:
    kinds = ("gif", "png")
    one, other = (lab.film(lab.situation(SHORT), kinds, seconds=0.12, width=SMALL).files for _ in range(2))
    assert one == other
    assert set(one) == set(kinds)


def test_the_gif_does_not_depend_on_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = lab.film(lab.situation(SHORT), seconds=0.12, width=SMALL)
    assert set(both.files) == {"gif", "mp4"}
    _hide_ffmpeg(monkeypatch, tmp_path)
    alone = lab.film(lab.situation(SHORT), seconds=0.12, width=SMALL)
    assert alone.files == {"gif": both.files["gif"]}
    assert alone.no_movie == NO_FFMPEG


def test_the_mp4_plays_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(lab.film(lab.situation(f"{SHORT}&theme=dark"), ("mp4",), seconds=0.12, width=640).files["mp4"])
    shown = "stream=codec_name,width,height,pix_fmt,duration,color_space"
    command = ["ffprobe", "-v", "error", "-show_entries", shown, "-of", "json", str(path)]
    (stream,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    assert float(stream.pop("duration")) == pytest.approx((15 + 1 + 50) / 25)
    assert stream == {
        "codec_name": "h264", "width": 640, "height": 360, "pix_fmt": "yuv420p", "color_space": "bt709",
    }  # fmt: skip


def test_sizes_have_their_defaults() -> None:
    found = lab.film(lab.situation(SHORT), ("gif", "png"), seconds=0.08)
    assert {kind: _image(content).size for kind, content in found.files.items()} == {
        "gif": (1280, 720),
        "png": (1920, 1080),
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seconds": 0.0}, "a film moves for 0.1 to 60 seconds, got 0"),
        ({"seconds": float("nan")}, "got nan"),
        ({"seconds": 61}, "got 61"),
        ({"width": 641}, "a multiple of 32 from 320 to 3840 pixels, got 641; take 640"),
        ({"width": 100}, "take 320"),
        ({"width": 9999}, "take 3840"),
    ],
)
def test_numbers_out_of_range_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(HyperparameterError, match=re.escape(words)):
        lab.film(lab.situation(SHORT), **more)


def test_three_surfaces_are_too_many() -> None:
    with pytest.raises(HyperparameterError, match="or 2 side by side, got 3"):
        lab.film([lab.situation(SHORT)] * 3)
    with pytest.raises(HyperparameterError, match="got 0"):
        lab.film([])
    with pytest.raises(HyperparameterError, match="pictures must be at least 2"):
        encode(scene([lab.situation(SHORT)]), ("gif",), pictures=1)
    assert pictures_of(4) == 100


def test_in_the_readmes_film_plain_gradient_descent_stays_behind() -> None:
    spec = importlib.util.spec_from_file_location("docs_film", ROOT / "docs" / "film.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for link in module.LINKS:
        losses = {track.name: float(track.losses[-1]) for track in shot(lab.situation(link), LIGHT).tracks}
        sgd = losses.pop("sgd")
        assert sgd > 2 * max(losses.values()), link
    # On the ridge it waits for two thirds of the steps, while those that scale each coordinate are at the minimum.
    y = {track.name: np.abs(track.points[33, 1]) for track in shot(lab.situation(module.LINKS[1]), LIGHT).tracks}
    assert y["sgd"] < 0.01
    assert min(y["rmsprop"], y["adam"]) > 0.9
    assert (ROOT / "docs" / "film.gif").stat().st_size < 2e6
    with Image.open(ROOT / "docs" / "film.gif") as gif:
        assert (gif.size, gif.n_frames) == ((1280, 720), 100)  # type: ignore[attr-defined]
    assert "](docs/film.gif)" in (ROOT / "README.md").read_text()


def _hide_ffmpeg(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder / "nowhere"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


def _command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """Run ``steprule lab`` in this process; return its exit code."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["steprule", "lab", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


QUICK = ("--seconds", "0.1", "--width", "320")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--film", "correction"), ["correction.gif", "correction.mp4"]),
        (("--film", SHORT), ["saddle.gif", "saddle.mp4"]),
        (("--film", "correction", "--film", SHORT), ["correction-saddle.gif", "correction-saddle.mp4"]),
        (("--film", SHORT, "--output", "there/a.GIF"), ["there/a.GIF"]),
        (("--film", SHORT, "--output", "a.mp4"), ["a.mp4"]),
        (("--film", SHORT, "--output", "a.png", "--3d", "--dark"), ["a.png"]),
        (("--film", SHORT, "--output", "slide"), ["slide.gif", "slide.mp4"]),
        (("lion", "--surface", "abs(x) + y**2", "--film", "page"), ["own.gif", "own.mp4"]),
        # Of what is given at least one thing is shown by one of them.
        (("lion", "--film", "#steps=9&surface=beale", "--output", "a.png"), ["a.png"]),
        (("lion", "--surface", "x**2 + y**2", "--film", "#steps=9&surface=own&rules=sgd"), ["own.gif", "own.mp4"]),
        (("lion", "--film", "correction", "--film", "#steps=9&rules=lion", "--output", "a.png"), ["a.png"]),
    ],
)
def test_the_command_writes_films(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], names: list[str],
) -> None:  # fmt: skip
    assert _command(monkeypatch, tmp_path, *arguments, *QUICK) == 0
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert written == sorted(names)
    said = capsys.readouterr().out
    assert all(re.search(rf"Wrote {re.escape(name)} \(.* MB\)\.", said) for name in names)


def test_dark_and_three_dimensions_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, more in (("plain", ()), ("dark", ("--dark",)), ("solid", ("--3d",))):
        assert _command(monkeypatch, tmp_path, "--film", SHORT, "--output", f"{name}.png", *QUICK, *more) == 0
    plain, dark, solid = (
        np.asarray(_image((tmp_path / f"{name}.png").read_bytes())) for name in ("plain", "dark", "solid")
    )
    assert dark[1, 1].tolist() == [int(DARK.paper[k : k + 2], 16) for k in (1, 3, 5)]
    assert plain[1, 1].tolist() == solid[1, 1].tolist() == [255, 255, 255]
    assert (plain != solid).any()


def test_a_thousand_starts_are_shown_as_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command(monkeypatch, tmp_path, "--film", "starts", "--output", "a.png", *QUICK) == 0
    assert "A film does not show a thousand starts; it shows the paths from one, on a map." in capsys.readouterr().out


def test_a_file_that_is_there_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_text("old")
    assert _command(monkeypatch, tmp_path, "--film", SHORT, "--output", "a.png", *QUICK) == 0
    assert _image((tmp_path / "a.png").read_bytes()).size == (320, 180)


def test_without_ffmpeg_there_is_a_gif(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _hide_ffmpeg(monkeypatch, tmp_path)
    assert _command(monkeypatch, tmp_path, "--film", SHORT, *QUICK) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"No MP4 was written: {NO_FFMPEG}"
    assert [path.name for path in tmp_path.iterdir()] == ["saddle.gif"]
    assert _command(monkeypatch, tmp_path, "--film", SHORT, "--output", "a.mp4", *QUICK) == 2
    assert "no MP4 was written: ffmpeg was not found. Install it (apt install ffmpeg," in capsys.readouterr().err


def test_an_ffmpeg_that_fails_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ffmpeg"
    program.write_text("#!/bin/sh\necho No space left >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert _command(monkeypatch, tmp_path, "--film", SHORT, *QUICK) == 2
    out, err = capsys.readouterr()
    assert "error: no MP4 was written: ffmpeg failed: No space left" in err
    assert "Wrote saddle.gif" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--film", "vally"), "no story is called 'vally'. Did you mean 'valley'"),
        (("--3d",), "--3d belongs to a film; name its story or link by --film"),
        (("--dark", "lion"), "--dark belongs to a film"),
        (("--seconds", "2"), "--seconds belongs to a film"),
        (("--width", "640"), "--width belongs to a film"),
        (("--film", SHORT, "--serve"), "--serve has no effect with --film"),
        (("--film", SHORT, "--port", "0"), "--port has no effect with --film"),
        (("--film", SHORT, "--no-open"), "--no-open has no effect with --film"),
        (
            ("--film", "amsgrad", "--3d"),
            "Reddi's counterexample is a line, and has no view in three dimensions; drop --3d",
        ),
        (
            ("--film", SHORT, "--output", "a.avi"),
            "a film is a .gif, an .mp4 or a .png (its last picture), got --output a.avi",
        ),
        (("--film", SHORT, "--output", "."), "--output . is a folder; name a file in it, as saddle.gif"),
        (("--film", SHORT, "--output", "file/a.png", *QUICK), "cannot write file/a.png: a part of this path is a file"),
        (("--film", SHORT, "--width", "7"), "the width of a film is a multiple of 32 from 320 to 3840 pixels, got 7"),
        (("--film", SHORT, "--film", SHORT, "--film", SHORT), "a film shows one surface, or 2 side by side, got 3"),
        (("--list", "--film", SHORT), "--list only lists surfaces and stories"),
        (
            ("sgd", "adam", "--film", "valley"),
            "rules belong to --film page or a link that shows them; the story 'valley' has its own",
        ),
        (
            ("--surface", "beale", "--film", "valley", "--film", "saddle"),
            "--surface belongs to --film page or a link that shows them; the story 'valley' has its own",
        ),
        (
            ("lion", "--surface", "x**2 + y**2", "--film", SHORT),
            f"rules and --surface belong to --film page or a link that shows them; the link '{SHORT}' has its own",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("")
    assert _command(monkeypatch, tmp_path, *arguments) == 2
    assert f"error: {words}" in capsys.readouterr().err or words in (
        "take 320",
        "one surface, or 2 side by side, got 3",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("steprule.cli.film.find_spec", lambda name: None)
    assert _command(monkeypatch, tmp_path, "--film", SHORT) == 2
    assert 'a film needs matplotlib. Install: pip install "matplotlib>=' in capsys.readouterr().err
