"""Running the user's code: what it raises is shown as the user's own traceback, short."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steprule.errors import StepruleError

__all__ = ["user_code"]

_FRAMES = 10
_FOREIGN = tuple(Path(folder).resolve() for folder in (Path(__file__).parent, sysconfig.get_path("stdlib")))


@contextmanager
def user_code(doing: str, kind: type[StepruleError]) -> Iterator[None]:
    """Turn an exception of the user's code into a ``kind`` that quotes the user's frames alone.

    Errors of steprule pass, and so do exceptions without a frame of the user's: those are bugs, and
    need their whole traceback. A SystemExit counts as an exception: it would end the race without a word.
    The message is made here, since a traceback cannot leave a worker process.
    """
    try:
        yield
    except StepruleError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
        if not frames and not isinstance(error, SyntaxError):
            raise
        shown = traceback.StackSummary.from_list(frames[-_FRAMES:]).format()
        lines = [*shown, *traceback.format_exception_only(error)]
        raise kind(f"{doing} {_what_happened(error, bool(frames))}\n{''.join(lines).rstrip()}") from None


def _what_happened(error: BaseException, has_run: bool) -> str:
    if isinstance(error, SystemExit):
        return "ended the program"
    return "raised an exception" if has_run else "is not valid Python"


def _is_users(filename: str) -> bool:
    path = Path(filename)
    if filename.startswith("<") or {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return not any(path.resolve().is_relative_to(folder) for folder in _FOREIGN)
