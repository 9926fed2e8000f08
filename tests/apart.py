"""Files of tests that have a process of their own, which runs beside the suite.

Triton interprets kernels or does not, and JAX has one device or eight, for the whole life of a process; and on one core
of two what takes long costs no time. A file with the line ``pytestmark = pytest.mark.apart`` is not imported where the
suite runs: one process says which tests all such files hold, and for each file another one runs those that were
selected, while the suite runs the rest. What it reports of a test is what the suite reports: tests are named, selected,
passed, failed and skipped like all others, and one that was not run to its end has failed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests import ROOT
from tests.thinning import is_whole

MARK = "\npytestmark = pytest.mark.apart\n"
ENVIRONMENT = {
    "TRITON_INTERPRET": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "OMP_NUM_THREADS": "1",  # for tensors this small other threads only wait
}
LIMIT = 1800
"""After how many seconds a process is ended that no limit of a single test has ended."""


@dataclass
class Told:
    """What a process has told: tests and reports by node, and files that could not be collected."""

    code: int
    output: str
    tests: dict[str, list[tuple[str, list[str], int]]] = field(default_factory=dict)
    troubles: dict[str, tuple[str, str]] = field(default_factory=dict)
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def read(self, file: BinaryIO) -> Told:
        for kind, node, what in _records(file):
            if kind == "report":
                self.reports.setdefault(node, []).append(what)
            elif kind == "trouble":
                self.troubles[node] = what
            else:
                self.tests.setdefault(node, []).append(what)
        return self

    def ended(self, node: str) -> bool:
        return bool(self.reports.get(node)) and self.reports[node][-1]["when"] == "teardown"

    def ended_ill(self, node: str) -> bool:
        """Whether the process has another code than its tests explain; the last of them has to say so."""
        failed = any(report["outcome"] == "failed" for reports in self.reports.values() for report in reports)
        return node == [*self.reports][-1] and self.code != failed


def _records(file: BinaryIO) -> Iterator[Any]:
    """Yield what a `Teller` wrote; what was killed may leave half of the last record.

    Not by `ast.literal_eval`: this runs in a thread beside the suite, and before Python 3.11.8 two threads that parse
    disturb each other ("AST constructor recursion depth mismatch", python/cpython#106905).
    """
    while True:
        try:
            yield pickle.load(file)
        except (EOFError, pickle.UnpicklingError):
            return


class Teller:
    """In a process beside the suite: writes down what it collects and runs."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._file = open(path, "wb")  # noqa: SIM115  (for as long as the process runs)

    def _tell(self, kind: str, node: str, what: object) -> None:
        pickle.dump((kind, node, what), self._file)
        self._file.flush()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._tell("trouble", report.nodeid, (report.outcome, skipped))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            file, _, name = item.nodeid.partition("::")
            marks = sorted({mark.name for mark in item.iter_markers()})
            self._tell("test", file, (name, marks, item.location[1] or 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._tell("report", report.nodeid, told)


class Beside:
    """In the suite: has files collected and run elsewhere, on one core, and on another once the suite waits for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._cores = threading.Semaphore(1)
        self._waits = self._over = False
        self._running: set[subprocess.Popen[str]] = set()
        self._collected: Future[Told] | None = None
        self._runs: dict[Path, Future[Told]] = {}

    def _run(self, *arguments: str) -> Told:
        """Run pytest, and return what it has told."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-m", "", *arguments]
        with tempfile.TemporaryDirectory() as folder, self._cores:
            path = Path(folder, "told")
            process = subprocess.Popen(
                [*command, f"--tell={path}"],
                cwd=ROOT,
                env=os.environ | ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self._running.add(process)
            if self._over:
                process.terminate()
            try:
                output, _ = process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
            self._running.discard(process)
            written = BytesIO(path.read_bytes() if path.exists() else b"")
            return Told(process.returncode, output).read(written)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Begin to collect what lies at the places that were asked for."""
        places = [Path(os.path.abspath(argument.partition("::")[0])) for argument in session.config.args]
        files = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in file.read_text()]
        files = [file for file in files if any(file.is_relative_to(place) for place in places)]
        if files:
            whole = ["--whole"] if is_whole(session.config) else []
            self._collected = self._pool.submit(self._run, "--collect-only", *whole, *map(str, files))

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if MARK not in module_path.read_text():
            return None
        file: ApartFile = ApartFile.from_parent(parent, path=module_path)
        file.collected = self._collected
        return file

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Wait for what runs beside the suite at its end."""
        items.sort(key=lambda item: isinstance(item, ApartTest))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Begin to run what was selected."""
        files: dict[Path, list[str]] = {}
        for item in session.items:
            if isinstance(item, ApartTest) and not session.config.option.collectonly:
                files.setdefault(item.path, []).append(item.nodeid)
        self._runs = {file: self._pool.submit(self._run, *nodes) for file, nodes in files.items()}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not isinstance(item, ApartTest):
            return None
        if not self._waits:
            self._waits = True
            self._cores.release()
        hook, told = item.ihook, self._runs[item.path].result()
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in item.reports(told):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        self._over = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in tuple(self._running):
            process.terminate()


class ApartFile(pytest.File):
    """A file whose tests another process collects."""

    collected: Future[Told] | None = None

    def collect(self) -> Iterator[ApartTest]:
        assert self.collected is not None
        told = self.collected.result()
        outcome, text = told.troubles.get(self.nodeid, ("failed", told.output))
        tests = told.tests.get(self.nodeid, [])
        if self.nodeid in told.troubles and outcome == "skipped":
            pytest.skip(text, allow_module_level=True)
        if not tests:
            raise self.CollectError(text)
        for name, marks, line in tests:
            test: ApartTest = ApartTest.from_parent(self, name=name)
            test.line = line
            for mark in {*marks} - {"timeout"}:
                test.add_marker(mark)
            test.add_marker(pytest.mark.timeout(0))  # it waits for all that run beside the suite
            yield test


class ApartTest(pytest.Item):
    """A test that another process runs."""

    line = 0

    def reports(self, told: Told) -> Iterator[pytest.TestReport]:
        """Yield what was told of the test, and a failure unless it was run to its end, and all was well then."""
        for report in told.reports.get(self.nodeid, []):
            yield self.config.hook.pytest_report_from_serializable(config=self.config, data=report)
        if not told.ended(self.nodeid) or told.ended_ill(self.nodeid):
            what = "its process ended" if told.ended(self.nodeid) else "it was not run to its end: its process ended"
            text = f"{what} with code {told.code}\n{told.output}"
            told.output = "What it has said stands above."
            keywords: dict[str, Any] = dict.fromkeys(self.keywords, 1)
            yield pytest.TestReport(self.nodeid, self.location, keywords, "failed", text, "call")

    def runtest(self) -> None:
        raise AssertionError("another process runs this test")

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line, self.name
