"""Settings of all tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import hypothesis
import pytest

import steprule as sr
from tests import ROOT

hypothesis.settings.register_profile("default", deadline=None, max_examples=60)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> Iterator[None]:
    """Let tests, and the children they start, hear Ctrl-C as from a terminal.

    What a script starts in its background has SIGINT ignored, and so have its children: a test that interrupts one
    would wait for it until the time is up. A child starts with the default in place of this handler.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = sr.get_num_threads()
    yield
    sr.set_num_threads(before)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> int:
    sr.set_num_threads(request.param)
    return int(request.param)


_BESIDE = ThreadPoolExecutor(2)
_CORES = threading.Semaphore(1)
"""One core for what runs beside the suite, and another one once the suite waits for it."""
_apart: dict[tuple[str, ...], Future[subprocess.CompletedProcess[str]]] = {}


class Apart:
    """What a pytest of its own has said, which runs beside the suite: Triton interprets kernels or does not, and JAX
    has one device or eight, for the whole life of a process; and on one core of two what takes long costs no time.

    Marked ``@pytest.mark.apart(*arguments)``, a test is given it as ``apart``.
    """

    _waits = False

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._done = _apart[arguments]
        if not Apart._waits:
            Apart._waits = True
            _CORES.release()

    def check(self, *also: str) -> None:
        """Wait for the end, and assert that all tests were run and have passed, but for those that ``also`` may be."""
        done = self._done.result()
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert re.search(r"\[100%\]", done.stdout), said
        assert not {"skipped", "xfailed", "xpassed"}.difference(also).intersection(
            re.findall(r"\d+ (skipped|xfailed|xpassed)", done.stdout)
        ), said


def _run(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *arguments]
    # One thread: for tensors this small others only wait.
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "OMP_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    with _CORES:
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Wait for what runs beside the suite at its end."""
    items.sort(key=lambda item: item.get_closest_marker("apart") is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what runs beside the suite."""
    if session.config.option.collectonly:
        return
    for item in session.items:
        marker = item.get_closest_marker("apart")
        if marker is not None:
            item.add_marker(pytest.mark.timeout(1500))  # it may wait for all that run beside the suite
            if marker.args not in _apart:
                _apart[marker.args] = _BESIDE.submit(_run, marker.args)


@pytest.fixture
def apart(request: pytest.FixtureRequest) -> Apart:
    marker = request.node.get_closest_marker("apart")
    if sys.platform != "linux" and "triton" in marker.args[0]:
        pytest.skip("Triton is made for Linux")
    return Apart(marker.args)
