"""The last step: everything is counted, must add up, and is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engines.check import Check
from shards.commit import write_run_record
from shards.errors import OutputError
from shards.footer import Provenance
from tasks.counting import Counts, count
from tasks.decision import gate_lines
from tasks.job import FIRST_RESULT, Job, Outcome, Plan
from tasks.quarantine import write_quarantine
from tasks.record import record

__all__ = ["Engine", "Summary", "finish"]

MAX_FAILED = 20
"""Shards that the summary for a person tells of one by one."""

EXIT_CODES = {"done": 0, "failed": 1, "damaged_archives": 1, "too_many_errors": 3}
"""By status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The engine that served, where one is built.

    Attributes:
        key: In the engine store.
        built: Whether this run built it.
        seconds: What that took, or loading it.
    """

    key: str | None = None
    built: bool | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A finished run in numbers; the one JSON object that `--json` prints.

    Attributes:
        run_id: Names the run.
        status: 'done', 'too_many_errors', 'damaged_archives', or 'failed' where some shards
            could not be done.
        exit_code: What the command returns: 0, 3 or 1.
        images: All inputs that have a row, those of earlier runs included: ok + errors, and
            skipped + rows_written.
        ok: Images with a label.
        errors: Images without.
        errors_by_kind: Those by error_kind.
        skipped: Rows that were there already.
        rows_written: Rows that this run computed.
        unlisted_rows_written: Others that it computed: of images that were not listed now, and
            share a shard with those that were.
        changed: Rows that it replaced because the images had changed.
        retried: Errors that it tried again (--retry-errors).
        pruned: Rows that it removed because the images are gone (--prune).
        ignored: Files and links that are no images.
        damaged: Archives of which nothing is published: which, where, and why.
        missing: Images without a row, because their shards failed.
        failed_shards: Why, by shard.
        planning_seconds: Listing the images and planning shards.
        seconds: From the start of the listing to the last published file.
        first_result_seconds: From the start of the command's process until the first batch was
            back from the device; None where there was nothing to do.
        images_per_second: rows_written over the seconds of classifying.
        backend: What ran the model, in this run or in the one that wrote the rows.
        precision: Likewise.
        requested_precision: What --precision asked for.
        gate: What the accuracy gate found, as in the files' footers and with the flips: `status`,
            `why`, `trials`; None where the files are of a version that had none.
        self_test: What the model was tested for before the first image; None where it was not.
        model_id: Of the model.
        engine: Of the backend.
        output: The output directory.
    """

    run_id: str
    status: str
    exit_code: int
    images: int
    ok: int
    errors: int
    errors_by_kind: dict[str, int] = field(default_factory=dict)
    skipped: int
    rows_written: int
    unlisted_rows_written: int = 0
    changed: int
    retried: int = 0
    pruned: int = 0
    ignored: int
    damaged: tuple[str, ...] = ()
    missing: int = 0
    failed_shards: dict[str, str] = field(default_factory=dict)
    planning_seconds: float
    seconds: float
    first_result_seconds: float | None
    images_per_second: float
    backend: str | None
    precision: str | None
    requested_precision: str | None
    gate: Mapping[str, Any] | None
    self_test: tuple[Check, ...] | None
    model_id: str
    engine: Engine
    output: str

    def lines(self) -> list[str]:
        """The summary for a person."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.errors_by_kind.items())
        output = self.output.rstrip("/")
        lines = [
            self._first_line(),
            f"{self.images:,} images: {self.ok:,} ok, {self.errors:,} errors"
            + (f" ({kinds})" if kinds else "")
            + f"; {self.skipped:,} skipped as done before; {self.ignored:,} other files ignored.",
            *self._changes(),
            *gate_lines(self.precision or "", self.gate),
            *(f"Self-test: {c}." for c in self.self_test or () if c.status == "warning"),
            f"Table: {output}/predictions   Record: {output}/runs/{self.run_id}/run.json",
        ]
        if self.errors:
            lines.append(f"Errors: {output}/runs/{self.run_id}/errors.csv")
        failed = [f"shard {shard}: {why}" for shard, why in self.failed_shards.items()]
        lines += [f"Failed, run again to retry: {text}" for text in failed[:MAX_FAILED]]
        if (left := len(failed) - MAX_FAILED) > 0:
            lines.append(f"Failed as well: {left:,} other shards; failed_shards in the record.")
        lines += [f"Damaged, and nothing of it is published: {text}" for text in self.damaged]
        if self.status == "too_many_errors":
            share = 100 * self.errors / self.images
            lines.append(f"More errors than --max-error-rate allows: {share:.1f} % of the images.")
        return lines

    def _first_line(self) -> str:
        if self.rows_written:
            return (
                f"Classified {self.rows_written:,} images in {self.seconds:.1f} s "
                f"({self.images_per_second:,.0f} images/s) with {self.backend} {self.precision}."
            )
        if self.missing:
            return f"Nothing done: {self.missing:,} images have no row."
        what = "classify" if self.pruned else "do"
        return f"Nothing to {what}: all {self.images:,} images have their rows already."

    def _changes(self) -> list[str]:
        """What became of rows that were there before."""
        counts = {
            "replaced because the images changed": self.changed,
            "errors tried again": self.retried,
            "removed because the images are gone": self.pruned,
            "of unlisted images, computed with their shards": self.unlisted_rows_written,
        }
        texts = [f"{count:,} {text}" for text, count in counts.items() if count]
        return [f"Rows: {', '.join(texts)}."] if texts else []


def finish(job: Job, plan: Plan, outcome: Outcome) -> Summary:
    """Count what is in the table, see that nothing is missing, and write the record of the run.

    Raises:
        OutputError: A file that was published is not there, or the record cannot be written.
    """
    counts = count(job, plan)
    failed = {**outcome.failed, **counts.damaged, **write_quarantine(job, plan)}
    for shard_id in counts.missing.keys() - failed.keys():
        raise _vanished(job, shard_id)
    status = _status(job, plan, failed, counts)
    made_by, ready = counts.made_by, outcome.ready
    summary = Summary(
        run_id=job.run_id,
        status=status,
        exit_code=EXIT_CODES[status],
        images=counts.images,
        ok=counts.images - counts.errors,
        errors=counts.errors,
        errors_by_kind=dict(counts.errors_by_kind.most_common()),
        skipped=counts.images - counts.written,
        rows_written=counts.written,
        unlisted_rows_written=counts.unlisted_written,
        changed=counts.changed,
        retried=counts.retried,
        pruned=counts.pruned,
        ignored=sum(plan.ignored.values()),
        damaged=plan.damaged,
        missing=sum(counts.missing.values()),
        failed_shards=failed,
        planning_seconds=round(plan.seconds, 3),
        seconds=round(plan.seconds + outcome.seconds, 3),
        first_result_seconds=outcome.reached.get(FIRST_RESULT),
        images_per_second=round(counts.written / outcome.seconds, 1) if counts.written else 0.0,
        backend=made_by.backend if made_by else None,
        precision=made_by.precision if made_by else None,
        requested_precision=made_by.requested_precision if made_by else None,
        gate=_gate(made_by, outcome),
        self_test=outcome.self_test,
        model_id=job.model.model_id,
        engine=Engine(
            key=made_by.engine_key if made_by else None,
            built=ready.engine_built if ready else None,
            seconds=ready.engine_seconds if ready else None,
        ),
        output=job.settings.output,
    )
    more = {
        **asdict(summary),
        "startup_seconds": dict(outcome.reached),
        "shards": [shard.id for shard in plan.todo],
    }
    write_run_record(job.tree, job.run_id, record(job, plan, more))
    return summary


def _status(job: Job, plan: Plan, failed: Mapping[str, str], counts: Counts) -> str:
    """What is missing weighs more than what has an error row."""
    if failed:
        return "failed"
    if plan.damaged:
        return "damaged_archives"
    too_many = counts.errors > job.settings.max_error_rate * counts.images
    return "too_many_errors" if too_many else "done"


def _gate(made_by: Provenance | None, outcome: Outcome) -> Mapping[str, Any] | None:
    if outcome.ready is not None:
        return outcome.ready.decision.record()
    return made_by.gate if made_by else None


def _vanished(job: Job, shard_id: str) -> OutputError:
    return OutputError(
        f"{job.tree.shard_path(job.model.model_id, shard_id)} was published by this run and is "
        f"gone: something else removes files below {job.settings.output}. Run the same command "
        "again."
    )
