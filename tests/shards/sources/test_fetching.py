"""Objects on their way: in order, bounded, forgotten when nobody waits, and errors as rows."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shards.bucket import bucket_of
from shards.errors import ErrorKind, ImageError
from shards.sources.fetching import Fetches, Wanted, fetch, fetches
from shards.sources.objects import Attributes, attributes
from shards.stored import Stored
from tests.shards.sources.buckets import listed, opened, read, shard_of
from tests.simulators.faults import Fault


class Reader:
    """Stands for a store: notes what is asked for, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.may_answer = threading.Event()
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def __call__(self, wanted: Wanted) -> Stored | ImageError:
        with self._lock:
            self.asked.append(wanted.key)
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        assert self.may_answer.wait(10)
        with self._lock:
            self.running -= 1
        return Stored(wanted.key, content=wanted.key)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def wanted(number: int, size: int = 1) -> Wanted:
    return Wanted(b"s3://bucket/%04d" % number, size, 1)


def eventually(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_images_are_asked_for_in_order_and_are_their_own(executor):
    reader = Reader()
    reader.may_answer.set()
    queue = Fetches(reader, executor, requests=1)
    ways = [queue.add(wanted(number)) for number in range(100)]
    assert [way.taken().content for way in ways] == [wanted(n).key for n in range(100)]
    assert reader.asked == sorted(reader.asked)


def test_requests_at_once_are_bounded(executor):
    reader = Reader()
    queue = Fetches(reader, executor, requests=3)
    ways = [queue.add(wanted(number)) for number in range(20)]
    eventually(lambda: len(reader.asked) == 3)
    reader.may_answer.set()
    assert all(isinstance(way.taken(), Stored) for way in ways)
    assert reader.most_running <= 3


def test_announced_bytes_are_bounded_and_the_largest_image_alone_goes_through(executor):
    reader = Reader()
    reader.may_answer.set()
    queue = Fetches(reader, executor, requests=16, announced_bytes=100)
    ways = [queue.add(wanted(n, size)) for n, size in enumerate([40, 40, 40, 1000, 40])]
    eventually(lambda: len(reader.asked) == 2)
    time.sleep(0.02)
    assert len(reader.asked) == 2
    ways[0].taken()
    eventually(lambda: len(reader.asked) == 3)
    ways[1].taken()
    ways[2].taken()
    eventually(lambda: len(reader.asked) == 4)
    time.sleep(0.02)
    assert len(reader.asked) == 4
    ways[3].taken()
    assert isinstance(ways[4].taken(), Stored)


def test_what_nobody_waits_for_is_forgotten(executor):
    reader = Reader()
    queue = Fetches(reader, executor, requests=2, announced_bytes=10)
    abandoned = [queue.add(wanted(number, 5)) for number in range(1000)]
    eventually(lambda: len(reader.asked) == 2)
    del abandoned
    reader.may_answer.set()
    eventually(lambda: reader.running == 0)
    last = queue.add(wanted(5000, 10))
    assert isinstance(last.taken(), Stored)
    assert len(reader.asked) == 3


def test_bytes_are_handed_over_once(executor):
    reader = Reader()
    reader.may_answer.set()
    way = Fetches(reader, executor).add(wanted(1))
    assert isinstance(way.taken(), Stored)
    with pytest.raises(ValueError, match="s3://bucket/0001 was taken before"):
        way.taken()


def test_many_threads_take_what_another_adds(executor):
    reader = Reader()
    reader.may_answer.set()
    queue = Fetches(reader, executor, requests=4, announced_bytes=50)
    ways = [queue.add(wanted(number, number % 60)) for number in range(2000)]
    with ThreadPoolExecutor(8) as takers:
        taken = list(takers.map(lambda way: way.taken().path, ways))
    assert taken == [wanted(number).key for number in range(2000)]


@pytest.fixture
def photo(bucket) -> Wanted:
    bucket.blobs.clear()
    bucket.put("p/a.jpg", b"content", {})
    return planned(b"s3://bucket/p/a.jpg")


def planned(key: bytes) -> Wanted:
    [found] = attributes([key])
    assert isinstance(found, Attributes)
    return Wanted(key, *found)


def test_what_was_planned_is_fetched(photo):
    assert fetch(photo) == Stored(photo.key, content=b"content")
    part = Wanted(photo.key + b"\0member", 3, photo.mtime_ns, 2)
    assert fetch(part) == Stored(part.key, content=b"nte")


@pytest.mark.parametrize("content", [b"CONTENT", b"longer content", b""])
def test_another_version_is_an_error_within_the_same_second_too(photo, bucket, content):
    bucket.put("p/a.jpg", content, {})
    found = fetch(photo)
    assert isinstance(found, ImageError)
    assert (found.kind, "has changed since it was listed" in str(found)) == (
        ErrorKind.READ_ERROR,
        True,
    )
    [source] = opened("s3://bucket/p")
    batch = listed(source)
    assert (batch.sizes[0], batch.mtimes_ns[0]) != (photo.size, photo.mtime_ns)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("forbidden", ErrorKind.PERMISSION_DENIED),
        ("internal", ErrorKind.READ_ERROR),
        ("dropped", ErrorKind.READ_ERROR),
    ],
)
def test_errors_of_the_store_are_those_of_the_row(photo, bucket, fault, kind):
    bucket.faults.append(Fault(fault, lambda request: request.path.endswith("a.jpg"), times=10**6))
    found = fetch(photo)
    assert isinstance(found, ImageError)
    assert found.kind is kind


@pytest.mark.parametrize("fault", ["internal", "unavailable", "dropped"])
def test_a_passing_error_is_tried_again(photo, bucket, fault):
    bucket.faults.append(Fault(fault, lambda request: request.method == "GET", times=1))
    assert fetch(photo) == Stored(photo.key, content=b"content")


def test_an_object_that_is_gone_or_has_no_name_is_a_row(photo, bucket):
    bucket.blobs.clear()
    kinds = [
        fetch(Wanted(key, 1, 1)).kind
        for key in (
            photo.key,
            b"s3://bucket/a//b",
            b"s3://bucket/\xff",
            b"s3://nowhere/a",
            b"s3://",
        )
    ]
    assert kinds == ["not_found", "read_error", "read_error", "not_found", "read_error"]


def test_what_is_too_large_or_empty_is_not_even_asked_for(photo, bucket):
    bucket.put("p/b.jpg", b"", {})
    bucket.put("p/c.jpg", b"123", {})
    [source] = opened("s3://bucket/p")
    batch = listed(source)
    bucket.seen.clear()
    assert list(read(source, batch, max_bytes=5).values()) == ["too_large", "empty", b"123"]
    assert [request.path for request in bucket.seen] == ["/bucket/p/c.jpg"]


def test_a_bad_object_costs_no_neighbour_its_bytes(bucket):
    bucket.blobs.clear()
    for number in range(200):
        bucket.put(f"p/{number:03d}.jpg", b"%d" % number, {})
    [source] = opened("s3://bucket/p")
    batch = listed(source)
    for number in range(0, 200, 7):
        bucket.blobs.pop(f"p/{number:03d}.jpg")
    found = list(read(source, batch).values())
    assert found == ["not_found" if n % 7 == 0 else b"%d" % n for n in range(200)]


def test_a_generator_that_is_closed_early_leaves_nothing_behind(photo, bucket):
    from shards.sources.reading import stored_items

    [source] = opened("s3://bucket/p")
    items = stored_items(shard_of(source, listed(source)))
    next(items)
    items.close()
    eventually(lambda: fetches().add(photo).taken().content == b"content")


def test_the_connection_is_made_once(photo):
    assert bucket_of("s3://bucket").store is bucket_of("s3://bucket/p/a.jpg").store


@pytest.mark.parametrize("end", ["while it is fetched", "before it is taken", "never"])
def test_what_somebody_holds_and_does_not_take_stops_nobody(executor, end):
    reader = Reader()
    queue = Fetches(reader, executor, announced_bytes=100)
    held = queue.add(wanted(0, 90))
    eventually(lambda: reader.running == 1)
    if end != "while it is fetched":
        reader.may_answer.set()
        eventually(lambda: reader.running == 0)
    awaited = queue.add(wanted(1, 90))
    found = []
    thread = threading.Thread(target=lambda: found.append(awaited.taken()), daemon=True)
    thread.start()
    eventually(lambda: queue._awaited or found)
    if end != "never":
        del held
    reader.may_answer.set()
    thread.join(10)
    assert found == [Stored(awaited.wanted.key, content=awaited.wanted.key)]
