"""Kernels of Triton have the referee's bits, in its interpreter; the cases are in ``bits.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests import ROOT
from tests.backends.triton import bits
from tests.covering import swept

pytestmark = pytest.mark.apart
if find_spec("triton") is None and sys.platform != "linux":
    pytest.skip("Triton is made for Linux, and not installed here", allow_module_level=True)


class Interpreter:
    """The process that runs cases; one for many, since it takes seconds to start."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed below)
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.backends.triton.bits"],
            cwd=ROOT,
            env={**os.environ, "TRITON_INTERPRET": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def ask(self, case: str) -> str:
        """Return what is wrong with a case."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{case}\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._end()
        line = process.stdout.readline()
        return str(json.loads(line)) if line else self._end()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _end(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        return f"the process ended with code {code}:\n{self._said.read().decode(errors='replace')[-3000:]}"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()


class Interpreters:
    """The process in use; a new one where a case has ended it."""

    def __init__(self) -> None:
        self.current: Interpreter | None = None

    def check(self, case: str) -> None:
        """Fail with what is wrong with a case."""
        if self.current is None or not self.current.is_alive:
            self.close()
            self.current = Interpreter()
        wrong = self.current.ask(case)
        if wrong:
            pytest.fail(wrong, pytrace=False)

    def close(self) -> None:
        if self.current is not None:
            self.current.close()


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreters]:
    processes = Interpreters()
    yield processes
    processes.close()


@pytest.mark.parametrize("case", bits.FORMATTED)
def test_rules_in_formats(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", bits.EVERYWHERE)
def test_every_rule_in_every_format(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", swept(bits.OPTIONS, bits.SOME_OPTIONS))
def test_every_option(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", bits.COMBINATIONS)
def test_combined_rules(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", swept([*bits.GUARDED, *bits.ONE_BY_ONE], [*bits.GUARDED, *list(bits.ONE_BY_ONE)[::5]]))
def test_guards(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", bits.WAYS)
def test_which_way_a_chunk_is_walked(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", bits.FAR)
def test_places_above_two_to_the_31(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", bits.TAKEN)
def test_whether_a_step_is_taken(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.parametrize("case", bits.SUMS)
def test_sums(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*bits.RATIOS, *bits.WATCHED])
def test_sums_of_more_rules(case: str, interpreter: Interpreters) -> None:
    interpreter.check(case)


def test_what_is_wrong_is_told(interpreter: Interpreters) -> None:
    interpreter.check("whole groups")
    with pytest.raises(pytest.fail.Exception, match="KeyError: 'nothing of that name'"):
        interpreter.check("nothing of that name")
    for _ in range(2):
        with pytest.raises(pytest.fail.Exception, match=r"m of \(3,\).*: 1 of 3 differ, first at \[2\]"):
            interpreter.check("a wrong bit")
    with pytest.raises(pytest.fail.Exception, match="the process ended with code -"):
        interpreter.check("a wrong address")
    interpreter.check("whole groups")
