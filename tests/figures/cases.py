"""What the tests of the figures share: a figure that takes no time, and results that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steprule.figures.drawing import Line, Panel, draw_panels
from steprule.figures.figure import Figure, Judgement, Part, Results, Table
from steprule.style import Theme

LOG = "STEPRULE_TEST_LOG"


def square(number: int, log: str, stop: bool = False) -> dict[str, Any]:
    """Write down that it was called, and return the square; NaN of 3, to see what becomes of it."""
    with Path(log).open("a") as file:
        file.write(f"{number}\n")
    if stop:
        raise KeyboardInterrupt
    return {"square": float("nan") if number == 3 else number**2}


class Squares(Figure):
    """Squares of two numbers; that of the larger is asked for when the smaller's is known."""

    name = "squares"
    title = "Squares & <others>"
    source = "Euclid"
    setting = "Two numbers."

    def __init__(self, log: Path, second: int = 2, stop: bool = False) -> None:
        self.log, self.second, self.stop = str(log), second, stop

    def part(self, number: int, stop: bool = False) -> Part:
        more = (("stop", True),) if stop else ()
        return Part("tests.figures.cases:square", (("number", number), ("log", self.log), *more))

    def parts(self, results: Results) -> list[Part]:
        first = self.part(1)
        return [first, self.part(self.second, self.stop)] if first in results else [first]

    def judge(self, results: Results) -> list[Judgement]:
        value = results[self.part(self.second)]["square"]
        return [
            Judgement("Squares grow.", value > 1, f"{value} and 1."),
            Judgement("Squares fall.", value < 1, f"{value} and 1.", "They <grow>."),
        ]

    def table(self, results: Results) -> Table:
        return Table(("n", "square"), [[n, results[self.part(n)]["square"]] for n in (1, self.second)])

    def draw(self, results: Results, theme: Theme) -> Any:
        return draw_panels(self.title, "a note", [Panel([Line("squares", [1, 2], [1, 4])], "n", "n²")], theme)


def called(log: Path) -> list[int]:
    """Return the numbers whose squares were computed, in order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []
