from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from engines.classifier import Predictions
from shards.decode import Decoded
from shards.errors import DamagedFileError, ErrorKind, ImageError
from shards.shard_ref import ShardRef
from tasks.messages import Advanced, Published, SetAside, Started
from tasks.shard_work import ShardWork, Sheet, Tally
from tests.shards.factories import shard_inputs


def batch(rows, *, start):
    numbers = np.arange(start, start + rows, dtype=np.float32)[:, None]
    return Predictions(
        label_ids=np.tile(numbers.astype(np.int32), 2),
        scores=np.tile(numbers, 2),
        logits=numbers + np.arange(3, dtype=np.float32),
        embedding=-numbers,
    )


@pytest.mark.parametrize(("classes", "width"), [(3, 1), (0, 1), (3, 0), (0, 0)])
def test_a_sheet_keeps_what_it_is_asked_to_from_any_part_of_any_batch(classes, width):
    sheet = Sheet(
        shard_inputs([b"/data/%d" % n for n in range(5)]), 2, classes=classes, width=width
    )
    done, error = Decoded(30, 20), ImageError(ErrorKind.EMPTY, "no bytes")
    assert sheet.fill([done] * 4, batch(4, start=0), 2) == 2
    assert sheet.fill([done, error, done, done], batch(4, start=10), 0) == 3
    found = sheet.results()
    rows = np.array([2, 3, 10, 11, 12], np.float32)
    assert found.label_ids[:, 0].tolist() == rows.tolist()
    assert list(found.errors) == [3]
    if classes:
        np.testing.assert_array_equal(found.logits, rows[:, None] + np.arange(3))
    else:
        assert found.logits is None
    if width:
        np.testing.assert_array_equal(found.embedding, -rows[:, None])
    else:
        assert found.embedding is None


def test_a_file_that_is_found_damaged_when_its_shard_is_opened_stops_no_other():
    damaged, done = ShardRef(1, 0, 3, "digest"), ShardRef(1, 1, 3, "digest")
    said = []

    def missing(shard):
        if shard == damaged:
            raise DamagedFileError("the file is damaged")

    work = SimpleNamespace(_opening=SimpleNamespace(missing=missing), _send=said.append)
    assert list(ShardWork._items(work, [damaged, done])) == []
    assert said == [
        Started(shard=damaged.id),
        SetAside(shard=damaged.id, reason="the file is damaged"),
        Started(shard=done.id),
        Published(shard=done.id, rows=0, errors=0),
    ]


def test_progress_is_told_at_once_then_some_times_a_second_and_whole_at_the_end():
    said, now = [], iter([5.0, 5.0, 5.03, 5.2, 5.2, 5.21, 5.3])
    tally = Tally(said.append, clock=lambda: next(now))
    tally.tell()
    for _ in range(4):
        tally.add([Decoded(30, 20), ImageError(ErrorKind.EMPTY, "no bytes")])
    tally.tell()
    tally.tell()
    assert said == [Advanced(done=done, errors=done // 2) for done in (2, 6, 8)]
