"""Files of checkpoints: the format, every kind of damage, disks that fill up, and writers that are killed."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from steprule import files
from steprule.checkpoint import Stored, read, snapshot, stored, write
from steprule.checkpoint.plain import parse
from steprule.checkpoint.rotate import rotate
from steprule.checkpoint.stored import BLOCK, DTYPES, blocks
from steprule.errors import CheckpointError
from steprule.files import name_aside
from tests.cases import Array, assert_same_bits

RNG = np.random.default_rng(0)
ARRAYS: dict[str, Array] = {
    "m": RNG.standard_normal((3, 4)).astype(np.float32),
    "codes": RNG.integers(0, 256, 5).astype(np.uint8),
    "half": RNG.standard_normal(3).astype(np.float16),
    "none": np.zeros((0, 4), np.float64),
    "one": np.array(2.5),
}


def _stored(arrays: dict[str, Array]) -> dict[str, Stored]:
    return {name: stored(array, name) for name, array in arrays.items()}


def _save(path: Path, number: int = 0, keep: int = 0, arrays: dict[str, Array] = ARRAYS) -> None:
    write(path, _stored(arrays), {"number": number}, keep)


def _loaded(path: Path) -> tuple[int, dict[str, Array]]:
    file = read(path)
    return file.document["number"], {name: one.array() for name, one in file.tensors.items()}


def _assert_complete(path: Path, number: int, arrays: dict[str, Array] = ARRAYS) -> None:
    found, loaded = _loaded(path)
    assert found == number
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert_same_bits(loaded[name], np.asarray(array), name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "run.safetensors"
    _save(place)
    return place


# The format.


def test_the_public_library_opens_the_file(path: Path) -> None:
    for name, array in safetensors.numpy.load_file(path).items():
        assert_same_bits(array, np.asarray(ARRAYS[name]), name)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "steprule"
        assert json.loads(file.metadata()["document"]) == {"number": 0}
        assert set(file.keys()) == set(ARRAYS)


def test_the_layout_read_by_hand(path: Path) -> None:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert length % 8 == 0, "tensors begin aligned"
    assert header.pop("__metadata__")["version"] == "1"
    end = 0
    for name, told in header.items():
        start, stop = told["data_offsets"]
        array = np.asarray(ARRAYS[name])
        assert (start, told["shape"]) == (end, list(array.shape))
        assert start % array.itemsize == 0
        assert raw[8 + length + start : 8 + length + stop] == array.tobytes()
        end = stop
    assert 8 + length + end == len(raw)


@pytest.mark.parametrize("dtype", sorted(set(DTYPES.values())))
def test_every_type_and_order_of_memory_comes_back(tmp_path: Path, dtype: str) -> None:
    bits = RNG.integers(0, 256, (6, 8, np.dtype(dtype).itemsize)).astype(np.uint8)
    whole = bits.reshape(-1).view(dtype).reshape(6, 8) if dtype != "|b1" else bits[..., 0] > 99
    arrays = {"c": whole, "f": np.asfortranarray(whole), "strided": whole[::2, ::-3], "turned": whole.T}
    write(tmp_path / "x", _stored(arrays), {})
    for name, one in read(tmp_path / "x").tensors.items():
        assert one.get().tobytes() == arrays[name].tobytes(), name
        assert one.shape == arrays[name].shape


def test_complex_bfloat16_and_big_endian_numbers(tmp_path: Path) -> None:
    import ml_dtypes

    arrays = {
        "c": np.array([[1 + 2j, -0.0 - 1j]], np.complex64),
        "big": np.arange(3, dtype=">i4"),
        "b": np.array([1.5, -2], ml_dtypes.bfloat16),
    }
    write(tmp_path / "x", _stored(arrays), {})
    tensors = read(tmp_path / "x").tensors
    assert (tensors["c"].dtype, tensors["c"].shape) == ("F32", (1, 2, 2))
    assert tensors["c"].get().tobytes() == arrays["c"].tobytes()
    assert tensors["big"].get().tolist() == [0, 1, 2]
    assert (tensors["b"].dtype, tensors["b"].get().tobytes()) == ("BF16", arrays["b"].tobytes())


def test_blocks_are_small_and_in_order() -> None:
    wide = RNG.integers(0, 2**62, (3, BLOCK // 4)).astype(np.int64)
    for array in (wide, wide.T, wide[:, ::2], wide[::-1]):
        found = list(blocks(array))
        assert b"".join(found) == array.tobytes()
        assert max(map(len, found)) <= BLOCK


def test_large_tensors_are_checked_by_the_thread_beside(tmp_path: Path) -> None:
    large = {"a": RNG.standard_normal((700, 999)), "b": np.zeros(3), "c": RNG.standard_normal((999, 700)).T}
    _save(tmp_path / "x", 3, arrays=large)
    _assert_complete(tmp_path / "x", 3, large)
    raw = bytearray((tmp_path / "x").read_bytes())
    for at in (len(raw) - 9, len(raw) - 5_000_000):
        raw[at] ^= 1
        (tmp_path / "x").write_bytes(raw)
        with pytest.raises(CheckpointError, match="checksum"):
            read(tmp_path / "x")
        raw[at] ^= 1


def test_a_snapshot_stays(tmp_path: Path) -> None:
    array = np.ones((4, 3))
    taken = snapshot({"a": stored(array.T, "a")})
    array[:] = 0
    assert taken["a"].array().tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([{}]), "of type object"),
        (np.array(["a"]), "of type <U1"),
        (np.zeros(2, np.longdouble), "of type"),
        (np.ma.masked_array([1.0]), "a masked array"),
    ],
    ids=["object", "text", "longdouble", "masked"],
)
def test_what_no_file_can_hold_is_refused(array: Array, words: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a is {words}.*nothing was written"):
        stored(array, "a")


# Damage.


def _refused(path: Path, raw: bytes) -> str:
    path.unlink(missing_ok=True)  # some file systems sync what is written over
    path.write_bytes(raw)
    with pytest.raises(CheckpointError) as caught:
        read(path)
    return str(caught.value)


def test_every_flipped_bit_is_found(path: Path) -> None:
    raw = path.read_bytes()
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        _refused(path, bytes(flipped))


def test_every_truncation_is_found(path: Path) -> None:
    raw = path.read_bytes()
    for length in range(len(raw)):
        assert "truncated" in _refused(path, raw[:length])


def test_what_follows_the_end_is_found(path: Path) -> None:
    raw = path.read_bytes()
    for count in (1, 8, 1000):
        assert "longer than it should be" in _refused(path, raw + bytes(count))


FOREIGN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda p: p.write_bytes(b""), "0 bytes, too few"),
    "text": (lambda p: p.write_text("These are notes, and no checkpoint.\n"), "truncated, or no checkpoint"),
    "zeros": (lambda p: p.write_bytes(bytes(100)), "not steprule's"),
    "safetensors": (
        lambda p: safetensors.numpy.save_file({"a": np.zeros(3)}, p),
        "a safetensors file of another program",
    ),
    "npz": (lambda p: np.savez(p.open("wb"), a=np.zeros(3)), "a zip archive"),
    "npy": (lambda p: np.save(p.open("wb"), np.zeros(3)), "an array of np.save"),
    "pickle": (lambda p: p.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94."), "a pickle"),
    "huge": (lambda p: p.write_bytes(struct.pack("<Q", 2**60) + bytes(100)), "1152921504606846976"),
    "directory": (lambda p: p.mkdir(), "it is a directory, and no file in it was named"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_refused(tmp_path: Path, kind: str) -> None:
    make, words = FOREIGN[kind]
    make(tmp_path / "x")
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path / "x")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        read(tmp_path / "x")


def test_a_damaged_file_names_the_older_one_that_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for number in range(4):
        _save(path, number, keep=3)
    for place in (path, path.with_name("x.1")):
        place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"truncated.*nothing was loaded. .*x\.2 is complete: load that"):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.2 is complete"):
        read(path)


# Older ones.


def test_keep(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for number in range(6):
        _save(path, number, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["x", "x.1", "x.2"]
    for name, number in {"x": 5, "x.1": 4, "x.2": 3}.items():
        _assert_complete(tmp_path / name, number)
    _save(path, 6)
    _assert_complete(path.with_name("x.1"), 4)  # keep=0 moves none
    (tmp_path / "x.1").unlink()
    _save(path, 7, keep=2)
    _assert_complete(path.with_name("x.1"), 6)
    _assert_complete(path.with_name("x.2"), 3)  # a gap is filled, and nothing is lost


def test_a_save_that_was_stopped_after_it_rotated_is_not_counted_twice(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for number in range(3):
        _save(path, number, keep=2)
    rotate(path, 2)  # and then the process was killed
    _assert_complete(path, 2)
    _assert_complete(path.with_name("x.1"), 2)
    _save(path, 3, keep=2)
    for name, number in {"x": 3, "x.1": 2, "x.2": 1}.items():
        _assert_complete(tmp_path / name, number)


def test_without_hard_links_an_older_one_stays_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*names: Any) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", fails)
    for number in range(4):
        _save(tmp_path / "x", number, keep=2)
    for name, number in {"x": 3, "x.1": 2, "x.2": 1}.items():
        _assert_complete(tmp_path / name, number)


def test_a_symbolic_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "x", tmp_path / "latest"
    link.symlink_to(real)
    _save(link, 1)
    _save(link, 2, keep=1)
    assert link.is_symlink()
    _assert_complete(real, 2)
    real.write_bytes(real.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"there.x\.1 is complete"):
        read(link)
    real.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint; .*there.x\.1 is complete"):
        read(link)


def test_fewer_older_ones_are_kept_than_before(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for number in range(6):
        _save(path, number, keep=5)
    (tmp_path / "x.4").write_text("notes of somebody else")
    (tmp_path / "x.7").write_bytes((tmp_path / "x.5").read_bytes())  # not of this row: there is no x.6
    _save(path, 6)
    assert len(os.listdir(tmp_path)) == 7, "keep=0 removes none"
    _save(path, 7, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["x", "x.1", "x.2", "x.4", "x.7"]
    for name, number in {"x": 7, "x.1": 6, "x.2": 4}.items():
        _assert_complete(tmp_path / name, number)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_permissions_of_the_old_file_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "x", []
    old = os.umask(0o022)
    try:
        _save(path)
        assert path.stat().st_mode & 0o777 == 0o644
        real = os.write

        def watched(file: int, block: Any) -> int:
            seen.append(os.fstat(file).st_mode & 0o077)
            return real(file, block)

        monkeypatch.setattr(os, "write", watched)
        for mode in (0o600, 0o660, 0o444):
            path.chmod(mode)
            _save(path, mode, keep=1)
            _assert_complete(path, mode)
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(old)
    assert set(seen) == {0}, "nobody else reads it while it is written"


# Writing that fails.


class Calls:
    """Counts calls that change a disk, and lets one of them do something else."""

    NAMES = ("open", "lseek", "write", "fsync", "link", "replace", "close", "unlink")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = -1, act: Callable[[], Any] | None = None) -> None:
        self.names: list[str] = []
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name), at, act))

    def _wrapped(self, name: str, real: Callable[..., Any], at: int, act: Callable[[], Any] | None) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.names.append(name)
            if act is not None and len(self.names) - 1 == at:
                act()
            return real(*args, **options)

        return call


def test_what_is_renamed_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path / "x", 0)
    calls = Calls(monkeypatch)
    _save(tmp_path / "x", 1, keep=1)
    names = [name for name in calls.names if name in ("write", "fsync", "link", "replace")]
    writes = names.count("write")
    assert names == [*["write"] * writes, "fsync", "link", "replace", "replace", "fsync"]


def _disk_errors() -> Iterator[tuple[int, str]]:
    """Yield the calls of a save that may fail."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        _save(Path(directory) / "x", 0)
        calls = Calls(patch)
        _save(Path(directory) / "x", 1, keep=1)
        names = list(calls.names)
    yield from ((at, name) for at, name in enumerate(names) if name in ("open", "write", "fsync", "replace"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_of_the_disk_at_any_call_leaves_the_old_file(tmp_path: Path, code: int) -> None:
    path, tried = tmp_path / "x", 0
    for at, name in _disk_errors():

        def fail() -> None:
            raise OSError(code, os.strerror(code))

        for place in tmp_path.iterdir():
            place.unlink()
        _save(path, 0)
        with pytest.MonkeyPatch.context() as patch:
            Calls(patch, at, fail)
            with pytest.raises(OSError, match=r"\. [FL]") as caught:
                _save(path, 1, keep=1)
        assert caught.value.errno == code
        is_last = (at, name) == list(_disk_errors())[-1]  # the directory, when all is in place
        words = "the new file is there, but may be lost when power fails" if is_last else "stays as it was"
        assert words in str(caught.value)
        _assert_complete(path, 1 if is_last else 0)
        assert {place.name for place in tmp_path.iterdir()} <= {"x", "x.1"}, "no litter"
        tried += 1
    assert tried > 8


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs and locks nothing of this kind")
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_directories_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.fsync

    def sync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(code, os.strerror(code))
        real(file)

    monkeypatch.setattr(os, "fsync", sync)
    _save(tmp_path / "x", 1)
    _assert_complete(tmp_path / "x", 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(FileExistsError, match=r"it is a pipe.*stays as it was\. Save to another name"):
        _save(tmp_path / "x")
    assert stat.S_ISFIFO((tmp_path / "x").stat().st_mode)
    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(CheckpointError, match="it is a pipe"):
        read(tmp_path / "x")


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, block: real(file, block[:7]))
    _save(tmp_path / "x", 1)
    _assert_complete(tmp_path / "x", 1)


_LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from steprule.checkpoint import read, stored, write
path = Path(sys.argv[1])
write(path, {"a": stored(np.zeros(10), "a")}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(path, {"a": stored(np.zeros(100_000), "a")}, {})
except OSError as error:
    print(error)
assert read(path).tensors["a"].shape == (10,)
print(*(place.name for place in path.parent.iterdir()))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of the size of files")
def test_a_limit_of_the_size_of_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "File too large; what was there before stays as it was" in done.stdout
    assert done.stdout.splitlines()[1] == "x"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return where a file system of 256 KiB is mounted."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system takes an administrator; a mocked full disk is tested above")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "x"
    _save(path, 0)
    with pytest.raises(OSError, match=r"No space left on device; what was there.* Free some space") as caught:
        _save(path, 1, arrays={"a": np.zeros(50_000)})
    assert caught.value.errno == errno.ENOSPC
    _assert_complete(path, 0)
    assert os.listdir(small_disk) == ["x"]
    _save(path, 2, keep=1)
    _assert_complete(path, 2)


@pytest.mark.parametrize(
    ("place", "kind", "words"),
    [
        ("none/x", FileNotFoundError, "Make the directory first"),
        ("file/x", NotADirectoryError, "Make the directory first"),
        ("", IsADirectoryError, "Give the name of a file in it"),
    ],
)
def test_places_where_nothing_can_be_written(tmp_path: Path, place: str, kind: type[OSError], words: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(kind, match=words):
        _save(tmp_path / place)
    assert os.listdir(tmp_path) == ["file"]


def test_a_header_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="readers of the format take 100,000,000"):
        write(tmp_path / "x", {}, {"text": "x" * 100_000_000})
    assert not os.listdir(tmp_path)


# Writers that die, and several at once.


_KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from steprule.checkpoint import read, stored, write
directory, kills = Path(sys.argv[1]), int(sys.argv[2])
path, rng = directory / "x", random.Random(0)
def save(n):
    arrays = {"a": np.full(40_000, n, np.float64), "b": np.full(100, n, np.int32)}
    write(path, {name: stored(array, name) for name, array in arrays.items()}, {"n": n}, keep=2)
def loaded(place):
    file = read(place)
    n = file.document["n"]
    assert file.tensors["a"].shape == (40_000,) and all((t.array() == n).all() for t in file.tensors.values()), place
    return n
save(0)
litter, last, turn = 0, 0, 0
while turn < kills or litter <= 100 or last <= 25:  # on a busy machine most are killed before they write
    turn += 1
    child = os.fork()
    if not child:
        for n in range(last + 1, last + 1000):
            save(n)
        os._exit(1)
    time.sleep(rng.random() * 0.012 * max(1, turn / kills))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    names = os.listdir(directory)
    litter += any(name.endswith(".tmp") for name in names)
    found = [loaded(directory / name) for name in ("x", "x.1", "x.2") if name in names]
    assert found == sorted(found, reverse=True) and found[0] >= last, (turn, found, last)
    last = found[0]
save(last + 1)
assert sorted(os.listdir(directory)) == ["x", "x.1", "x.2"], os.listdir(directory)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a writer is killed many times a second by forking")
def test_killed_at_any_moment_the_newest_complete_checkpoint_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path), "500"]
    # It ends when more than 100 were killed while they wrote, and 25 came to write.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


_STOPPED = """
import os, sys
from pathlib import Path
import numpy as np
from steprule.checkpoint import read, stored, write
directory = Path(sys.argv[1])
path = directory / "x"
def save(n):
    write(path, {"a": stored(np.full(5, n), "a")}, {"n": n}, keep=2)
def loaded(place):
    file = read(place)
    assert (file.tensors["a"].array() == file.document["n"]).all()
    return file.document["n"]
real = {name: getattr(os, name) for name in ("open", "lseek", "write", "fsync", "link", "replace", "close")}
at = 0
while True:
    for place in directory.iterdir():
        place.unlink()
    for n in range(4):
        save(n)
    child = os.fork()
    if not child:
        calls = [0]
        def stopping(name):
            def call(*args, **options):
                calls[0] += 1
                if calls[0] > at:
                    os._exit(7)
                return real[name](*args, **options)
            return call
        for name in real:
            setattr(os, name, stopping(name))
        save(4)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    newest = loaded(path)
    olders = [loaded(directory / name) for name in ("x.1", "x.2") if (directory / name).exists()]
    assert newest in (3, 4) and {3, 2} <= {newest, *olders} and sorted(olders)[::-1] == olders, (at, newest, olders)
    if not code:
        break
    at += 1
print(at, newest)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a writer is stopped at every call in a fork of its own")
def test_stopped_before_any_call_of_the_system_all_is_complete(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _STOPPED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    calls, newest = map(int, done.stdout.split())
    assert calls > 10
    assert newest == 4


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from steprule.checkpoint import stored, write
path, own = Path(sys.argv[1]), int(sys.argv[2])
for n in range(own, own + 150):
    write(path, {"a": stored(np.full(20_000, n), "a"), "b": stored(np.full(50_000, n), "b")}, {"n": n}, keep=3)
"""


def test_two_processes_at_once_never_mix_a_file(tmp_path: Path) -> None:
    path, seen = tmp_path / "x", set()
    commands = [[sys.executable, "-c", _WRITER, str(path), str(own)] for own in (0, 1000)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(_one_number(path))
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert len(seen) > 10
    assert sorted(os.listdir(tmp_path)) == ["x", "x.1", "x.2", "x.3"]
    for name in os.listdir(tmp_path):
        _one_number(tmp_path / name)


def _one_number(path: Path) -> int:
    file = read(path)
    number: int = file.document["n"]
    assert all((one.array() == number).all() for one in file.tensors.values())
    return number


def test_threads_at_once_never_mix_a_file(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(own: int) -> None:
        try:
            for n in range(own, own + 40):
                arrays = {"a": np.full(200, n), "b": np.full(40_000, n)}
                write(tmp_path / "x", _stored(arrays), {"n": n}, keep=2)
                _one_number(tmp_path / "x")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(os.listdir(tmp_path)) == ["x", "x.1", "x.2"]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
def test_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, living = name_aside(tmp_path), name_aside(tmp_path)
    dead.write_text("")
    file = os.open(living, os.O_RDWR | os.O_CREAT)
    files._lock(file)
    _save(tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == [living.name, "x"]
    os.close(file)
    _save(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux tells them")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_without_locks_it_is_saved_and_the_files_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    other = name_aside(tmp_path)
    other.write_text("")

    def fails(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.fcntl, "flock", fails)
    opened = len(os.listdir("/proc/self/fd"))
    if code == errno.EIO:
        with pytest.raises(OSError, match="stays as it was"):
            _save(tmp_path / "x", 1)
        assert os.listdir(tmp_path) == [other.name]
    else:
        _save(tmp_path / "x", 1)
        _assert_complete(tmp_path / "x", 1)
        assert sorted(os.listdir(tmp_path)) == [other.name, "x"]
    assert len(os.listdir("/proc/self/fd")) == opened


def test_a_key_that_is_there_twice_among_many_is_found_at_once() -> None:
    pairs = ",".join(f'"{n}":0' for n in range(100_000))
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="the key '99999' is there twice"):
        parse(f'{{{pairs},"99999":1}}', "it")
    assert time.perf_counter() - start < 5
