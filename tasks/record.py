"""The record of a run, `runs/<run_id>/run.json`, whether it was finished or failed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shards.commit import write_run_record
from shards.errors import ShardError
from shards.output import OutputTree
from tasks.counting import Counts, count
from tasks.errors import SettingsError
from tasks.job import Job, Plan
from tasks.version import tool_version

__all__ = ["Known", "failures_recorded", "record", "refuse_used_run_id"]

_log = logging.getLogger(__name__)

UNFINISHED = ("failed", "interrupted")
"""A run of this status may be gone on with under its own name."""

INTERRUPTED_S = 10.0
"""So long an interrupted run waits for its record to come into a bucket: its store may be gone."""


@dataclass(slots=True)
class Known:
    """What a run has found out so far.

    Attributes:
        plan: Set by whoever has planned.
    """

    plan: Plan | None = None


def record(job: Job, plan: Plan | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is put on record: what was asked for, what was found, and `more`."""
    found = {} if plan is None else _found(plan)
    return {
        **more,
        "tool_version": tool_version(),
        "started_at": job.started_at.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **found,
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


@contextmanager
def failures_recorded(job: Job) -> Iterator[Known]:
    """Write the record of a run whose block raises, as far as things are known, and let it raise.

    Where the record cannot be written, as on a full disk, the log says so.
    """
    known = Known()
    try:
        yield known
    except BaseException as error:
        if _is_interruption(error) and not isinstance(job.tree.root, Path):
            _put_on_record_in_time(job, known, error)
        else:
            _put_on_record(job, known, error)
        raise


def _put_on_record_in_time(job: Job, known: Known, error: BaseException) -> None:
    """Do not let whoever interrupts a run wait as long as an upload may take."""
    put = threading.Thread(target=_put_on_record, args=(job, known, error), daemon=True)
    put.start()
    put.join(INTERRUPTED_S)
    if put.is_alive():
        _log.warning(
            "the interrupted run could not be put on record: %s does not answer within %g s",
            *(job.tree.root, INTERRUPTED_S),
        )


def _put_on_record(job: Job, known: Known, error: BaseException) -> None:
    try:
        write_run_record(job.tree, job.run_id, record(job, known.plan, _failure(job, known, error)))
    except Exception as second:
        _log.warning("the failed run could not be put on record: %s", second)


def _is_interruption(error: BaseException) -> bool:
    """Whether a signal ended the run."""
    code = getattr(error, "exit_code", 1)
    return isinstance(code, int) and code > 128


def refuse_used_run_id(tree: OutputTree, run_id: str) -> None:
    """See that a name is free, or that of a run that did not come to its end.

    Raises:
        SettingsError: Another run has it: its record would be lost, and rows of two runs be alike.
    """
    path = tree.run_path(run_id) / "run.json"
    try:
        status = json.loads(path.read_bytes()).get("status")
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError):
        status = "unreadable"
    if status not in UNFINISHED:
        raise SettingsError(
            f"--run-id {run_id}: {path} is the record of a run of this name (status: {status}). "
            "Give another name, or none. Only a run that failed or was interrupted can be gone on "
            "with under its name."
        )


def _found(plan: Plan) -> dict[str, Any]:
    return {
        "listed_by_source": dict(plan.by_source),
        "ignored_by_reason": dict(plan.ignored),
        "planned": {"changed": plan.changed, "pruned": plan.pruned},
    }


def _failure(job: Job, known: Known, error: BaseException) -> dict[str, Any]:
    """What is known of a run that ends with an error."""
    exit_code = getattr(error, "exit_code", 1)
    text = str(error) if hasattr(error, "exit_code") else f"{type(error).__name__}: {error}"
    return {
        "run_id": job.run_id,
        "status": "interrupted" if _is_interruption(error) else "failed",
        "exit_code": exit_code,
        "error": text,
        "model_id": job.model.model_id,
        "output": job.settings.output,
        **_counts(job, known.plan),
    }


def _counts(job: Job, plan: Plan | None) -> dict[str, Any]:
    """Count what is in the table; nothing, where nothing was listed or the table cannot be read."""
    counts = Counts()
    if plan is not None:
        with suppress(ShardError):
            counts = count(job, plan)
    return {
        "images": counts.images,
        "ok": counts.images - counts.errors,
        "errors": counts.errors,
        "errors_by_kind": dict(counts.errors_by_kind.most_common()),
        "skipped": counts.images - counts.written,
        "rows_written": counts.written,
        "unlisted_rows_written": counts.unlisted_written,
        "changed": counts.changed,
        "retried": counts.retried,
        "pruned": counts.pruned,
        "missing": sum(counts.missing.values()),
    }
