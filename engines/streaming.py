"""The streaming core: items in, batches of predictions out, in order, with bounded memory.

    items ─▶ [threads fill slots] ─▶ submit ─▶ device ─▶ collect ─▶ batches, in the order of items

Memory is bounded by the classifier's ring: slot_count × batch_size × height × width × 3 bytes, and
one chunk of items for each thread. Nothing drains between batches: while the device works on the
oldest slots, threads fill the younger ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.classifier import Classifier, Predictions, Slot

__all__ = ["CHUNK_ITEMS", "Batch", "stream"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Fill = Callable[[Sequence[Item], NDArray[np.uint8]], Sequence[Outcome]]

CHUNK_ITEMS = 16
"""Items that one call fills: submitting to a thread costs about 10 µs, as much as a tiny image."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item, Outcome]):
    """One inferred batch; row i of every field belongs to item i.

    Attributes:
        items: The items, in the order of the input.
        outcomes: What `fill` returned for each.
        predictions: Scores and labels, one row for each item.
    """

    items: Sequence[Item]
    outcomes: Sequence[Outcome]
    predictions: Predictions


class _Filling(Generic[Item, Outcome]):
    """A lent slot, its items, and the calls that write its rows."""

    def __init__(
        self,
        slot: Slot,
        items: Sequence[Item],
        fill: Fill[Item, Outcome],
        executor: Executor,
    ) -> None:
        self.slot = slot
        self.items = items
        self._futures: list[Future[Sequence[Outcome]]] = []
        try:
            for at in range(0, len(items), CHUNK_ITEMS):
                rows = slot.images[at : min(at + CHUNK_ITEMS, len(items))]
                self._futures.append(executor.submit(fill, items[at : at + CHUNK_ITEMS], rows))
        except BaseException:
            self.abandon()
            raise

    def outcomes(self) -> list[Outcome]:
        """Wait until every row is written; raises what a fill raised."""
        return [outcome for future in self._futures for outcome in future.result()]

    def abandon(self) -> None:
        """Return only when no thread writes into the slot any more."""
        wait([future for future in self._futures if not future.cancel()])


def stream(
    items: Iterable[Item],
    fill: Fill[Item, Outcome],
    classifier: Classifier,
    executor: Executor,
) -> Generator[Batch[Item, Outcome]]:
    """Fill, infer and yield every item once, in order.

    Batches fill across whatever borders the items have; only the last one may be short. Closing the
    generator early, or an error in it, waits for the threads that still write into slots and leaves
    the classifier to its owner, who closes it.

    Args:
        items: Anything; read lazily, at most slot_count × batch_size ahead of the results.
        fill: Called in the executor's threads with up to 16 items and their rows, uint8
            [len(items), height, width, 3]; writes each row and returns one outcome for each item.
            An item that cannot be filled is an outcome, not an exception: an exception ends the
            stream.
        classifier: Open; used by nobody else meanwhile.
        executor: Threads that fill; their number is the decode parallelism.

    Yields:
        Batches in the order of items.

    Raises:
        InferenceError, CudaError: From the classifier, with a note naming the items of the batch.
        Exception: Whatever `fill` or `items` raised, unchanged.
    """
    source = iter(items)
    filling: deque[_Filling[Item, Outcome]] = deque()
    flying: deque[tuple[Sequence[Item], list[Outcome]]] = deque()
    try:
        while batch := list(islice(source, classifier.batch_size)):
            while len(filling) + len(flying) == classifier.slot_count:
                yield from _advance(filling, flying, classifier)
            filling.append(_Filling(classifier.acquire(), batch, fill, executor))
        while filling or flying:
            yield from _advance(filling, flying, classifier)
    finally:
        for unfinished in filling:
            unfinished.abandon()


def _advance(
    filling: deque[_Filling[Item, Outcome]],
    flying: deque[tuple[Sequence[Item], list[Outcome]]],
    classifier: Classifier,
) -> Iterator[Batch[Item, Outcome]]:
    """Submit the oldest filled slot while the device wants more, else collect the oldest batch."""
    if filling and len(flying) < classifier.max_in_flight:
        outcomes = filling[0].outcomes()
        ready = filling.popleft()
        with _naming(ready.items):
            classifier.submit(ready.slot, len(ready.items))
        flying.append((ready.items, outcomes))
        return
    items, outcomes = flying.popleft()
    with _naming(items):
        predictions = classifier.collect()
    yield Batch(items, outcomes, predictions)


@contextmanager
def _naming(items: Sequence[object]) -> Iterator[None]:
    """Add to an error which items its batch held."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in a batch of {len(items)}, from {items[0]} to {items[-1]}")
        raise
