"""How many milliseconds of script does a frame of the lab take, with six rules running, in Chromium?

python -m benchmarks.lab_frames
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.harness import report
from steprule import lab

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
RULES = "rules=sgd,momentum,adagrad,rmsprop,adam,lion"
SECONDS = 5
GOAL = 8.0


def play(page: Page) -> None:
    page.locator("#play").click()
    page.wait_for_timeout(1000 * SECONDS)


def drag(page: Page, canvas: str) -> None:
    box = page.locator(canvas).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    for step in range(100):
        page.mouse.move(box["x"] + 30 + 4 * step, box["y"] + 30 + 3 * step)
        page.wait_for_timeout(16)
    page.mouse.up()


CASES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "playing 300 steps, map": ("surface=long-valley&t=0", play),
    "playing 300 steps, three dimensions": ("surface=long-valley&t=0&view=solid", play),
    "playing 2,000 steps, map": ("surface=rosenbrock&t=0&steps=2000", play),
    "dragging the start, 300 steps, map": ("surface=long-valley", lambda page: drag(page, "#over")),
    "turning, three dimensions": ("surface=long-valley&view=solid", lambda page: drag(page, "#solid")),
}
_RECORD = """() => {
  window.spent = [];
  lab.onFrame = (milliseconds) => window.spent.push(milliseconds);
}"""


def frames(page: Page, address: str, act: Callable[[Page], None]) -> list[float]:
    """Return the milliseconds of script of each frame, charts included."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_timeout(1500)  # the ground has been painted
    page.evaluate(_RECORD)
    act(page)
    found: list[float] = page.evaluate("window.spent")
    return found


def main() -> None:
    rows: list[list[str]] = []
    timings: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        address = lab.write(lab.page(), Path(folder, "lab.html")).as_uri()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        for name, (link, act) in CASES.items():
            spent = timings[name] = frames(page, f"{address}#{RULES}&{link}", act)
            shares = np.percentile(spent, [50, 95, 100])
            late = np.mean(np.array(spent) > GOAL)
            rows.append([name, str(len(spent)), *(f"{share:.1f}" for share in shares), f"{late:.1%}"])
        browser.close()
    headings = ["six rules", "frames", "median ms", "95 % below, ms", "longest, ms", f"above {GOAL:.0f} ms"]
    report("Milliseconds of script in a frame of the lab's page", headings, rows, timings)


if __name__ == "__main__":
    main()
