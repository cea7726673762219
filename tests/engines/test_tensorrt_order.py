"""Asynchronous equals serial, and every event of the runner is needed for it."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest

from engines.classifier import Predictions
from engines.cuda import Event, Stream
from tests.engines.tensorrt_runs import HEIGHT, WIDTH, infer, open_linear, same
from tests.simulators.installed import simulated_gpu
from tests.simulators.machine import SimulatedRace
from tests.simulators.records import VERSIONS

BATCH_SIZE = 4
POOL = np.random.default_rng(0).integers(0, 256, (64, HEIGHT, WIDTH, 3), np.uint8)
RINGS = [
    # slots, max_in_flight, cuda_graph
    (1, 1, False),
    (2, 1, False),
    (3, 2, True),
    (4, 3, False),
    (6, 2, False),
    (6, 2, True),
]
ORDERS = ("late", "random", "early")


def expected_rows() -> Predictions:
    """The pool, one image at a time through one slot: nothing overlaps."""
    with open_linear(batch_size=1, slots=1) as serial:
        rows = [infer(serial, POOL[i : i + 1]) for i in range(len(POOL))]
    return Predictions(
        np.concatenate([row.label_ids for row in rows]),
        np.concatenate([row.scores for row in rows]),
    )


def play(classifier, expected: Predictions, dice: random.Random) -> int:
    """One random sequence of batches, with random pauses between the steps; returns its batches."""
    left = dice.randint(1, 10)
    lent, flying, batches = deque(), deque(), left
    while left or lent or flying:
        step = dice.choice(("fill", "submit", "collect"))
        if step == "fill" and left and len(lent) + len(flying) < classifier.slot_count:
            left -= 1
            rows = [dice.randrange(len(POOL)) for _ in range(dice.randint(1, BATCH_SIZE))]
            slot = classifier.acquire()
            slot.images[:] = dice.randrange(256)
            slot.images[: len(rows)] = POOL[rows]
            lent.append((slot, rows))
        elif step == "submit" and lent:
            slot, rows = lent.popleft()
            classifier.submit(slot, len(rows))
            flying.append(rows)
        elif step == "collect" and flying:
            rows = flying.popleft()
            wanted = Predictions(expected.label_ids[rows], expected.scores[rows])
            assert same(classifier.collect(), wanted)
    return batches


def play_many(version: str, sequences: int, *, seed: int) -> int:
    """Spread sequences over all rings and all orders of execution; returns the batches."""
    dice, batches = random.Random(seed), 0
    settings = [(order, ring) for order in ORDERS for ring in RINGS]
    for number, (order, (slots, in_flight, graph)) in enumerate(settings):
        share = len(range(number, sequences, len(settings)))
        with simulated_gpu(version, order=order, seed=seed + number) as machine:
            expected = expected_rows()
            options = {"slots": slots, "max_in_flight": in_flight, "cuda_graph": graph}
            with open_linear(batch_size=BATCH_SIZE, **options) as classifier:
                batches += sum(play(classifier, expected, dice) for _ in range(share))
            machine.verify()
            assert machine.leaks() == []
    return batches


@pytest.mark.parametrize("version", VERSIONS)
def test_random_sequences_of_batches_equal_serial_execution(version):
    assert play_many(version, 180, seed=1) > 500


@pytest.mark.slow
def test_ten_thousand_random_sequences_equal_serial_execution(capsys):
    batches = sum(
        play_many(version, sequences, seed=2)
        for version, sequences in zip(VERSIONS, (3334, 3333, 3333), strict=True)
    )
    with capsys.disabled():
        print(f"\n10000 random sequences, {batches} batches: as serial execution")  # noqa: T201
    assert batches > 30_000


def fill_the_ring_twice():
    """More batches than the device holds, submitted without a pause, on all versions alike."""
    with open_linear(batch_size=2, slots=6, max_in_flight=2) as classifier:
        for _ in range(2):
            for number in range(6):
                slot = classifier.acquire()
                slot.images[:] = number
                classifier.submit(slot, 2)
            for _ in range(6):
                classifier.collect()


WAITS = {
    0: "an upload after the run that reads the lane's last images",
    1: "a run after the upload of its images",
    2: "a run after the download of the lane's last results",
    3: "a download after the run",
}


@pytest.mark.parametrize("missing", WAITS, ids=WAITS.get)
def test_every_event_wait_is_needed(monkeypatch, missing):
    waits = []
    wait_event = Stream.wait_event

    def all_but_one(stream, event):
        waits.append(event)
        if (len(waits) - 1) % len(WAITS) != missing:
            wait_event(stream, event)

    with simulated_gpu("8.6.1") as machine:
        fill_the_ring_twice()
        monkeypatch.setattr(Stream, "wait_event", all_but_one)
        with pytest.raises(SimulatedRace, match="an event wait is missing"):
            fill_the_ring_twice()
        machine.reset()


def test_without_any_event_wait_the_simulator_objects(monkeypatch):
    monkeypatch.setattr(Stream, "wait_event", lambda stream, event: None)
    with simulated_gpu("8.6.1") as machine:
        with pytest.raises(SimulatedRace):
            fill_the_ring_twice()
        machine.reset()


def test_results_that_are_not_waited_for_are_not_there(monkeypatch):
    with simulated_gpu("8.6.1"), open_linear() as classifier:
        expected = infer(classifier, POOL[:4])
        monkeypatch.setattr(Event, "synchronize", lambda event: None)
        assert not same(infer(classifier, POOL[:4]), expected)


def test_writing_a_slot_in_flight_is_found():
    with simulated_gpu("8.6.1"), open_linear() as classifier:
        slot = classifier.acquire()
        classifier.submit(slot, 4)
        slot.images[0] += 1
        with pytest.raises(SimulatedRace, match="the host wrote"):
            classifier.collect()
