"""The accuracy gate: the same images through the fp32 reference and through a candidate.

Both take the way of every image: the same decoding threads, the same slots, the candidate on its
device. The reference is the fp32 graph on ONNX Runtime, computed once for all candidates. Pixels
are not kept but decoded again: memory is two rings of slots, and the logits.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.classifier import Classifier
from engines.gate import compare
from engines.model import Model
from engines.onnx_runtime import OnnxRuntimeClassifier
from engines.streaming import stream
from engines.verdict import FEW_IMAGES, Evidence
from shards.decode import Decoded
from shards.names import shown
from tasks.decode_into import DecodeInto, Decoding
from tasks.sample import Candidate, real_paths, targets

__all__ = ["Gate", "GateImages"]

_log = logging.getLogger(__name__)

ALONE = 8
"""Images that are inferred a second time, each in a batch of its own."""

REFERENCE_BATCH = 16
"""Small: at most a ring of it is computed in vain once enough images are good."""

TELL_S = 5.0
"""Between two lines of progress."""

Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateImages:
    """What the gate may use.

    Attributes:
        candidates: Images, in the order in which they are tried.
        wanted: Good images to compare.
        available: Images in all, those that are not among the candidates included.
        calibrated: Real paths of the images that the scales of int8 were made from. They are
            passed over, unless fewer than 32 others are there.
    """

    candidates: tuple[Candidate, ...]
    wanted: int
    available: int
    calibrated: frozenset[bytes] = frozenset()

    def in_order(self) -> tuple[tuple[Candidate, ...], frozenset[bytes]]:
        """The images to try, and paths of those among them that were calibrated on."""
        if not self.calibrated:
            return self.candidates, frozenset()
        seen = [real_paths([candidate]) <= self.calibrated for candidate in self.candidates]
        pairs = list(zip(self.candidates, seen, strict=True))
        fresh = tuple(candidate for candidate, used in pairs if not used)
        if len(fresh) >= FEW_IMAGES:
            return fresh, frozenset()
        used = tuple(candidate for candidate, used in pairs if used)
        return (*fresh, *used), frozenset(candidate.path for candidate in used)


class Gate:
    """Compares candidates with the reference, all on the same images."""

    def __init__(self, model: Model, images: GateImages, fill: DecodeInto, *, workers: int) -> None:
        """Compute nothing yet.

        Args:
            model: The fp32 model.
            images: To compare on.
            fill: Decodes an image as the model wants it.
            workers: Threads that decode.
        """
        self._model = model
        self._wanted, self._available = images.wanted, images.available
        self._candidates, self._shared = images.in_order()
        self._by_path = {candidate.path: candidate for candidate in self._candidates}
        self._fill = fill
        self._workers = workers
        self._reference: dict[bytes, Row] | None = None
        self._tried = 0

    def evidence(self, classifier: Classifier) -> Evidence | None:
        """Compare a candidate with the reference.

        Args:
            classifier: Open, with logits; used by nobody else meanwhile, and free again after it.

        Returns:
            What was found; None where no image can be decoded, or the reference itself gives
            finite logits for none.

        Raises:
            EngineError: Inference failed.
        """
        if self._reference is None:
            self._reference = self._referenced()
        what = f"in {classifier.info.precision} on {classifier.info.device}"
        mine = self._logits(classifier, list(self._reference), what, wanted=len(self._reference))
        compared = [self._by_path[path] for path in self._reference if path in mine]
        if not compared:
            return None
        paths = [candidate.path for candidate in compared]
        reference = np.stack([self._reference[path] for path in paths])
        if not np.isfinite(reference.max(axis=1)).any():
            _log.warning("gate: the model gives NaN or infinity in fp32, for every image tried")
            return None
        comparison = compare(
            reference,
            np.stack([mine[path] for path in paths]),
            images=[shown(candidate.name) for candidate in compared],
            labels=self._model.labels,
            targets=targets(compared, _by_name(self._model.labels)),
            alone=self._alone(classifier, paths[:ALONE]),
        )
        return Evidence(
            comparison=comparison,
            wanted=self._wanted,
            available=self._available,
            shared=len(self._shared.intersection(paths)),
        )

    def _referenced(self) -> dict[bytes, Row]:
        """The reference's logits of as many good images as are wanted."""
        wanted = min(self._wanted, len(self._candidates))
        _log.info("gate: comparing with the fp32 model on up to %s images", f"{wanted:,}")
        paths = [candidate.path for candidate in self._candidates]
        with OnnxRuntimeClassifier(
            self._model, batch_size=REFERENCE_BATCH, logits=True
        ) as reference:
            rows = self._logits(reference, paths, "in fp32 on the CPU", wanted=wanted)
        if self._tried > len(rows):
            _log.info(
                "gate: %d of %d images cannot be decoded", self._tried - len(rows), self._tried
            )
        return rows

    def _logits(
        self, classifier: Classifier, paths: Sequence[bytes], what: str, *, wanted: int
    ) -> dict[bytes, Row]:
        """Logits of the first `wanted` images that can be decoded, in order."""
        rows: dict[bytes, Row] = {}
        told = time.monotonic()
        with (
            ThreadPoolExecutor(self._workers, "gate") as decoders,
            closing(stream(paths, self._decode, classifier, decoders)) as batches,
        ):
            for batch in batches:
                assert batch.predictions.logits is not None
                tried = _take(rows, batch.items, batch.outcomes, batch.predictions.logits, wanted)
                if self._reference is None:
                    self._tried += tried
                if len(rows) == wanted:
                    break
                if time.monotonic() - told > TELL_S:
                    told = time.monotonic()
                    _log.info("gate: %s of %s images %s", f"{len(rows):,}", f"{wanted:,}", what)
        return rows

    def _decode(self, paths: Sequence[bytes], images: NDArray[np.uint8]) -> list[Decoding]:
        return self._fill([self._by_path[path].stored() for path in paths], images)

    def _alone(self, classifier: Classifier, paths: Iterable[bytes]) -> Row | None:
        """Logits [images, classes] of images in batches of their own, up to one that is gone."""
        rows = []
        for path in paths:
            slot = classifier.acquire()
            decoded = isinstance(self._decode([path], slot.images[:1])[0], Decoded)
            classifier.submit(slot, 1)
            logits = classifier.collect().logits
            assert logits is not None
            if not decoded:
                break
            rows.append(logits[0])
        return np.stack(rows) if rows else None


def _take(
    rows: dict[bytes, Row],
    paths: Sequence[bytes],
    outcomes: Sequence[Decoding],
    logits: Row,
    wanted: int,
) -> int:
    """Add the good images of a batch up to the number wanted; returns how many were looked at."""
    for number, (path, outcome, row) in enumerate(zip(paths, outcomes, logits, strict=True)):
        if len(rows) == wanted:
            return number
        if isinstance(outcome, Decoded):
            rows[path] = row
    return len(paths)


def _by_name(labels: Sequence[str]) -> dict[str, int]:
    """Labels by name, without those that two classes share."""
    counts = Counter(labels)
    return {label: index for index, label in enumerate(labels) if counts[label] == 1}
