"""The comparison in tables: for a terminal, as Markdown, as CSV and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from steprule.bench.alone import Alone
from steprule.bench.compare import Comparison
from steprule.bench.timing import quartiles, ratio
from steprule.report.folder import check_own, to_csv, to_json, write_files
from steprule.report.table import markdown_table

__all__ = ["Shown", "check_folder", "digits", "markdown", "notes", "tables", "write"]

_SAVED, _KIND = "bench.json", "steprule bench"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


@dataclass(frozen=True)
class Shown:
    """A table.

    Attributes:
        title: what it tells.
        headings: of the columns; the first has names.
        rows: of texts.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]


def tables(known: Comparison) -> list[Shown]:
    """Return the tables: a step of each work, the fastest first, and what was measured of each by itself."""
    found = [_times(known, work) for work in known.rounds if known.rounds[work]]
    return [*found, _alone(known)] if known.alone else found


def _times(known: Comparison, work: str) -> Shown:
    timings = known.timings(work)
    fastest = next(iter(timings.values()))
    scale, unit = next(pair for pair in _UNITS if fastest.median >= pair[0] or pair is _UNITS[-1])
    rows = []
    for name, timing in timings.items():
        lower, middle, upper = (digits(value / scale) for value in quartiles(timing.seconds))
        rows.append([name, middle, f"{lower} to {upper}", f"{ratio(timing, fastest):.2f}"])
    count = len(known.rounds[work])
    title = f"A step of {work}, in {unit}: {count} round{'s' * (count > 1)}"
    return Shown(title, ["", "median", "quartiles", "times the fastest"], rows)


def digits(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


_COLUMNS: tuple[tuple[str, Callable[[Alone], str]], ...] = (
    ("bytes a parameter, kept", lambda one: f"{one.kept:.2f}"),
    ("and more in a step", lambda one: "not known" if one.extra is None else f"{one.extra:.2f}"),
    ("zero gradients, times as long", lambda one: f"{one.zero_ratio:.2f}"),
    ("error, ulp", lambda one: "another rule" if one.error is None else digits(one.error)),
    ("largest", lambda one: "" if one.largest_error is None else digits(one.largest_error)),
    ("import, s", lambda one: f"{one.import_seconds:.2f}"),
    ("first step, s", lambda one: f"{one.first_seconds:.2f}"),
)


def _alone(known: Comparison) -> Shown:
    rows = [[name, *(write(one) for _, write in _COLUMNS)] for name, one in known.alone.items()]
    return Shown("Each in a process of its own", ["", *(heading for heading, _ in _COLUMNS)], rows)


def notes(known: Comparison) -> Iterator[str]:
    """Yield in sentences where it ran, what the columns are, and who did not take part."""
    about, sizes = known.about, known.about["sizes"]
    busy = "" if about["load"] is None else f", load {about['load']} before it began"
    yield (
        f"{about['processor']}{busy}; {about['threads']} threads, Python {about['python']}, NumPy {about['numpy']}, "
        f"steprule {about['steprule']}, {about['date']}; {known.seconds:.0f} s."
    )
    if not known.is_whole:
        yield "It was interrupted: what is above is what was known by then."
    found = dict.fromkeys(f"{name} {version}" for name, version in known.found.items())
    yield f"Took part: {'; '.join(found)}."
    if known.alone:
        yield (
            f"Kept: parameter and state between steps, of {sizes['elements']:,} elements; more in a step: by how much "
            f"the process grows. Zero gradients: the time of a step after {sizes['zero_steps']:,} of them, over that "
            f"of a fresh one. Error: from AdamW in float64 after {sizes['steps']} steps, mean and largest, in last "
            "places of a float32 parameter."
        )
    for name, instead in known.smaller.items():
        yield f"Memory would not hold {name} once for each; {instead} stands in for it."
    for name, said in known.failed.items():
        yield f"{name} does not work here: {said}"
    for work, absent in known.absent.items():
        for name, said in absent.items():
            yield f"{name} took no part in {work}: {said}"
    if known.left_out:
        yield f"Left out: {'; '.join(f'{name} ({why})' for name, why in known.left_out.items())}."
    if known.missing:
        missing = (f"{name} (no {', '.join(modules)})" for name, modules in known.missing.items())
        yield f"Not installed: {'; '.join(missing)}."


def markdown(known: Comparison, level: int = 2) -> str:
    """Return the tables and the notes as Markdown, below headings of a level."""
    parts = []
    for table in tables(known):
        lines = markdown_table(table.headings, table.rows, numbers=True)
        parts.append(f"{'#' * level} {table.title}\n\n{lines}\n")
    parts += [f"{note}\n" for note in notes(known)]
    return "\n".join(parts)


def check_folder(folder: Path) -> None:
    """Check before anything is measured that a report can be written.

    Raises:
        StepruleError: when other files lie in the folder.
    """
    check_own(folder, _SAVED, _KIND)


def write(known: Comparison, folder: Path) -> list[Path]:
    """Write ``bench.json`` (all that was measured), ``bench.csv`` (a line a number) and ``bench.md`` (the tables).

    Raises:
        StepruleError: when one cannot be written.
    """
    contents = {
        _SAVED: to_json({"kind": _KIND, **known.as_json()}, indent=1),
        "bench.csv": to_csv(["quantity", "contestant", "median", "lower quartile", "upper quartile"], _lines(known)),
        "bench.md": f"# steprule bench\n\n{markdown(known)}",
    }
    return write_files(folder, contents)


def _lines(known: Comparison) -> Iterator[list[object]]:
    for work in known.rounds:
        for name, timing in known.timings(work).items():
            lower, middle, upper = quartiles(timing.seconds)
            yield [f"seconds, {work}", name, middle, lower, upper]
    for name, one in known.alone.items():
        for quantity, value in vars(one).items():
            yield [quantity, name, value, None, None]
