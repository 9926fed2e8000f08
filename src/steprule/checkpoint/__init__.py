"""Named arrays on disk: exact, atomic, checked; no optimizer, no framework, no pickle."""

from steprule.checkpoint.background import Pending, settle, start
from steprule.checkpoint.plain import Json, check_text, decode, encode, short
from steprule.checkpoint.read import File, read, verify
from steprule.checkpoint.stored import Stored, snapshot, stored, type_of
from steprule.checkpoint.write import write

__all__ = [
    "File",
    "Json",
    "Pending",
    "Stored",
    "check_text",
    "decode",
    "encode",
    "read",
    "settle",
    "short",
    "snapshot",
    "start",
    "stored",
    "type_of",
    "verify",
    "write",
]
