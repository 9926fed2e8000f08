"""How the lab's page looks, measured: at all widths, in both themes, and of every story at its end."""

# ruff: noqa: F811  (fixtures are imported)

from __future__ import annotations

import itertools
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from steprule.lab.presets import presets
from steprule.lab.surfaces import NAMES
from tests.lab.test_page import Opened, browser, link, opened, pages, paths, settle  # noqa: F401  (fixtures)

pytestmark = pytest.mark.apart

SIZES = {320: 640, 375: 750, 768: 1024, 1024: 768, 1366: 768, 1440: 900, 1920: 1080, 2560: 1440}
# The narrowest, a tablet, the commonest and the widest at every run; the others in the long sweep.
WIDTHS = [w if w in (320, 768, 1366, 2560) else pytest.param(w, marks=pytest.mark.slow) for w in SIZES]
STORIES = [story["key"] for story in presets()]

# Whatever is wider than its place, cut off, or on top of something else.
_FAULTS = """() => {
  const faults = [], seen = (one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const words = (one) => (one.textContent || one.value || "").trim().slice(0, 30);
  const name = (one) => `${one.tagName.toLowerCase()}${one.id ? "#" + one.id : ""} “${words(one)}”`;
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`the page is ${wide} wide`);
  const kinds = "button, select, input, output, h1, h2, p, figcaption, .chart, th, td, label, summary, "
    + "#over, #solid, #thousand canvas";
  const isPart = (one) => seen(one) && !one.closest("#rules") && one.clientWidth;
  const parts = [...document.querySelectorAll(kinds)].filter(isPart);
  const boxes = parts.map((one) => one.getBoundingClientRect());
  for (const [k, one] of parts.entries()) {
    const card = one.closest(".card")?.getBoundingClientRect() ?? { left: 0, right: innerWidth };
    const { left, right } = boxes[k];
    if (left < card.left - 0.5 || right > card.right + 0.5) faults.push(`${name(one)} leaves its card`);
    const scrolls = getComputedStyle(one).overflowX !== "visible" || one.matches("input, canvas");
    if (!scrolls && one.scrollWidth > one.clientWidth + 1 && one.clientWidth) faults.push(`${name(one)} is cut off`);
    if (one.closest(".transport")) continue; // it stays in sight, above what is scrolled
    for (let l = k + 1; l < parts.length; l++) {
      const other = parts[l];
      if (one.contains(other) || other.contains(one) || other.closest(".transport")) continue;
      const across = Math.min(boxes[k].right, boxes[l].right) - Math.max(boxes[k].left, boxes[l].left);
      const down = Math.min(boxes[k].bottom, boxes[l].bottom) - Math.max(boxes[k].top, boxes[l].top);
      if (across > 0.5 && down > 0.5) faults.push(`${name(one)} lies on ${name(other)}`);
    }
  }
  return faults;
}"""


def choose(page: Page, story: str) -> None:
    page.locator("#preset").select_option(story)
    page.locator("#to-end").click()
    settle(page)


def sized(opened: Opened, width: int, hash_: str = "", **options: Any) -> Page:
    return opened(hash_, viewport={"width": width, "height": SIZES[width]}, reduced_motion="reduce", **options)


def assert_what_plays_it_is_in_sight(page: Page, width: int, story: str) -> None:
    page.evaluate("scrollTo(0, 0)")
    box, stage = page.locator("#play").bounding_box(), page.locator("#stage").bounding_box()
    assert box is not None
    assert stage is not None
    assert box["y"] + box["height"] <= SIZES[width], story
    assert min(stage["y"] + stage["height"], box["y"]) - stage["y"] >= 240, story


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.dear
def test_nothing_is_cut_off_and_what_plays_a_story_is_in_sight(opened: Opened, width: int) -> None:
    page = sized(opened, width)
    assert page.evaluate(_FAULTS) == []
    widest = """[...document.querySelectorAll("header select")].every((one) => {
      const given = one.offsetWidth;
      one.style.cssText = "flex: none; max-width: none; width: max-content";
      return one.offsetWidth <= given + 1;
    })"""
    if width >= 1366:
        assert page.evaluate(widest), "every story's name has room"
        page.reload()
    for story in STORIES:
        choose(page, story)
        assert page.evaluate(_FAULTS) == [], story
        if width > 720:
            assert_what_plays_it_is_in_sight(page, width, story)
    page.locator("#tab-solid").click()
    page.locator("#more summary").click()
    page.locator("#twin").click()
    settle(page)
    assert page.evaluate(_FAULTS) == []
    note = "lab.note(lab.state.rules.map((one) => `Learning rates: ${one} 0.0000123`).join(), 9000)"
    page.evaluate(note)
    box = page.locator("#shared").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


@pytest.mark.slow
def test_curves_of_a_row_stand_at_one_height(opened: Opened) -> None:
    for width in SIZES:
        page = sized(opened, width, link(rules="adam", surface="beale"))
        places = page.evaluate("""[...document.querySelectorAll("#inside .chart")].map((one) => {
          const { left, bottom } = one.getBoundingClientRect(), figure = one.closest("figure").getBoundingClientRect();
          return [Math.round(left), Math.round(bottom), Math.round(figure.top)];
        })""")
        rows = {top: [bottom for _, bottom, other in places if other == top] for _, _, top in places}
        assert all(len(set(bottoms)) == 1 for bottoms in rows.values()), width
        assert len({len(bottoms) for bottoms in rows.values()}) == 1, f"{width}: one is left over"


def test_a_thumb_meets_what_it_aims_at(opened: Opened) -> None:
    page = sized(opened, 320, has_touch=True, is_mobile=True)
    page.locator("#more summary").click()
    small = page.evaluate("""[...document.querySelectorAll("button, select, input, summary")].flatMap((one) => {
      if (!one.checkVisibility()) return [];
      const place = one.matches("[type=radio], [type=checkbox]") ? one.closest("label") : one;
      const { width, height } = place.getBoundingClientRect();
      const isSmall = Math.min(width, height) < 27 || Math.max(width, height) < 36;
      return isSmall ? [`${one.id || one.textContent}: ${width} x ${height}`] : [];
    })""")
    assert small == []
    looks = page.locator("#rules .look")
    assert float(looks.first.evaluate("one => getComputedStyle(one).opacity")) == 1.0
    page.locator("#rules input[value=lion]").tap()
    page.get_by_role("button", name="look inside sgd", exact=True).tap()
    expect(page.locator("#inside-name")).to_have_text("sgd")


def _contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, #rrggbb, as the Web Content Accessibility Guidelines 2.2 define it."""

    def luminance(color: str) -> float:
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_lines_can_be_told_from_what_is_behind(opened: Opened, theme: str) -> None:
    page = opened(color_scheme=theme)
    names = ("paper", "back", "text", "muted", "soft", "accent", "on-accent", "warn")
    paint = {name: page.evaluate("(name) => lab.looks.paint(name)", name) for name in names}
    for behind in ("paper", "back", "soft"):
        for words in ("text", "muted"):
            assert _contrast(paint[words], paint[behind]) >= 4.5, (words, behind)
    for words, behind in (("accent", "paper"), ("accent", "soft"), ("on-accent", "accent"), ("paper", "text")):
        assert _contrast(paint[words], paint[behind]) >= 4.5, (words, behind)
    for color in page.evaluate("(theme) => PALETTES[theme]", theme):
        assert _contrast(color, paint["paper"]) >= 3.0, color
    assert _contrast(paint["warn"], paint["paper"]) >= 3.0


def test_where_the_keyboard_is_can_be_seen(opened: Opened) -> None:
    """Of everything that takes the focus, with an outline that its surroundings do not cut off."""
    page = opened()
    reached = set()
    for view in ("map", "solid"):
        page.locator(f"#tab-{view}").click()
        settle(page)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for _ in range(150):
            page.keyboard.press("Tab")
            found = page.evaluate("""(() => {
              const one = document.activeElement, { outlineStyle, outlineWidth, outlineOffset } = getComputedStyle(one);
              const name = one.id || one.classList[0] || one.tagName;  // a line that is pointed at has more
              return [name, outlineStyle, parseFloat(outlineWidth), parseFloat(outlineOffset), one.tagName];
            })()""")
            if found[-1] == "BODY":
                continue  # from the end to the beginning
            name, style, width, away, kind = found
            reached.add(name)
            assert style != "none", name
            assert width >= 2, name
            if kind == "CANVAS" or name.startswith("line"):
                assert away <= -2, name
    assert {
        "preset",
        "share",
        "over",
        "solid",
        "play",
        "scrub",
        "slider-lr",
        "number-lr",
        "line",
        "inside-first",
    } <= reached


def test_paper_is_light_and_has_the_whole_picture(opened: Opened) -> None:
    page = opened(link(surface="rosenbrock", rules="sgd,adam", theme="dark", lr=0.001))
    # Read at once: a browser takes the page right after it has said so.
    seen = "[document.documentElement.dataset.theme, lab.looks.theme, lab.waiting ?? null]"
    printed = page.evaluate(f"() => {{ dispatchEvent(new Event('beforeprint')); return {seen}; }}")
    assert printed == ["light", "light", None]
    # Printers take no transparency: the ground lies on the canvas of the paths, with its contours.
    assert page.evaluate("""() => {
      const { canvas, context } = lab.map.over, { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      return data.every((part, k) => k % 4 < 3 || part === 255);
    }""")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    settle(page)
    assert page.evaluate("[document.documentElement.dataset.theme, lab.looks.theme]") == ["dark", "dark"]
    page.emulate_media(media="print")
    for hidden in ("#settings", ".transport", ".tabs", "#share"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator("#numbers")).to_be_visible()


_WORDS = """() => {
  const { context } = lab.solid.stage, write = context.fillText, said = [];
  context.fillText = (text, left, top) => {
    const wide = context.measureText(text).width, from = context.textAlign === "left" ? left : left - wide / 2;
    said.push([text, from, top - 6, from + wide, top + 6]);
  };
  lab.solid.drawLabels(context, lab.looks);
  delete context.fillText;
  const { width, height } = lab.solid.stage, ends = lab.solid.axes().flatMap((axis) => axis.ends);
  return { said, width, height, ends: ends.map((end) => lab.solid.project(...end)) };
}"""


@pytest.mark.parametrize("width", [320, 1440])
@pytest.mark.dear
def test_labels_of_three_dimensions_keep_apart(opened: Opened, width: int) -> None:
    page = sized(opened, width)
    page.locator("#tab-solid").click()
    for name, turn in itertools.product(NAMES[:-1], ([-0.6, 1.05], [0.8, 0.6], [2.5, 0.9], [-2.2, 1.4])):
        given = {"surface": name, "turn": turn}
        page.evaluate(
            "(given) => { lab.chooseSurface(given.surface); lab.edit((state) => { state.turn = given.turn; }); }", given
        )
        settle(page)
        found = page.evaluate(_WORDS)
        for text, left, top, right, bottom in found["said"]:
            assert left >= 0, (name, turn, text)
            assert right <= found["width"], (name, turn, text)
            assert top >= 0, (name, turn, text)
            assert bottom <= found["height"], (name, turn, text)
        for left, top in found["ends"]:
            assert 0 <= left <= found["width"], (name, turn)
            assert 0 <= top <= found["height"], (name, turn)
        for one, other in itertools.combinations(found["said"], 2):
            across = min(one[3], other[3]) - max(one[1], other[1])
            down = min(one[4], other[4]) - max(one[2], other[2])
            assert min(across, down) <= 0, (name, turn, one[0], other[0])


def test_what_a_thousand_starts_show_is_said(opened: Opened) -> None:
    page = opened(link(surface="himmelblau", rules="adam", view="thousand", steps=5))
    legend = page.locator("#legend")
    expect(legend).to_have_text(
        "Each cell is a start. Colour: the minimum that was reached, fainter the later. "
        "Grey: where it is after the last step, by height. Black: diverged."
    )
    page.locator("#theme").click()
    expect(legend).to_contain_text("White: diverged.")
    page.locator("#tab-map").click()
    expect(legend).to_contain_text("Ring: the start; cross: minima.")


def test_a_start_without_loss_does_not_press_the_curves_flat(opened: Opened) -> None:
    page = opened()
    choose(page, "amsgrad")
    shown = page.evaluate("[lab.charts.charts.loss.plot.scales.y].map(({ min, max }) => [min, max])[0]")
    losses = [point * 10 / 101 for path in paths(page).values() for point in path[:, 0].astype(float)]
    assert shown[0] <= min(losses) < -0.05 < 0.05 < max(losses) <= shown[1]


def test_the_curves_of_the_step_bound_begin_before_y_is_seen(opened: Opened) -> None:
    page = opened()
    choose(page, "bound")
    scale = "(name) => [lab.charts.charts[name].plot.scales.x].map(({ min, max }) => [min, max])[0]"
    assert page.evaluate(scale, "step") == page.evaluate(scale, "loss") == [4950, 5250]
    # What is long is seen as long: four powers of ten below the longest step at most.
    low, high = page.evaluate("[lab.charts.charts.step.plot.scales.y].map(({ min, max }) => [min, max])[0]")
    assert 0.002 * 6.5 / 1e5 < low < 0.002 < 0.002 * 6.5 <= high
    words = page.evaluate("[...lab.charts.charts.correction.plot.axes[1]._values]")
    assert len(set(words)) == len(words) > 1
    # What is before is a step back away, and another surface has curves from its start.
    page.locator("#scrub").fill("4000")
    settle(page)
    assert page.evaluate(scale, "step") == [0, 5250]
    page.locator("#to-end").click()
    page.locator("#surface").select_option("beale")
    settle(page)
    assert page.evaluate(scale, "loss") == [0, 300]


def test_formulas_bring_their_font(opened: Opened) -> None:
    """Every letter of every rule is in it: its width is the same, whatever font comes after."""
    page = opened()
    found = page.evaluate("""async () => {
      await document.fonts.load('20px "steprule formulas"');
      const host = document.createElement("div"), letters = new Set();
      const context = document.createElement("canvas").getContext("2d");
      for (const rule of lab.facts.rules.values()) {
        for (const { left, right } of rule.lines) host.innerHTML += `<math>${left}${right}</math>`;
      }
      for (const one of host.querySelectorAll("mi, mn, mo, mtext")) {
        const whole = one.textContent.trim();
        for (const letter of whole) letters.add(one.matches("mi") && [...whole].length === 1 ? italic(letter) : letter);
      }
      const width = (letter, after) => {
        context.font = `20px "steprule formulas", ${after}`;
        return context.measureText(letter).width;
      };
      return [letters.size, [...letters].filter((letter) => width(letter, "serif") !== width(letter, "monospace"))];
      function italic(letter) {
        const at = letter.codePointAt(0), moved = (first, to) => String.fromCodePoint(at - first + to);
        if (letter === "h") return "\\u210e";
        if (/[a-z]/.test(letter)) return moved(97, 0x1d44e);
        if (/[A-Z]/.test(letter)) return moved(65, 0x1d434);
        if (/[α-ω]/.test(letter)) return moved(0x3b1, 0x1d6fc);
        return letter;
      }
    }""")
    assert found[0] > 60
    assert found[1] == []
    page.evaluate("lab.edit((state) => Object.assign(state, { rules: ['rprop'], look: 'rprop' }))")
    settle(page)
    brace = page.locator("#formula [data-line=delta] .symbols mo", has_text="{").first.bounding_box()
    line = page.locator("#formula [data-line=theta] .symbols").bounding_box()
    assert brace is not None
    assert line is not None
    assert brace["height"] > 1.5 * line["height"]
