"""Shards through one classifier: rows are gathered as batches come back, and committed by shard.

Batches fill across the borders of shards, so nothing drains between them. A shard is encoded and
published in a thread of its own while the next ones are decoded and inferred. One at a time: memory
holds the rows of the shard that is published, and of those whose images are in the ring. Of a shard
that is brought up to date, these are the rows that are computed; those that it keeps are read when
it is published. Logits and embeddings are 4 bytes a value: 10,000 images of 1,000 classes have
40 MB of logits.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Self

import numpy as np

from engines.classifier import Classifier, Predictions
from engines.streaming import Batch, stream
from shards.closing import Closing
from shards.commit import Outcome
from shards.decode import Decoded
from shards.errors import DamagedFileError, ErrorKind, ImageError, LockedError, OutputError
from shards.footer import Provenance
from shards.inputs import ShardInputs
from shards.predictions import ShardResults, Table, build_table
from shards.shard_ref import ShardRef
from shards.sources.reading import stored_items
from shards.stored import Item
from shards.upkeep import Missing
from tasks.decision import Decision
from tasks.decode_into import DecodeInto, Decoding
from tasks.job import Job
from tasks.messages import Advanced, Message, Published, SetAside, Started
from tasks.version import tool_version

__all__ = ["ShardWork", "Sheet", "Tally", "provenance"]

MAX_ROUNDS = 4
"""How often a shard is tried that other runs change or lock."""

TELLING_S = 0.1
"""Each message wakes up the command, which takes a processor from the decoders: where every batch
was told, that cost 4 % of the time of small images."""


class Sheet:
    """The rows of one shard, filled from the top as batches come back.

    Args:
        inputs: The images.
        k: Columns of scores.
        classes: Logits of an image that are kept; 0 for none.
        width: Values of its embedding that are kept; 0 for none.
    """

    def __init__(self, inputs: ShardInputs, k: int, *, classes: int = 0, width: int = 0) -> None:
        rows = len(inputs)
        self.inputs = inputs
        self.filled = 0
        self._label_ids = np.zeros((rows, k), np.int32)
        self._scores = np.zeros((rows, k), np.float32)
        self._widths = np.zeros(rows, np.int32)
        self._heights = np.zeros(rows, np.int32)
        self._errors: dict[int, tuple[ErrorKind, str]] = {}
        widths = {"logits": classes, "embedding": width}
        self._vectors = {
            name: np.zeros((rows, columns), np.float32)
            for name, columns in widths.items()
            if columns
        }

    @classmethod
    def of(cls, job: Job, inputs: ShardInputs) -> Self:
        """The sheet of a shard, with room for what the job keeps."""
        model = job.model
        return cls(
            inputs,
            model.k,
            classes=model.classes if job.columns.logits else 0,
            width=model.embedding.width if model.embedding else 0,
        )

    @property
    def missing(self) -> int:
        """Rows that are not filled yet."""
        return len(self.inputs) - self.filled

    def fill(self, decodings: Sequence[Decoding], predictions: Predictions, start: int) -> int:
        """Take as many rows as there is room for, from row `start` of a batch; returns how many."""
        count = min(self.missing, len(decodings) - start)
        mine = slice(self.filled, self.filled + count)
        theirs = slice(start, start + count)
        self._label_ids[mine] = predictions.label_ids[theirs]
        self._scores[mine] = predictions.scores[theirs]
        for name, kept in self._vectors.items():
            kept[mine] = getattr(predictions, name)[theirs]
        for row, decoding in enumerate(decodings[theirs], start=self.filled):
            if isinstance(decoding, Decoded):
                self._widths[row] = decoding.width
                self._heights[row] = decoding.height
            else:
                self._errors[row] = (decoding.kind, str(decoding))
        self.filled += count
        return count

    def results(self) -> ShardResults:
        """Everything, once nothing is missing."""
        return ShardResults(
            label_ids=self._label_ids,
            scores=self._scores,
            widths=self._widths,
            heights=self._heights,
            errors=self._errors,
            **self._vectors,
        )


class Tally:
    """Counts images, and tells it some times a second.

    Args:
        send: Takes the messages.
        clock: In seconds.
    """

    def __init__(
        self, send: Callable[[Message], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._done = self._errors = self._told = 0
        self._told_at = -math.inf

    def add(self, outcomes: Sequence[Decoding]) -> None:
        """Count a batch; the first is told at once."""
        self._done += len(outcomes)
        self._errors += sum(isinstance(outcome, ImageError) for outcome in outcomes)
        if self._clock() - self._told_at >= TELLING_S:
            self.tell()

    def tell(self) -> None:
        """Say how many there are, unless that was said."""
        if self._told == self._done:
            return
        self._told, self._told_at = self._done, self._clock()
        self._send(Advanced(done=self._done, errors=self._errors))


class ShardWork(Closing):
    """Works off shards with one classifier and its decoders, and says so in messages."""

    def __init__(
        self,
        job: Job,
        classifier: Classifier,
        decision: Decision,
        fill: DecodeInto,
        send: Callable[[Message], None],
        partly: Mapping[str, bytes] | None = None,
    ) -> None:
        self._job = job
        self._classifier = classifier
        self._fill = fill
        self._send = send
        self._opening = job.upkeep(partly or {})
        self._closing = job.upkeep(partly or {})
        """For the thread that commits."""
        self._provenance = provenance(job, classifier, decision)
        self._open: deque[tuple[Missing, Sheet]] = deque()
        self._again: dict[ShardRef, str] = {}
        """Shards that could not be committed, and why."""
        self._commits: deque[Future[Published | SetAside | None]] = deque()
        self._decoders = ThreadPoolExecutor(fill.workers, "decode")
        self._committer = ThreadPoolExecutor(1, "commit")
        self._tally = Tally(send)

    def run(self, shards: Sequence[ShardRef]) -> None:
        """Classify and publish the shards, in order.

        Those that another run changed meanwhile, or holds locked, are done again at the end.

        Raises:
            OutputError: A file cannot be written, a plan not be read, or another run never lets go.
            EngineError: Inference failed.
            DecodersError: Processes that decode cannot be started.
        """
        for _ in range(MAX_ROUNDS):
            self._again = {}
            self._run_once(shards)
            if not self._again:
                return
            shards = list(self._again)
        reasons = "; ".join(f"{shard.id}: {reason}" for shard, reason in self._again.items())
        raise OutputError(f"{len(self._again)} shards could not be published ({reasons})")

    def _run_once(self, shards: Sequence[ShardRef]) -> None:
        items = self._items(shards)
        try:
            for batch in stream(items, self._fill, self._classifier, self._decoders):
                self._take(batch)
            self._tally.tell()
            self._settle(keep=0)
        except Exception as error:
            # An OutputError names its file, which may be that of a shard before this one.
            if self._open and not isinstance(error, OutputError):
                error.add_note(f"in shard {self._open[0][0].shard.id}")
            raise

    def _items(self, shards: Sequence[ShardRef]) -> Iterator[Item]:
        """Every missing image of every shard; opens a shard's sheet when its first is asked for."""
        for shard in shards:
            self._send(Started(shard=shard.id))
            try:
                missing = self._opening.missing(shard)
            except DamagedFileError as error:
                self._send(SetAside(shard=shard.id, reason=str(error)))
                continue
            if missing is None:  # another run has done it since
                self._send(Published(shard=shard.id, rows=0, errors=0))
            elif len(missing.inputs) == 0:
                self._commits.append(self._committer.submit(self._publish, missing, None))
            else:
                self._open.append((missing, Sheet.of(self._job, missing.inputs)))
                yield from stored_items(
                    missing.inputs, image_column=self._job.settings.image_column
                )

    def _take(self, batch: Batch[Item, Decoding]) -> None:
        taken = 0
        while taken < len(batch.items):
            wanted, sheet = self._open[0]
            taken += sheet.fill(batch.outcomes, batch.predictions, taken)
            if sheet.missing == 0:
                self._commits.append(self._committer.submit(self._publish, wanted, sheet))
                self._open.popleft()
                self._settle(keep=1)
        self._tally.add(batch.outcomes)

    def _settle(self, keep: int) -> None:
        """Wait until at most `keep` commits are under way; raises what they raised."""
        while len(self._commits) > keep:
            if (message := self._commits[0].result()) is not None:
                self._send(message)
            self._commits.popleft()

    def _publish(self, wanted: Missing, sheet: Sheet | None) -> Published | SetAside | None:
        """Bring a shard's file up to date; None where that has to be tried again."""
        shard = wanted.shard
        table = None if sheet is None else self._table(sheet)
        try:
            outcome = self._closing.complete(wanted, table, self._provenance)
        except DamagedFileError as error:
            return SetAside(shard=shard.id, reason=str(error))
        except LockedError as error:
            self._again[shard] = str(error)
            return None
        if outcome is Outcome.OUTDATED:
            self._again[shard] = "other runs keep changing what is to be in it"
            return None
        errors = 0 if table is None else table.column("label").null_count
        return Published(shard=shard.id, rows=len(wanted.inputs), errors=errors)

    def _table(self, sheet: Sheet) -> Table:
        return build_table(
            sheet.inputs,
            sheet.results(),
            labels=self._job.model.labels,
            ranking=self._job.ranking,
            run_id=self._job.run_id,
            predicted_at=datetime.now(UTC),
            kept=self._job.kept,
        )

    def close(self) -> None:
        """Wait for the threads; what is not published is given up."""
        self._decoders.shutdown(cancel_futures=True)
        self._committer.shutdown(cancel_futures=True)


def provenance(job: Job, classifier: Classifier, decision: Decision) -> Provenance:
    """What every file of this run says of how it was made."""
    info = classifier.info
    return Provenance(
        tool_version=tool_version(),
        run_id=job.run_id,
        model_id=job.model.model_id,
        model_digest=job.model.digest,
        preprocess={**json.loads(job.model.spec.to_json()), "sources": dict(job.model.sources)},
        labels_digest=job.model.labels_digest,
        backend=info.backend,
        precision=info.precision,
        requested_precision=decision.requested,
        gate=decision.footer(),
        device=info.device,
        versions=info.versions,
        engine_key=info.engine_key,
        parameters=job.settings.model_dump(mode="json"),
    )
