"""What every `Classifier` must do; each backend's tests inherit it and give a factory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.classifier import Classifier, Predictions
from engines.model import Model
from tests.models.tiny import Tiny, loaded, normalise, position_weights

BATCH_SIZE, SLOTS = 6, 3
TINY = Tiny()


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class ClassifierContract(ABC):
    """Inherit, and define `make_classifier`; loosen `tolerance` for a reduced precision."""

    tolerance = 1e-5
    examples = 60

    @abstractmethod
    def make_classifier(
        self, model: Model, batch_size: int, slots: int, **fetch: bool
    ) -> Classifier:
        """An open classifier that fetches what `fetch` says; the suite closes it."""

    @pytest.fixture
    def model(self) -> Model:
        return loaded(TINY)

    @pytest.fixture
    def classifier(self, model: Model) -> Iterator[Classifier]:
        with self.make_classifier(model, BATCH_SIZE, SLOTS, logits=True) as classifier:
            yield classifier

    def check(self, model: Model, images, predictions: Predictions, *, with_logits: bool = True):
        """Compare with NumPy; classes whose scores are closer than the tolerance may swap."""
        logits = TINY.logits(normalise(images, model.spec))
        scores = softmax(logits)
        assert predictions.label_ids.dtype == np.int32
        assert predictions.scores.dtype == np.float32
        assert predictions.label_ids.shape == predictions.scores.shape == (len(images), model.k)
        best = -np.sort(-scores, axis=1)[:, : model.k]
        np.testing.assert_allclose(predictions.scores, best, atol=self.tolerance)
        chosen = np.take_along_axis(scores, predictions.label_ids.astype(np.int64), axis=1)
        np.testing.assert_allclose(chosen, predictions.scores, atol=self.tolerance)
        assert all(len(set(row)) == model.k for row in predictions.label_ids.tolist())
        if with_logits:
            assert predictions.logits is not None
            assert predictions.logits.dtype == np.float32
            np.testing.assert_allclose(predictions.logits, logits, atol=10 * self.tolerance)
        else:
            assert predictions.logits is None

    def infer(self, classifier: Classifier, images) -> Predictions:
        slot = classifier.acquire()
        slot.images[: len(images)] = images
        classifier.submit(slot, len(images))
        return classifier.collect()

    def images(self, count: int, seed: int = 0):
        return np.random.default_rng(seed).integers(0, 256, (count, *TINY.size, 3), np.uint8)

    def test_says_what_it_is(self, classifier):
        assert classifier.batch_size == BATCH_SIZE
        assert classifier.slot_count == SLOTS
        assert 1 <= classifier.max_in_flight <= SLOTS
        assert classifier.info.backend in ("onnxruntime", "tensorrt")
        assert classifier.info.precision in ("fp32", "fp16", "bf16", "int8")
        assert classifier.info.device
        assert classifier.info.versions

    def test_slots_are_writable_contiguous_and_apart(self, classifier):
        slots = [classifier.acquire() for _ in range(SLOTS)]
        for slot in slots:
            assert slot.images.shape == (BATCH_SIZE, *TINY.size, 3)
            assert slot.images.dtype == np.uint8
            assert slot.images.flags.c_contiguous
            assert slot.images.flags.writeable
        assert not np.shares_memory(slots[0].images, slots[1].images)
        assert not np.shares_memory(slots[1].images, slots[2].images)

    def test_logits_can_be_left_once_nothing_is_under_way(self, classifier, model):
        images = self.images(3)
        slot = classifier.acquire()
        with pytest.raises(RuntimeError, match="collect first"):
            classifier.leave_logits()
        slot.images[:3] = images
        classifier.submit(slot, 3)
        with pytest.raises(RuntimeError, match="collect first"):
            classifier.leave_logits()
        self.check(model, images, classifier.collect())
        for _ in range(2):
            classifier.leave_logits()
            for _ in range(SLOTS + 1):
                self.check(model, images, self.infer(classifier, images), with_logits=False)
        classifier.close()
        with pytest.raises(RuntimeError, match="closed"):
            classifier.leave_logits()

    @pytest.mark.parametrize("count", range(1, BATCH_SIZE + 1))
    def test_every_batch_size_equals_the_reference(self, classifier, model, count):
        images = self.images(count, seed=count)
        self.check(model, images, self.infer(classifier, images))

    def test_any_interleaving_gives_every_batch_once_and_in_order(self, model):
        with self.make_classifier(model, BATCH_SIZE, SLOTS, logits=True) as classifier:

            @settings(max_examples=self.examples, deadline=None)
            @given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, BATCH_SIZE)), max_size=30))
            def play(moves):
                self._play(classifier, model, moves)

            play()

    def _play(self, classifier, model, moves):
        """Carry out what is possible of the moves, then drain; compare each result."""
        lent, flying = deque(), deque()
        for number, (move, count) in enumerate(moves):
            if move == 0 and len(lent) + len(flying) < SLOTS:
                lent.append((classifier.acquire(), self.images(count, seed=number)))
                lent[-1][0].images[:count] = lent[-1][1]
            elif move == 1 and lent:
                slot, images = lent.pop() if count % 2 else lent.popleft()
                classifier.submit(slot, len(images))
                flying.append(images)
            elif move == 2 and flying:
                self.check(model, flying.popleft(), classifier.collect())
        while lent:
            slot, images = lent.popleft()
            classifier.submit(slot, len(images))
            flying.append(images)
        while flying:
            self.check(model, flying.popleft(), classifier.collect())

    def test_a_reused_slot_shows_nothing_of_its_last_batch(self, classifier, model):
        for count in (BATCH_SIZE, 1, BATCH_SIZE - 1, 2) * SLOTS:
            images = self.images(count, seed=count)
            self.check(model, images, self.infer(classifier, images))

    def test_results_belong_to_the_caller(self, classifier, model):
        images = self.images(BATCH_SIZE)
        first = self.infer(classifier, images)
        for seed in range(1, 2 * SLOTS):
            self.infer(classifier, self.images(BATCH_SIZE, seed))
        for _ in range(SLOTS):
            classifier.acquire().images[:] = 0
        self.check(model, images, first)

    def test_equal_scores_come_in_order_of_label_id(self):
        tiny = Tiny(bias=(0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0))
        with self.make_classifier(loaded(tiny), BATCH_SIZE, SLOTS) as classifier:
            predictions = self.infer(classifier, self.images(3))
        assert predictions.label_ids.tolist() == [[1, 3, 4, 0, 2]] * 3

    @pytest.mark.parametrize(
        ("classes", "top_k", "k"), [(1, 5, 1), (2, 1, 2), (7, 1, 2), (7, 9, 7)]
    )
    def test_columns_are_top_k_but_at_least_two_and_at_most_the_classes(self, classes, top_k, k):
        model = loaded(Tiny(classes=classes), top_k=top_k)
        with self.make_classifier(model, BATCH_SIZE, SLOTS) as classifier:
            predictions = self.infer(classifier, self.images(2))
        assert predictions.scores.shape == predictions.label_ids.shape == (2, k)

    def test_logits_come_only_when_asked_for(self, model):
        with self.make_classifier(model, BATCH_SIZE, SLOTS) as classifier:
            images = self.images(2)
            self.check(model, images, self.infer(classifier, images), with_logits=False)

    @pytest.mark.parametrize("logits", [False, True])
    def test_embeddings_come_when_asked_for(self, logits):
        model = loaded(TINY, embedding=True)
        fetch = {"embedding": True, "logits": logits}
        with self.make_classifier(model, BATCH_SIZE, SLOTS, **fetch) as classifier:
            images = self.images(4)
            predictions = self.infer(classifier, images)
        self.check(model, images, predictions, with_logits=logits)
        inputs = normalise(images, model.spec) * position_weights(TINY.size)
        assert predictions.embedding is not None
        assert predictions.embedding.dtype == np.float32
        np.testing.assert_allclose(
            predictions.embedding, inputs.sum(axis=(2, 3)), atol=10 * self.tolerance
        )

    def test_what_the_graph_does_not_give_is_refused_at_once(self, model):
        with pytest.raises(ValueError, match="embedding"):
            self.make_classifier(model, BATCH_SIZE, SLOTS, embedding=True)

    def test_more_than_all_slots_cannot_be_lent(self, classifier, model):
        slots = [classifier.acquire() for _ in range(SLOTS)]
        with pytest.raises(RuntimeError, match="slots"):
            classifier.acquire()
        slots[0].images[:1] = self.images(1)
        classifier.submit(slots[0], 1)
        with pytest.raises(RuntimeError, match="slots"):
            classifier.acquire()
        self.check(model, self.images(1), classifier.collect())
        classifier.acquire()

    def test_collect_with_nothing_in_flight_is_an_error(self, classifier):
        with pytest.raises(RuntimeError, match="in flight"):
            classifier.collect()

    @pytest.mark.parametrize("count", [-1, 0, BATCH_SIZE + 1])
    def test_counts_outside_of_the_slot_are_refused(self, classifier, model, count):
        slot = classifier.acquire()
        with pytest.raises(ValueError, match=str(count)):
            classifier.submit(slot, count)
        slot.images[:2] = self.images(2)
        classifier.submit(slot, 2)
        self.check(model, self.images(2), classifier.collect())

    def test_slots_of_another_classifier_are_refused(self, classifier, model):
        with self.make_classifier(model, BATCH_SIZE, SLOTS) as other:
            foreign = other.acquire()
            with pytest.raises(ValueError, match="slot"):
                classifier.submit(foreign, 1)
        with pytest.raises(RuntimeError, match="in flight"):
            classifier.collect()

    def test_a_slot_is_submitted_once_for_each_time_it_is_lent(self, classifier):
        slot = classifier.acquire()
        classifier.submit(slot, 1)
        with pytest.raises(RuntimeError, match="slot"):
            classifier.submit(slot, 1)
        classifier.collect()
        with pytest.raises(RuntimeError, match="slot"):
            classifier.submit(slot, 1)

    def test_close_is_final_and_idempotent(self, model):
        classifier = self.make_classifier(model, BATCH_SIZE, SLOTS)
        lent, flying = classifier.acquire(), classifier.acquire()
        classifier.submit(flying, 1)
        classifier.close()
        classifier.close()
        for use in (
            classifier.acquire,
            classifier.collect,
            classifier.__enter__,
            lambda: classifier.submit(lent, 1),
        ):
            with pytest.raises(RuntimeError, match="closed"):
                use()

    def test_leaving_the_context_closes_and_keeps_the_error(self, model):
        classifier = self.make_classifier(model, BATCH_SIZE, SLOTS)

        def fail_with_a_batch_in_flight():
            with classifier:
                classifier.submit(classifier.acquire(), 1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_with_a_batch_in_flight()
        with pytest.raises(RuntimeError, match="closed"):
            classifier.acquire()
