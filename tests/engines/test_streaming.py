from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.classifier import BackendInfo, Predictions
from engines.errors import InferenceError
from engines.streaming import CHUNK_ITEMS, stream


class FakeSlot:
    def __init__(self, batch_size: int) -> None:
        self.images = np.zeros((batch_size, 1, 1, 3), np.uint8)
        self.lent = False


class FakeClassifier:
    """Reads a slot only when it is collected, as a device that is late would."""

    info = BackendInfo(backend="fake", precision="fp32", device="none", versions={})

    def __init__(self, batch_size: int, slot_count: int, max_in_flight: int, fail_at: int = -1):
        self.batch_size, self.slot_count, self.max_in_flight = batch_size, slot_count, max_in_flight
        self.slots = [FakeSlot(batch_size) for _ in range(slot_count)]
        self.flying: deque[tuple[FakeSlot, int]] = deque()
        self.most_in_flight = self.submitted = 0
        self.fail_at = fail_at

    def acquire(self) -> FakeSlot:
        slot = next((slot for slot in self.slots if not slot.lent), None)
        if slot is None:
            raise RuntimeError("every slot is lent")
        slot.lent = True
        return slot

    def submit(self, slot: FakeSlot, count: int) -> None:
        if self.submitted == self.fail_at:
            raise InferenceError("refused")
        self.submitted += 1
        self.flying.append((slot, count))
        self.most_in_flight = max(self.most_in_flight, len(self.flying))

    def collect(self) -> Predictions:
        slot, count = self.flying.popleft()
        values = slot.images[:count, 0, 0, :].astype(np.int32)
        slot.images[:] = 255
        slot.lent = False
        ids = values[:, :1] + 256 * values[:, 1:2]
        return Predictions(ids, ids.astype(np.float32))

    def close(self) -> None: ...
    def __enter__(self):
        return self

    def __exit__(self, *exc): ...


def write_number(items, images):
    assert len(items) == len(images) <= CHUNK_ITEMS
    for item, image in zip(items, images, strict=True):
        image[0, 0, 0], image[0, 0, 1] = item % 256, item // 256
    return [-item for item in items]


@settings(deadline=None, max_examples=150)
@given(
    count=st.integers(0, 300),
    batch_size=st.integers(1, 40),
    slot_count=st.integers(1, 6),
    max_in_flight=st.integers(1, 6),
    workers=st.integers(1, 4),
)
def test_every_item_comes_once_in_order_with_its_own_prediction(
    count, batch_size, slot_count, max_in_flight, workers
):
    classifier = FakeClassifier(batch_size, slot_count, max_in_flight)
    with ThreadPoolExecutor(workers) as executor:
        batches = list(stream(range(count), write_number, classifier, executor))
    assert [item for batch in batches for item in batch.items] == list(range(count))
    assert [outcome for batch in batches for outcome in batch.outcomes] == [
        -i for i in range(count)
    ]
    labels = [int(label) for batch in batches for label in batch.predictions.label_ids[:, 0]]
    assert labels == list(range(count))
    assert all(len(batch.items) == batch_size for batch in batches[:-1])
    assert classifier.most_in_flight <= max_in_flight
    assert not any(slot.lent for slot in classifier.slots)


def test_items_are_read_at_most_a_ring_ahead():
    read = 0

    def items():
        nonlocal read
        for item in range(1000):
            read += 1
            yield item

    classifier = FakeClassifier(batch_size=8, slot_count=3, max_in_flight=2)
    with ThreadPoolExecutor(2) as executor:
        batches = stream(items(), write_number, classifier, executor)
        for done, _ in enumerate(batches, start=1):
            assert read <= (done + 3) * 8


def test_decoding_goes_on_while_a_batch_is_inferred():
    started: set[int] = set()

    def fill(items, images):
        started.update(items)
        return list(items)

    class Checking(FakeClassifier):
        def collect(self):
            deadline = time.monotonic() + 5
            while len(started) < 3 * 4 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(started) >= 3 * 4
            return super().collect()

    with ThreadPoolExecutor(2) as executor:
        assert len(list(stream(range(12), fill, Checking(4, 3, 1), executor))) == 3


def test_an_error_of_the_classifier_names_the_batch():
    classifier = FakeClassifier(batch_size=4, slot_count=3, max_in_flight=1, fail_at=2)
    with ThreadPoolExecutor(2) as executor, pytest.raises(InferenceError) as caught:
        list(stream(range(40), write_number, classifier, executor))
    assert caught.value.__notes__ == ["in a batch of 4, from 8 to 11"]


def test_an_error_of_fill_or_of_the_items_ends_the_stream_unchanged():
    def fill(items, images):
        if 20 in items:
            raise KeyError("twenty")
        return items

    def items():
        yield from range(20)
        raise OSError("listing broke")

    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(KeyError, match="twenty"):
            list(stream(range(40), fill, FakeClassifier(4, 3, 1), executor))
        with pytest.raises(OSError, match="listing broke"):
            list(stream(items(), write_number, FakeClassifier(4, 3, 1), executor))


def test_no_thread_writes_into_a_slot_after_the_stream_was_closed():
    writing = threading.Event()
    finished = threading.Event()

    def slow(items, images):
        writing.set()
        time.sleep(0.1)
        images[:] = 1
        finished.set()
        return items

    classifier = FakeClassifier(batch_size=1, slot_count=3, max_in_flight=1)
    with ThreadPoolExecutor(1) as executor:
        batches = stream(range(100), slow, classifier, executor)
        next(batches)
        finished.clear()
        writing.clear()
        assert writing.wait(5)
        batches.close()
        assert finished.is_set()
        for slot in classifier.slots:
            slot.images[:] = 7
        time.sleep(0.15)
        assert all((slot.images == 7).all() for slot in classifier.slots)
