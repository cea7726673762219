"""What a device process does: load, wait for its order, open the classifier, and classify."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from engines.check import Check
from engines.classifier import Classifier
from engines.errors import ModelError
from engines.model import load_model
from shards.allocator import tune_allocator
from shards.columns import settle_columns
from shards.decode_process import DecodeServer
from tasks.backends import Opened, backend_of, largest_batch
from tasks.candidates import Candidates
from tasks.decision import Decision
from tasks.decode_into import DecodeInto
from tasks.job import Job
from tasks.messages import Message, Ready, WorkOrder
from tasks.prepare import model_request, prepare
from tasks.proof import proof_for_run
from tasks.settings import Settings
from tasks.shard_work import ShardWork
from tasks.sources import kept_names
from tasks.trial import try_out
from tasks.warm_up import warm_up

__all__ = ["Work"]


class Work:
    """The work of one device process.

    Attributes:
        batch_size: Images of a full batch; 0 until that is known.
    """

    def __init__(
        self, settings: Settings, send: Callable[[Message], None], decoders: DecodeServer
    ) -> None:
        self._settings = settings
        self._decoders = decoders
        self._send = send
        self._reached: dict[str, float] = {}
        self.batch_size = 0

    def do(self, receive: Callable[[], WorkOrder]) -> None:
        """Publish every shard of the order.

        Args:
            receive: Waits for the order.

        Raises:
            ModelError: The model is not the one of the order, or fails its self-test.
            EngineError: The classifier cannot be opened, or fails.
            OutputError: A file cannot be written, a plan not be read, or the table has other
                columns.
        """
        self._reach("libraries")
        tune_allocator()
        device = warm_up(self._settings)
        model = load_model(model_request(self._settings))
        self._reach("model")
        device.join()
        self._reach("device")
        order = receive()
        job = prepare(self._settings, run_id=order.run_id, model=model)
        if model.model_id != order.model_id:
            raise ModelError(
                f"the model changed while the run was starting: it was {order.model_id} and is "
                f"{model.model_id}. Run again."
            )
        asked = replace(job.columns, kept=tuple(order.kept.items()))
        columns = settle_columns(job.tree, asked, kept_names(self._settings))
        job = replace(job, kept=columns.kept)
        self.batch_size = largest_batch(self._settings, order.batch_limit)
        with DecodeInto.of(self._settings, model, self._decoders) as fill:
            opened, decision = self._open(job, order, fill)
            with opened.classifier as classifier:
                self._reach("classifier")
                checks = self._try_out(job, classifier, order)
                self._send(self._ready(opened, decision, checks))
                partly = {shard: bytes.fromhex(bits) for shard, bits in order.partly.items()}
                with ShardWork(job, classifier, decision, fill, self._send, partly) as work:
                    work.run(order.shards)

    def _ready(self, opened: Opened, decision: Decision, checks: tuple[Check, ...] | None) -> Ready:
        info = opened.classifier.info
        return Ready(
            backend=info.backend,
            precision=info.precision,
            device=info.device,
            engine_key=info.engine_key,
            engine_built=opened.engine_built,
            engine_seconds=opened.engine_seconds,
            decision=decision,
            self_test=checks,
            reached=self._reached,
        )

    def _open(self, job: Job, order: WorkOrder, fill: DecodeInto) -> tuple[Opened, Decision]:
        """Open the classifier in the precision that was decided on, now or earlier in this run."""
        settings = job.settings
        proof = proof_for_run(job, order.shards, fill)
        backend = backend_of(
            settings, job.model, lambda: proof.calibrated.calibration, order.batch_limit
        )

        def serve(precision: str) -> Opened:
            return backend.open(
                precision,
                logits=job.columns.logits or _is_tried_out(job, order),
                embedding=job.columns.embedding,
            )

        if order.decision is not None and order.batch_limit is None:
            return serve(order.decision.precision), order.decision
        candidates = Candidates(settings, backend, proof)

        def decide() -> Decision:
            if order.decision is None:
                return candidates.decide()
            return candidates.confirm(order.decision)

        decision = decide()
        opened = serve(decision.precision)
        if opened.engine_built and not candidates.stands(decision):
            opened.classifier.close()
            decision = decide()
            opened = serve(decision.precision)
        return opened, decision

    def _try_out(
        self, job: Job, classifier: Classifier, order: WorkOrder
    ) -> tuple[Check, ...] | None:
        """Test the classifier that will serve; None where that was done before, or not wanted."""
        if not _is_tried_out(job, order):
            return None
        checks = try_out(job.model, classifier)
        self._reach("self-test")
        if not job.columns.logits:
            classifier.leave_logits()
        return checks

    def _reach(self, stage: str) -> None:
        self._reached[stage] = time.monotonic()


def _is_tried_out(job: Job, order: WorkOrder) -> bool:
    """Once a run: a process that replaces one that was ready has its decision."""
    return job.settings.self_test and order.decision is None
