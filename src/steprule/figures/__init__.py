"""The figures of the papers on Adam, AMSGrad and AdamW, made again, and whether what they claim holds here.

``steprule figures PAPER`` does it from the command line, ``make(PAPER, folder)`` from Python. It needs scikit-learn,
matplotlib and joblib: ``pip install '.[race]'`` in a checkout; figures of convolutions need PyTorch, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steprule.figures.catalogue import PAPERS, figures_of
from steprule.figures.figure import Figure, Judgement
from steprule.figures.output import write
from steprule.figures.work import Work, do_parts

__all__ = ["PAPERS", "Figure", "Judgement", "Work", "do_parts", "figures_of", "make", "write"]


def make(
    paper: str, folder: str | Path, *, only: Sequence[str] = (), jobs: int | None = None
) -> dict[str, list[Judgement]]:
    """Make the figures of a paper, or go on with them, write them to a folder, and return the judgements by figure.

    Args:
        paper: ``adam``, ``amsgrad`` or ``adamw``.
        folder: where ``index.html``, pictures, numbers and, in ``parts``, finished work go: a new or empty one, or
            one that holds figures of the same paper.
        only: names of figures. Default: all of the paper.
        jobs: processes. Default: the processors at hand. The numbers do not depend on it.

    Raises:
        HyperparameterError: for a paper, figure or number that there is not.
        StepruleError: when other files lie in the folder, or it cannot be written to.
    """
    folder = Path(folder)
    figures = [figure for figure in figures_of(paper, only) if not figure.missing]
    work = do_parts(figures, folder, paper=paper, jobs=jobs)
    write(paper, work, folder)
    return {figure.name: list(figure.judge(work.results)) for figure in work.figures if work.is_done(figure)}
