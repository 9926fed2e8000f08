"""The lab's page in Chromium: its numbers are NumPy's, and what one clicks, drags and types does what it says."""

from __future__ import annotations

import base64
import io
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

import steprule as sr
from steprule import Decay, Rate, lab
from steprule.lab.entrants import menu
from steprule.lab.presets import presets
from steprule.lab.surfaces import NAMES
from tests.cases import assert_same_bits

pytestmark = pytest.mark.apart

# One that is installed; without it Playwright's own, and without that a message that says how to get it.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What one waits for takes long on a machine that is busy with other things.
expect.set_options(timeout=30_000)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SURFACES = lab.surfaces()
KINK = "abs(x) + 3*y**2"
UNDEFINED = "log(x) + y**2"


@sr.rule(paper="ours, 2026")
def softlion(theta, g, m, *, t, lr: Rate = 1e-2, beta: Decay = 0.9):
    """Lion that slows down."""
    m = beta * m + (1 - beta) * g
    theta = theta - lr * sr.sign(m) * sr.minimum(abs(m), 1.0)
    return theta, m


@sr.rule
def same(theta, g, m, v: sr.NonNegative, *, t, lr: Rate = 1e-3, beta1: Decay = 0.9, beta2: Decay = 0.999, eps=1e-8):
    """Adam, copied."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    theta = theta - lr * (m / (1 - beta1**t)) / (sr.sqrt(v / (1 - beta2**t)) + eps)
    return theta, m, v


@sr.rule
def collides(theta, g, m, *, lr: Rate = 0.01, scale=2.0, noise=0.5, steps=3.0, start=-2.0, valueOf=1.0):
    """Its hyperparameters are called as the page's own settings."""
    m = noise * m + scale * g * valueOf + start
    return theta - lr * m / steps, m


@sr.rule(name="a,b*/ </script>")
def sly(theta, g, *, lr: Rate = 0.01):
    """<img src=x onerror="window.broken = 1">."""
    return theta - lr * g


@sr.rule(name="constructor")
def made(theta, g, *, lr: Rate = 0.01):
    """As the constructor of an object is called."""
    return theta - lr * g


@sr.rule
def centred(theta, g, m, *, lr: Rate = 0.02, beta: Decay = 0.9):
    """It sums over its tensor, which is the point."""
    m = beta * m + (1 - beta) * (g - 0.5 * sr.mean(g))
    length = sr.norm(m)
    return theta - lr * m / (length + 0.1) * (1 + sr.rms(theta)), m


@sr.rule(matrices="last")
def in_factors(theta, g, r: sr.PerRow, c: sr.PerColumn, long: sr.PerTensor, *, lr: Rate = 0.02, beta: Decay = 0.9):
    """It has numbers of the row that a point is, of its coordinates, and of the point."""
    r = beta * r + (1 - beta) * sr.mean(g * g, over="row")
    c = beta * c + (1 - beta) * sr.mean(g * g, over="column")
    long = 0.5 * long + sr.norm(g)
    share = r / (sr.mean(r, over="column") + 0.1)
    return theta - lr * g / (sr.sqrt(share) * sr.sqrt(c) + 0.1 * long + 0.1), r, c, long


NAMES_RULES = {rule.name: rule for rule in (collides, sly, made)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of pages: as it comes, and with a rule and a surface of one's own."""
    folder = tmp_path_factory.mktemp("lab")
    views = {
        "plain": lab.View(),
        "own": lab.View((softlion,), lab.own(KINK)),
        "negative": lab.View((sr.rules.sgd,), lab.own("x*y + 10"), (1.0, -1.2)),
        "names": lab.View(tuple(NAMES_RULES.values())),
        "copy": lab.View((same,)),
        "sums": lab.View((centred, in_factors)),
        "elsewhere": lab.View(surface=SURFACES["rosenbrock"]),
        "undefined": lab.View((sr.rules.sgd,), lab.own(UNDEFINED)),
    }
    return {name: lab.write(lab.page(view), folder / f"{name}.html").as_uri() for name, view in views.items()}


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, pages: dict[str, str]) -> Iterator[Opened]:
    """Open a page without a network. No script may fail, no word may be said on the console, nothing be asked for."""
    said: list[str] = []
    contexts = []

    def open_page(link: str = "", which: str = "plain", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        # What is said of getImageData is said of these tests.
        page.on("console", lambda one: said.append(one.text) if "getImageData" not in one.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(pages[which] + link)
        expect(page.locator("html")).to_have_attribute("data-ready", "true")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def link(**pairs: Any) -> str:
    return "#" + "&".join(f"{quote(key)}={quote(str(value), safe=',')}" for key, value in pairs.items())


# What the page does takes frames: it draws, runs on, and looks for learning rates, which it then sets. Who reads what a
# frame makes must wait; and what belongs together is read at once, since between two calls there may be a frame.
_FRAME = "const frame = () => new Promise(requestAnimationFrame);"
# Sizes that a frame changes are told after it, so one without work is not enough.
_SETTLED = f"""async () => {{
  {_FRAME}
  await document.fonts.ready;
  for (let idle = 0; idle < 2; idle = lab.waiting ? 0 : idle + 1) await frame();
  return true;
}}"""
_STATE = f"""async () => {{
  {_FRAME}
  while (lab.tuning) await frame();
  return JSON.parse(JSON.stringify(lab.state));
}}"""
# Takes all steps.
_RUNS = f"""async () => {{
  {_FRAME}
  while (lab.tuning) await frame();
  const runs = [...lab.runs].map(([name, {{ run }}]) => {{
    run.advance();
    const coded = (points) => {{
      const bytes = new Uint8Array(points.buffer, 0, 4 * run.d * (run.done + 1));
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    }};
    const points = {{ path: coded(run.path), trained: coded(run.trained) }};
    return [name, {{ d: run.d, ...points, values: lab.given(name).values, diverged: run.diverged }}];
  }});
  return {{ state: JSON.parse(JSON.stringify(lab.state)), runs: Object.fromEntries(runs) }};
}}"""


def settle(page: Page) -> None:
    """Wait until all that follows from what was done is found and drawn. It never is while the page plays."""
    page.wait_for_function(_SETTLED)


def follow(page: Page, hash_: str) -> None:
    """Follow a link on the page that is open, which takes much less time than to open one."""
    page.evaluate(
        """(hash) => new Promise((done) => {
          addEventListener("hashchange", done, { once: true });
          location.hash = hash;
        })""",
        hash_,
    )


def state(page: Page) -> dict[str, Any]:
    """Return what the page shows, with the learning rates that it looks for."""
    found: dict[str, Any] = page.evaluate(_STATE)
    return found


def _result(page: Page, line: str) -> str:
    """The number that a line of the formula shows, once it is pointed at and the page has drawn it."""
    page.locator(f"#formula [data-line={line}]").focus()
    settle(page)
    return page.locator(f"#formula [data-line={line}] .result").text_content() or "nan"


def _points(run: dict[str, Any], of: str = "path") -> Any:
    return np.frombuffer(base64.b64decode(run[of]), np.float32).reshape(-1, run["d"])


def paths(page: Page) -> dict[str, Any]:
    """Take all steps, and return the points of each rule."""
    return {name: _points(run) for name, run in page.evaluate(_RUNS)["runs"].items()}


def enter(page: Page, name: str, value: str) -> None:
    """Type a number into a field, once all fields are there: what a frame makes anew forgets what was being typed."""
    settle(page)
    page.locator(f"#number-{name}").fill(value)
    page.locator(f"#number-{name}").press("Enter")


def assert_numpys_bits(page: Page, where: str) -> None:
    """Assert that every path on the page has the bits of the referee, given the numbers that the page shows."""
    found = page.evaluate(_RUNS)
    seen = found["state"]
    surface = SURFACES.get(seen["surface"]) or lab.own(KINK)
    assert set(found["runs"]) == set(seen["rules"])
    for name, run in found["runs"].items():
        rule = softlion if name == "softlion" else menu()[name.removesuffix(" (2)")]
        path = _points(run)
        for of in ("trained", "path") if rule.evaluated else ("path",):
            with np.errstate(all="ignore"):
                expected = lab.trajectory(
                    rule,
                    surface,
                    len(path) - 1,
                    start=tuple(seen["start"]),
                    noise=seen["noise"],
                    scale=seen["scale"],
                    seed=seen["seed"],
                    evaluated=of == "path",
                    **run["values"],
                )
            assert_same_bits(_points(run, of).copy(), expected, f"{where}: {name} {of}")
        assert len(path) == seen["steps"] + 1 or run["diverged"]


def test_paths_on_every_surface_are_numpys(opened: Opened) -> None:
    page = opened()
    for surface in NAMES:
        follow(page, link(surface=surface, rules="sgd,momentum,adagrad,rmsprop,adam,lion", lr=0.02, steps=150))
        assert_numpys_bits(page, surface)
        page.evaluate("lab.edit((state) => Object.assign(state, { noise: 0.7, seed: 5, scale: 0.3 }))")
        assert_numpys_bits(page, f"{surface} with noise")


def test_paths_of_every_rule_are_numpys(opened: Opened) -> None:
    page = opened()
    for first in range(0, len(menu()), 6):
        follow(page, link(surface="rosenbrock", rules=",".join(list(menu())[first : first + 6]), steps=400, noise=0.5))
        assert_numpys_bits(page, "rosenbrock")


def test_a_rule_with_sums_is_numpys(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam,centred", look="centred", steps=60, t=7), which="sums")
    settle(page)
    run = page.evaluate(_RUNS)["runs"]["centred"]
    expected = lab.trajectory(centred, SURFACES["beale"], 60, lr=run["values"]["lr"])
    assert_same_bits(_points(run), expected, "centred")
    # Its formula shows what the sums of a step come to.
    shown = float(_result(page, "length"))
    m = np.array(page.evaluate("Array.from(lab.runs.get('centred').run.names.get('m').slice(14, 16))"), np.float32)
    assert shown == pytest.approx(sr.norm(m), rel=1e-3)


def test_a_rule_that_sees_rows_is_numpys(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam,in_factors", look="in_factors", steps=60, t=7), which="sums")
    settle(page)
    run = page.evaluate(_RUNS)["runs"]["in_factors"]
    points = _points(run)
    assert_same_bits(points, lab.trajectory(in_factors, SURFACES["beale"], 60, lr=run["values"]["lr"]), "in_factors")
    # Slots of each kind have a line of the formula, with the number of this step.
    theta = points[0].copy()
    optimizer = sr.Optimizer(theta, in_factors, lr=run["values"]["lr"], backend="numpy")
    for t in range(1, 8):
        optimizer.step(SURFACES["beale"].gradient(points[t - 1].astype(np.float64), t, 0.5).astype(np.float32))
    slots = {"r": optimizer.slots["r"][0], "c": optimizer.slots["c"][0], "long": np.ravel(optimizer.slots["long"])[0]}
    for name, number in slots.items():
        shown = float(_result(page, name))
        assert shown == pytest.approx(float(number), rel=1e-3), name


def test_stories_play_and_are_numpys(opened: Opened) -> None:
    page = opened()
    for story in presets():
        page.locator("#preset").select_option(story["key"])
        assert not page.locator("#message").is_visible(), page.locator("#message").text_content()
        expect(page.locator("#story")).to_have_text(story["story"])
        expect(page.locator("#play")).to_have_text("Pause")
        expect(page.locator("#now")).not_to_have_text(re.compile(r"^step 0 "))
        page.locator("#play").click()
        assert_numpys_bits(page, story["key"])


def test_what_a_story_asks_for_is_what_its_sliders_do(opened: Opened) -> None:
    page = opened()
    page.locator("#preset").select_option("valley")
    page.locator("#play").click()
    expect(page.locator("#for-one")).to_be_checked()
    enter(page, "lr", "0.005")
    page.locator("#to-end").click()
    expect(page.locator("#numbers tr", has_text="sgd")).to_contain_text("diverged")
    expect(page.locator("#numbers tr", has_text="momentum")).not_to_contain_text("diverged")


def test_the_first_view(opened: Opened) -> None:
    page = opened()
    checked = page.locator("#rules input:checked")
    assert [checked.nth(k).get_attribute("value") for k in range(checked.count())] == [
        *("sgd", "momentum", "adagrad", "rmsprop", "adam", "rprop"),
    ]
    expect(page.locator("#now")).to_have_text("step 300 of 300")
    expect(page.locator("#numbers tr")).to_have_count(6)
    expect(page.locator("#inside-name")).to_have_text("adam")
    assert_numpys_bits(page, "first view")
    loss = SURFACES["long-valley"].loss(paths(page)["adam"][-1].astype(float))
    expect(page.locator("#numbers tr", has_text="adam").first).to_contain_text(f"{float(loss):.3g}")


def test_a_click_on_the_map_moves_the_start(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam,sgd", **{"adam.lr": 0.1, "sgd.lr": 0.001}))
    before = paths(page)
    box = page.locator("#over").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75)
    (x0, x1), (y0, y1) = SURFACES["beale"].box
    start = state(page)["start"]
    np.testing.assert_allclose(start, (x0 + 0.25 * (x1 - x0), y0 + 0.25 * (y1 - y0)), atol=0.02)
    after = paths(page)
    np.testing.assert_array_equal(after["adam"][0], np.float32(start))
    assert (after["adam"] != before["adam"]).any()
    assert_numpys_bits(page, "after a click")
    # Dragging goes on moving it.
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5, steps=5)
    page.mouse.up()
    np.testing.assert_allclose(state(page)["start"], ((x0 + x1) / 2, (y0 + y1) / 2), atol=0.02)
    page.mouse.move(box["x"] + 50, box["y"] + 50)  # without a button nothing moves
    np.testing.assert_allclose(state(page)["start"], ((x0 + x1) / 2, (y0 + y1) / 2), atol=0.02)


def test_sliders_set_what_they_say(opened: Opened) -> None:
    page = opened(link(surface="long-valley", rules="sgd,adam", look="adam"))
    for name, key, changed in (("lr", "ArrowRight", 0.001), ("beta1", "ArrowLeft", 0.9), ("eps", "ArrowRight", 1e-8)):
        before = paths(page)["adam"]
        slider = page.locator(f"#slider-{name}")
        slider.focus()
        for _ in range(12):
            page.keyboard.press(key)
        value = state(page)["common"][name]
        assert (value > changed) == (key == "ArrowRight")
        expect(page.locator(f"#number-{name}")).to_have_value(str(value).replace("e-0", "e-"))
        if name != "eps":
            assert (paths(page)["adam"] != before).any()
        assert_numpys_bits(page, name)
    page.locator("#slider-page-noise").fill("0.5")
    assert state(page)["noise"] == 3.2  # 10 to the 0.5, in two digits
    assert_numpys_bits(page, "noise")
    page.locator("#new-noise").click()
    assert state(page)["seed"] == 2
    assert_numpys_bits(page, "other noise")


def test_numbers_can_be_typed_and_are_checked(opened: Opened) -> None:
    page = opened(link(surface="long-valley", rules="adam"))
    enter(page, "lr", "0.0123")
    assert state(page)["common"]["lr"] == 0.0123
    beta = page.locator("#number-beta1")
    for wrong in ("1", "-0.1", "nine", ""):
        enter(page, "beta1", wrong)
        assert beta.evaluate("field => field.validationMessage") == "beta1 takes numbers of at least 0 and less than 1."
        assert "beta1" not in state(page)["common"]
    enter(page, "page-steps", "50")
    expect(page.locator("#now")).to_have_text("step 50 of 50")
    assert_numpys_bits(page, "typed")


def test_sliders_for_one_rule_alone(opened: Opened) -> None:
    page = opened(link(surface="long-valley", rules="sgd,adam", look="adam", lr=0.01))
    page.locator("#for-one").check()
    enter(page, "lr", "0.3")
    assert state(page)["own"] == {"adam": {"lr": 0.3}}
    assert page.evaluate("lab.given('sgd').values.lr") == 0.01
    page.locator("#for-all").check()
    enter(page, "lr", "0.02")
    assert page.evaluate("['sgd', 'adam'].map((name) => lab.given(name).values.lr)") == [0.02, 0.02]


def test_rules_are_chosen_and_looked_into(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="sgd,adam"))
    expect(page.locator("#new-noise")).to_be_disabled()  # there is none
    page.locator("#rules input[value=lion]").check()
    assert state(page)["rules"] == ["sgd", "adam", "lion"]
    expect(page.locator("#inside-name")).to_have_text("lion")
    expect(page.locator("#formula .line")).to_have_count(3)
    page.get_by_role("button", name="look inside sgd", exact=True).click()
    expect(page.locator("#inside-name")).to_have_text("sgd")
    page.locator("#rules input[value=sgd]").uncheck()
    assert state(page)["rules"] == ["adam", "lion"]
    expect(page.locator("#inside-name")).to_have_text("lion")
    for name in ("adam", "lion"):
        page.locator(f"#rules input[value={name}]").uncheck()
    assert state(page)["rules"] == []
    expect(page.locator("#inside")).to_be_hidden()
    expect(page.locator("#numbers tr")).to_have_count(0)
    page.locator("#rules input[value=adam]").check()
    assert_numpys_bits(page, "after choosing")


def test_play_pause_step_and_scrub(opened: Opened) -> None:
    page = opened(link(surface="long-valley", rules="sgd,adam", steps=100, t=0))
    now = page.locator("#now")
    expect(now).to_have_text("step 0 of 100")
    page.locator("#forward").click()
    page.locator("#forward").click()
    page.locator("#back").click()
    expect(now).to_have_text("step 1 of 100")
    page.locator("#back").click()
    page.locator("#back").click()
    expect(now).to_have_text("step 0 of 100")
    page.locator("#speed").select_option("240")
    page.locator("#play").click()
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "true")
    expect(now).to_have_text("step 100 of 100")
    expect(page.locator("#play")).to_have_text("Play")
    page.locator("#speed").select_option("20")
    page.locator("#play").click()  # from the end it begins anew
    expect(now).not_to_have_text("step 100 of 100")
    page.locator("#play").click()
    held = now.text_content()
    settle(page)  # it does not play
    assert now.text_content() == held
    page.locator("#scrub").fill("42")
    expect(now).to_have_text("step 42 of 100")
    page.locator("#to-end").click()
    expect(now).to_have_text("step 100 of 100")
    page.locator("#to-start").click()
    expect(now).to_have_text("step 0 of 100")


def test_keys(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="sgd,adam", steps=100, t=50))
    now = page.locator("#now")
    page.keyboard.press("ArrowRight")
    expect(now).to_have_text("step 51 of 100")
    page.keyboard.press("Shift+ArrowLeft")
    expect(now).to_have_text("step 41 of 100")
    page.keyboard.press("Home")
    expect(now).to_have_text("step 0 of 100")
    page.keyboard.press("End")
    expect(now).to_have_text("step 100 of 100")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Pause")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Play")
    page.locator("#over").focus()
    start, at = state(page)["start"], state(page)["t"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    np.testing.assert_allclose(state(page)["start"], np.array(start) + 9 / 50, atol=1e-3)
    assert state(page)["t"] == at
    # In a field the keys are the field's.
    settle(page)
    page.locator("#number-lr").fill("0.5")
    page.keyboard.press("Home")
    assert state(page)["t"] == at


def test_a_link_holds_the_whole_state(opened: Opened) -> None:
    page = opened()
    page.locator("#surface").select_option("himmelblau")
    page.locator("#rules input[value='l2(adam)']").check()
    page.locator("#for-one").check()
    enter(page, "lr", "0.07")
    page.locator("#slider-page-noise").fill("0")
    page.locator("#inside-first").select_option("v_hat")
    page.locator("[name=axis][value='1']").check()
    page.locator("#tab-solid").click()
    settle(page)  # what is hidden takes no focus
    page.locator("#solid").focus()
    page.keyboard.press("ArrowLeft")
    page.locator("#scrub").fill("77")
    settle(page)
    address = page.evaluate("location.href.split('#')[0] + lab.link()")
    page.locator("#share").click()
    expect(page.locator("#shared")).to_contain_text("all that you see")
    assert page.evaluate("location.href") == address
    other = opened("#" + address.partition("#")[2])
    mine, theirs = state(page), state(other)
    assert mine.pop("turn") == pytest.approx(theirs.pop("turn"), abs=1e-3)
    assert mine == theirs
    assert mine["own"]["l2(adam)"] == {"lr": 0.07}
    for name, path in paths(page).items():
        np.testing.assert_array_equal(path, paths(other)[name])
    assert other.locator("#numbers").text_content() == page.locator("#numbers").text_content()


BROKEN = [
    ("#surface=beal", "There is no surface “beal” on this page."),
    ("#rules=adam,adm", "There is no rule “adm” on this page."),
    ("#surface=beale&start=1", "The start has to be 2 numbers from -1e+30 to 1e+30."),
    ("#lr=-1", "lr cannot be “-1”: it takes numbers of at least 0."),
    ("#beta1=", "beta1 cannot be “”: it takes numbers of at least 0 and less than 1."),
    ("#adam.beta2=2", "adam.beta2 cannot be “2”"),
    ("#surface=beale&start=,", "The start has to be 2 numbers"),
    ("#surface=beale&start=1e39,1", "The start has to be 2 numbers"),
    ("#surface=reddi&start=5", "The start has to be 1 number from -1 to 1."),
    ("#scale=0", "scale has to be a number from 1e-9 to 1000000000, not “0”."),
    ("#learning=3", "Nothing on this page is called “learning”."),
    ("#noise=x", "noise has to be a number from 0 to 1000000, not “x”."),
    ("#%&=&rules=adam&%E0%A4%A", "Nothing on this page is called “%”."),
    ("#<img/src>=1", "Nothing on this page is called “<img/src>”."),
]


def test_links_that_are_broken(opened: Opened) -> None:
    page = opened(BROKEN[0][0])  # with which a page may be opened, or which comes while it is open
    for hash_, words in BROKEN:
        if hash_ != BROKEN[0][0]:
            follow(page, hash_)
        message = page.locator("#message")
        assert words in (message.text_content() or "")
        assert message.is_visible()
        expect(page.locator("#message img")).to_have_count(0)
        assert paths(page)


def test_the_formula_shows_the_numbers_of_the_step(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam", steps=30, t=7, lr=0.05))
    line = page.locator("#formula [data-line=m]")
    expect(line.locator(".numbers")).to_be_hidden()
    line.hover()
    expect(line.locator(".numbers")).to_be_visible()
    x = np.array(SURFACES["beale"].start, np.float32)
    optimizer = sr.Optimizer(x, "adam", backend="numpy", lr=0.05)
    for t in range(1, 8):
        g = SURFACES["beale"].gradient(x.astype(float), t).astype(np.float32)
        before = {name: optimizer.slots[name].copy() for name in ("m", "v")}
        optimizer.step(g)

    def number(place: str) -> float:
        text = page.locator(place).first.text_content()
        assert text is not None
        return float(text.replace("−", "-").strip("()"))

    for axis in (0, 1):
        page.locator(f"[name=axis][value='{axis}']").check()
        settle(page)
        assert number("#formula [data-line=m] [data-of=m]") == pytest.approx(before["m"][axis], rel=1e-3)
        assert number("#formula [data-line=m] [data-of=g]") == pytest.approx(g[axis], rel=1e-3)
        assert number("#formula [data-line=m] .result") == pytest.approx(optimizer.slots["m"][axis], rel=1e-3)
        page.locator("#formula [data-line=theta]").focus()
        expect(line.locator(".numbers")).to_be_hidden()
        assert number("#formula [data-line=theta] .result") == pytest.approx(x[axis], rel=1e-3)
        page.mouse.move(0, 0)
        line.hover()
        settle(page)
    assert number("#formula [data-line=m] [data-of=beta1]") == 0.9
    page.locator("#to-start").click()
    expect(page.locator("#formula [data-line=m] .result")).to_have_text("–")


def test_a_thousand_starts_are_numpys(opened: Opened) -> None:
    page = opened(link(surface="himmelblau", rules="sgd,adam", view="thousand", lr=0.01, steps=60))
    expect(page.locator("#progress")).to_have_text("Every start has been run.")
    figures = page.locator("#thousand figure")
    expect(figures).to_have_count(2)
    surface = SURFACES["himmelblau"]
    for job, name in enumerate(("sgd", "adam")):
        starts = np.array(page.evaluate("lab.thousand.starts"), np.float32)
        assert len(starts) == 2048
        theta = starts.copy()
        optimizer = sr.Optimizer(theta, name, backend="numpy", lr=0.01)
        with np.errstate(all="ignore"):
            for t in range(1, 61):
                points = theta.astype(float).reshape(-1, 2).T
                optimizer.step(np.ascontiguousarray(surface.gradient(points, t).T).ravel().astype(np.float32))
        found = np.array(page.evaluate(f"Array.from(lab.thousand.jobs[{job}].crowd.now[0], String)"), float)
        assert_same_bits(found.astype(np.float32), theta, name)
        near = np.min([np.linalg.norm(theta.reshape(-1, 2) - np.array(m), axis=1) for m in surface.minima], axis=0)
        arrived = round(100 * float(np.mean(near < 0.03 * 11)))
        expect(figures.nth(job)).to_contain_text(f"{name} {arrived} % arrive")
    colors = page.evaluate("""[...document.querySelectorAll('#thousand canvas')].map((canvas) =>
      new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, 32, 32).data.buffer)).size)""")
    assert min(colors) > 4


def test_three_dimensions(opened: Opened) -> None:
    page = opened(link(surface="saddle", rules="sgd,adam", view="solid"))

    def picture() -> str:
        settle(page)
        text: str = page.locator("#solid").evaluate("canvas => canvas.toDataURL()")
        return text

    first = picture()
    box = page.locator("#solid").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 230, steps=4)
    page.mouse.up()
    turned = picture()
    assert turned != first
    page.keyboard.press("Home")
    assert picture() != turned
    page.locator("#surface").select_option("reddi")
    expect(page.locator("#tab-solid")).to_be_disabled()
    expect(page.locator("#tab-map")).to_have_attribute("aria-selected", "true")


def test_the_map_shows_the_paths(opened: Opened) -> None:
    """At the head of each path there is the rule's colour, and contours lie below."""
    page = opened(link(surface="himmelblau", rules="sgd,adam", t=3, **{"sgd.lr": 0.01, "adam.lr": 0.2}))
    settle(page)
    colors = page.evaluate("""() => {
      const context = lab.map.over.context, ratio = lab.map.over.ratio;
      return [...lab.runs].map(([name, { run }]) => {
        const [left, top] = lab.map.point(run, 3);
        return [lab.looks.of(name).color, [...context.getImageData(left * ratio, top * ratio, 1, 1).data]];
      });
    }""")
    for color, (*rgb, alpha) in colors:
        assert [int(color[k : k + 2], 16) for k in (1, 3, 5)] == rgb
        assert alpha == 255
    ground = page.evaluate("""() => {
      const { canvas, context } = lab.map.base;
      const pixels = new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
      return [new Set(pixels).size, pixels.every((pixel) => pixel >>> 24 === 255)];
    }""")
    assert ground[0] > 500
    assert ground[1]


def test_curves_show_what_the_runs_have(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="sgd,adam", look="adam", steps=60, lr=0.001))
    settle(page)
    data = page.evaluate("Object.fromEntries(Object.entries(lab.charts.charts).map(([k, c]) => [k, c.plot.data]))")
    path = paths(page)["adam"].astype(float)
    np.testing.assert_allclose(data["loss"][2], SURFACES["beale"].loss(path.T), rtol=1e-12)
    assert len(data["loss"][0]) == 61
    np.testing.assert_allclose(data["correction"][1], np.float32(1 - 0.9 ** np.arange(1, 61)), rtol=1e-6)
    np.testing.assert_allclose(data["step"][1], np.abs(np.diff(path[:, 0])), rtol=1e-6)
    # A click on a curve goes to its step.
    page.locator("[data-chart=loss] .u-over").click(position={"x": 1, "y": 50})
    expect(page.locator("#now")).to_have_text("step 0 of 60")


def test_the_longest_step_is_said(opened: Opened) -> None:
    """As in the story of the bound: once y is seen, Adam takes 6.5 times the learning rate."""
    page = opened(link(surface="silence", rules="adam", lr=0.002, scale=1000, t=5000))
    longest = page.locator("#longest")
    expect(longest).to_have_text("; longest: 1 times it, at step 1")
    page.locator("#scrub").fill("5001")
    expect(longest).to_have_text("; longest: 3.15 times it, at step 5001")
    page.locator("#scrub").fill("5250")
    expect(longest).to_have_text("; longest: 6.51 times it, at step 5012")
    settle(page)
    low = page.evaluate("lab.charts.charts.step.plot.scales.y.min")
    assert 1e-9 < low < 0.002, "steps that hardly are any do not hide the others"


def test_single_steps_are_seen_in_their_curve(opened: Opened) -> None:
    """y takes one step in ten: no line joins them, and each is a point."""
    page = opened(link(surface="sparse-bowl", rules="adagrad", **{"adagrad.lr": 1}))
    settle(page)
    alone = """(k) => { const { plot } = lab.charts.charts.step;
      return plot.series[k].points.filter(plot, k).map((at) => plot.data[0][at]); }"""
    moved = np.abs(np.diff(paths(page)["adagrad"][:, 1])) > 1e-12
    apart = [k + 1 for k in np.flatnonzero(moved) if not moved[k - 1 : k].any() and not moved[k + 1 : k + 2].any()]
    assert len(apart) > 10
    assert page.evaluate(alone, 2) == apart


def test_a_slider_for_all_rules_says_where_they_differ(opened: Opened) -> None:
    page = opened(link(surface="long-valley", rules="sgd,adagrad,adam", look="adam", lr=0.02, **{"adam.lr": 0.1}))
    row = page.locator(".slider", has=page.locator("#slider-lr"))
    expect(row.locator(".each")).to_have_text("sgd 0.02, adagrad 0.02, adam 0.1")
    expect(page.locator("#number-lr")).to_have_value("")
    expect(page.locator("#number-lr")).to_have_attribute("placeholder", "differ")
    expect(page.locator("#slider-lr")).to_have_attribute("aria-valuetext", "sgd 0.02, adagrad 0.02, adam 0.1")
    # Defaults differ as well; and of rules that have the hyperparameter only.
    rates = page.locator(".slider", has=page.locator("#slider-eps")).locator(".each")
    expect(rates).to_have_text("adagrad 1e-10, adam 1e-8")
    enter(page, "lr", "0.05")
    expect(row.locator(".each")).to_be_hidden()
    page.locator("#rules input[value=adagrad]").uncheck()
    expect(rates).to_be_hidden()
    page.locator("#for-one").check()
    expect(page.locator("#number-lr")).to_have_value("0.05")


def test_a_rule_that_diverges_leaves_the_chart(opened: Opened) -> None:
    """The others are as well seen as without it."""
    rates = {"sgd.lr": 0.005, "momentum.lr": 0.001, "adam.lr": 0.05}
    page = opened(link(surface="rosenbrock", rules="sgd,momentum,adam", **rates))
    settle(page)
    scale = "[lab.charts.charts.loss.plot.scales.y].map(({ min, max }) => [min, max])[0]"
    low, high = page.evaluate(scale)
    shown = {name: SURFACES["rosenbrock"].loss(path.T.astype(float)) for name, path in paths(page).items()}
    assert shown["sgd"].max() > 1e50
    calm = np.concatenate([shown["momentum"], shown["adam"]])
    assert calm.max() <= high <= 100 * calm.max()
    assert calm.min() / 10 <= low <= calm.min()
    steps = "[lab.charts.charts.step.plot.scales.y].map(({ min, max }) => [min, max])[0]"
    page.evaluate("lab.edit((state) => { state.look = 'sgd'; })")
    settle(page)
    low, high = page.evaluate(steps)
    assert low < 0.005 < 1e10 < high, "the rate and the steps that leave it"
    # Alone, it is seen to leave.
    page.evaluate("lab.edit((state) => { state.rules = ['sgd']; })")
    settle(page)
    assert shown["sgd"][0] < page.evaluate(scale)[1] <= 100 * shown["sgd"][0]


def test_a_loss_that_falls_without_end_leaves_the_chart(opened: Opened) -> None:
    page = opened(link(surface="own", rules="sgd,adam", start="1,-1.2", **{"sgd.lr": 0.5}), which="negative")
    settle(page)
    low, high = page.evaluate("[lab.charts.charts.loss.plot.scales.y].map(({ min, max }) => [min, max])[0]")
    assert paths(page)["sgd"].min() < -1e6
    assert -1e3 < low < high < 1e3


def test_logarithms_are_said(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam"))
    legend = page.locator("#legend")
    expect(legend).to_contain_text("Ring: the start; cross: the minimum. The ground is drawn by the logarithm of")
    expect(page.locator("#loss-scale")).to_have_text("(logarithmic)")
    page.locator("#tab-solid").click()
    expect(legend).to_contain_text("Heights are the logarithm of the loss")
    page.locator("#surface").select_option("reddi")
    expect(legend).to_contain_text("The darker the ground, the higher is the loss; time runs down.")
    expect(page.locator("#loss-scale")).to_have_text("")


def test_formulas_keep_to_their_rows(opened: Opened) -> None:
    """In the page's font for formulas, and where a browser takes none: no fraction stands in the row above."""
    page = opened(link(surface="beale", rules="adam"))
    for font, name in itertools.product(("", "serif"), ("adam", "adagrad", "nadam", "radam", "rprop")):
        if font:
            page.add_style_tag(content=f"math {{ font-family: {font} !important; }}")
        page.evaluate("(name) => lab.edit((state) => Object.assign(state, { rules: [name], look: name }))", name)
        settle(page)
        tops = page.evaluate("""[document.querySelector('#formula')].flatMap((host) => [...host.children].slice(1).map(
          (line) => Math.round(line.getBoundingClientRect().top - host.getBoundingClientRect().top)))""")
        with Image.open(io.BytesIO(page.locator("#formula").screenshot())) as picture:
            seen = np.array(picture.convert("L"))
        assert len(tops) > 1
        for top in tops:
            assert (seen[top - 3 : top + 3] == 255).all(), f"{name}: ink between the rows, at {top}"


_WORDS = """(id) => {
  const said = [], context = document.getElementById(id).getContext("2d"), write = context.fillText;
  context.fillText = (...given) => { said.push(given); write.apply(context, given); };
  lab.edit(() => {});
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
    delete context.fillText;
    done(said);
  })));
}"""


def test_the_map_has_axes(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam"))
    settle(page)
    said = page.evaluate(_WORDS, "over")
    assert {"x", "y"} <= {text for text, *_ in said}
    width, height = page.evaluate("[lab.map.over.width, lab.map.over.height]")
    numbers = [(float(text.replace("−", "-")), left, top) for text, left, top in said if text not in "xy"]
    for value, left, top in numbers:
        at = left / width if top == height - 8 else 1 - top / height
        assert at == pytest.approx((value + 4.5) / 9, abs=1e-6)
    assert len({(left, top) for _, left, top in numbers}) == len(numbers) >= 10
    # On a line the other axis counts steps.
    page = opened(link(surface="reddi", rules="adam", steps=200))
    settle(page)
    said = page.evaluate(_WORDS, "over")
    assert {"step", "50", "100", "150"} <= {text for text, *_ in said}


def test_three_dimensions_have_axes_and_signs_and_heads_on_the_surface(opened: Opened) -> None:
    page = opened(link(surface="rosenbrock", rules="adam,momentum", view="solid", t=20, **{"momentum.lr": 0.001}))
    settle(page)
    said = page.evaluate(_WORDS, "solid")
    assert {"x", "y", "log loss"} <= {text for text, *_ in said}
    width, height = page.evaluate("[lab.solid.stage.width, lab.solid.stage.height]")
    assert all(0 <= left <= width and 0 <= top <= height for _, left, top in said)
    # The start is a ring, whose middle has the colour of paper; the minimum a cross.
    middle = """([x, y]) => {
      const { point } = lab.solid.onSurface(x, y), { context, ratio } = lab.solid.stage;
      return [...context.getImageData(point[0] * ratio, point[1] * ratio, 1, 1).data];
    }"""
    assert page.evaluate(middle, [-1.5, 2.0]) == [255] * 4
    page.evaluate("lab.edit((state) => Object.assign(state, { rules: [], turn: [-0.6, 1.5] }))")  # from above
    settle(page)
    assert max(page.evaluate(middle, [1.0, 1.0])[:3]) < 60
    # Heads are where the picture's cells are, not where the true valley is: it is narrower than a cell.
    off = "[lab.heights.get('rosenbrock').height(0.5, 0.25), lab.solid.ground(0.625, 0.3125)]"
    true, drawn = page.evaluate(off)
    assert drawn > true + 0.05
    below = page.evaluate("""[...lab.solid.grid.keys()].filter((k) => {
      const { cells, grid } = lab.solid, i = Math.floor(k / (cells + 1)), j = k % (cells + 1);
      return Math.abs(lab.solid.ground(i / cells, j / cells) - Math.min(grid[k], 1.1)) > 1e-6;
    }).length""")
    assert below == 0


def test_a_narrow_valley_is_no_comb(opened: Opened) -> None:
    """Along the floor of the banana, which runs across the cells, the drawn heights do not jump up and down."""
    page = opened(link(surface="rosenbrock", rules="adam", view="solid"))
    settle(page)
    floor = page.evaluate("""Array.from({ length: 200 }, (_, k) => -1.3 + 2.9 * k / 199).map((x) => (
      lab.solid.ground((x + 2) / 4, (x * x + 1) / 4)))""")
    ripple = np.abs(floor - np.convolve(np.pad(floor, 7, mode="edge"), np.ones(15) / 15, mode="valid"))
    assert ripple.max() < 0.05


def test_the_ratio_of_signal_to_noise_is_offered(opened: Opened) -> None:
    """m_hat over the root, which is the step in learning rates."""
    page = opened(link(surface="noisy-bowl", rules="adam", lr=0.05, steps=80, inside="m_hat / root,sqrt v_hat"))
    settle(page)
    expect(page.locator("#message")).to_be_hidden()
    expect(page.locator("#inside-first")).to_have_value("m_hat / root")
    path = paths(page)["adam"].astype(float)
    shown = page.evaluate("lab.charts.charts.first.plot.data[1]")
    np.testing.assert_allclose(shown, -np.diff(path[:, 0]) / 0.05, atol=1e-4)
    page.get_by_role("button", name="look inside sgd", exact=True).click()
    settle(page)
    assert "/" not in (page.locator("#inside-first").text_content() or "")


def test_stories_stand_at_their_end_where_motion_is_not_wanted(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")
    for story in ("bound", "valley"):
        page.locator("#preset").select_option(story)
        expect(page.locator("#play")).to_have_text("Play")
        steps = state(page)["steps"]
        expect(page.locator("#now")).to_have_text(f"step {steps} of {steps}")
        assert not page.evaluate("lab.playing")


def test_a_link_to_a_file_says_what_it_is_good_for(opened: Opened) -> None:
    page = opened()
    page.locator("#share").click()
    expect(page.locator("#shared")).to_contain_text("It opens the file of this page, on this machine")


def test_two_settings_of_one_rule_stand_side_by_side(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="sgd,adam", look="adam", lr=0.01, **{"adam.lr": 0.05}))
    second = page.locator("#twin")
    expect(second).to_have_text("A second adam beside it")
    second.click()
    assert state(page)["rules"] == ["sgd", "adam", "adam (2)"]
    expect(page.locator("#inside-name")).to_have_text("adam (2)")
    expect(second).to_be_disabled()  # of a second one there is no second
    np.testing.assert_array_equal(paths(page)["adam"], paths(page)["adam (2)"])
    before = paths(page)["adam"]
    enter(page, "beta1", "0.5")
    assert page.evaluate("['adam', 'adam (2)'].map((name) => lab.given(name).values.beta1)") == [0.9, 0.5]
    assert page.evaluate("['adam', 'adam (2)'].map((name) => lab.given(name).values.lr)") == [0.05, 0.05]
    np.testing.assert_array_equal(paths(page)["adam"], before)
    assert (paths(page)["adam (2)"] != before).any()
    assert_numpys_bits(page, "two settings")
    expect(page.locator("#numbers tr")).to_have_count(3)
    colors = page.evaluate("['adam', 'adam (2)'].map((name) => lab.looks.of(name).color)")
    assert colors[0] != colors[1]
    # It is in the link, also while it is not shown.
    page.locator("#rules input[value='adam (2)']").uncheck()
    other = opened(page.evaluate("lab.link()"))
    expect(other.locator("#message")).to_be_hidden()
    other.locator("#rules input[value='adam (2)']").check()
    assert other.evaluate("lab.given('adam (2)').values.beta1") == 0.5
    other.locator("#tab-thousand").click()
    expect(other.locator("#thousand figure")).to_have_count(3)
    expect(opened(link(surface="beale", rules="adm (2)")).locator("#message")).to_contain_text("no rule “adm (2)”")
    expect(opened(link(surface="beale", rules="adam (2) (2)")).locator("#message")).to_contain_text("There is no rule")


def test_the_best_rate(opened: Opened) -> None:
    page = opened(link(surface="himmelblau", rules="sgd,adadelta", steps=100))
    before = paths(page)["sgd"]
    page.locator("#tune").click()
    expect(page.locator("#shared")).to_contain_text("Each rule has its best learning rate for this start: sgd 0.02")
    assert state(page)["own"]["sgd"]["lr"] == 0.02
    assert "adadelta" in state(page)["own"]
    ends = [float(SURFACES["himmelblau"].loss(path[-1].astype(float))) for path in (before, paths(page)["sgd"])]
    assert ends[1] < ends[0]
    assert_numpys_bits(page, "tuned")


def test_a_rate_that_a_hand_sets_while_rates_are_looked_for_stays(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="sgd,adam", scope="one"))
    page.evaluate("""() => {
      lab.tune(lab.state.rules);
      const field = document.getElementById("number-lr");
      field.value = "0.0123";
      field.dispatchEvent(new Event("change"));
    }""")
    own = state(page)["own"]
    assert own["adam"] == {"lr": 0.0123}
    assert own["sgd"]["lr"] > 0
    expect(page.locator("#shared")).to_have_text(re.compile("for this start: sgd [0-9.]+[.]$"))


@pytest.mark.parametrize("change", ["start = [-2, 2]", "common.beta1 = 0"])
def test_rates_are_looked_for_where_the_page_stands(opened: Opened, change: str) -> None:
    """Also where it came there after most of them had been tried."""
    found = []
    for most in (False, True):
        page = opened(link(surface="himmelblau", rules="momentum,adam"))
        page.evaluate(
            """([most, change]) => {
          if (most) lab.tune(lab.state.rules);
          while (most && lab.tuning.jobs.length > 1) lab.tuning.work(performance.now() + 3);
          lab.edit((state) => eval(`state.${change}`));
          if (!most) lab.tune(lab.state.rules);
        }""",
            [most, change],
        )
        found.append(state(page)["own"])
    assert found[0] == found[1]


def test_a_thousand_starts_on_ones_own_surface(opened: Opened) -> None:
    page = opened(which="own")
    expect(page.locator("#legend")).to_contain_text("cross: the minimum")
    page.locator("#tab-thousand").click()
    expect(page.locator("#progress")).to_have_text("Every start has been run.", timeout=60_000)
    notes = page.locator("#thousand figcaption span")
    assert [int((text or "0").split(" %")[0]) > 50 for text in notes.all_text_contents()] == [True, True]
    assert "arrive" in (notes.first.text_content() or "")


@pytest.mark.parametrize("view", ["map", "solid"])
def test_the_picture_is_saved_with_its_legend(opened: Opened, view: str) -> None:
    page = opened(link(surface="beale", rules="sgd,adam", view=view, steps=50, theme="light", lr=0.05))
    settle(page)
    with page.expect_download() as saved:
        page.locator("#picture").click()
    assert saved.value.suggested_filename == "steprule-beale.png"
    found = np.asarray(Image.open(saved.value.path()).convert("RGB")).astype(int)
    width, height = page.locator(f"#{'solid' if view == 'solid' else 'over'}").evaluate(
        "one => [one.width, one.height]"
    )
    assert found.shape[1] == width
    assert found.shape[0] > height + 60
    legend = found[height:].reshape(-1, 3)
    for color in page.evaluate("['sgd', 'adam'].map((name) => lab.looks.of(name).color)"):
        wanted = [int(color[k : k + 2], 16) for k in (1, 3, 5)]
        for part in (found[:height].reshape(-1, 3), legend):
            assert (np.abs(part - wanted).max(axis=1) < 8).sum() > 20, color
    page.locator("#tab-thousand").click()
    expect(page.locator("#picture")).to_be_hidden()


def test_a_formula_that_fits_has_no_scrollbar(opened: Opened) -> None:
    page = opened(link(surface="rosenbrock", rules="adam"))
    size = page.locator("#surface-formula").evaluate(
        "one => [getComputedStyle(one).overflowY, one.scrollWidth - one.clientWidth]"
    )
    assert size == ["hidden", 0]


def test_a_copy_of_adam_looks_like_adam(opened: Opened) -> None:
    """Where a page is opened with rules, a surface or a start, the rates of all its rules are looked for."""
    page = opened(which="copy")
    expect(page.locator("#shared")).to_contain_text("Each rule has its best learning rate for this start: adam 0.")
    rates = page.evaluate("['adam', 'same'].map((name) => lab.given(name).values.lr)")
    assert rates[0] == rates[1] > 1e-3
    found = paths(page)
    assert_same_bits(found["adam"], found["same"], "copy")
    page.wait_for_function("location.hash.includes('same.lr')")
    page.reload()
    settle(page)
    assert page.evaluate("['adam', 'same'].map((name) => lab.given(name).values.lr)") == rates
    # A rule that is ticked gets its best rate as well, where no other has been chosen for it.
    page.locator("#rules input[value=sgd]").check()
    page.locator("#rules input[value=lion]").check()
    assert {"sgd", "lion"} <= set(state(page)["own"])
    chosen = opened(link(surface="beale", rules="adam", lr=0.05))
    chosen.locator("#rules input[value=sgd]").check()
    assert state(chosen)["own"] == {}


def test_another_surface_opens_with_rates_for_it(opened: Opened) -> None:
    page = opened(which="elsewhere")
    found = paths(page)
    assert len(found) == 6
    for name, path in found.items():
        assert len(path) == 501, name  # none diverges
        assert SURFACES["rosenbrock"].loss(path[-1].astype(float)) < 2, name  # of 12.5
    plain = opened()
    assert state(plain)["own"]["sgd"] == {"lr": 0.05}  # as the page says, and not looked for


def test_ones_own_rule_and_surface(opened: Opened) -> None:
    page = opened(which="own")
    expect(page.locator("#inside-name")).to_have_text("softlion")
    assert state(page)["rules"] == ["adam", "softlion"]
    assert state(page)["surface"] == "own"
    assert_numpys_bits(page, "own")
    page.locator("#more summary").click()
    expect(page.locator("#slider-beta")).to_be_visible()
    # At a kink there is no gradient: said in words, and nothing runs.
    page.evaluate("lab.edit((state) => { state.start = [0, 1]; })")
    expect(page.locator("#trouble")).to_contain_text("not differentiable here: it has a kink where x = 0")
    assert paths(page) == {}
    page.locator("#over").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#trouble")).to_be_hidden()
    assert_numpys_bits(page, "beside the kink")


@pytest.mark.parametrize("view", ["map", "solid"])
def test_a_run_leaves_where_there_is_no_loss(opened: Opened, view: str) -> None:
    """Below zero a logarithm is undefined, and its slope is not."""
    page = opened(link(surface="own", start="1,2", rules="sgd,adam", lr=0.03, steps=40, view=view), which="undefined")
    path = lab.trajectory("sgd", UNDEFINED, 40, start=(1.0, 2.0), lr=0.03)
    assert np.isfinite(path).all()
    lost = int(np.argmax(path[:, 0] <= 0))
    assert_same_bits(paths(page)["sgd"].copy(), path[:lost], "while there is a loss")
    expect(page.locator("#numbers tr", has_text="sgd")).to_contain_text(f"(no loss at step {lost})")
    # Where its path ends it is no more.
    heads = """(t) => {
      const { mark } = window, shown = [];
      window.mark = (context, left, top, look) => shown.push(look.color);
      lab.state.t = t;
      lab.draw(lab.scene, lab.state.view, Infinity);
      window.mark = mark;
      return shown.length;
    }"""
    assert [page.evaluate(heads, t) for t in (0, lost - 1, lost)] == [2, 2, 1]


def test_a_surface_is_chosen_with_rates_that_suit_it(opened: Opened) -> None:
    page = opened()
    page.locator("#surface").select_option("rosenbrock")
    expect(page.locator("#shared")).to_contain_text("sgd 0.00")
    settle(page)
    assert not page.evaluate("[...lab.runs.values()].some(({ run }) => run.diverged)")
    assert_numpys_bits(page, "rosenbrock")
    # But not over a rate that a hand has set.
    enter(page, "lr", "0.0123")
    page.locator("#surface").select_option("beale")
    settle(page)
    assert page.evaluate("lab.state.rules.map((name) => lab.given(name).values.lr)") == [0.0123] * 6
    # Nor where play went on from the step of another surface.
    page.locator("#play").click()
    page.locator("#surface").select_option("reddi")
    expect(page.locator("#play")).to_have_text("Play")
    expect(page.locator("#now")).to_have_text("step 2000 of 2000")


def test_a_link_that_comes_while_playing_is_shown(opened: Opened) -> None:
    page = opened(link(surface="long-valley", rules="sgd", steps=3000, t=0))
    page.locator("#play").click()
    page.evaluate("location.hash = '#surface=beale&rules=sgd&t=5&steps=400'")
    expect(page.locator("#now")).to_have_text("step 5 of 400")
    settle(page)
    expect(page.locator("#now")).to_have_text("step 5 of 400")
    assert not page.evaluate("lab.playing")


def test_colours_theme_and_speed_are_in_the_link(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="sgd,adam,lion"))
    page.locator("#rules input[value=sgd]").uncheck()
    page.locator("#theme").click()
    page.locator("#speed").select_option("20")
    page.locator("#for-one").check()
    page.locator("#formula .line").first.hover()
    settle(page)
    other = opened(page.evaluate("lab.link()"))
    settle(other)
    seen = """[lab.state.rules.map((name) => lab.looks.of(name)), lab.looks.theme, lab.state.speed, lab.state.scope,
      lab.state.line]"""
    assert other.evaluate(seen) == page.evaluate(seen)
    expect(other.locator("#formula .line.open")).to_have_count(1)
    assert page.evaluate("lab.looks.of('adam').color") != opened(link(surface="beale", rules="adam,lion")).evaluate(
        "lab.looks.of('adam').color"
    )


def test_a_loss_below_zero_is_no_size(opened: Opened) -> None:
    page = opened(link(surface="own", rules="adam,sgd", start="1,-1.2", lr=0.05), which="negative")
    settle(page)
    data = page.evaluate("lab.charts.charts.loss.plot.data[2]")
    path = paths(page)["sgd"].astype(float)
    np.testing.assert_allclose(data[: len(path)], path[:, 0] * path[:, 1] + 10, rtol=1e-9)
    assert min(data[: len(path)]) < 0


def test_signs_are_shown(opened: Opened) -> None:
    page = opened(link(surface="himmelblau", rules="lion", steps=100, lr=0.05))
    page.locator("#inside-second").select_option("m")
    settle(page)
    m = page.evaluate("[...lab.runs.get('lion').run.names.get('m')].filter((_, k) => k % 2 === 0).slice(1)")
    np.testing.assert_allclose(page.evaluate("lab.charts.charts.second.plot.data[1]"), m)
    assert min(m) < 0


def test_projections_are_said(opened: Opened) -> None:
    page = opened(link(surface="reddi", rules="sgd", t=1, steps=50, line="theta", **{"sgd.lr": 0.1}))
    expect(page.locator("#projected")).to_have_text(
        "After each step the parameter is projected to the interval from −1 to 1."
    )
    expect(page.locator("#formula .line.open .result")).to_have_text("−101 → −1")


def test_rules_with_names_of_the_page(opened: Opened) -> None:
    """A rule's own `scale`, `noise` and `steps`, a comma in its name, and words of JavaScript."""
    page = opened(which="names")
    assert state(page)["rules"] == ["collides", "a,b*/ </script>", "constructor"]
    expect(page.locator("#message")).to_be_hidden()
    page.locator("#rules input[value=collides]").uncheck()
    page.locator("#rules input[value=collides]").check()
    page.locator("#more summary").click()
    for name, value in (("scale", "9"), ("noise", "0.25"), ("valueOf", "3")):
        enter(page, name, value)
    expected = {"lr": 0.002, "scale": 9, "noise": 0.25, "steps": 3, "start": -2, "valueOf": 3}
    assert page.evaluate("lab.given('collides').values") == expected
    assert [state(page)[key] for key in ("scale", "noise", "steps")] == [1, 0, 300]
    other = opened(page.evaluate("lab.link()"), which="names")
    assert other.evaluate("lab.given('collides').values") == page.evaluate("lab.given('collides').values")
    assert state(other)["rules"] == state(page)["rules"]
    assert other.evaluate("window.broken") is None
    for name in ("a,b*/ </script>", "constructor"):
        shown = paths(other)[name]
        rate = other.evaluate("name => lab.given(name).values.lr", name)
        path = lab.trajectory(NAMES_RULES[name], SURFACES["long-valley"], len(shown) - 1, lr=rate)
        assert_same_bits(shown.copy(), path, name)


@pytest.mark.parametrize("names", [("adabelief", "rprop"), ("yogi", "asgd"), ("collides", "adam")])
def test_sliders_hold_every_default(opened: Opened, names: tuple[str, str]) -> None:
    which = "names" if "collides" in names else "plain"
    page = opened(link(surface="beale", rules=",".join(names)), which=which)
    if page.locator("#more").is_visible():
        page.locator("#more summary").click()
    for hyper in page.evaluate(
        "lab.facts.rules.get(lab.state.look).hypers.map((hyper) => [hyper.name, hyper.default])"
    ):
        settle(page)
        name, default = hyper
        slider = page.locator(f"#slider-{name}")
        shown = page.evaluate(
            "(name) => [lab.controls.sliders.get(name)].map((one) => one.scale.to(Number(one.range.value)))[0]",
            name,
        )
        assert shown == pytest.approx(default, rel=0.02)
        before = default
        slider.focus()
        page.keyboard.press("ArrowRight")
        after = page.evaluate("([rule, name]) => lab.given(rule).values[name]", [state(page)["look"], name])
        assert after > before or default == 0 or after == pytest.approx(default, rel=0.05)


def test_keys_of_controls_are_theirs(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam", steps=100, t=50))
    page.locator("#slider-lr").focus()
    page.keyboard.press("Home")
    assert state(page)["common"]["lr"] == 0
    assert state(page)["t"] == 50
    page.locator("#forward").click()  # the button has the focus now
    page.keyboard.press("ArrowRight")
    assert state(page)["t"] == 52
    page.keyboard.press("Home")
    assert state(page)["t"] == 0
    page.locator("#tab-map").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-solid")).to_be_focused()
    expect(page.locator("#tab-solid")).to_have_attribute("aria-selected", "true")


# Of each line, when it is looked at: its numbers, and what follows. The frame that fills them in was asked for first.
_LINES = f"""async () => {{
  {_FRAME}
  const found = [], text = (one) => one.textContent;
  for (const line of document.querySelectorAll("#formula .line")) {{
    line.focus();
    await frame();
    const numbers = [...line.querySelectorAll(".numbers mn[data-of]")].map(text);
    found.push([numbers, text(line.querySelector(".result"))]);
  }}
  return found;
}}"""


def test_all_formulas_have_their_numbers(opened: Opened) -> None:
    """In every line of every rule the last number is what the page has for its left side."""
    page = opened(link(surface="beale", rules="adam", steps=12, t=9))
    for name in menu():
        page.evaluate(
            "(name) => lab.edit((state) => { Object.assign(state, { rules: [name], look: name, line: '' }); })", name
        )
        settle(page)
        for texts, result in page.evaluate(_LINES):
            assert texts == [] or all(re.fullmatch(r"\(?[−\d.e∞]+\)?", text) for text in texts), (name, texts)
            assert re.fullmatch(r"[−\d.e]+", result), name


def test_every_width_holds_everything(opened: Opened) -> None:
    page = opened(viewport={"width": 390, "height": 800})
    for width in (390, 320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for view in ("solid", "thousand", "map"):
            page.locator(f"#tab-{view}").click()
            settle(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        for place in ("#over", "#play", "#scrub", "#slider-lr", "[data-chart=loss] canvas", "#formula .line >> nth=0"):
            box = page.locator(place).bounding_box()
            assert box is not None, place
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width + 0.5, place
            assert box["width"] > 20, place


def _luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_can_be_read(opened: Opened, theme: str) -> None:
    """The contrasts of WCAG 2.2, section 1.4: 4.5 for text, 3 for lines."""
    page = opened(color_scheme=theme)

    def paints() -> dict[str, str]:
        names = ["paper", "back", "text", "muted", "accent", "on-accent", "warn"]
        found: dict[str, str] = page.evaluate(
            "(names) => Object.fromEntries(names.map((n) => [n, lab.looks.paint(n)]))", names
        )
        return found

    for chosen in (theme, "dark" if theme == "light" else "light"):
        found = paints()
        assert page.evaluate("lab.looks.theme") == chosen
        assert (_luminance(found["paper"]) > 0.5) == (chosen == "light")
        for ground in ("paper", "back"):
            assert all(_contrast(found[ink], found[ground]) >= 4.5 for ink in ("text", "muted", "accent"))
        assert _contrast(found["on-accent"], found["accent"]) >= 4.5
        palette = page.evaluate("PALETTES[lab.looks.theme]")
        assert all(_contrast(color, found["paper"]) >= 3 for color in palette), chosen
        page.locator("#theme").click()


# Full dichromacy, for linear RGB: Viénot, Brettel & Mollon 1999, doi:10.1002/(SICI)1520-6378(199908)24:4<243.
_PROTANOPIA = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
_DEUTERANOPIA = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]


def _seen(color: str, matrix: Any) -> Any:
    """Return a colour in CIELAB as a colour-blind reader sees it."""
    parts = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colour_blind_readers_tell_rules_apart(opened: Opened, theme: str) -> None:
    """By the colours of six rules, or else by their marks, which differ as well."""
    page = opened(color_scheme=theme)
    palette = page.evaluate("PALETTES[lab.looks.theme].slice(0, 6)")
    for matrix in (np.eye(3), _PROTANOPIA, _DEUTERANOPIA):
        seen = [_seen(color, matrix) for color in palette]
        nearest = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))
        assert nearest > 10, matrix
    shapes = page.evaluate(
        "[...lab.state.rules].map((name) => [lab.looks.of(name).shape, lab.looks.of(name).color].join())"
    )
    assert len(set(shapes)) == len(shapes) == 6


def test_everything_can_be_reached_and_has_a_name(opened: Opened) -> None:
    page = opened(link(surface="beale", rules="adam"))
    unnamed = page.evaluate("""
      [...document.querySelectorAll('button, input, select, canvas, [role=tab], summary')].filter((one) => {
        const label = one.getAttribute('aria-label') || one.labels?.[0]?.textContent || one.textContent || one.title;
        const seen = one.getAttribute('aria-hidden') !== 'true' && one.checkVisibility() && !one.closest('.uplot');
        return !label?.trim() && seen;
      }).map((one) => one.outerHTML)""")
    assert unnamed == []
    reached = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.classList[0]"))
    assert {
        "preset",
        "surface",
        "share",
        "theme",
        "tab-map",
        "over",
        "play",
        "scrub",
        "tune",
        "slider-lr",
        "number-lr",
        "line",
    } <= reached
