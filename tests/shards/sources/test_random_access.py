"""Archives in buckets are walked in few requests, and large members are skipped."""

from __future__ import annotations

import io
import tarfile

import pytest

from shards.errors import ArchiveError, SourceError
from shards.sources.random_access import FEW_BYTES, PART_BYTES, ReadAhead
from shards.sources.tar_walk import Archive, opened
from tests.shards.sources.archives import tar


class Counting:
    """An object of which every read is a request; large members cost no memory."""

    mtime_ns = 1

    def __init__(self, parts: dict[int, bytes], size: int) -> None:
        self.size = size
        self.requests = self.bytes = 0
        self._parts = parts

    def pread(self, size: int, offset: int) -> bytes:
        content = bytearray(max(0, min(size, self.size - offset)))
        for start, part in self._parts.items():
            first, last = max(start, offset), min(start + len(part), offset + len(content))
            if first < last:
                content[first - offset : last - offset] = part[first - start : last - start]
        self.requests += 1
        self.bytes += len(content)
        return bytes(content)


def archive(sizes: list[int]) -> Counting:
    parts, at = {}, 0
    for number, size in enumerate(sizes):
        info = tarfile.TarInfo(f"x/{number:06d}.jpg")
        info.size = size
        parts[at] = info.tobuf(tarfile.USTAR_FORMAT)
        at += 512 + (size + 511) // 512 * 512
    return Counting(parts, at + 10240)


def walked(file: Counting) -> int:
    return len(list(Archive(b"s3://bucket/a.tar", ReadAhead(file)).members()))


def test_small_members_are_walked_in_large_parts():
    file = archive([20_000] * 1000)
    assert walked(file) == 1000
    assert file.requests <= file.size // PART_BYTES + 3
    assert file.bytes < 1.1 * file.size


def test_large_members_are_skipped():
    file = archive([50 << 20] * 40)
    assert walked(file) == 40
    assert file.requests <= 42
    assert file.bytes < 43 * FEW_BYTES + PART_BYTES


def test_a_label_behind_each_large_member_needs_no_request_of_its_own():
    file = archive([50 << 20, 10] * 40)
    assert walked(file) == 80
    assert file.requests <= 82
    assert file.bytes < 83 * FEW_BYTES + 2 * PART_BYTES


def test_small_members_behind_large_ones_are_read_in_large_parts_again():
    file = archive([50 << 20] * 10 + [2000] * 10_000)
    assert walked(file) == 10_010
    assert file.requests <= 10 + 10_000 * 2560 // PART_BYTES + 6


def test_any_bytes_can_be_read_in_any_order():
    content = bytes(range(256)) * 400
    file = ReadAhead(Counting({0: content}, len(content)))
    for size, offset in [
        (10, 0),
        (600, 50_000),
        (5, 49_990),
        (10, 102_395),
        (10, 200_000),
        (102_400, 0),
    ]:
        assert file.pread(size, offset) == content[offset : offset + size]


def test_objects_that_cannot_be_opened_are_named(bucket):
    bucket.blobs.clear()
    with (
        pytest.raises(SourceError, match=r"cannot read the archive s3://bucket/gone\.tar"),
        opened(b"s3://bucket/gone.tar"),
    ):
        pass


@pytest.mark.parametrize("cut", [0, 511, 512, 1024, 5000])
def test_a_cut_archive_is_reported(bucket, cut):
    content = tar([(f"{n}.jpg", bytes(700)) for n in range(5)])
    bucket.put("cut.tar", content[:cut], {})
    with (
        opened(b"s3://bucket/cut.tar") as file,
        pytest.raises(ArchiveError, match=r"s3://bucket/cut\.tar, offset"),
    ):
        list(file.members())


def test_tarfile_agrees(bucket):
    content = tar([(f"{n}.jpg", bytes(n * 1000)) for n in range(50)])
    bucket.put("whole.tar", content, {})
    with opened(b"s3://bucket/whole.tar") as file:
        ours = [(member.name.decode(), member.offset, member.size) for member in file.members()]
    with tarfile.open(fileobj=io.BytesIO(content)) as theirs:
        assert ours == [(member.name, member.offset_data, member.size) for member in theirs]
