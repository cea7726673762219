"""Reading ahead: in order, a bounded number at once, and no thread that is waited for."""

from __future__ import annotations

import threading
import time
from itertools import count, islice

import pytest

from shards.ahead import AHEAD, read_ahead


def test_results_come_in_order_and_most_waits_are_shared():
    begun = time.monotonic()
    found = list(read_ahead(lambda n: time.sleep(0.05 / (n + 1)) or n, range(40), threads=8))
    assert found == list(range(40))
    at_once, most, lock = 0, 0, threading.Lock()

    def read(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.002)
        with lock:
            at_once -= 1
        return number

    assert list(read_ahead(read, range(100), threads=8)) == list(range(100))
    assert 2 <= most <= 8
    assert time.monotonic() - begun < 5


def test_no_more_is_taken_than_is_waited_for():
    taken = []

    def items():
        for number in count():
            taken.append(number)
            yield number

    found = read_ahead(lambda number: number, items(), threads=4)
    assert list(islice(found, 10)) == list(range(10))
    assert len(taken) <= AHEAD * 4 + 10
    found.close()


def test_an_error_comes_at_its_turn_and_ends_it():
    def read(number: int) -> int:
        if number >= 3:
            raise OSError(number)
        return number

    found = read_ahead(read, range(100), threads=4)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="3"):
        next(found)
    assert list(found) == []


def test_threads_end_with_whoever_reads():
    before = threading.active_count()
    found = read_ahead(lambda number: number, count(), threads=4)
    next(found)
    found.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
