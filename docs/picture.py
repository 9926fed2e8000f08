"""Draw docs/lab.png, the picture of the lab, by Chromium (apt install chromium).

python docs/picture.py
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from steprule import lab
from steprule.files import write_whole

TARGET = Path(__file__).parent / "lab.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> None:
    """Open the page as it comes, with the numbers of one line of the formula shown, and keep what is seen."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 920}, color_scheme="light")
        page.goto(lab.write(lab.page(), Path(folder, "lab.html")).as_uri())
        page.locator("#formula [data-line=m_hat]").hover()
        page.wait_for_timeout(3000)
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    stream = io.BytesIO()
    picture.convert("RGB").save(stream, "PNG", optimize=True)
    write_whole(TARGET, stream.getvalue())
    print(f"wrote {TARGET} ({TARGET.stat().st_size / 1000:.0f} KB)")


if __name__ == "__main__":
    main()
