"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

import steprule as sr
from steprule.rules import CATALOGUE
from tests.apart import Beside, Teller
from tests.thinning import is_whole, part_of, thin

# Lines are as wide as where no terminal is: some shells and runners export the width of theirs.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

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


@pytest.fixture(autouse=True, scope="module")
def _kernels_go() -> Iterator[None]:
    """Free the machine code of what one file has compiled: that of a whole sweep would fill the memory."""
    yield
    for rule in CATALOGUE.values():
        if len(rule.made) > 200:
            rule.made.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="take all cases of each test, as where tests are named")
    parser.addoption("--part", metavar="K/N", help="take the K-th of N parts of the tests")
    parser.addoption("--tell", metavar="FILE", help="run here what else has its own process, and tell FILE about it")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave most of many cases to the long sweep, unless tests are named; and take a part of those that are left."""
    if not is_whole(config):
        thin(items, config.rootpath)
    if part := config.getoption("part"):
        items[:], others = part_of(items, part)
        config.hook.pytest_deselected(items=others)


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("tell")
    config.pluginmanager.register(Teller(config, path) if path else Beside())


def pytest_collection_finish() -> None:
    """Spare the collector all that is there for good: tests that call it would take a quarter of the time."""
    gc.collect()
    gc.freeze()
