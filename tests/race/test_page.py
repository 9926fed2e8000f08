"""How the race's report looks, measured in Chromium: at all widths, with long names, and on paper."""

# ruff: noqa: F811  (fixtures are imported)

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from steprule.race import Race, Settings, make_plan, write
from tests.lab.test_page import browser  # noqa: F401
from tests.race.cases import reported, with_start, write_quadratic

pytestmark = pytest.mark.apart

RULES = ("sgd", "adam(beta1=0.95, beta2=0.9999, eps=1e-6)", "adamw(weight_decay=0.123456)", "momentum_ema")
LRS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("race")
    settings = Settings(write_quadratic(folder), rules=RULES, lrs=LRS, seeds=12)
    plan = with_start(make_plan(settings), 1.0)
    losses: dict[str, list[float | None]] = {
        entrant.label: [0.00012345 * (place + 1 + seed / 50) for seed in range(12)]
        for place, entrant in enumerate(plan.entrants)
    }
    runs = reported(plan, losses)
    return Path(write(Race(plan, runs, 1, 0.0, 0, False), folder / "out")[-1]).as_uri()


@pytest.mark.parametrize("width", [320, 375, 768, 1440, 2560])
def test_tables_leave_room_for_their_numbers(browser: Browser, address: str, width: int) -> None:
    """The names stay in sight while a narrow table is scrolled: so they take half of it at most."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for place in (".scroll >> nth=0", ".scroll >> nth=1", ".scroll >> nth=2"):
        table = page.locator(place)
        names = table.evaluate(
            "one => Math.max(...[...one.querySelectorAll('td:first-child')].map((td) => td.offsetWidth))"
        )
        room = table.evaluate("one => one.clientWidth")
        is_scrolled = table.evaluate("one => one.scrollWidth > one.clientWidth")
        assert names <= room / 2 or not is_scrolled
        cut = table.evaluate("one => [...one.querySelectorAll('td')].some((td) => td.scrollWidth > td.clientWidth)")
        assert not cut
    if width >= 768:
        assert page.locator(".scroll >> nth=0").evaluate("one => one.scrollWidth <= one.clientWidth")
    page.close()


def test_paper_is_light(browser: Browser, address: str) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    shown = "[getComputedStyle(document.body).color, document.querySelector('img').currentSrc]"
    dark = page.evaluate(shown)
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function(f"{shown}[1] !== {dark[1]!r}")
    assert dark[0] == "rgb(232, 234, 237)"
    assert page.evaluate(shown)[0] == "rgb(27, 31, 36)"
    page.close()
