import errno
import io
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import OutputError
from shards.inputs import InputBatch
from shards.sources import sorting
from shards.sources.sorting import Sorter


def rows(keys: Iterable[bytes], start: int = 0) -> pa.Table:
    keys = list(keys)
    zeros = np.zeros(len(keys), np.int64)
    return InputBatch(keys, np.arange(start, start + len(keys)), zeros, zeros).to_table()


KEYS = st.lists(st.binary(max_size=3), max_size=60)


@settings(max_examples=150, deadline=None)
@given(keys=KEYS, run=st.integers(1, 20), block=st.integers(1, 7), part=st.integers(1, 9))
def test_rows_come_in_order_and_those_of_a_key_together(keys, run, block, part):
    with pytest.MonkeyPatch.context() as patch, Sorter(None) as sorter:
        patch.setattr(sorting, "RUN_ROWS", run)
        patch.setattr(sorting, "BLOCK_ROWS", block)
        for start in range(0, len(keys), part):
            sorter.add(rows(keys[start : start + part], start))
        tables = list(sorter.tables())
    found = [
        pair
        for table in tables
        for pair in zip(
            table.column("key").to_pylist(), table.column("size").to_pylist(), strict=True
        )
    ]
    assert found == sorted(zip(keys, range(len(keys)), strict=True))
    for before, after in pairwise(tables):
        assert before.column("key")[-1].as_py() < after.column("key")[0].as_py()


def test_what_is_set_aside_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sorting, "RUN_ROWS", 10)
    with Sorter(tmp_path) as sorter:
        for start in range(0, 100, 5):
            sorter.add(rows([b"%03d" % (n * 37 % 100) for n in range(start, start + 5)]))
        assert sum(map(len, sorter.tables())) == 100
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_told(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sorting, "RUN_ROWS", 10)
    monkeypatch.setattr(sorting, "TemporaryFile", lambda dir: Full())
    with (
        Sorter(tmp_path) as sorter,
        pytest.raises(OutputError, match=r"No space .*The disk is full"),
    ):
        sorter.add(rows([b"%d" % n for n in range(10)]))


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(sorting, "RUN_ROWS", 4096)
    monkeypatch.setattr(sorting, "BLOCK_ROWS", 64)

    def peak(count: int) -> int:
        pool = pa.proxy_memory_pool(pa.default_memory_pool())
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        try:
            with Sorter(tmp_path) as sorter:
                for start in range(0, count, 1024):
                    numbers = range(start, start + 1024)
                    sorter.add(rows([b"/data/%012d.jpg" % (n * 7919 % count) for n in numbers]))
                assert sum(map(len, sorter.tables())) == count
        finally:
            pa.set_memory_pool(before)
        return pool.max_memory()

    peak(4096)
    assert peak(32 * 4096) < peak(8 * 4096) * 2
