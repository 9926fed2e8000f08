"""Checkpoints where signals come in between, and at the end of the program."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import steprule as sr

_IN_HANDLER = """
import faulthandler, os, signal, sys
from pathlib import Path
import numpy as np, steprule as sr
import steprule.checkpoint.background as background
directory, raises = Path(sys.argv[1]), sys.argv[2] == "raises"
os.fsync = lambda file: None  # thousands of them, for what no disk can change
theta = np.ones(70_000, np.float32)
optimizer = sr.Optimizer(theta, "adam")
faulthandler.dump_traceback_later(120, exit=True)  # waiting for oneself has no end
saved = []
def handler(*_):
    saved.append(at)
    if raises:
        raise TimeoutError
    sr.save(directory / "handler", optimizer, True, background=at % 2 == 0)
signal.signal(signal.SIGINT, handler)
rooms = (os.sep + "checkpoint" + os.sep, os.sep + "files.py")
def trace(frame, event, argument):
    global line
    if not any(room in frame.f_code.co_filename for room in rooms):
        return None
    if event == "line":
        line += 1
        if line == at:
            signal.raise_signal(signal.SIGINT)
    return trace
for at in range(1, 3_000):
    line, before = 0, len(saved)
    sr.save(directory / "first", optimizer, True, background=True)
    sys.settrace(trace)
    try:
        sr.save(directory / "second", optimizer, True, background=True, keep=1)
    except TimeoutError:
        sys.settrace(None)
        sr.save(directory / "second", optimizer, True)
    sys.settrace(None)
    if len(saved) == before:
        break
sr.load(directory / "first", optimizer, True)
names = ["first", *([] if raises else ["handler"]), "second", "second.1"]
assert sorted(os.listdir(directory)) == names, os.listdir(directory)
for name in names:
    (found,) = sr.load(directory / name).params.values()
    assert found.tobytes() == theta.tobytes()
assert not background._under_way and not background._failed
print(len(saved))
"""


@pytest.mark.parametrize("what", ["saves", "raises"])
def test_a_handler_saves_or_raises_wherever_a_save_is(tmp_path: Path, what: str) -> None:
    """The pattern of preemption, at every line of a save that waits for one before it and begins another."""
    command = [sys.executable, "-c", _IN_HANDLER, str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert int(done.stdout) > 100


# The end of the program.

_AT_EXIT = """
import atexit, sys, threading
def first():  # registered before steprule is imported, so called after all that steprule registers
    sr.save(sys.argv[1] + "/first", optimizer, True, background=True)
def later():
    optimizer.step(theta.copy())
    sr.save(sys.argv[1] + "/later", optimizer, True, background=True)
    sr.save(sys.argv[1] + "/none/x", optimizer, True, background=True)
if sys.argv[2] == "none":  # as newer Pythons have it
    def start(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    atexit.register(setattr, threading.Thread, "start", start)
atexit.register(first)
import numpy as np, steprule as sr
if sys.argv[2] == "imported":
    sr.save
theta = np.ones(1_000_000, np.float32)
optimizer = sr.Optimizer(theta, "adam")
atexit.register(later)
if sys.argv[2] == "none":
    atexit.register(setattr, threading.Thread, "start", start)
"""


@pytest.mark.parametrize("threads", ["some", "imported", "none"])
def test_what_is_asked_for_at_exit_is_written(tmp_path: Path, threads: str) -> None:
    command = [sys.executable, "-c", _AT_EXIT, str(tmp_path), threads]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    for name in ("first", "later"):
        assert sr.load(tmp_path / name).t == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "later"]
    assert "none/x" in done.stderr
    assert "Make the directory first" in done.stderr


def test_where_no_thread_is_to_be_had_it_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    theta = np.ones(300_000)
    monkeypatch.setattr(threading.Thread, "start", start)
    handle = sr.save(tmp_path / "x", sr.Optimizer(theta, "adam"), True, background=True)
    assert handle is not None
    assert handle.done()
    handle.result()
    (found,) = sr.load(tmp_path / "x").params.values()
    assert np.array_equal(found, theta)
    with pytest.raises(FileNotFoundError, match="Make the directory first"):
        sr.save(tmp_path / "none" / "x", sr.Optimizer(theta, "adam"), True, background=True)
    sr.save(tmp_path / "x", sr.Optimizer(theta, "adam"), True, background=True)  # it was told
