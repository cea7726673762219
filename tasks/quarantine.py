"""The list of a run's images that have no label."""

from __future__ import annotations

from collections.abc import Iterator

from shards.predictions import Table
from shards.quarantine import COLUMNS, error_rows, write_errors
from tasks.job import Job, Plan

__all__ = ["write_quarantine"]


def write_quarantine(job: Job, plan: Plan) -> int:
    """Write `errors.csv`: the errors among the listed images, those of earlier runs included.

    Returns:
        How many there are; no file for none.

    Raises:
        OutputError: The table cannot be read, or the file not be written.
    """
    return write_errors(job.tree, job.run_id, _errors(job, plan))


def _errors(job: Job, plan: Plan) -> Iterator[Table]:
    """Read the files that have errors, one after the other."""
    files = job.upkeep(plan.partly)
    for shard in sorted([*plan.todo, *plan.done]):
        footer = plan.done.get(shard) or files.footer(shard)
        if footer is None or not footer.errors_by_kind:
            continue
        if (bits := plan.partly.get(shard.id)) is None:
            yield from error_rows(job.tree.shard_path(job.model.model_id, shard.id))
        elif (found := files.listed_rows(shard, bits, COLUMNS)) is not None:
            yield found[1]
