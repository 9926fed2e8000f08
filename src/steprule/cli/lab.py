"""``steprule lab``: every rule at work, in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steprule.cli import terminal
from steprule.cli.arguments import complete_rule, complete_story, complete_surface, path_to_write, whole
from steprule.cli.film import FilmOptions, write_film
from steprule.errors import HyperparameterError, StepruleError
from steprule.install import how_to_install
from steprule.rules import load

if TYPE_CHECKING:
    from steprule.lab import View

__all__ = ["lab"]

_DEFAULT = Path("steprule-lab.html")
_PORT = 8470
_WRITTEN = (".html", ".htm", ".gif", ".mp4")


def lab(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            help="Rules to show first: NAME, file.py:NAME, module:NAME, 'NAME(hyper=value, ...)' or "
            "'l2(NAME)(hyper=value, ...)'.",
            autocompletion=complete_rule,
        ),
    ] = None,
    surface: Annotated[
        str | None,
        typer.Option(
            help="A surface to show first: its name (--list), or an expression such as 'abs(x) + 3*y**2'.",
            metavar="SURFACE",
            autocompletion=complete_surface,
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="X,Y", help="With --surface: where paths begin, as in 1,1.5.")
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="X0,X1,Y0,Y1",
            help="With an expression: what is drawn, x from and to and y from and to, as in -2,2,-1,3.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            parser=path_to_write,
            metavar="FILE",
            help=f"The file to write. Default: {_DEFAULT}; of a film its story's name.",
        ),
    ] = None,
    film: Annotated[
        list[str] | None,
        typer.Option(
            help="Write a GIF and an MP4 instead, of a story (--list), a link of the page, or 'page'.",
            metavar="STORY",
            autocompletion=complete_story,
        ),
    ] = None,
    solid: Annotated[bool, typer.Option("--3d", metavar="", help="With --film: in three dimensions.")] = False,
    dark: Annotated[bool, typer.Option("--dark", metavar="", help="With --film: in dark colours.")] = False,
    seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="With --film: how long paths move. Default: 4.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="PIXELS", help="With --film: pixels. Default: 1280 (GIF), 1920."),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", metavar="", help="Serve the page to this machine instead of writing it.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(parser=whole, metavar="PORT", help=f"With --serve: the port. Default {_PORT}; 0: any.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", metavar="", help="Open no browser.")] = False,
    list_: Annotated[bool, typer.Option("--list", metavar="", help="List the surfaces and the stories.")] = False,
) -> None:
    """Write one HTML page that shows rules at work on loss surfaces, and open it.

    The page is one file that needs no server and no network. With --film, a film of it for slides.
    """
    if find_spec("sympy") is None:
        raise StepruleError(f"the lab needs SymPy. Install: {how_to_install('sympy')}")
    if list_:
        given = (rules, surface, start, box, film, seconds, width, output, port)
        if any(value is not None for value in given) or any((solid, dark, serve, no_open)):
            raise HyperparameterError("--list only lists surfaces and stories; drop what is given beside it")
        _list()
        return
    options = FilmOptions(film or (), solid, dark, seconds, width)
    options.check(("--serve", serve), ("--port", port), ("--no-open", no_open))
    if film:
        write_film(_view(rules or [], surface, start, box), options, output)
        return
    if port is not None and not serve:
        raise HyperparameterError("--port has no effect without --serve")
    if serve and output is not None:
        raise HyperparameterError("--output has no effect with --serve, which writes no file")
    from steprule.lab import page

    text = page(_view(rules or [], surface, start, box))
    if serve:
        _serve(text, _PORT if port is None else port, no_open)
    else:
        _write(text, output or _DEFAULT, no_open)


def _view(specs: list[str], surface: str | None, start: str | None, box: str | None) -> View:
    from steprule.lab import View, own
    from steprule.lab import surface as named
    from steprule.lab.surfaces import is_name

    ground = None
    if surface is not None:
        if box is not None and is_name(surface):
            raise HyperparameterError(f"--box belongs to an expression; {surface!r} has its own")
        sides = None if box is None else _numbers(box, "--box", "-2,2,-1,3")
        ground = named(surface.lower().replace(" ", "-")) if is_name(surface) else own(surface, sides)
    elif box is not None:
        raise HyperparameterError(
            "--box belongs to an expression; give one by --surface, as in --surface 'x**2 + 4*y**2'"
        )
    begin = None if start is None else _numbers(start, "--start", "1,1.5")
    written = next((spec for spec in specs if spec.lower().endswith(_WRITTEN)), None)
    if written is not None:
        raise HyperparameterError(f"{written} is not a rule; to write to that file, put --output before it")
    return View(tuple(load(spec) for spec in specs), ground, begin)


def _numbers(text: str, option: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise HyperparameterError(f"{option} takes numbers, as in {example}, got {text!r}") from None


def _write(text: str, path: Path, no_open: bool) -> None:
    from steprule.lab import write

    target = write(text, path)
    size = len(text.encode(errors="backslashreplace"))
    typer.echo(f"Wrote {path} ({size / 1e6:.1f} MB).")
    if not no_open and not _open(target.as_uri()):
        typer.echo(
            "No browser can be opened here (there is no display). Copy the file to a machine that has one; or serve it "
            f"from here (steprule lab --serve) and forward the port: ssh -L {_PORT}:127.0.0.1:{_PORT} THIS-MACHINE"
        )


def _serve(text: str, port: int, no_open: bool) -> None:
    from steprule.lab import Server

    server = Server(text, port)
    typer.echo(f"Serving the lab at {server.address} to this machine alone. Ctrl-C ends it.")
    if not no_open and not _open(server.address):
        typer.echo("No browser can be opened here (there is no display); open that address yourself.")
    try:
        server.run()
    except KeyboardInterrupt:
        typer.echo("Ended.")


def _open(address: str) -> bool:
    """Open an address; return whether there is a display and a browser for it."""
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "BROWSER" in os.environ
    if sys.platform.startswith("linux") and not has_display:
        return False  # a browser in the terminal would take it over, and show nothing
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False


def _list() -> None:
    from steprule.lab import surfaces
    from steprule.lab.presets import presets

    for key, ground in surfaces().items():
        typer.echo(terminal.under(key, f"{ground.title}. {ground.about}"))
    expression = terminal.wrapped("Or an expression in x and y: --surface 'abs(x) + 3*y**2'.")
    typer.echo(f"\n{expression}\n\n{terminal.wrapped('Stories, as in --film valley:')}")
    for story in presets():
        typer.echo(terminal.under(story["key"], f"{story['title']}."))
