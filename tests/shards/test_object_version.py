"""The one number that stands for an object's version in plans."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shards.bucket import bucket_of
from shards.object_reader import ObjectReader
from shards.object_version import version_ns
from shards.sources.objects import attributes
from tests.shards.sources.buckets import listed, opened

TIME = datetime(2027, 1, 15, 8, tzinfo=UTC)


@given(st.integers(0, 2**32), st.text() | st.none())
def test_the_second_is_right_and_the_rest_is_a_digest(seconds, e_tag):
    found = version_ns(datetime.fromtimestamp(seconds, UTC), e_tag)
    assert found // 10**9 == seconds


def test_it_is_the_same_on_every_machine_and_day():
    assert version_ns(TIME, '"5d41402abc4b2a76b9719d911017c592"') == 1_800_000_000_795_926_822
    assert version_ns(TIME, None) == 1_800_000_000_000_000_000


def test_another_content_of_the_same_second_is_another_version():
    assert len({version_ns(TIME, f'"{n}"') for n in range(1000)}) == 1000


def test_lists_and_headers_may_write_a_version_differently():
    same = {
        version_ns(TIME + timedelta(microseconds=us), text)
        for us in (0, 999_999)
        for text in ('"ab"', "ab", 'W/"ab"')
    }
    assert len(same) == 1


def test_all_requests_agree(bucket):
    bucket.blobs.clear()
    bucket.put("p/a.jpg", b"hello", {})
    [source] = opened("s3://bucket/p")
    [found] = attributes([b"s3://bucket/p/a.jpg"])
    reader = ObjectReader(bucket_of("s3://bucket").store, "p/a.jpg", "it")
    assert listed(source).mtimes_ns[0] == found.mtime_ns == reader.mtime_ns
