"""The driver's own code for sharing chunks, run in every order in which threads can come to it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from steprule.runtime import offsets, sharing
from steprule.runtime.floating_point import Mode

Memory = dict[int, int]
Frame = tuple[str, str, str, int, tuple[tuple[str, Any], ...]]
"""A function, a block of it, the block before, the number of the next instruction, and the values so far."""
Thread = tuple[Frame, ...]

_LEADER = f"""
define void @leader() {{
entry:
  call void @drive(ptr 100000, ptr 0, i64 SEATS, ptr null)
  call void @free(ptr 100000)
  call void @drive(ptr 200000, ptr 0, i64 SEATS, ptr null)
  call void @free(ptr 200000)
  ret void
}}
define void @worker() {{
entry:
  br label %begin
begin:
  call void @share(ptr {offsets.SLOTS}, i64 {sharing.SEAT})
  br label %begin
}}"""
_CALCULATE: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "and": operator.and_,
    "or": operator.or_,
    "shl": operator.lshift,
    "lshr": operator.rshift,
    "eq": operator.eq,
    "ne": operator.ne,
    "uge": operator.ge,
    "ult": operator.lt,
    "slt": operator.lt,
    "sgt": operator.gt,
    "sle": operator.le,
}
_TYPES = re.compile(r"\b(i1|i8|i32|i64|ptr|void|label|atomic|to|align \d+|acquire|release|acq_rel|monotonic|seq_cst)\b")


def _functions(ir: str) -> dict[str, tuple[list[str], dict[str, list[str]]]]:
    found = {}
    for name, arguments, body in re.findall(r"define .*?@(\w+)\((.*?)\) {\n(.*?)\n}", ir, re.DOTALL):
        parts = re.split(r"^(\S+):\n", body if re.match(r"\S+:\n", body) else f"entry:\n{body}", flags=re.MULTILINE)
        blocks = {label: [line for line in text.splitlines() if line.strip()] for label, text in _pairs(parts[1:])}
        found[name] = re.findall(r"%[\w.]+", arguments), blocks
    return found


def _pairs(parts: list[str]) -> Iterator[tuple[str, str]]:
    return zip(parts[::2], parts[1::2], strict=True)


class Machine:
    """Runs a thread up to and including its next atomic instruction; what lies between is of no interest to others."""

    def __init__(self, ir: str, seats: int) -> None:
        self.functions = _functions(ir + _LEADER.replace("SEATS", str(seats)))

    def step(self, thread: Thread, memory: Memory) -> Thread:
        frames = [(*frame[:4], dict(frame[4])) for frame in thread]
        while frames:
            name, label, before, at, own = frames.pop()
            line = self.functions[name][1][label][at]
            result, _, text = line.rpartition(" = ")
            op, *words = re.findall(r"[%@]?-?[\w.]+", _TYPES.sub(" ", text))
            value = [own.get(word, int(word) if word.lstrip("-").isdigit() else 0) for word in words]
            frames.append((name, label, before, at + 1, own))
            if op == "br":
                target = words[0] if len(words) == 1 else words[1] if value[0] else words[2]
                frames[-1] = name, target[1:], label, 0, own
            elif op == "ret":
                frames.pop()
                if frames and words:
                    caller = frames[-1]
                    called = self.functions[caller[0]][1][caller[1]][caller[3] - 1]
                    caller[4][called.rpartition(" = ")[0].strip()] = value[0]
            elif op == "call" and words[0][1:] in self.functions and words[0] != "@run":
                callee = words[0][1:]
                frames.append((callee, "entry", "", 0, dict(zip(self.functions[callee][0], value[1:], strict=True))))
            elif op == "call":
                _outside(words[0], value[1:], memory)
            else:
                found = _evaluate(op, text, words, value, before, own, memory)
                if result:
                    own[result.strip()] = found
            if re.search("atomic|cmpxchg", text):
                break
        return tuple((*frame[:4], tuple(sorted(frame[4].items()))) for frame in frames)


def _outside(function: str, value: list[int], memory: Memory) -> None:
    """What the machine does not run: a kernel on a chunk, and the end of a job's memory."""
    if function == "@run":
        memory[value[0]] += 1
        assert memory[value[0]] == 1, "a chunk ran twice"
    elif function == "@free":
        chunks = memory[value[0] + 8 * offsets.CHUNKS]
        ran = [memory[chunks + 24 * k] for k in range(memory[value[0] + 8 * offsets.COUNT])]
        assert set(ran) == {1}, f"a launch returned too early: {ran}"
        for word in range(offsets.JOB_WORDS):
            del memory[value[0] + 8 * word]


def _evaluate(
    op: str, text: str, words: list[str], value: list[Any], before: str, own: dict[str, Any], memory: Memory
) -> Any:
    if op in ("store", "atomicrmw"):
        at = value[1]
        assert at in memory, "a job that is no more was written to"
        memory[at] = value[0] if op == "store" else memory[at] + value[2]
        return None
    if op == "phi":
        return value[words.index(f"%{before}") - 1]
    if op == "getelementptr":
        return value[0] + value[1] * (1 if "getelementptr i8" in text else 8)
    if op == "load":
        return memory[value[0]]
    if op == "cmpxchg":
        old = memory[value[0]]
        assert value[2] >= 0, "a worker joined for whom there is no seat"
        memory[value[0]] = value[2] if old == value[1] else old
        return old, old == value[1]
    if op == "extractvalue":
        return own[words[0]][value[1]]
    if op == "select":
        return value[1] if value[0] else value[2]
    if op == "icmp":
        return _CALCULATE[words[0]](value[1], value[2])
    return _CALCULATE[op](value[0], value[1])


def _memory(counts: tuple[int, int], grains: tuple[int, int]) -> Memory:
    memory = {offsets.SLOTS + at: 0 for at in (0, offsets.SLOT_OWNER, offsets.SLOT_JOB, offsets.SLOT_GRAIN)}
    for job, count, grain in zip((100_000, 200_000), counts, grains, strict=True):
        memory |= {job + 8 * word: 0 for word in range(offsets.JOB_WORDS)}
        memory |= {job + 8 * offsets.COUNT: count, job + 8 * offsets.GRAIN: grain}
        memory |= {job + 8 * offsets.CHUNKS: job + 1000} | {job + 1000 + 24 * k: 0 for k in range(count)}
    return memory


def explore(ir: str, workers: int, counts: tuple[int, int], grains: tuple[int, int], seats: int = 1) -> int:
    """Return in how many states a leader with two launches and its workers can be, after a check of each."""
    rouse = "\ndefine void @rouse(ptr %pool, i64 %n) {\nentry:\n  ret void\n}"
    # Looks are not counted: a leader that looks again is where it was.
    machine = Machine(ir.replace("%spins, 1", "%spins, 0") + rouse, seats)
    threads: tuple[Thread, ...] = tuple((((name, "entry", "", 0, ()),)) for name in ["leader"] + ["worker"] * workers)
    first = threads, tuple(sorted(_memory(counts, grains).items()))
    before: dict[Any, list[Any]] = {first: []}
    todo = [first]
    while todo:
        state = todo.pop()
        threads, words = state
        for number, thread in enumerate(threads):
            memory = dict(words)
            moved = [*threads[:number], machine.step(thread, memory), *threads[number + 1 :]]
            after = (moved[0], *sorted(moved[1:])), tuple(sorted(memory.items()))
            if after not in before:
                todo.append(after)
            before.setdefault(after, []).append(state)
    ends = [state for state in before if not state[0][0]]
    reached = set(ends)
    while ends:
        fresh = set(before[ends.pop()]) - reached
        reached |= fresh
        ends += fresh
    assert len(reached) == len(before), "a launch that never ends"
    return len(before)


IR = sharing.share(Mode()) + sharing.lead(Mode(), "")


@pytest.mark.parametrize("counts", [(2, 2), (3, 2)])
def test_each_chunk_runs_once_and_no_worker_sees_a_job_that_is_no_more(counts: tuple[int, int]) -> None:
    """Both launches use one slot, and their tickets may be equal: a worker may stop between any two instructions."""
    for grains in ((1, 1), (2, 1), (1, 2)):
        assert explore(IR, 1, counts, grains) > 500


def test_no_worker_joins_without_a_seat() -> None:
    """That is what limits the threads of a launch: workers of an earlier one may be looking."""
    assert explore(IR, 1, (2, 2), (1, 1), seats=0) > 50
    broken = IR.replace("%may = and i1 %any, %seated", "%may = and i1 %any, %any")
    assert broken != IR
    with pytest.raises(AssertionError, match="no seat"):
        explore(broken, 1, (2, 2), (1, 1), seats=0)


@pytest.mark.slow
def test_so_it_is_with_two_workers() -> None:
    assert explore(IR, 2, (2, 2), (1, 1)) > 30_000


_TAKE, _JOB = "  %joined = call i64 @take(ptr %slot, i64 %seat)\n", "  %job = load ptr, ptr %job.at\n"
_FAULTS = {
    "the job is read before chunks are taken": [(_JOB, ""), (_TAKE, f"""
  %early.at = getelementptr i8, ptr %slot, i64 {offsets.SLOT_JOB}
  %job = load atomic ptr, ptr %early.at
{_TAKE}""")],
    "the leader does not wait": [("br i1 %complete, label %over", "br i1 1, label %over")],
    "a swap that failed counts": [("br i1 %took, label %some", "br i1 1, label %some")],
    "one chunk is counted of several": [("add i64 %mine, %k", "add i64 %mine, 1")],
    "chunks are counted when taken": [("@take(ptr %slot, i64 0)\n", """@take(ptr %slot, i64 0)
  %soon.at = getelementptr i64, ptr %job, i64 0
  %soon = atomicrmw add ptr %soon.at, i64 %k
"""), ("ptr %done.at, i64 %mine.now", "ptr %done.at, i64 0")],
}  # fmt: skip


@pytest.mark.parametrize("fault", _FAULTS.values(), ids=_FAULTS)
def test_faults_are_found(fault: list[tuple[str, str]]) -> None:
    broken = IR
    for old, new in fault:
        assert broken.count(old) == 1
        broken = broken.replace(old, new)
    with pytest.raises((AssertionError, KeyError)):
        explore(broken, 1, (3, 3), (2, 2))
