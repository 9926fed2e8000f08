"""The numbers of a race, and what is kept of them."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steprule as sr
from steprule.errors import ProblemError, StepruleError
from steprule.files import name_aside
from steprule.race import DEFAULT_RULES, Settings, make_plan, race, run_plan, summarize
from steprule.race.plan import Task
from steprule.race.run import Run, one_thread, run
from steprule.race.runner import _deaf_children, interruptible
from steprule.race.space import LR
from steprule.race.stages import known
from steprule.race.store import Store
from tests import ROOT
from tests.race.cases import QUADRATIC, numbers_of, write_quadratic


@pytest.fixture
def quadratic(tmp_path: Path) -> str:
    return write_quadratic(tmp_path)


def test_the_numbers_do_not_depend_on_the_number_of_jobs(tmp_path: Path) -> None:
    settings = Settings("digits-mlp", rules=("sgd", "adam"), trials=4, seeds=2, epochs=2)
    plan = make_plan(settings)
    alone = run_plan(plan, tmp_path / "one", jobs=1)
    assert sr.get_num_threads() >= 1
    shared = run_plan(plan, tmp_path / "two", jobs=2)
    assert (alone.jobs, shared.jobs) == (1, 2)
    assert len(alone.runs) == 2 * (4 + 2)
    assert numbers_of(alone) == numbers_of(shared)


SPY = """
_inner = loss_and_grad
def loss_and_grad(p, batch):
    with open({log!r}, "a") as log:
        log.write(batch.tobytes().hex() + chr(10))
    return _inner(p, batch)
"""


def test_all_rules_start_alike_and_see_the_same_batches(quadratic: str, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    spy = SPY.format(log=str(log))
    Path(quadratic).write_text(QUADRATIC + spy)
    plan = make_plan(Settings(quadratic, rules=("sgd", "adam"), lrs=(0.01, 0.1), seeds=2))
    log.unlink()
    seen: dict[int, set[str]] = {0: set(), 1: set()}
    starts: dict[int, set[float]] = {0: set(), 1: set()}
    for task in [
        plan.task(entrant, ((LR, lr),), seed) for entrant in plan.entrants for lr in (0.01, 0.1) for seed in (0, 1)
    ]:
        starts[task.seed].add(run(task).history[0])
        seen[task.seed].add(log.read_text())
        log.unlink()
    assert [len(starts[seed]) for seed in (0, 1)] == [1, 1]
    assert [len(seen[seed]) for seed in (0, 1)] == [1, 1]
    assert starts[0] != starts[1]
    (first,), (second,) = seen[0], seen[1]
    assert len(first.splitlines()) == len(set(first.splitlines()))
    assert not set(first.splitlines()) & set(second.splitlines())


def test_a_run_is_the_plain_loop(quadratic: str) -> None:
    settings = Settings(quadratic, rules=("adam(beta2=0.9)",), lrs=(0.05,), schedule="constant", seeds=1, seed=3)
    plan = make_plan(settings)
    found = run(known(plan, {})[0])
    problem = plan.problem.problem
    params = problem.init(np.random.default_rng([3, 0]))
    optimizer = sr.Optimizer(params, "adam", lr=0.05, beta2=0.9)
    history = [problem.evaluate(params)["train_loss"]]
    for epoch in range(4):
        for batch in problem.batches(np.random.default_rng([3, 1, epoch])):
            optimizer.step(problem.loss_and_grad(params, batch)[1])
        history.append(problem.evaluate(params)["train_loss"])
    assert found.history == history
    assert found.steps == 12
    assert found.train_loss == history[-1]
    assert found.metrics == {"train_loss": history[-1], "size": 1.5}
    assert not found.path
    assert not found.validation
    assert len(found.clock) == 5
    assert found.clock == sorted(found.clock)


def test_one_thread_everywhere() -> None:
    from threadpoolctl import threadpool_info

    sr.set_num_threads(2)
    with one_thread():
        assert sr.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}
    assert sr.get_num_threads() == 2


def test_paths_are_kept_for_problems_in_the_plane() -> None:
    plan = make_plan(Settings("saddle", rules=("sgd",), lrs=(0.1,), seeds=1, epochs=3))
    found = run(known(plan, {})[0])
    assert len(found.path) == 3 * 5 + 1
    assert found.path[0] == plan.problem.problem.init(np.random.default_rng([0, 0])).tolist()


@pytest.mark.parametrize(
    "loss",
    [
        'float("nan") if p["b"][0] > 2 else 1.0',
        'float("inf") if p["b"][0] > 2 else 1.0',
        'float(p["b"][0]) ** 4',
        '0.2 + 10.0 ** (200 * (float(p["b"][0]) - 1))',
    ],
)
def test_divergence_is_recorded_and_ends_the_run(quadratic: str, tmp_path: Path, loss: str) -> None:
    source = re.sub(
        r"    return loss, .*", f'    return {loss}, {{"a": [p["a"][0] * 0], "b": p["b"] * 0 - 1}}', QUADRATIC
    )
    Path(quadratic).write_text(source.replace("rng.normal(size=2)", "np.zeros(2)"))
    settings = Settings(
        quadratic, rules=("sgd",), lrs=(1e-3, 1.0, 30.0), schedule="constant", seeds=1, jobs=1, output=tmp_path / "out"
    )
    done = race(settings)
    runs = {task.lr: found for task, found in done.runs.items()}
    assert not runs[1e-3].diverged
    assert runs[30.0].diverged
    assert runs[30.0].train_loss is None
    assert runs[30.0].steps < 12
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [line["diverged"] for line in saved["runs"] if line["setting"]["lr"] == 30.0] == [True]


TIRED = """
calls = []
_batches = batches
def batches(rng):
    calls.append(1)
    assert len(calls) < 5, "tired"
    return _batches(rng)
"""


def test_an_error_of_the_problem_in_a_worker_is_the_users_own(quadratic: str, tmp_path: Path) -> None:
    for jobs in (1, 2):
        # Another content: a file that is loaded already has been called already.
        Path(quadratic).write_text(f"{QUADRATIC}{TIRED}# {jobs}\n")
        with pytest.raises(ProblemError) as caught:
            race(Settings(quadratic, rules=("sgd",), lrs=(0.1, 1), seeds=2, jobs=jobs, output=tmp_path / "out"))
        text = str(caught.value)
        error, place = text.splitlines()[-2:]
        assert error == "AssertionError: tired"
        assert re.fullmatch(r"while racing sgd, lr (0\.1|1), seed [012], epoch \d, batch 1", place)
        assert set(re.findall(r'File "(.*?)"', text)) == {quadratic}


def test_gradients_that_stop_fitting_are_placed(quadratic: str, tmp_path: Path) -> None:
    longer = "\n_grad = loss_and_grad\ndef loss_and_grad(p, b):\n    loss, g = _grad(p, b)\n"
    longer += (
        "    return loss, g if p['b'][0] == init(np.random.default_rng([4, 0]))['b'][0] else {**g, 'b': g['b'][:1]}\n"
    )
    Path(quadratic).write_text(QUADRATIC + longer)
    with pytest.raises(ProblemError) as caught:
        run(Task(quadratic, "", "adam", "", (("beta2", 0.9),), ((LR, 0.001),), "constant", 6, 4, 2))
    text = str(caught.value)
    assert text.startswith("problem quadratic: the gradients of loss_and_grad do not fit: grads['b'] has shape (1,)")
    assert text.splitlines()[-1] == "while racing adam(beta2=0.9), lr 0.001, seed 4, epoch 1, batch 2"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_workers_start_is_answered_afterwards(number: signal.Signals) -> None:
    reached = []

    def interrupted_within() -> None:
        with interruptible(), _deaf_children():
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted_within()
    assert reached
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_when_a_run_was_just_written_it_counts_the_run(
    quadratic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    put = Store.put

    def interrupted(store: Store, task: Task, result: Run) -> None:
        put(store, task, result)
        os.kill(os.getpid(), number)
        time.sleep(0.01)

    monkeypatch.setattr(Store, "put", interrupted)
    plan = make_plan(Settings(quadratic, rules=("sgd",), lrs=(0.1,), seeds=3))
    with interruptible():
        done = run_plan(plan, tmp_path / "out", jobs=1)
    assert done.interrupted
    assert [path.stem for path in (tmp_path / "out" / "runs").iterdir()] == [task.key for task in done.runs]
    assert len(done.runs) == 1


def test_the_clock_begins_with_the_work(quadratic: str, tmp_path: Path) -> None:
    plan = make_plan(Settings(quadratic, rules=("sgd",), lrs=(0.1,), seeds=1))
    assert run_plan(plan, tmp_path, jobs=1, begin=time.perf_counter() - 1000).seconds >= 1000


def test_a_worker_that_is_killed_leaves_the_finished_runs(quadratic: str, tmp_path: Path) -> None:
    killed = TIRED.replace('assert len(calls) < 5, "tired"', "len(calls) < 8 or __import__('os')._exit(1)")
    Path(quadratic).write_text(QUADRATIC + killed)
    settings = Settings(quadratic, rules=("sgd",), lrs=(0.1, 1), seeds=3, jobs=2, output=tmp_path / "out")
    with pytest.raises(StepruleError, match="a worker process was killed"):
        race(settings)
    Path(quadratic).write_text(QUADRATIC)
    assert len(list((tmp_path / "out" / "runs").iterdir())) < 6


def test_learning_at_the_best_rate_gets_below_the_start(tmp_path: Path) -> None:
    settings = Settings("digits-logistic", lrs=(1e-4, 1e-2, 1e-1, 1.0), schedule="constant", seeds=1, epochs=4, jobs=1)
    plan = make_plan(settings)
    rows = summarize(plan, run_plan(plan, tmp_path, jobs=1).runs)
    assert {row.entrant.label for row in rows} == set(DEFAULT_RULES)
    for row in rows:
        assert row.best is not None
        assert row.best.median < 0.25 * plan.start
        assert row.accuracy is not None
        assert row.accuracy > 0.9
        assert row.best.lr != 1e-4


def test_resuming_runs_only_what_is_missing(quadratic: str, tmp_path: Path) -> None:
    settings = Settings(quadratic, rules=("sgd", "adam"), lrs=(0.01, 0.1), seeds=2, jobs=1, output=tmp_path / "out")
    whole = race(settings)
    files = sorted((tmp_path / "out" / "runs").iterdir())
    assert len(files) == 4 + 4
    for path, content in zip(files[:3], ("", '{"run": {"no', '{"run": {"unknown": 1}}'), strict=True):
        path.write_text(content)
    files[3].unlink()
    name_aside(tmp_path / "out" / "runs").write_text("half of a run, whose writer was killed")
    again = race(settings)
    assert (again.resumed, len(again.runs)) == (4, 8)
    assert numbers_of(again) == numbers_of(whole)
    assert sorted((tmp_path / "out" / "runs").iterdir()) == files
    assert race(replace(settings, seeds=3)).resumed == 8
    assert race(replace(settings, epochs=1)).resumed == 0
    assert race(replace(settings, fresh=True)).resumed == 0
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 8


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    task = Task("p", "", "sgd", "", (), ((LR, 0.1),), "linear", 3, 0, 1)
    store.put(task, Run(1, False, 0.5, {}, [1.0, 0.5]))

    def fail(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(KeyboardInterrupt):
            store.put(task, Run())
    assert store.get(task) == Run(1, False, 0.5, {}, [1.0, 0.5])
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_an_output_folder_that_cannot_be_made(quadratic: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StepruleError, match=r"cannot write to .*file': it is a file. Choose another folder by --output"
    ):
        race(Settings(quadratic, rules=("sgd",), output=tmp_path / "file"))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_examples_in_the_manual_run(tmp_path: Path, place: int) -> None:
    manual = (ROOT / "docs" / "race.md").read_text()
    source = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)[place]
    (tmp_path / "manual.py").write_text(source)
    settings = Settings(str(tmp_path / "manual.py"), rules=("adam", "sgd"), lrs=(0.01, 0.1), seeds=1, jobs=1)
    done = race(replace(settings, output=tmp_path / "out"))
    assert done.plan.found.metric == "validation_loss"
    assert summarize(done.plan, done.runs)[0].low < (0.1, 0.5, 0.5)[place] * done.plan.start


def test_the_example_file_runs(tmp_path: Path) -> None:
    path = ROOT / "examples" / "race_problem.py"
    done = race(Settings(str(path), rules=("adam",), lrs=(0.03,), seeds=1, jobs=1, output=tmp_path / "out"))
    *_, found = done.runs.values()
    assert found.train_loss is not None
    assert found.train_loss < 0.2 * done.plan.start
    assert found.metrics["validation_loss"] > found.train_loss
