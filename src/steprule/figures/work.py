"""Doing the parts of figures: in processes, kept one by one, interrupted and resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steprule.errors import HyperparameterError
from steprule.figures.figure import Figure, Part
from steprule.race.run import one_thread
from steprule.race.runner import execute, processors
from steprule.race.store import Kept
from steprule.report.folder import check_own, to_json, write_files
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Work", "do_parts"]

_MARK, _PARTS = "figures.json", "parts"
Watch = Callable[["Work"], None]


@dataclass
class Work:
    """How far the figures are.

    Attributes:
        figures: that are made.
        results: of their parts.
        resumed: parts that were in the folder.
        interrupted: whether it ended early.
    """

    figures: Sequence[Figure]
    results: dict[Part, Any] = field(default_factory=dict)
    resumed: int = 0
    interrupted: bool = False

    def is_done(self, figure: Figure) -> bool:
        """Whether nothing is left of a figure."""
        return not figure.left(self.results)

    @property
    def expected(self) -> int:
        """How many parts there are, as far as they are known."""
        return len({part for figure in self.figures for part in figure.parts(self.results)})


def do_parts(
    figures: Sequence[Figure],
    folder: Path,
    *,
    paper: str = "",
    jobs: int | None = None,
    fresh: bool = False,
    watch: Watch = lambda work: None,
) -> Work:
    """Do what the folder does not hold yet, and keep each part as soon as it is done.

    Args:
        figures: what for.
        folder: where parts are kept, in ``parts``.
        paper: whose figures they are: the folder is marked as theirs, and one that has other files is refused. Default:
            neither.
        jobs: processes; 1 works in this one. Default: the processors at hand. The numbers do not depend on it.
        fresh: forget the parts that the folder holds.
        watch: called at the beginning and whenever there is one more.

    Raises:
        StepruleError: what a part raises; finished parts are kept. When other files lie in the folder, those of another
            paper among them, or it cannot be written to.
        HyperparameterError: for fewer than one process.
    """
    if jobs is not None and jobs < 1:
        raise HyperparameterError(f"jobs must be at least 1, got {jobs}")
    if paper:
        _claim(folder, f"steprule figures {paper}")
    kept = Kept(folder, _PARTS)
    if fresh:
        kept.clear()
    work = Work(figures)
    try:
        while todo := _take(work, kept):
            watch(work)
            for part, result in execute(_do, todo, min(jobs or processors(), len(todo))):
                # What is on the disk is drawn as well, also when Ctrl-C comes between the two.
                with uninterrupted():
                    kept.write(part.key, result)
                    work.results[part] = result
                watch(work)
    except KeyboardInterrupt:
        work.interrupted = True
    watch(work)
    return work


def _claim(folder: Path, kind: str) -> None:
    """Mark a folder before there is anything in it, so that a run that is killed can go on."""
    check_own(folder, _MARK, kind)
    write_files(folder, {_MARK: to_json({"kind": kind})})


def _take(work: Work, kept: Kept) -> list[Part]:
    """Take from the disk what is there; return the known parts that are not, in the order of the figures."""
    while True:
        todo = list(dict.fromkeys(part for figure in work.figures for part in figure.left(work.results)))
        found = {part: result for part in todo if (result := kept.read(part.key)) is not None}
        if not found:
            return todo
        work.results |= found
        work.resumed += len(found)


def _do(part: Part, parent: int | None = None) -> Any:
    """Return what comes of a part; in a process whose parent was killed, end."""
    if parent is not None and os.getppid() != parent:
        os._exit(1)
    with one_thread():
        return part.do()
