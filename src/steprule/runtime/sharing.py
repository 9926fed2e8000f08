"""Sharing the chunks of a launch among threads, as LLVM IR.

A launch offers its chunks in a *slot* of the pool, a place that is never freed. The slot's *ticket* is one word: how
many chunks are left, and above them (bit 32 on) how many seats, which are the workers that may still join. A thread
takes chunks, and a worker with its first ones a seat, by one compare-and-swap of the ticket. Only then does it look at
the job: who holds chunks that are not done holds up the launch, so that its memory is there. A worker that comes late
finds no chunks, or those of another launch, which are as good.
"""

from __future__ import annotations

from steprule.runtime import offsets
from steprule.runtime.floating_point import Mode
from steprule.runtime.placement import MASKS_WORDS

__all__ = ["lead", "share", "word", "work"]

SEAT = 1 << 32
SPINS = 2_000
"""How often a worker looks, some ten nanoseconds apart, before it sleeps."""


def word(name: str, of: str, number: int, kind: str = "i64") -> str:
    """Load a word of a table, as ``%name``."""
    return f"  %{name}.at = getelementptr i64, ptr %{of}, i64 {number}\n  %{name} = load {kind}, ptr %{name}.at"


def _run(job: str) -> str:
    """Load what ``@run`` needs of a job."""
    chunks, rows = word("chunks", job, offsets.CHUNKS, "ptr"), word("rows", job, offsets.ROWS, "ptr")
    return "\n".join([chunks, rows, word("width", job, offsets.WIDTH)])


def share(mode: Mode) -> str:
    """Return ``@share(slot, seat)``: take chunks until none is left; ``seat`` is ``SEAT`` for who needs one, or 0."""
    return f"""
define internal void @run(ptr %chunk, ptr %rows, i64 %width) {{
  %row = load i64, ptr %chunk
{word("start", "chunk", 1)}
{word("n", "chunk", 2)}
  %offset = mul i64 %row, %width
  %base = getelementptr i64, ptr %rows, i64 %offset
  %kernel = load ptr, ptr %base
{word("scalars", "base", 1, "ptr")}
  %addresses = getelementptr i64, ptr %base, i64 2
  call void %kernel(ptr %addresses, i64 %start, i64 %n, ptr %scalars)
  ret void
}}

define internal void @share(ptr %slot, i64 %seat) {{
entry:
  %joined = call i64 @take(ptr %slot, i64 %seat)
  %any = icmp ne i64 %joined, 0
  br i1 %any, label %begin, label %leave
leave:
  ret void
begin:
{mode.entered}
  %job.at = getelementptr i8, ptr %slot, i64 {offsets.SLOT_JOB}
  %job = load ptr, ptr %job.at
{word("count", "job", offsets.COUNT)}
{_run("job")}
  br label %taken
taken:
  %ticket = phi i64 [ %joined, %begin ], [ %more, %next ]
  %mine = phi i64 [ 0, %begin ], [ %mine.now, %next ]
  %left = and i64 %ticket, {SEAT - 1}
  %k = lshr i64 %ticket, 32
  %first = sub i64 %count, %left
  %last = add i64 %first, %k
  br label %chunk
chunk:
  %c = phi i64 [ %first, %taken ], [ %c.next, %chunk ]
  %word = mul i64 %c, 3
  %at = getelementptr i64, ptr %chunks, i64 %word
  call void @run(ptr %at, ptr %rows, i64 %width)
  %c.next = add i64 %c, 1
  %again = icmp slt i64 %c.next, %last
  br i1 %again, label %chunk, label %next
next:
  %mine.now = add i64 %mine, %k
  %more = call i64 @take(ptr %slot, i64 0)
  %goes.on = icmp ne i64 %more, 0
  br i1 %goes.on, label %taken, label %over
over:
{mode.left}
  %done.at = getelementptr i64, ptr %job, i64 {offsets.DONE}
  %before = atomicrmw add ptr %done.at, i64 %mine.now acq_rel
  ret void
}}

define internal i64 @take(ptr %slot, i64 %seat) {{
entry:
  %grain.at = getelementptr i8, ptr %slot, i64 {offsets.SLOT_GRAIN}
  %found = load atomic i64, ptr %slot acquire, align 8
  br label %try
try:
  %ticket = phi i64 [ %found, %entry ], [ %seen, %swap ]
  %left = and i64 %ticket, {SEAT - 1}
  %any = icmp ne i64 %left, 0
  %seated = icmp uge i64 %ticket, %seat
  %may = and i1 %any, %seated
  br i1 %may, label %swap, label %none
swap:
  %grain = load atomic i64, ptr %grain.at monotonic, align 8
  %short = icmp ult i64 %left, %grain
  %k = select i1 %short, i64 %left, i64 %grain
  %less = add i64 %k, %seat
  %new = sub i64 %ticket, %less
  %pair = cmpxchg ptr %slot, i64 %ticket, i64 %new acq_rel acquire
  %seen = extractvalue {{ i64, i1 }} %pair, 0
  %took = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %took, label %some, label %try
some:
  %high = shl i64 %k, 32
  %result = or i64 %high, %left
  ret i64 %result
none:
  ret i64 0
}}"""


def lead(mode: Mode, pause: str) -> str:
    """Return ``@alone(job)`` and ``@drive(job, pool, seats, region)``: a whole launch, and its commit.

    ``region`` is 0, or begins a parallel region of an OpenMP runtime (regions.py).
    """
    return f"""
define void @alone(ptr %job) {{
entry:
{mode.entered}
{word("count", "job", offsets.COUNT)}
{_run("job")}
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %chunk, label %over
chunk:
  %c = phi i64 [ 0, %entry ], [ %c.next, %chunk ]
  %word = mul i64 %c, 3
  %at = getelementptr i64, ptr %chunks, i64 %word
  call void @run(ptr %at, ptr %rows, i64 %width)
  %c.next = add i64 %c, 1
  %again = icmp slt i64 %c.next, %count
  br i1 %again, label %chunk, label %over
over:
{mode.left}
  store i64 %count, ptr %job
  call void @count(ptr %job)
  ret void
}}

define internal void @count(ptr %job) {{
entry:
{word("commit", "job", offsets.COMMIT, "ptr")}
  %any = icmp ne ptr %commit, null
  br i1 %any, label %write, label %over
write:
  call void @write(ptr %commit)
  br label %over
over:
  ret void
}}

define void @drive(ptr %job, ptr %pool, i64 %seats, ptr %region) {{
entry:
  %slots = getelementptr i8, ptr %pool, i64 {offsets.SLOTS}
  br label %claim
claim:
  %s = phi i64 [ 0, %entry ], [ %s.next, %full ]
  %offset = mul i64 %s, {offsets.SLOT_BYTES}
  %slot = getelementptr i8, ptr %slots, i64 %offset
  %owner.at = getelementptr i8, ptr %slot, i64 {offsets.SLOT_OWNER}
  %pair = cmpxchg ptr %owner.at, i64 0, i64 1 acq_rel acquire
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %offer, label %full
full:
  %s.next = add i64 %s, 1
  %others = icmp slt i64 %s.next, {offsets.SLOT_COUNT}
  br i1 %others, label %claim, label %none
none:
  call void @alone(ptr %job)
  ret void

offer:
{word("count", "job", offsets.COUNT)}
{word("grain", "job", offsets.GRAIN)}
{word("yield", "job", offsets.YIELD, "ptr")}
  %done.at = getelementptr i64, ptr %job, i64 {offsets.DONE}
  %slot.job = getelementptr i8, ptr %slot, i64 {offsets.SLOT_JOB}
  store ptr %job, ptr %slot.job
  %slot.grain = getelementptr i8, ptr %slot, i64 {offsets.SLOT_GRAIN}
  store atomic i64 %grain, ptr %slot.grain monotonic, align 8
  %high = shl i64 %seats, 32
  %ticket = or i64 %high, %count
  store atomic i64 %ticket, ptr %slot release, align 8
  %in.region = icmp ne ptr %region, null
  br i1 %in.region, label %begin, label %wake

begin:
  %begins = load ptr, ptr %region
  %begun = call i1 %begins(ptr %region, ptr %slot)
  br i1 %begun, label %own, label %wake
wake:
  call void @rouse(ptr %pool, i64 %seats)
  br label %own
own:
  call void @share(ptr %slot, i64 0)
  br label %look

look:
  %spins = phi i64 [ 0, %own ], [ %spins.next, %spin ]
  %done = load atomic i64, ptr %done.at acquire, align 8
  %complete = icmp eq i64 %done, %count
  br i1 %complete, label %over, label %rest
rest:
  {pause}
  %low = and i64 %spins, 255
  %tired = icmp eq i64 %low, 255
  br i1 %tired, label %give, label %spin
give:
  %nothing = call i32 %yield()
  br label %spin
spin:
  %spins.next = add i64 %spins, 1
  br label %look

over:
  store atomic i64 0, ptr %owner.at release, align 8
  call void @count(ptr %job)
  ret void
}}"""


def work(pause: str) -> str:
    """Return ``@work(pool)``, a worker's life, and ``@rouse(pool, seats)``, by which a launch calls workers.

    A worker counts itself as sleeping before it compares the epoch, and a launch adds to the epoch before it looks who
    sleeps: so either the launch wakes the worker, or the worker does not fall asleep.
    """
    fields = {"sleeping": offsets.SLEEPING, "spinning": offsets.SPINNING}
    at = "\n".join(f"  %{name}.at = getelementptr i8, ptr %pool, i64 {byte}" for name, byte in fields.items())
    return f"""
define internal void @rouse(ptr %pool, i64 %seats) {{
entry:
{at}
  call void @note(ptr %pool)
  %epoch = atomicrmw add ptr %pool, i32 1 seq_cst
  %sleeping = load atomic i64, ptr %sleeping.at seq_cst, align 8
  %spinning = load atomic i64, ptr %spinning.at seq_cst, align 8
  %wanted = sub i64 %seats, %spinning
  %enough = icmp sle i64 %wanted, 0
  %nobody = icmp eq i64 %sleeping, 0
  %no = or i1 %enough, %nobody
  br i1 %no, label %over, label %call
call:
  call void @wake(ptr %pool, i64 %wanted)
  br label %over
over:
  ret void
}}

define void @work(ptr %pool) {{
entry:
{at}
  %slots = getelementptr i8, ptr %pool, i64 {offsets.SLOTS}
  %masks = alloca [{MASKS_WORDS} x i64]
  call void @llvm.memset.p0.i64(ptr %masks, i8 0, i64 {8 * MASKS_WORDS}, i1 false)
  br label %begin
again:
  call void @aside(ptr %pool, ptr %masks)
  br label %begin
begin:
  %epoch = load atomic i32, ptr %pool seq_cst, align 8
  br label %scan
scan:
  %s = phi i64 [ 0, %begin ], [ %s.next, %scan ]
  %offset = mul i64 %s, {offsets.SLOT_BYTES}
  %slot = getelementptr i8, ptr %slots, i64 %offset
  call void @share(ptr %slot, i64 {SEAT})
  %s.next = add i64 %s, 1
  %others = icmp slt i64 %s.next, {offsets.SLOT_COUNT}
  br i1 %others, label %scan, label %idle
idle:
  %one.more = atomicrmw add ptr %spinning.at, i64 1 seq_cst
  br label %look
look:
  %spins = phi i64 [ 0, %idle ], [ %spins.next, %spin ]
  %now = load atomic i32, ptr %pool seq_cst, align 8
  %called = icmp ne i32 %now, %epoch
  br i1 %called, label %awake, label %spin
spin:
  {pause}
  %spins.next = add i64 %spins, 1
  %tired = icmp eq i64 %spins.next, {SPINS}
  br i1 %tired, label %sleep, label %look
awake:
  %one.less = atomicrmw sub ptr %spinning.at, i64 1 seq_cst
  br label %again
sleep:
  %sleeps = atomicrmw add ptr %sleeping.at, i64 1 seq_cst
  %spins.no.more = atomicrmw sub ptr %spinning.at, i64 1 seq_cst
  call void @wait(ptr %pool, i32 %epoch)
  %sleeps.no.more = atomicrmw sub ptr %sleeping.at, i64 1 seq_cst
  br label %again
}}
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"""
