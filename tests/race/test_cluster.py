"""A race on a Dask cluster: the numbers of local processes, whatever happens to workers, files and the scheduler."""

from __future__ import annotations

import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from steprule.errors import HyperparameterError, ProblemError, RuleError, StepruleError
from steprule.race import Settings, cluster, make_plan, race, run_plan
from steprule.race.plan import Plan, Task
from steprule.race.run import Run
from steprule.race.store import Store
from tests.race.cases import QUADRATIC, numbers_of, write_quadratic

pytestmark = pytest.mark.apart

COMMAND = [sys.executable, "-c", "from steprule.cli import main; main()", "race"]


def _started(workers: int, **options: Any) -> LocalCluster:
    options = {"threads_per_worker": 1, **options}
    return LocalCluster(n_workers=workers, host="127.0.0.1", dashboard_address="127.0.0.1:0", **options)


@pytest.fixture(scope="module")
def two() -> Iterator[LocalCluster]:
    """Two workers with a process each."""
    with _started(2) as found:
        yield found


@pytest.fixture
def nobody() -> Iterator[LocalCluster]:
    """A scheduler without workers."""
    with _started(0, processes=False, protocol="tcp://") as found:
        yield found


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def _plan(problem: str, *rules: str, seeds: int = 4) -> Plan:
    return make_plan(Settings(problem, rules=rules or ("sgd", "adam"), lrs=(0.01, 0.1), seeds=seeds))


def _unused() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


MORTAL = """
_evaluate = evaluate
def evaluate(p):
    import os, signal, time
    from distributed import get_worker
    try:
        get_worker()
        os.rename({claimed!r}, {fired!r})  # by one worker only
    except (ValueError, FileNotFoundError):
        return _evaluate(p)
    while not os.path.exists({armed!r}):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _mortal(problem: str, folder: Path) -> tuple[Plan, Callable[[dict[Task, Run]], None]]:
    """Return a plan of which one run kills its process, once three others have finished; and what arms it.

    It waits for that: while nothing has told of three, all the others may have finished.
    """
    claimed, armed, fired = folder / "claimed", folder / "armed", folder / "fired"
    claimed.touch()
    Path(problem).write_text(QUADRATIC + MORTAL.format(claimed=str(claimed), armed=str(armed), fired=str(fired)))
    return _plan(problem), lambda runs: armed.touch() if len(runs) == 3 else None


def test_a_worker_killed_in_the_middle_costs_no_run_and_doubles_none(
    two: LocalCluster, quadratic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, arm = _mortal(quadratic, tmp_path)
    kept: Counter[str] = Counter()
    put = Store.put

    def counted(store: Store, task: Task, result: Run) -> None:
        kept[task.key] += 1
        put(store, task, result)

    monkeypatch.setattr(Store, "put", counted)
    shared = run_plan(plan, tmp_path / "shared", address=two.scheduler_address, watch=arm)
    assert (tmp_path / "fired").exists()
    assert (shared.is_complete, shared.jobs, shared.resumed) == (True, 2, 0)
    assert kept == {task.key: 1 for task in shared.runs}
    assert {path.stem for path in (tmp_path / "shared" / "runs").iterdir()} == set(kept)
    assert numbers_of(shared) == numbers_of(run_plan(plan, tmp_path / "alone", jobs=1))


def test_the_cluster_keeps_no_run_that_has_been_written(two: LocalCluster, quadratic: str, tmp_path: Path) -> None:
    """Or it would be run again when the worker that keeps it is killed."""
    scheduler: Any = two.scheduler
    least = []

    def watch(runs: dict[Task, Run]) -> None:
        if len(runs) == 12:
            deadline = time.monotonic() + 30
            while len(scheduler.tasks) > 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            least.append(len(scheduler.tasks))

    run_plan(_plan(quadratic), tmp_path / "out", address=two.scheduler_address, watch=watch)
    assert least == [0]


def test_what_is_missing_is_run_by_any_backend(two: LocalCluster, quadratic: str, tmp_path: Path) -> None:
    plan, folder = _plan(quadratic), tmp_path / "out"
    whole = run_plan(plan, folder, jobs=1)
    lost = sorted((folder / "runs").iterdir())[:4]
    for path in lost:
        path.unlink()
    shared = run_plan(plan, folder, address=two.scheduler_address)
    assert (shared.resumed, numbers_of(shared)) == (8, numbers_of(whole))
    fresh = run_plan(plan, folder, address=two.scheduler_address, fresh=True)
    assert (fresh.resumed, numbers_of(fresh)) == (0, numbers_of(whole))
    assert run_plan(plan, folder, address=_unused()).resumed == 12  # nobody is needed where nothing is left to do


def test_an_error_of_the_problem_in_a_worker_is_the_users_own(
    two: LocalCluster, quadratic: str, tmp_path: Path
) -> None:
    Path(quadratic).write_text(QUADRATIC + "\ncalls = []\n_batches = batches\n" + (
        'def batches(rng):\n    calls.append(1)\n    assert len(calls) < 3, "tired"\n    return _batches(rng)\n'
    ))  # fmt: skip
    with pytest.raises(
        ProblemError, match=r"(?s)^problem quadratic.*AssertionError: tired\nwhile racing (sgd|adam), lr 0\.0?1"
    ):
        run_plan(_plan(quadratic), tmp_path / "out", address=two.scheduler_address)


def test_other_files_and_versions_in_a_worker_are_refused(
    two: LocalCluster, quadratic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from steprule import rule, Rate\n@rule\ndef step(theta, g, *, lr: Rate = 0.1):\n    return (theta - lr * g,)\n"
    )
    plan, out, address = _plan(quadratic, f"{mine}:step"), tmp_path / "out", two.scheduler_address
    mine.write_text(mine.read_text() + "# changed\n")
    with pytest.raises(RuleError, match=r"worker tcp://\S+: \S+mine\.py:step is missing, or another file than where"):
        run_plan(plan, out, address=address)
    Path(quadratic).write_text(QUADRATIC + "# changed\n")
    with pytest.raises(ProblemError, match=r"worker tcp://\S+: \S+quadratic\.py is another file than where the race"):
        run_plan(plan, out, address=address)
    Path(quadratic).unlink()
    with pytest.raises(ProblemError, match=r"worker tcp://\S+: there is no file \S+quadratic\.py"):
        run_plan(plan, out, address=address)
    monkeypatch.setattr(
        cluster, "versions", lambda: {**importlib.import_module("steprule.race.plan").versions(), "numpy": "1.0"}
    )
    with pytest.raises(
        StepruleError, match=r"worker tcp://\S+: it has numpy \S+ instead of 1\.0, with which a run may"
    ):
        run_plan(plan, out, address=address)
    assert list((out / "runs").iterdir()) == []


def test_a_worker_that_runs_several_tasks_at_once_is_refused(quadratic: str, tmp_path: Path) -> None:
    crowded = _started(1, threads_per_worker=2, processes=False, protocol="tcp://")
    with crowded, pytest.raises(StepruleError, match=r"it has 2 threads, but a run needs a process for itself\."):
        run_plan(_plan(quadratic), tmp_path / "out", address=crowded.scheduler_address)


def test_a_run_that_kills_its_workers_ends_the_race(two: LocalCluster, quadratic: str, tmp_path: Path) -> None:
    plan, arm = _mortal(quadratic, tmp_path)
    scheduler: Any = two.scheduler
    allowed, scheduler.allowed_failures = scheduler.allowed_failures, 0
    try:
        with pytest.raises(
            StepruleError, match=r"^1 workers were killed while racing (sgd|adam), lr 0\.0?1, seed \d, the"
        ):
            run_plan(plan, tmp_path / "out", address=two.scheduler_address, watch=arm)
    finally:
        scheduler.allowed_failures = allowed
    done = run_plan(plan, tmp_path / "out", address=two.scheduler_address)
    assert done.is_complete
    assert done.resumed >= 3


def test_a_scheduler_that_goes_away_is_said_in_one_message(
    quadratic: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passing = _started(1, processes=False, protocol="tcp://")

    def watch(runs: dict[Task, Run]) -> None:
        if len(runs) == 2:
            passing.close()

    with pytest.raises(StepruleError, match=r"the Dask scheduler at \S+ is gone\. Finished runs are kept"):
        run_plan(_plan(quadratic), tmp_path / "out", address=passing.scheduler_address, watch=watch)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 2
    assert "distributed.client" not in {record.name for record in caplog.records}


def test_a_cluster_without_workers_is_said(
    nobody: LocalCluster, quadratic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.1)
    with pytest.raises(
        StepruleError, match=r"has had no worker for 0\.1 s\. Start some.*: dask worker tcp://\S+ --nthreads 1"
    ):
        run_plan(_plan(quadratic), tmp_path / "out", address=nobody.scheduler_address)


class _Mute(BaseHTTPRequestHandler):
    """What answers when somebody has finished his sentence, as the dashboard of a scheduler does."""


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("nothing", "(Timed out trying to connect|no answer within)"),
        ("web", "no answer within"),
        ("worker", "a worker of Dask is there"),
    ],
)
def test_where_no_scheduler_listens_it_is_said_soon_and_nothing_is_changed(
    kind: str, why: str, two: LocalCluster, quadratic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_ANSWER", 0.5)
    plan, folder = _plan(quadratic, seeds=1), tmp_path / "out"
    run_plan(plan, folder, jobs=1)
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Mute) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        worker = next(iter(two.scheduler_info["workers"]))
        places = {"nothing": _unused(), "web": f"127.0.0.1:{web.server_port}", "worker": worker}
        begin = time.monotonic()
        with pytest.raises(StepruleError, match=rf"^no Dask scheduler answers at '\S+': {why}.*Start one by `dask sch"):
            run_plan(plan, folder, address=places[kind], fresh=True)
        assert time.monotonic() - begin < 30
        web.shutdown()
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "dask"}, "backend dask needs the address of a scheduler"),
        ({"address": "a:1"}, r"an address \(a:1\) does nothing without --backend dask"),
        ({"backend": "spark"}, "backend must be one of local, dask, got 'spark'"),
        ({"backend": "dask", "address": "a:1", "jobs": 2}, "jobs=2 does nothing on a Dask cluster"),
    ],
)
def test_options_that_do_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(HyperparameterError, match=message):
        race(Settings("saddle", **options))


def test_jobs_and_an_address_exclude_each_other(quadratic: str, tmp_path: Path) -> None:
    with pytest.raises(HyperparameterError, match="jobs=2 does nothing on a Dask cluster"):
        run_plan(_plan(quadratic), tmp_path / "out", jobs=2, address="a:1")
    assert not (tmp_path / "out").exists()


def test_without_dask_it_says_what_to_install(quadratic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StepruleError, match=r'a Dask cluster needs distributed\. Install: pip install "distributed'):
        run_plan(_plan(quadratic), tmp_path / "out", address="a:1")


def test_dask_is_not_imported_unless_asked_for(tmp_path: Path) -> None:
    write_quadratic(tmp_path)
    code = "import sys; from steprule.race import *; from pathlib import Path; "
    code += "run_plan(make_plan(Settings('quadratic.py', ('sgd',), lrs=(0.1, 1), seeds=1)), Path('out'), jobs=1); "
    subprocess.run([sys.executable, "-c", code + "sys.exit('dask' in sys.modules)"], cwd=tmp_path, check=True)


def test_interrupted_and_resumed_from_the_command_line(two: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        QUADRATIC
        + "\n_evaluate = evaluate\ndef evaluate(p):\n    import time\n    time.sleep(0.05)\n    return _evaluate(p)\n"
    )
    words = ["slow.py", "--rules", "sgd,adam", "--lrs", "0.001:0.1:3", "--seeds", "3", "--output", "out"]
    words += ["--backend", "dask", "--address", two.scheduler_address]
    runs = tmp_path / "out" / "runs"
    with subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while len(list(runs.glob("*.json"))) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert "Interrupted. Run the same command again to continue." in out
    kept = {path.name: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    assert 2 <= len(kept) < 12
    assert json.loads((tmp_path / "out" / "results.json").read_text())["finished"] == len(kept)
    settings = Settings(str(tmp_path / "slow.py"), rules=("sgd", "adam"), lrs=(0.001, 0.01, 0.1), seeds=3)
    done = run_plan(make_plan(settings), tmp_path / "out", address=two.scheduler_address)
    assert (len(done.runs), done.resumed) == (12, len(kept))
    after = {path.name: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    assert len(after) == 12
    assert {name: after[name] for name in kept} == kept
