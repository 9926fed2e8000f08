"""The comparison: each contestant by itself, then all side by side. What is known when it is interrupted is kept."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from steprule.bench.alone import Alone, AloneError, Sizes, alone
from steprule.bench.contestant import Contestant
from steprule.bench.machine import available_bytes, load, processor
from steprule.bench.peers import Peer, version_of
from steprule.bench.timing import Timing, rounds
from steprule.bench.work import Work
from steprule.report.about import versions
from steprule.runtime import get_num_threads

__all__ = ["Comparison", "Settings", "compare"]

_BYTES = 18
"""Of an element of a contestant's: parameter, two slots, and a gradient of its own; and of what steps make in turn."""
_SHARE = 0.7
"""Of the free memory that contestants may fill."""


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        works: what is stepped side by side.
        turns: rounds of each.
        turn: about how many seconds of a round a contestant has.
        sizes: of what is measured of each contestant by itself.
        seconds: after which a contestant is given up, measured by itself or in the first step of a work.
    """

    works: Sequence[Work]
    turns: int = 9
    turn: float = 0.05
    sizes: Sizes = field(default_factory=Sizes)
    seconds: float = 120.0


@dataclass
class Comparison:
    """What was measured.

    Attributes:
        about: processor, threads, versions, load before it began, date, and how much was measured.
        found: versions of those who took part, by name.
        missing: modules that others would need, by name.
        left_out: who was not asked for, and why.
        failed: who does not work here, and what it said.
        absent: by work, who could not take part in it, and what it said.
        alone: what was measured of each by itself.
        smaller: what stands in for a work that memory would not hold, by name.
        rounds: seconds of a step, by work and then round by round; every round has the same contestants.
        is_whole: whether it came to its end.
        seconds: that it took.
    """

    about: dict[str, Any]
    found: dict[str, str] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    alone: dict[str, Alone] = field(default_factory=dict)
    smaller: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    is_whole: bool = False
    seconds: float = 0.0

    def timings(self, work: str) -> dict[str, Timing]:
        """Return the times of a work by contestant, the fastest first."""
        own = self.rounds[work]
        found = [Timing(name, [one[name] for one in own]) for name in own[0]] if own else []
        return {timing.name: timing for timing in sorted(found, key=lambda timing: timing.median)}

    def as_json(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return asdict(self)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Comparison:
        """Return what ``as_json`` has saved."""
        return cls(**{**saved, "alone": {name: Alone(**one) for name, one in saved["alone"].items()}})


def compare(
    peers: Iterable[Peer],
    settings: Settings,
    *,
    compiled: bool = False,
    say: Callable[[str], object] = lambda _: None,
    by_itself: Callable[[Peer, Sizes, float], Alone] = alone,
) -> Comparison:
    """Compare those that are installed.

    Args:
        peers: who is asked to take part.
        settings: how much is measured.
        compiled: whether those take part whose first step waits for a compiler.
        say: is told what is being done.
        by_itself: measures a contestant in a process of its own.
    """
    begin = time.perf_counter()
    known = Comparison({**_about(), "sizes": asdict(settings.sizes), "turns": settings.turns})
    present = _present(peers, compiled, known)
    try:
        working = list(_by_themselves(present, settings, known, say, by_itself))
        for work in settings.works:
            _side_by_side(working, _fitting(work, len(working), known), settings, known, say)
        known.is_whole = True
    except KeyboardInterrupt:
        pass
    known.seconds = time.perf_counter() - begin
    return known


def _about() -> dict[str, Any]:
    own = versions(["numpy"])
    return {"processor": processor(), "threads": get_num_threads(), "load": load(), **own, "date": _today()}


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def _present(peers: Iterable[Peer], compiled: bool, known: Comparison) -> list[Peer]:
    """Return the peers that take part; note of all others why not."""
    present = []
    for peer in peers:
        if peer.missing:
            known.missing[peer.name] = list(peer.missing)
        elif peer.compiles and not compiled:
            known.left_out[peer.name] = "it waits for a compiler: --compiled"
        else:
            known.found[peer.name] = version_of(peer)
            present.append(peer)
    return present


def _by_themselves(
    peers: Sequence[Peer],
    settings: Settings,
    known: Comparison,
    say: Callable[[str], object],
    by_itself: Callable[[Peer, Sizes, float], Alone],
) -> Iterable[Peer]:
    """Measure each by itself; yield those that work."""
    for number, peer in enumerate(peers, 1):
        say(f"{peer.name} by itself, {number} of {len(peers)}")
        try:
            known.alone[peer.name] = by_itself(peer, settings.sizes, settings.seconds)
        except AloneError as failure:
            known.failed[peer.name] = str(failure)
        else:
            yield peer


def _fitting(work: Work, contestants: int, known: Comparison) -> Work:
    """Return a work, or what stands in for it where memory would not hold it once for each contestant."""
    free = available_bytes()
    every = (work, *work.smaller)
    fits = (one for one in every if free is None or contestants * _BYTES * one.elements <= _SHARE * free)
    found = next(fits, every[-1])
    if found is not work:
        known.smaller[work.name] = found.name
    return found


class _Watched:
    """A step that fails once at most, and does nothing from then on.

    Args:
        step: a contestant's.
        seconds: that its first call may take, in which some compile: one took over 25 minutes for a thousand tensors.
    """

    def __init__(self, step: Callable[[], object], seconds: float) -> None:
        self._step, self._seconds, self._is_first, self.error = step, seconds, True, ""

    def __call__(self) -> None:
        if self.error:
            return
        try:
            if self._is_first:
                self._is_first = False
                with _at_most(self._seconds):
                    self._step()
            else:  # timed, so nothing else is done
                self._step()
        except Exception as error:
            self.error = _said(error)


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds; never where there is no such alarm, as in threads."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"no step within {seconds:.3g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _said(error: Exception) -> str:
    """Return an error in a line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _side_by_side(
    peers: Sequence[Peer], work: Work, settings: Settings, known: Comparison, say: Callable[[str], object]
) -> None:
    """Time a step of the work, round by round."""
    say(f"{work.name}, side by side")
    known.rounds[work.name] = []
    steps = {peer.name: _Watched(made.step, settings.seconds) for peer, made in _ready(peers, work, known)}
    try:
        for one in rounds(steps, turns=settings.turns, turn=settings.turn):
            known.rounds[work.name].append(one)
    finally:  # also when it is interrupted: a step that does nothing has no time
        broken = {name: step.error for name, step in steps.items() if step.error}
        _leave_out(known, work, broken)
        known.rounds[work.name] = [
            {name: seconds for name, seconds in one.items() if name not in broken} for one in known.rounds[work.name]
        ]


def _leave_out(known: Comparison, work: Work, who: Mapping[str, str]) -> None:
    """Note who could not take part in a work."""
    if who:
        known.absent.setdefault(work.name, {}).update(who)


def _ready(peers: Sequence[Peer], work: Work, known: Comparison) -> Iterable[tuple[Peer, Contestant]]:
    """Yield the contestants, over parameters of their own and the same gradients."""
    thetas, gradients = work.arrays()
    for peer in peers:
        os.environ.update(peer.environment)
        try:
            made = peer.make(thetas)
            made.give(gradients)
        except Exception as error:
            _leave_out(known, work, {peer.name: _said(error)})
        else:
            yield peer, made
