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


def png(shade: int, size: tuple[int, int] = (50, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


# Stands in for a decoder with a flaw: what a file says is done to the process that decodes it.
HOSTILE = f"""\
import os, sys, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path[0] = {str(shards.decode_process.ROOT)!r}
import shards.decode_worker as worker
from shards.errors import ErrorKind, ImageError
real, read = worker.decode, worker.read_stored
IMAGE = bytes.fromhex({png(9).hex()!r})
def read_slowly(item, limits):
    if item.path == b"slow": time.sleep(1)
    return read(item, limits)
worker.read_stored = read_slowly
def decode(data, *rest):
    if data == b"crash": os.abort()
    if data == b"killed": os.kill(os.getpid(), 9)
    if data == b"spin":
        while True: pass
    if data == b"sleep": time.sleep(3600)
    if data == b"shout":
        for fd in range(3, 64):
            try: os.write(fd, bytes(range(256)))
            except OSError: pass
    if data == b"stutter":
        for fd in range(3, 64):
            try: os.write(fd, b"12")
            except OSError: pass
        time.sleep(3600)
    if data == b"shrink":
        for fd in range(3, 64):
            try: os.truncate(fd, 0)
            except OSError: pass
        return real(IMAGE, *rest)
    if data == b"eat":
        try: bytearray(4 << 30)
        except MemoryError: raise ImageError(ErrorKind.OUT_OF_MEMORY, "no memory")
    return real(data, *rest)
worker.decode = decode
from shards.decode_server import main
main(int(sys.argv[1]))
"""


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


def wait_for_the_end(*processes: int) -> None:
    deadline = time.monotonic() + 5
    while any(map(alive, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.setattr(shards.decode_process, "START", HOSTILE)
    monkeypatch.setattr(shards.decode_process, "REST_S", 0.2)
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
        (b"shout", ErrorKind.DECODE_CRASH),
        (b"stutter", ErrorKind.DECODE_CRASH),
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
    wait_for_the_end(*workers)


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
    wait_for_the_end(*processes)


def test_a_server_that_is_gone_is_an_error_and_no_hang():
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        pool.decode(inline(png(1)), rows(1))
        [worker] = children(pool._server._process.pid)
        os.kill(pool._server._process.pid, signal.SIGKILL)
        wait_for_the_end(worker)
        with pytest.raises(Exception, match="no process that decodes can be made"):
            pool.decode(inline(png(1)), rows(1))


def test_a_worker_that_somebody_ended_costs_no_row():
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        assert pool.decode(inline(png(1)), rows(1)) == [Decoded(50, 60)]
        [worker] = children(pool._server._process.pid)
        os.kill(worker, signal.SIGTERM)  # not heard
        os.kill(worker, signal.SIGKILL)
        images = rows(3)
        assert pool.decode(inline(png(1), png(2), png(3)), images) == [Decoded(50, 60)] * 3
        assert images[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_the_shared_memory_cannot_be_made_shorter(hostile):
    images = rows(2)
    assert hostile.decode(inline(b"shrink", png(3)), images) == [Decoded(50, 60)] * 2
    assert images[:, 0, 0, 0].tolist() == [9, 3]


def test_a_slow_disk_is_not_a_slow_image(hostile, tmp_path, monkeypatch):
    (tmp_path / "slow").write_bytes(png(5))
    outcomes = hostile.decode([Stored(b"slow", content=png(5))], rows(1))
    assert outcomes == [Decoded(50, 60)]


def test_large_contents_travel_in_requests_of_their_own():
    large = png(7) + bytes(20 << 20)  # what follows the end is no matter
    images = rows(5)
    with DecodePool(TRANSFORM, LIMITS, workers=1, memory_bytes=100 << 20) as pool:
        outcomes = pool.decode(inline(large, png(1), large, large, png(2)), images)
    assert outcomes == [Decoded(50, 60)] * 5
    assert images[:, 0, 0, 0].tolist() == [7, 1, 7, 7, 2]


def test_a_link_may_lead_anywhere_below_the_root_and_nowhere_else(tmp_path):
    secret, root, alias = tmp_path / "secret.png", tmp_path / "root", tmp_path / "alias"
    secret.write_bytes(png(1))
    (root / "deep").mkdir(parents=True)
    (root / "deep/own.png").write_bytes(png(2))
    (root / "inside.png").symlink_to(root / "deep/own.png")
    (root / "outside.png").symlink_to("../secret.png")
    (root / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "root2").mkdir()
    (root / "beside.png").symlink_to("../root2/x.png")
    (tmp_path / "root2/x.png").write_bytes(png(3))
    alias.symlink_to(root)
    names = ["deep/own.png", "inside.png", "outside.png", "elsewhere/secret.png", "beside.png"]
    with DecodePool(TRANSFORM, LIMITS, workers=1) as pool:
        for top in (root, alias):
            items = [Stored(os.fsencode(top / name), root=os.fsencode(top)) for name in names]
            outcomes = pool.decode(items, rows(5))
            assert outcomes[:2] == [Decoded(50, 60)] * 2
            assert [outcome.kind for outcome in outcomes[2:]] == [ErrorKind.NOT_A_FILE] * 3
            assert str(outcomes[2]) == f"a link leads out of {top}, to {secret}"


def test_a_forked_server_serves_like_a_spawned_one():
    code = (
        "import sys\n"
        "from shards.decode_process import DecodeServer\n"
        "server = DecodeServer.fork()\n"
        "from tests.shards.test_decode_pool import *\n"
        "with server, DecodePool(TRANSFORM, LIMITS, workers=2, server=server) as pool:\n"
        "    assert pool.decode(inline(png(1), png(2)), rows(2)) == [Decoded(50, 60)] * 2\n"
        "    assert children(os.getpid()).count(server._process.pid) == 1\n"
        "assert not alive(server._process.pid)\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
