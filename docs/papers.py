"""Take over figures of papers into docs/papers/ and docs/papers.md.

    steprule figures adam && steprule figures amsgrad
    python docs/papers.py figures/adam figures/amsgrad

Pictures are reduced to 64 colours, and the verdicts become the tables of the page.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

from PIL import Image

from steprule.files import write_whole
from steprule.report.table import markdown_table

PAGE = Path(__file__).parent / "papers.md"
PICTURES = Path(__file__).parent / "papers"


def main(folders: list[Path]) -> None:
    """Write the pictures that the page shows, and the tables between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    for folder in folders:
        page = _with_table(page, folder)
        for name in re.findall(r"\(papers/([\w-]+)\.png\)", page):
            if (folder / f"{name}.png").exists():
                write_whole(PICTURES / f"{name}.png", _small(folder / f"{name}.png"))
    write_whole(PAGE, page)


def _with_table(page: str, folder: Path) -> str:
    begin, end = f"<!-- {folder.name} -->\n", f"<!-- /{folder.name} -->\n"
    with (folder / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    lines = []
    last = ""
    for row in rows:
        name, last = "" if row["figure"] == last else row["figure"], row["figure"]
        by = " ".join(filter(None, (row["statistic"], row["why_not"])))
        cells = (name, row["claim"], "yes" if row["holds"] == "True" else "no", by)
        lines.append([cell.replace("|", r"\|") for cell in cells])
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    table = markdown_table(["figure", "claim", "holds here", "by"], lines)
    return f"{before}{begin}{table}\n{end}{after}"


def _small(path: Path) -> bytes:
    picture = Image.open(path).convert("RGB")
    picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.quantize(64, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    main([Path(name) for name in sys.argv[1:]])
