"""How the page of a check looks, measured in Chromium: at all widths, in the dark, and on paper."""

# ruff: noqa: F811  (fixtures are imported)

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

import steprule as sr
from steprule.checking import write
from tests.checking.hand_written.slips import adam
from tests.lab.test_page import browser  # noqa: F401

pytestmark = pytest.mark.apart


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    answer = sr.check(adam(["both stored", "eps inside", "l2", "writes"]))
    return Path(write(answer, tmp_path_factory.mktemp("check"), "steprule check own.py:adam")).resolve().as_uri()


@pytest.mark.parametrize("width", [320, 375, 768, 1440])
def test_nothing_is_wider_than_the_window(browser: Browser, address: str, width: int) -> None:
    """Lines of code scroll by themselves; the picture is drawn as wide as there is room."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("pre").count() > 0
    drawn = page.evaluate("[...document.images].map((one) => [one.naturalWidth > 0, one.clientWidth <= innerWidth])")
    assert drawn == [[True, True]]
    cut = "[...document.querySelectorAll('td')].some((td) => td.scrollWidth > td.clientWidth)"
    assert not page.evaluate(cut)
    page.close()


def test_it_is_dark_where_that_is_wanted_and_light_on_paper(browser: Browser, address: str) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    shown = "[getComputedStyle(document.body).color, document.querySelector('img').currentSrc]"
    dark = page.evaluate(shown)
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function(f"{shown}[1] !== {dark[1]!r}")
    assert dark[0] == "rgb(232, 234, 237)"
    assert page.evaluate(shown)[0] == "rgb(27, 31, 36)"
    page.close()


def test_lines_are_told_with_their_numbers_and_copied_without(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    line = page.locator("pre .new").first
    number = line.get_attribute("data-line")
    before = line.evaluate("one => getComputedStyle(one, '::before').content")
    assert number is not None
    assert int(number) > 1
    assert "attr(data-line)" in before or number in before
    assert not (line.text_content() or "").startswith(number)
    page.close()
