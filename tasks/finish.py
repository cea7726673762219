"""The last step: everything is counted, must add up, and is written down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from engines.check import Check
from shards.commit import write_run_record
from shards.errors import OutputError
from shards.footer import FooterInfo, read_footer
from tasks.decision import gate_lines
from tasks.job import FIRST_RESULT, Job, Outcome, Plan
from tasks.version import tool_version

__all__ = ["Engine", "Summary", "finish"]

EXIT_CODES = {"done": 0, "damaged_archives": 1, "too_many_errors": 3}
"""By status. What is missing weighs more than what has an error row."""


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
        status: 'done', 'too_many_errors', or 'damaged_archives'.
        exit_code: What the command returns: 0, 3 or 1.
        images: All inputs, those of earlier runs included: ok + errors.
        ok: Images with a label.
        errors: Images without.
        errors_by_kind: Those by error_kind.
        skipped: Rows that were there already.
        rows_written: Rows that are new.
        ignored: Files and links that are no images.
        damaged: Archives of which nothing is published: which, where, and why.
        changed: Images that changed since their rows were computed.
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
    ignored: int
    damaged: tuple[str, ...] = ()
    changed: int
    planning_seconds: float
    seconds: float
    first_result_seconds: float | None
    images_per_second: float
    backend: str
    precision: str
    requested_precision: str | None
    gate: Mapping[str, Any] | None
    self_test: tuple[Check, ...] | None
    model_id: str
    engine: Engine
    output: str

    def lines(self) -> list[str]:
        """The summary for a person."""
        if self.rows_written == 0:
            first = f"Nothing to do: all {self.images:,} images have their rows already."
        else:
            first = (
                f"Classified {self.rows_written:,} images in {self.seconds:.1f} s "
                f"({self.images_per_second:,.0f} images/s) with {self.backend} {self.precision}."
            )
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.errors_by_kind.items())
        lines = [
            first,
            f"{self.images:,} images: {self.ok:,} ok, {self.errors:,} errors"
            + (f" ({kinds})" if kinds else "")
            + f"; {self.skipped:,} skipped as done before; {self.ignored:,} other files ignored.",
            *gate_lines(self.precision, self.gate),
            *(f"Self-test: {c}." for c in self.self_test or () if c.status == "warning"),
            f"Table: {self.output}/predictions   Record: {self.output}/runs/{self.run_id}/run.json",
        ]
        lines += [f"Damaged, and nothing of it is published: {text}" for text in self.damaged]
        if self.status == "too_many_errors":
            share = 100 * self.errors / self.images
            lines.append(f"More errors than --max-error-rate allows: {share:.1f} % of the images.")
        return lines


def finish(job: Job, plan: Plan, outcome: Outcome) -> Summary:
    """Count what is in the table, see that nothing is missing, and write the record of the run.

    Raises:
        OutputError: A file that was published is not there, or the record cannot be written.
    """
    published = [_footer(job, shard.id) for shard in plan.todo]
    footers = [*plan.done, *published]
    images = sum(footer.rows for footer in footers)
    kinds: Counter[str] = Counter()
    for footer in footers:
        kinds.update(footer.errors_by_kind)
    errors = kinds.total()
    too_many = errors > job.settings.max_error_rate * images
    status = "damaged_archives" if plan.damaged else "too_many_errors" if too_many else "done"
    written = sum(footer.rows for footer in published)
    made_by = footers[-1].provenance
    ready = outcome.ready
    summary = Summary(
        run_id=job.run_id,
        status=status,
        exit_code=EXIT_CODES[status],
        images=images,
        ok=images - errors,
        errors=errors,
        errors_by_kind=dict(kinds.most_common()),
        skipped=images - written,
        rows_written=written,
        ignored=sum(plan.ignored.values()),
        damaged=plan.damaged,
        changed=plan.changed,
        planning_seconds=round(plan.seconds, 3),
        seconds=round(plan.seconds + outcome.seconds, 3),
        first_result_seconds=outcome.reached.get(FIRST_RESULT),
        images_per_second=round(written / outcome.seconds, 1) if written else 0.0,
        backend=made_by.backend,
        precision=made_by.precision,
        requested_precision=made_by.requested_precision,
        gate=made_by.gate if ready is None else ready.decision.record(),
        self_test=outcome.self_test,
        model_id=job.model.model_id,
        engine=Engine(
            key=made_by.engine_key,
            built=ready.engine_built if ready else None,
            seconds=ready.engine_seconds if ready else None,
        ),
        output=job.settings.output,
    )
    write_run_record(job.tree, job.run_id, _record(job, plan, outcome, summary))
    return summary


def _footer(job: Job, shard_id: str) -> FooterInfo:
    path = job.tree.shard_path(job.model.model_id, shard_id)
    footer = read_footer(path)
    if footer is None:
        raise OutputError(
            f"{path} was published by this run and is gone: something else removes files below "
            f"{job.settings.output}. Run the same command again."
        )
    return footer


def _record(job: Job, plan: Plan, outcome: Outcome, summary: Summary) -> dict[str, Any]:
    """The record of the run: run.json."""
    return {
        **asdict(summary),
        "tool_version": tool_version(),
        "started_at": job.started_at.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "startup_seconds": dict(outcome.reached),
        "listed_by_source": plan.by_source,
        "ignored_by_reason": plan.ignored,
        "shards": [shard.id for shard in plan.todo],
        "parameters": job.settings.model_dump(mode="json"),
        "model": {
            "digest": job.model.digest,
            "labels_digest": job.model.labels_digest,
            "classes": len(job.model.labels),
            "activation": job.model.activation,
            "preprocess": json.loads(job.model.spec.to_json()),
            "sources": dict(job.model.sources),
        },
    }
