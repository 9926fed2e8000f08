"""Which figures there are of each paper, and of what data they can be made."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Final

from steprule.errors import HyperparameterError, suggest
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
    "amsgrad": ("amsgrad:Online", "amsgrad:Stochastic"),
    "adamw": ("adamw:AdamMaps", "adamw:SgdMaps", "adamw:Schedules"),
}
"""Where the figures are, within this package, in the order of the page."""


def figures_of(paper: str, only: Sequence[str] = ()) -> list[Figure]:
    """Return the figures of a paper, or those of them that are wanted.

    Args:
        paper: a name of ``PAPERS``.
        only: names of figures.

    Raises:
        HyperparameterError: for a name that there is not.
    """
    if paper not in PAPERS:
        raise HyperparameterError(f"no figures of {paper!r}.{suggest(paper, PAPERS)}")
    figures: list[Figure] = [resolve_name(f"steprule.figures.{place}")() for place in PAPERS[paper]]
    names = [figure.name for figure in figures]
    for name in only:
        if name not in names:
            raise HyperparameterError(f"{paper} has no figure {name!r}.{suggest(name, names)}")
    return [figure for figure in figures if not only or figure.name in only]
