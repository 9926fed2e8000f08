"""Which figures there are of each paper, and of what data they can be made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Final

from steprule.errors import HyperparameterError, suggest
from steprule.figures.contest import Contest
from steprule.figures.datasets import READERS, digest_of, read
from steprule.figures.figure import Figure

__all__ = ["PAPERS", "TITLES", "figures_of"]

TITLES: Final = {
    "adam": "Adam: the figures of the paper, and what is said of it",
    "amsgrad": "AMSGrad: where Adam does not converge",
    "adamw": "AdamW: decay inside the gradient, and decoupled",
}
"""Headings of the pages, by paper."""

PAPERS: Final = {
    "adam": (
        *("adam_logistic:Dense", "adam_logistic:Sparse", "adam_logistic:SparseDropout"),
        *("adam_network:Dropout", "adam_torch:Convolutions", "adam_torch:Autoencoder"),
        *("claims_moments:BiasCorrection", "claims_moments:StepBound", "claims_moments:Scale"),
        *("claims_progress:Annealing", "claims_progress:MovingTarget"),
        *("claims_generalization:Memory", "claims_generalization:Generalization"),
    ),
    "amsgrad": (
        *("amsgrad:Online", "amsgrad:Stochastic"),
        *("amsgrad_networks:Network", "amsgrad_networks:Cifarnet"),
    ),
    "adamw": ("adamw:AdamMaps", "adamw:SgdMaps", "adamw:Schedules"),
}
"""Where the figures are, within this package, in the order of the page."""


def figures_of(
    paper: str, only: Sequence[str] = (), data: str | None = None, folder: Path | None = None
) -> list[Figure]:
    """Return the figures of a paper, or those of them that are wanted.

    Args:
        paper: a name of ``PAPERS``.
        only: names of figures.
        data: a real set, ``mnist``, ``cifar10`` or ``imdb``: then the figures that are made of it, of its files.
        folder: where these are.

    Raises:
        HyperparameterError: for a name that there is not, or a set that none of the figures takes.
        ProblemError: for a folder whose files are missing, damaged or others.
    """
    if paper not in PAPERS:
        raise HyperparameterError(f"no figures of {paper!r}.{suggest(paper, PAPERS)}")
    figures: list[Figure] = [resolve_name(f"steprule.figures.{place}")() for place in PAPERS[paper]]
    names = [figure.name for figure in figures]
    for name in only:
        if name not in names:
            raise HyperparameterError(f"{paper} has no figure {name!r}.{suggest(name, names)}")
    wanted = [figure for figure in figures if not only or figure.name in only]
    if data is None and folder is None:
        return wanted
    if data is None or folder is None:
        raise HyperparameterError("--data and --data-folder come together: which set, and where its files are")
    return _of_data(wanted, data, folder.absolute())


def _of_data(figures: Sequence[Figure], data: str, folder: Path) -> list[Figure]:
    """Return the figures that a real set is for, made of it."""
    if data not in READERS:
        raise HyperparameterError(f"no data {data!r}.{suggest(data, READERS)}")
    taking = [figure for figure in figures if isinstance(figure, Contest) and figure.takes == data]
    if not taking:
        names = ", ".join(figure.name for figure in figures)
        raise HyperparameterError(f"--data {data} does nothing: none of {names} can be made of it; drop it")
    read(data, folder)  # what is wrong with it is said before any work begins
    return [type(figure)(data=f"{data}:{folder}", source_digest=digest_of(folder)) for figure in taking]
