"""How does a step of AdamW compare with other libraries', in time, memory and error?

python -m benchmarks.peers [NAME ...]

The whole of what `steprule bench` measures a part of: GPT-2 small in full, and those whose first step waits for a
compiler. What is not installed is left out, and said so. Names are libraries, or those of `steprule bench --list`.
"""

from __future__ import annotations

import sys

from benchmarks.harness import report
from steprule.bench.compare import Comparison, Settings, compare
from steprule.bench.peers import chosen
from steprule.bench.report import digits, markdown
from steprule.bench.work import works

QUESTION = "A step of AdamW beside other libraries"


def row(found: Comparison, name: str) -> list[str]:
    """Return the median times of a contestant, and what it keeps and errs by itself."""
    times = [found.timings(work).get(name) for work in found.rounds]
    alone = found.alone[name]
    error = "" if alone.error is None else digits(alone.error)
    return [name, *(digits(time.median * 1e3) if time else "" for time in times), f"{alone.kept:.2f}", error]


def main() -> None:
    found = compare(
        chosen(sys.argv[1:] or None), Settings(works("whole"), turns=15, seconds=900.0), compiled=True, say=print
    )
    print(markdown(found))
    if not found.is_whole:
        raise SystemExit("It was interrupted, so it is not kept.")
    headings = ["", *(f"{work}, median ms" for work in found.rounds), "bytes a parameter", "error, ulp"]
    report(QUESTION, headings, [row(found, name) for name in found.alone], {"comparison": found.as_json()})


if __name__ == "__main__":
    main()
