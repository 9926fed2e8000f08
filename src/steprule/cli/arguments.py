"""What several verbs have: numbers, places to write to, names, which a shell can complete, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from steprule.errors import StepruleError
from steprule.install import how_to_install, lacking

__all__ = [
    *("INTERRUPTED", "check_race_extra"),
    *("complete_paper", "complete_peers", "complete_problem", "complete_rule", "complete_rules"),
    *("complete_story", "complete_surface"),
    *("path_to_write", "whole"),
]


INTERRUPTED = 130
"""What a shell is told where Ctrl-C has ended a verb."""
_RACE_EXTRA = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "joblib": "joblib"}


def check_race_extra(needs: str) -> None:
    """Check that the packages of the extra ``race`` are there.

    Args:
        needs: who needs them, as in "the race needs".

    Raises:
        StepruleError: naming what to install.
    """
    if missing := lacking(_RACE_EXTRA):
        raise StepruleError(f"{needs} {', '.join(missing)}. Install: {how_to_install(*missing)}")


def whole(text: str) -> int:
    """Return an integer.

    Raises:
        typer.BadParameter: for anything else.
    """
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an integer") from None


def path_to_write(text: str) -> Path:
    """Return where to write.

    Raises:
        typer.BadParameter: for an empty text, which a path would take for the current folder.
    """
    if not text.strip():
        raise typer.BadParameter(f"{text!r} names no place; write ./NAME, or leave --output out for the default")
    return Path(text)


def complete_rule(incomplete: str) -> list[str]:
    """Return the rules whose names begin so. Where there are none, shells go on with the names of files."""
    from steprule.rules import CATALOGUE

    return _begin(CATALOGUE, incomplete)


def complete_rules(incomplete: str) -> list[str]:
    """Return what a list of rules, parted by commas, may go on with."""
    return _go_on(incomplete, complete_rule)


def complete_paper(incomplete: str) -> list[str]:
    """Return the papers whose names begin so."""
    from steprule.figures.catalogue import PAPERS

    return _begin(PAPERS, incomplete)


def complete_peers(incomplete: str) -> list[str]:
    """Return what a list of peers' libraries, parted by commas, may go on with."""
    from steprule.bench.peers import PEERS

    libraries = dict.fromkeys(peer.library for peer in PEERS)
    return _go_on(incomplete, lambda last: _begin(libraries, last))


def complete_problem(incomplete: str) -> list[str]:
    """Return the problems whose names begin so."""
    from steprule.race.problems import NAMES

    return _begin(NAMES, incomplete)


def complete_surface(incomplete: str) -> list[str]:
    """Return the surfaces whose names begin so."""
    from steprule.lab.surfaces import NAMES

    return _begin(NAMES, incomplete)


def complete_story(incomplete: str) -> list[str]:
    """Return the stories whose names begin so, and what the page shows when it is opened."""
    from steprule.lab.link import FIRST
    from steprule.lab.presets import presets

    return _begin([FIRST, *(story["key"] for story in presets())], incomplete)


def _go_on(incomplete: str, complete: Callable[[str], list[str]]) -> list[str]:
    """Return a list, parted by commas, with its last word completed."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in complete(last)]


def _begin(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
