"""Steps in the parallel regions of the OpenMP runtime that torch has loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

HEAD = """
import os, threading, time, warnings
import numpy as np
import torch
import steprule as sr
import steprule.torch
from steprule.runtime import launch
launch.WAKE_ELEMENTS, launch.GRAIN_ELEMENTS, launch.CHUNK = 1, 1, 1000
warnings.simplefilter("ignore", DeprecationWarning)  # forks with threads: some of them are under test

class Stepped:
    def __init__(self, n=100_000):
        self.param = torch.nn.Parameter(torch.zeros(n))
        self.param.grad = torch.ones(n)
        self.optimizer = steprule.torch.SGD([self.param], lr=1.0)
        self.t = 0
    def step(self, times=1):
        for _ in range(times):
            self.optimizer.step()
            self.t += 1
            # Not by torch, whose threads a forked child lacks.
            assert (self.param.detach().numpy() == -self.t).all()

def native_threads():
    return len(os.listdir("/proc/self/task"))
def workers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("steprule-")]
def compute():  # by torch's own threads
    return torch.ones(3000, 300) @ torch.ones(300, 300)
"""


def script(body: str, timeout: float = 120, **environment: str) -> str:
    """Run a script in a fresh interpreter; a crash shows as its exit code."""
    source = HEAD + textwrap.dedent(body)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=timeout, env=inherited | environment
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


WAIT = """
    for _ in range(300):
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(pid, 9)
    assert (done, code) == (pid, 0), "the child waits"
"""


TOGETHER = {
    "the threads are those that torch has": """
    torch.set_num_threads(3)
    compute()
    before = native_threads()
    own = Stepped()
    own.step(200)
    assert native_threads() == before, (native_threads(), before)
    assert workers() == []
    # They do work, not the caller alone.
    big = Stepped(4_000_000)
    spent, alone = time.process_time(), time.thread_time()
    for _ in range(40):
        big.optimizer.step()
    assert time.process_time() - spent > 1.2 * (time.thread_time() - alone)
    assert (big.param == -40).all()
""",
    "as many as torch is told to use": """
    own = Stepped()
    for threads in (1, 3, 5):
        for number in (2, threads, 2, threads):
            torch.set_num_threads(number)
            own.step(50)
    assert workers() == []
""",
    "no more threads of a region take part than the team has": """
    import ctypes
    from steprule.doors.torch import openmp
    torch.set_num_threads(4)
    compute()
    seen = set()
    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def note(*_):
        seen.add(threading.get_ident())
        time.sleep(1e-3)  # so that whoever may join has the time
    class Noting:
        address = ctypes.cast(note, ctypes.c_void_p).value
    launch.CHUNK = 8
    table = launch.Table([400], 1)
    table.set_row(0, Noting(), 0)
    region = openmp.team().region
    assert region.address
    for threads in (2, 3, 2, 1, 4):
        seen.clear()
        table.prepare(openmp.Team(threads, region))
        table.run()
        assert 1 <= len(seen) <= threads, (len(seen), threads)
    assert len(seen) > 2, "they do take part"
""",
    "steps in a backward pass and in other threads": """
    param = torch.nn.Parameter(torch.zeros(50_000))
    optimizer = steprule.torch.SGD([param], lr=1.0)
    def hook(tensor):
        optimizer.step()
        tensor.grad = None
    param.register_post_accumulate_grad_hook(hook)
    for t in range(1, 50):
        param.sum().backward()
        assert (param == -t).all()
    several = [Stepped(20_000) for _ in range(6)]
    threads = [threading.Thread(target=own.step, args=(60,)) for own in several]
    for thread in threads:
        thread.start()
    for _ in range(60):
        compute()
    for thread in threads:
        thread.join()
    assert [own.t for own in several] == [60] * 6
""",
    "a forked child has workers of its own": """
    # The runtime's threads do not survive a fork: a region would wait for them for ever.
    torch.set_num_threads(3)
    compute()
    own = Stepped()
    own.step(10)
    pid = os.fork()
    if pid == 0:
        own.step(10)
        os._exit(0 if len(workers()) == 2 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    own.step(10)
    assert workers() == []
""",
    "a handler forks between the preparation and the launch": """
    torch.set_num_threads(3)
    compute()
    own, pid = Stepped(), None
    prepare = launch.Table.prepare
    def and_fork(table, team):
        global pid
        prepare(table, team)
        pid = os.fork() if pid is None else pid
    launch.Table.prepare = and_fork
    own = Stepped()
    own.step(2)
    if pid == 0:
        os._exit(0)
    launch.Table.prepare = prepare
"""
    + WAIT,
    "steps in workers of a data loader": """
    from torch.utils.data import DataLoader, Dataset
    own = Stepped()
    own.step(3)
    class Stepping(Dataset):
        def __len__(self):
            return 4
        def __getitem__(self, index):
            own.step(2)
            return own.t
    found = list(DataLoader(Stepping(), num_workers=2))
    assert sorted(int(t) for t in found) == [5, 5, 7, 7], found
    own.step()
""",
}
"""What is asked of one process, one after the other, since torch takes seconds to import."""

IN_TURN = """
import json, textwrap, traceback
parent, threads, found = os.getpid(), torch.get_num_threads(), {}
for name, body in BODIES.items():
    torch.set_num_threads(threads)
    launch.CHUNK = 1000
    try:
        exec(textwrap.dedent(body), dict(globals()))
        found[name] = ""
    except BaseException:
        found[name] = traceback.format_exc()
    if os.getpid() != parent:  # a child that should have ended
        os._exit(1)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What is wrong with each of those that share a process."""
    told: dict[str, str] = json.loads(script(f"BODIES = {TOGETHER!r}{IN_TURN}", 280).splitlines()[-1])
    return told


@pytest.mark.parametrize("what", TOGETHER)
def test_in_a_process_of_torchs_own(what: str, found: dict[str, str]) -> None:
    if found[what]:
        pytest.fail(found[what], pytrace=False)


VARIABLES = (
    "OMP_NUM_THREADS=4 OMP_THREAD_LIMIT=2",
    "OMP_NUM_THREADS=1",
    "OMP_NUM_THREADS=3",
    "OMP_NUM_THREADS=4 OMP_DYNAMIC=true",
    "OMP_WAIT_POLICY=passive",
    "OMP_PROC_BIND=true",
)


@pytest.mark.parametrize("variables", [VARIABLES[0], *(pytest.param(v, marks=pytest.mark.slow) for v in VARIABLES[1:])])
def test_variables_of_the_environment(variables: str) -> None:
    environment = dict(variable.split("=") for variable in variables.split())
    script("Stepped().step(100); compute(); Stepped().step(100); assert workers() == []", 120, **environment)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a process was forked")
def test_a_child_that_imports_only_then_has_workers_of_its_own() -> None:
    source = """
    import os, threading, torch
    torch.set_num_threads(3)
    torch.ones(3000, 300) @ torch.ones(300, 300)
    param = torch.nn.Parameter(torch.zeros(200_000))
    param.grad = torch.ones(200_000)
    pid = os.fork()
    if pid == 0:
        import steprule.torch
        optimizer = steprule.torch.SGD([param], lr=1.0)
        optimizer.step()
        optimizer.step()
        workers = [thread for thread in threading.enumerate() if thread.name.startswith("steprule-")]
        os._exit(0 if len(workers) == 2 and (param.detach().numpy() == -2).all() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(source)], timeout=60, check=True)


@pytest.mark.parametrize("imported", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_a_child_forked_before_the_first_step_has_workers_of_its_own(imported: str) -> None:
    # The parent's torch has computed, and this package cannot have seen the fork.
    source = f"""
    import os, time, warnings
    import torch
    warnings.simplefilter("ignore", DeprecationWarning)
    if {imported!r} == "before":
        import steprule.torch
    torch.set_num_threads(3)
    torch.ones(3000, 300) @ torch.ones(300, 300)
    params = [torch.nn.Parameter(torch.zeros(10_000)) for _ in range(10)]
    for param in params:
        param.grad = torch.ones(10_000)
    pid = os.fork()
    if pid == 0:
        import steprule.torch
        optimizer = steprule.torch.SGD(params, lr=1.0)
        for _ in range(3):
            optimizer.step()
        os._exit(0 if all((param.detach().numpy() == -3).all() for param in params) else 1)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(source + WAIT)], check=True, timeout=120)


def test_a_runtime_that_was_preloaded_is_torchs(tmp_path: Path) -> None:
    (tmp_path / "first.c").write_text(FIRST)
    library = tmp_path / "first.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "first.c", "-ldl"], check=True)
    script(
        f"""
    import ctypes
    regions = ctypes.c_int.in_dll(ctypes.CDLL({str(library)!r}), "regions")
    torch.set_num_threads(2)
    compute()
    torch.ones(1_000_000).sum()
    assert regions.value > 0  # torch's own
    own, before = Stepped(), regions.value
    before = regions.value
    for _ in range(10):
        own.optimizer.step()
    assert regions.value == before + 10, (regions.value, before)
    """,
        LD_PRELOAD=str(library),
    )


FIRST = """
#define _GNU_SOURCE
#include <dlfcn.h>

int regions;

void GOMP_parallel(void (*run)(void *), void *data, unsigned threads, unsigned flags) {
  void (*next)(void (*)(void *), void *, unsigned, unsigned) = dlsym(RTLD_NEXT, "GOMP_parallel");
  __atomic_add_fetch(&regions, 1, __ATOMIC_RELAXED);
  next(run, data, threads, flags);
}
"""

RUNTIME = """
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>

/* What LLVM's runtime does when a region begins, as its interface says: four threads, the caller among them. */
static __thread int inside, number;
typedef void (*micro)(int32_t *, int32_t *, void *);
struct part { micro run; void *data; int32_t number; };
int regions;

int omp_in_parallel(void) { return inside; }
int omp_get_thread_num(void) { return number; }

static void *work(void *argument) {
  struct part *part = argument;
  int32_t global = part->number + 100, bound = part->number;
  inside = 1, number = part->number;
  part->run(&global, &bound, part->data);
  inside = number = 0;
  return 0;
}

void __kmpc_fork_call(void *place, int32_t count, micro run, ...) {
  va_list rest;
  va_start(rest, run);
  void *data = count == 1 && place ? va_arg(rest, void *) : 0;
  va_end(rest);
  struct part parts[4];
  pthread_t threads[4];
  __atomic_add_fetch(&regions, 1, __ATOMIC_RELAXED);
  for (int k = 3; k >= 0; k--) {
    parts[k].run = run, parts[k].data = data, parts[k].number = k;
    if (k) pthread_create(&threads[k], 0, work, &parts[k]);
  }
  work(&parts[0]);
  for (int k = 1; k < 4; k++) pthread_join(threads[k], 0);
}

void within(void (*run)(void)) { inside = 1; run(); inside = 0; }
"""


def test_regions_of_llvms_runtime_and_steps_within_a_region(tmp_path: Path) -> None:
    (tmp_path / "runtime.c").write_text(RUNTIME)
    library = tmp_path / "runtime.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-pthread", "-o", library, tmp_path / "runtime.c"], check=True)
    script(f"""
    import ctypes
    from steprule.runtime import Team
    from steprule.runtime.driver import driver
    from steprule.runtime.regions import Region
    from steprule.doors.torch import launch as launches
    library = ctypes.CDLL({str(library)!r})
    region = Region(library, driver().regions)
    assert region.address
    launches.team = lambda: Team(4, region)
    own = Stepped()
    own.step(100)
    regions = ctypes.c_int.in_dll(library, "regions")
    assert regions.value == 100
    # In somebody's region none is begun.
    library.within(ctypes.CFUNCTYPE(None)(own.step))
    assert (own.t, regions.value) == (101, 100)
    own.step()
    assert regions.value == 101
    assert Region(ctypes.CDLL(None), driver().regions).address == 0 or hasattr(ctypes.CDLL(None), "GOMP_parallel")
    """)


def test_without_a_runtime_workers_step() -> None:
    script("""
    from steprule.doors.torch import openmp
    openmp._library = lambda: (_ for _ in ()).throw(OSError("nothing there"))
    torch.set_num_threads(3)
    Stepped().step(20)
    assert len(workers()) == 2
    """)
