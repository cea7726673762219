"""The seal of a file of the table: whatever changes in it is noticed."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.predictions import encode
from shards.seal import BLANK, SEAL_KEY, is_intact, seal, seal_file
from tests.shards.factories import footer, shard_inputs, table


@pytest.fixture(scope="module")
def content() -> bytes:
    rows = table(shard_inputs([b"/data/%04d.jpg" % number for number in range(300)]))
    return bytes(encode(rows, footer(rows)))


def test_what_was_written_is_intact(content):
    assert is_intact(io.BytesIO(content)) is True
    entry = pq.read_metadata(pa.BufferReader(content)).metadata[SEAL_KEY]
    assert entry != BLANK
    assert len(entry) == 64


def test_every_flipped_bit_is_noticed_in_every_part_of_the_file(content):
    choose = random.Random(0)
    ends = [*range(4), *range(len(content) - 3000, len(content))]  # magic, page index, footer
    for at in [*ends, *(choose.randrange(len(content)) for _ in range(500))]:
        flipped = bytearray(content)
        flipped[at] ^= 1 << choose.randrange(8)
        assert is_intact(io.BytesIO(flipped)) is not True, f"byte {at}"


@pytest.mark.parametrize("cut", [1, 4, 8, 64, 5000])
def test_a_cut_or_grown_file_is_noticed(content, cut):
    assert is_intact(io.BytesIO(content[:-cut])) is not True
    assert is_intact(io.BytesIO(content[cut:])) is not True
    assert is_intact(io.BytesIO(content + b"\0" * cut)) is not True
    assert is_intact(io.BytesIO(b"")) is None


def test_a_file_on_disk_gets_the_same_seal_as_one_in_memory(content, tmp_path):
    blank = content.replace(pq.read_metadata(pa.BufferReader(content)).metadata[SEAL_KEY], BLANK)
    path = tmp_path / "file"
    path.write_bytes(blank)
    with path.open("r+b") as file:
        seal_file(file)
        assert is_intact(file)
    assert path.read_bytes() == content
    again = bytearray(blank)
    seal(memoryview(again))
    assert bytes(again) == content


def test_a_file_without_an_entry_cannot_be_sealed_and_has_no_seal():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    content = sink.getvalue().to_pybytes()
    assert is_intact(io.BytesIO(content)) is None
    with pytest.raises(ValueError, match="no entry"):
        seal(memoryview(bytearray(content)))
    with pytest.raises(ValueError, match="does not end as Parquet"):
        seal_file(io.BytesIO(b"no Parquet at all"))
