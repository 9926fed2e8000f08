"""Where in memory the driver and its workers find what: the words of a job, and the bytes of a pool."""

from __future__ import annotations

__all__ = [
    "CHUNKS",
    "COMMIT",
    "COUNT",
    "DONE",
    "EPOCH",
    "FUNCTIONS",
    "GRAIN",
    "JOB_WORDS",
    "LEADER",
    "LOCKS",
    "PLACING",
    "POOL_BYTES",
    "ROWS",
    "SLEEPING",
    "SLOTS",
    "SLOT_BYTES",
    "SLOT_COUNT",
    "SLOT_GRAIN",
    "SLOT_JOB",
    "SLOT_OWNER",
    "SPINNING",
    "WIDTH",
    "YIELD",
]

# Words of a job, which belongs to a launch. `done` lies on a cache line of its own.
DONE = 0
COUNT, CHUNKS, ROWS, WIDTH, GRAIN, YIELD, COMMIT, JOB_WORDS = 8, 9, 10, 11, 12, 13, 14, 15

# Bytes of a pool. A slot, in which a launch offers its chunks, begins with their ticket (see the driver).
EPOCH, LEADER, SLEEPING, SPINNING, FUNCTIONS, PLACING, LOCKS, SLOTS = 0, 8, 64, 128, 192, 224, 256, 512
SLOT_OWNER, SLOT_JOB, SLOT_GRAIN, SLOT_BYTES, SLOT_COUNT = 8, 16, 24, 128, 16
POOL_BYTES = SLOTS + SLOT_COUNT * SLOT_BYTES
