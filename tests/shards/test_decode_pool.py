"""Decoding in processes: the same pixels, and one row is all that a bad file can cost."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shards.decode_process
from shards.decode import Decoded, Limits, decode_file
from shards.decode_pool import DecodePool
from shards.decode_wire import TransformValues
from shards.errors import ErrorKind, ImageError
from shards.stored import Stored
from tests.golden.images import SIZES, pixels

TRANSFORM = TransformValues(
    height=32,
    width=24,
    resize="shortest",
    resize_height=40,
    resize_width=40,
    interpolation="bicubic",
    rounding="trunc",
    crop_offset="round",
    pad_fill=(0, 0, 0),
    pad_bias="floor",
    alpha="drop",
)
LIMITS = Limits()

# Stands in for a decoder with a flaw: what a file says is done to the process that decodes it.
HOSTILE = f"""\
import os, sys, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path[0] = {str(shards.decode_process.ROOT)!r}
import shards.decode_worker as worker
from shards.errors import ErrorKind, ImageError
real = worker.decode
def decode(data, *rest):
    if data == b"crash": os.abort()
    if data == b"killed": os.kill(os.getpid(), 9)
    if data == b"spin":
        while True: pass
    if data == b"sleep": time.sleep(3600)
    if data == b"eat":
        try: bytearray(4 << 30)
        except MemoryError: raise ImageError(ErrorKind.OUT_OF_MEMORY, "no memory")
    return real(data, *rest)
worker.decode = decode
from shards.decode_server import main
main(int(sys.argv[1]))
"""


def png(shade: int, size: tuple[int, int] = (50, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def inline(*contents: bytes) -> list[Stored]:
    return [Stored(b"", content=content) for content in contents]


def rows(count: int) -> np.ndarray:
    return np.full((count, TRANSFORM.height, TRANSFORM.width, 3), 77, np.uint8)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return status != "Z"


def children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.setattr(shards.decode_process, "START", HOSTILE)
    with DecodePool(TRANSFORM, LIMITS, workers=2, timeout_s=0.4) as pool:
        yield pool


def test_the_pixels_are_those_of_decoding_here(tmp_path):
    paths = []
    for number, size in enumerate(SIZES):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels(*size)).save(path)
        paths.append(os.fsencode(path))
    expected, images = rows(len(paths)), rows(len(paths))
    sizes = [decode_file(p, expected[i], TRANSFORM, LIMITS) for i, p in enumerate(paths)]
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        assert pool.decode([Stored(path) for path in paths], images) == sizes
    np.testing.assert_array_equal(images, expected)


def test_parts_of_files_are_read(tmp_path):
    archive = tmp_path / "archive"
    first, second = png(10), png(200)
    archive.write_bytes(b"x" * 512 + first + b"y" * 100 + second)
    path = os.fsencode(archive)
    items = [
        Stored(path, 512, len(first)),
        Stored(path, 612 + len(first), len(second)),
        Stored(path, 612 + len(first), len(second) + 1),
    ]
    images = rows(3)
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        one, two, short = pool.decode(items, images)
    assert (one, two) == (Decoded(50, 60), Decoded(50, 60))
    assert images[0].max() == 10
    assert images[1].min() == 200
    assert isinstance(short, ImageError)
    assert short.kind is ErrorKind.READ_ERROR


def test_more_items_than_fit_into_one_request_stay_in_order():
    shades = list(range(0, 250, 5))
    images = rows(len(shades))
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        outcomes = pool.decode(inline(*map(png, shades)), images)
    assert outcomes == [Decoded(50, 60)] * len(shades)
    assert images[:, 0, 0, 0].tolist() == shades


@pytest.mark.parametrize(
    ("flaw", "kind"),
    [
        (b"crash", ErrorKind.DECODE_CRASH),
        (b"killed", ErrorKind.OUT_OF_MEMORY),
        (b"spin", ErrorKind.DECODE_TIMEOUT),
        (b"sleep", ErrorKind.DECODE_TIMEOUT),
        (b"eat", ErrorKind.OUT_OF_MEMORY),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_flaw_costs_its_own_row_alone(hostile, flaw, kind, place):
    contents = [png(shade) for shade in (10, 20, 30, 40)]
    contents.insert(place, flaw)
    images = rows(5)
    outcomes = hostile.decode(inline(*contents), images)
    bad = outcomes.pop(place)
    assert isinstance(bad, ImageError)
    assert bad.kind is kind
    assert outcomes == [Decoded(50, 60)] * 4
    assert np.delete(images[:, 0, 0, 0], place).tolist() == [10, 20, 30, 40]


def test_several_flaws_in_one_request(hostile):
    contents = [b"crash", png(1), b"spin", b"eat", png(2), b"eat", b"killed"]
    images = rows(7)
    outcomes = hostile.decode(inline(*contents), images)
    assert [o.kind.value if isinstance(o, ImageError) else "ok" for o in outcomes] == [
        "decode_crash",
        "ok",
        "decode_timeout",
        "out_of_memory",
        "ok",
        "out_of_memory",
        "out_of_memory",
    ]
    assert images[[1, 4], 0, 0, 0].tolist() == [1, 2]


def test_threads_share_the_workers():
    shades = list(range(200))
    images = rows(len(shades))

    def decode(at: int) -> list[Decoded | ImageError]:
        part = slice(at, at + 5)
        return pool.decode(inline(*map(png, shades[part])), images[part])

    with DecodePool(TRANSFORM, LIMITS, workers=2) as pool, ThreadPoolExecutor(6) as threads:
        outcomes = [o for part in threads.map(decode, range(0, 200, 5)) for o in part]
    assert outcomes == [Decoded(50, 60)] * 200
    assert images[:, 3, 3, 1].tolist() == shades


def test_a_worker_can_write_no_file_and_holds_no_connection_but_its_own(tmp_path, monkeypatch):
    path = tmp_path / "written"
    flaw = f"""if data == b"look":
        links = [os.readlink(f"/proc/self/fd/{{fd}}") for fd in range(64)
                 if os.path.lexists(f"/proc/self/fd/{{fd}}")]
        file = os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT)
        try: wrote = os.write(file, b"x")
        except OSError: wrote = 0
        sockets = sum(link.startswith("socket:") for link in links)
        raise ImageError(ErrorKind.CORRUPT, f"wrote={{wrote}} sockets={{sockets}}")
    if data == b"crash\""""
    code = HOSTILE.replace('if data == b"crash"', flaw)
    monkeypatch.setattr(shards.decode_process, "START", code)
    with DecodePool(TRANSFORM, LIMITS, workers=2) as pool, ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: pool.decode(inline(b"look"), rows(1))[0], range(2)))
    assert [str(outcome) for outcome in outcomes] == ["wrote=0 sockets=1"] * 2


def test_closing_ends_every_process():
    pool = DecodePool(TRANSFORM, LIMITS, workers=2)
    pool.decode(inline(png(1)), rows(1))
    server = pool._server._process.pid
    workers = children(server)
    assert len(workers) == 1
    pool.close()
    pool.close()
    assert not alive(server)
    deadline = time.monotonic() + 5
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, workers))


def test_workers_die_with_the_process_that_wanted_them(tmp_path):
    code = (
        "import os, sys, time\n"
        "from tests.shards.test_decode_pool import *\n"
        "pool = DecodePool(TRANSFORM, LIMITS, workers=1)\n"
        "pool.decode(inline(png(1)), rows(1))\n"
        "print(pool._server._process.pid, *children(pool._server._process.pid), flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    processes = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(processes) == 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 5
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, processes))


def test_a_server_that_is_gone_is_an_error_and_no_hang():
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        pool.decode(inline(png(1)), rows(1))
        os.kill(pool._server._process.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="no process that decodes can be made"):
            pool.decode(inline(png(1)), rows(1))
