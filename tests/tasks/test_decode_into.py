"""What a thread decodes: items in order, errors among them, and not too many bytes at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shards.decode import Decoded, Limits
from shards.decode_pool import CONTENT_BYTES
from shards.errors import ErrorKind, ImageError
from shards.stored import Item, Stored
from tasks.decode_into import DecodeInto


class Arriving:
    """An object on its way."""

    def __init__(self, found: Stored | ImageError) -> None:
        self._found = found

    def taken(self) -> Stored | ImageError:
        return self._found


class Pool:
    """Stands for the processes: fills rows with the number in each path."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []

    def decode(self, items: Sequence[Stored], images: np.ndarray) -> list[Decoded]:
        assert len(items) == len(images)
        self.requests.append([item.path for item in items])
        for item, row in zip(items, images, strict=True):
            row[:] = int(item.path)
        return [Decoded(1, int(item.path) + 1) for item in items]


@pytest.fixture
def fill(monkeypatch):
    into = DecodeInto(None, Limits(), workers=1)  # type: ignore[arg-type]
    into._pool = Pool()  # type: ignore[assignment]
    return into


def large(number: int, size: int) -> Stored:
    return Stored(b"%d" % number, content=bytes(size))


def test_every_row_is_that_of_its_item(fill):
    gone = ImageError(ErrorKind.NOT_FOUND, "gone")
    items: list[Item] = [
        *(Stored(b"0"), Arriving(large(1, 10)), Arriving(gone), gone),
        *(Arriving(Stored(b"4")), Stored(b"5")),
    ]
    images = np.zeros((6, 1, 1, 3), np.uint8)
    outcomes = fill(items, images)
    assert [o if isinstance(o, ImageError) else o.height - 1 for o in outcomes] == [
        0,
        1,
        gone,
        gone,
        4,
        5,
    ]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 0, 0, 4, 5]
    assert fill._pool.requests == [[b"0", b"1"], [b"4", b"5"]]


def test_a_thread_holds_few_large_images_at_a_time(fill):
    half = CONTENT_BYTES // 2
    sizes = [half, half, half, 2 * CONTENT_BYTES, 1, 1]
    fill(
        [Arriving(large(n, size)) for n, size in enumerate(sizes)], np.zeros((6, 1, 1, 3), np.uint8)
    )
    assert fill._pool.requests == [[b"0", b"1"], [b"2"], [b"3"], [b"4", b"5"]]


def test_nothing_is_nothing(fill):
    assert fill([], np.zeros((0, 1, 1, 3), np.uint8)) == []
