"""Whole files, whoever writes them: checkpoints, the race, the lab, documents. Others' files are never touched."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import steprule as sr
from steprule import lab
from steprule.errors import StepruleError
from steprule.files import fcntl, name_aside, replace_whole, write_all, write_whole
from steprule.race import Settings, animate, race
from steprule.race.live import watching
from steprule.race.runner import run_plan
from steprule.report.folder import write_files
from tests.checkpoint.test_file import Calls
from tests.race.cases import QUADRATIC

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks, links and forks")


def _saved(path: Path) -> None:
    sr.save(path, sr.Optimizer(np.ones(3)))


WRITERS: dict[str, Callable[[Path], object]] = {
    "document": lambda path: write_whole(path, "new"),
    "checkpoint": _saved,
    "lab": lambda path: lab.write("new", path),
    "race": lambda path: write_files(path.parent, {path.name: "new"}),
}


@posix
@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_others_and_what_links_lead_to_are_never_touched(tmp_path: Path, writer: str) -> None:
    (tmp_path / "precious").write_text("precious")
    own = ("x.part", ".steprule-older", ".steprule-notes.tmp", ".steprule-0123.tmp", "x.tmp")
    for name in own:
        (tmp_path / name).write_text(name)
    for name in ("linked.part", ".steprule-0123456789abcdef.tmp"):
        (tmp_path / name).symlink_to("precious")
    WRITERS[writer](tmp_path / "x")
    WRITERS[writer](tmp_path / "linked")
    assert (tmp_path / "precious").read_text() == "precious"
    assert {name: (tmp_path / name).read_text() for name in own} == {name: name for name in own}
    assert (tmp_path / "linked.part").is_symlink()
    assert not (tmp_path / "linked").is_symlink()


@posix
def test_a_name_that_was_foreseen_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    (tmp_path / "precious").write_text("precious")
    monkeypatch.setattr(os, "listdir", lambda directory: [])  # it comes after what is stale was removed
    name_aside(tmp_path).symlink_to("precious")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "x", "new")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_symbolic_link_stays_and_so_do_permissions(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_of_the_disk_at_any_call_leaves_the_old_file(tmp_path: Path, code: int) -> None:
    path = tmp_path / "x"
    write_whole(path, "old")
    with pytest.MonkeyPatch.context() as patch:
        write_whole(path, "old")
        calls = Calls(patch)
        write_whole(path, "old")
    failing = [at for at, name in enumerate(calls.names) if name in ("open", "write", "fsync", "replace")]
    assert len(failing) > 5

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    for at in failing:
        path.write_text("old")
        with pytest.MonkeyPatch.context() as patch:
            Calls(patch, at, fail)
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                write_whole(path, "new")
        is_last = at == failing[-1]  # the directory, when all is in place
        assert path.read_text() == ("new" if is_last else "old")
        assert ("may be lost when power fails" if is_last else "stays as it was") in str(caught.value)
        assert os.listdir(tmp_path) == ["x"]


_STOPPED = """
import os, sys
from pathlib import Path
from steprule.files import write_whole
path = Path(sys.argv[1]) / "x"
real = {name: getattr(os, name) for name in ("open", "listdir", "write", "fsync", "replace", "close")}
at, last = 0, "0"
while True:
    if not (child := os.fork()):
        calls = [0]
        def stopping(name):
            def call(*args, **options):
                calls[0] += 1
                if calls[0] > at:
                    os._exit(7)
                return real[name](*args, **options)
            return call
        for name in real:
            setattr(os, name, stopping(name))
        write_whole(path, str(at + 1))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = path.read_text() if path.exists() else "0"
    assert found in (last, str(at + 1)), (found, last, at)
    if not code:
        break
    at, last = at + 1, found
write_whole(path, "end")
print(at, *os.listdir(path.parent))
"""


@posix
def test_stopped_before_any_call_of_the_system_the_file_is_whole_and_litter_goes(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _STOPPED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    calls, *names = done.stdout.split()
    assert int(calls) > 8
    assert names == ["x"]


@posix
def test_a_handler_writes_while_its_own_thread_renames(tmp_path: Path) -> None:
    path, spare = tmp_path / "x", name_aside(tmp_path)

    def handler(target: Path) -> None:
        spare.write_text("in use by the rename that was interrupted")
        write_whole(path, "of the handler")
        write_whole(tmp_path / "y", "of the handler")
        assert spare.exists()
        spare.unlink()

    worker = threading.Thread(target=replace_whole, args=(path, lambda file: os.write(file, b"later"), handler))
    worker.daemon = True  # where it waits for itself, it does so for ever
    worker.start()
    worker.join(60)
    assert not worker.is_alive()
    assert (path.read_text(), (tmp_path / "y").read_text()) == ("later", "of the handler")
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


# JAX warns of any fork once another test has imported it, and newer Pythons where there are threads.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning", "ignore:This process:DeprecationWarning")
@posix
def test_a_child_that_was_forked_in_the_middle_holds_up_nobody(tmp_path: Path) -> None:
    children: list[int] = []

    def fork(target: Path) -> None:
        if not (child := os.fork()):
            signal.pause()  # with all files that were open
        children.append(child)

    try:
        replace_whole(tmp_path / "x", lambda file: write_all(file, memoryview(b"new")), fork)
        directory = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(directory)
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


# The race, in plain words.


def test_a_race_whose_disk_is_full_or_has_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(QUADRATIC)
    settings = Settings(str(tmp_path / "p.py"), rules=("sgd",), lrs=(0.1,), seeds=1, jobs=1, output=tmp_path / "out")

    def full(file: int, block: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StepruleError, match=r"cannot write to .*json': No space left on device.*--output"):
            race(settings)
    assert os.listdir(tmp_path / "out" / "runs") == []
    done = race(settings)
    (tmp_path / "out" / "report.html").unlink()
    (tmp_path / "out" / "report.html").mkdir()
    with pytest.raises(StepruleError, match=r"report\.html': a folder of that name is in the way.*--output"):
        race(settings)
    (tmp_path / "file").write_text("")
    with pytest.raises(StepruleError, match=r"cannot write to .*below': '.*file' is a file.*--output"):
        race(Settings(str(tmp_path / "p.py"), rules=("sgd",), output=tmp_path / "file" / "below"))
    assert done.runs


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steprule.film.encoding.program", lambda: None)


RULE = "from steprule import rule\n@rule\ndef mine(theta, g, *, lr=0.1):\n    return theta - lr * g\n"


@posix
@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("name", ["a$b_{$^", "[red]x[bold]", os.fsdecode(b"caf\xe9")], ids=["math", "markup", "bytes"])
def test_names_mean_nothing_but_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A formula of matplotlib, markup of rich, and bytes that are no Unicode."""
    monkeypatch.chdir(tmp_path)  # figures show the first letters of a path
    try:
        Path(f"p{name}.py").write_text(QUADRATIC)
    except OSError:
        pytest.skip("the file system takes no such name")
    specs = (f"{name}1.py:mine", f"{name}2.py:mine")
    for spec in specs:
        Path(spec.partition(":")[0]).write_text(RULE)
    done = race(Settings(f"p{name}.py", rules=specs, lrs=(0.1, 0.2), seeds=1, jobs=1, output=tmp_path / "out"))
    assert [path.name for path in animate(done, tmp_path / "out", pictures=2)] == ["curves.gif"]
    shown = name.encode(errors="backslashreplace").decode()
    assert shown in (tmp_path / "out" / "report.html").read_text()
    console = Console(force_terminal=True, color_system=None, width=200, file=io.StringIO())
    with watching(done.plan, console) as watch:
        run_plan(done.plan, tmp_path / "out", jobs=1, watch=watch)
    assert f"p{name}" in console.file.getvalue()  # type: ignore[attr-defined]
