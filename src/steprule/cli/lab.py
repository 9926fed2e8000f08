"""``steprule lab``: every rule at work, in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from steprule.cli.arguments import complete_rule, complete_surface, path_to_write, whole
from steprule.errors import HyperparameterError, StepruleError
from steprule.install import how_to_install
from steprule.rules import load

__all__ = ["lab"]

_DEFAULT = Path("steprule-lab.html")
_PORT = 8470


def lab(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            help="Rules to show first: NAME, file.py:NAME, module:NAME or 'NAME(hyper=value, ...)'.",
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
        Path | None, typer.Option(parser=path_to_write, metavar="FILE", help=f"The file to write. Default: {_DEFAULT}.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", metavar="", help="Serve the page to this machine instead of writing it.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(parser=whole, metavar="PORT", help=f"With --serve: the port. Default {_PORT}; 0: any.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", metavar="", help="Open no browser.")] = False,
    list_: Annotated[bool, typer.Option("--list", metavar="", help="List the surfaces.")] = False,
) -> None:
    """Write one HTML page that shows rules at work on loss surfaces, and open it.

    The page needs no server and no network; it can be kept, and sent by mail.
    """
    if find_spec("sympy") is None:
        raise StepruleError(f"the lab needs SymPy. Install: {how_to_install('sympy')}")
    if list_:
        given = (rules, surface, start, box, output, serve or None, port, no_open or None)
        if any(value is not None for value in given):
            raise HyperparameterError("--list only lists the surfaces; drop what is given beside it")
        _list_surfaces()
        return
    if port is not None and not serve:
        raise HyperparameterError("--port has no effect without --serve")
    if serve and output is not None:
        raise HyperparameterError("--output has no effect with --serve, which writes no file")
    text = _page(rules or [], surface, start, box)
    if serve:
        _serve(text, _PORT if port is None else port, no_open)
    else:
        _write(text, output or _DEFAULT, no_open)


def _page(specs: list[str], surface: str | None, start: str | None, box: str | None) -> str:
    from steprule.lab import View, own, page
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
    return page(View(tuple(load(spec) for spec in specs), ground, begin))


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


def _list_surfaces() -> None:
    from steprule.lab import surfaces

    for key, ground in surfaces().items():
        typer.echo(f"{key:13} {ground.title}. {ground.about}")
    typer.echo("\nOr an expression in x and y: --surface 'abs(x) + 3*y**2'.")
