"""The list of a run's images that have no label."""

from __future__ import annotations

from collections.abc import Iterator

from shards.errors import DamagedFileError
from shards.predictions import Table
from shards.quarantine import COLUMNS, error_rows, write_errors
from shards.shard_ref import ShardRef
from shards.upkeep import Upkeep
from tasks.job import Job, Plan

__all__ = ["write_quarantine"]


def write_quarantine(job: Job, plan: Plan) -> dict[str, str]:
    """Write `errors.csv`: the errors among the listed images, those of earlier runs included.

    No file for none.

    Returns:
        By shard id, of what file it could not list all errors because it is damaged, and what to
        do about it.

    Raises:
        OutputError: The table cannot be read, or the file not be written.
    """
    damaged: dict[str, str] = {}
    write_errors(job.tree, job.run_id, _errors(job, plan, damaged))
    return damaged


def _errors(job: Job, plan: Plan, damaged: dict[str, str]) -> Iterator[Table]:
    """Read the files that have errors, one after the other."""
    files = job.upkeep(plan.partly)
    others = files.footers(shard for shard in plan.shards if shard not in plan.done)
    for shard, footer in sorted([*plan.done.items(), *others], key=lambda found: found[0]):
        try:
            if isinstance(footer, DamagedFileError):
                raise footer
            if footer is not None and footer.errors_by_kind:
                yield from _errors_of(job, plan, files, shard)
        except DamagedFileError as error:
            damaged[shard.id] = str(error)


def _errors_of(job: Job, plan: Plan, files: Upkeep, shard: ShardRef) -> Iterator[Table]:
    if (bits := plan.partly.get(shard.id)) is None:
        yield from error_rows(job.tree.shard_path(job.model.model_id, shard.id))
    elif (found := files.listed_rows(shard, bits, COLUMNS)) is not None:
        yield found[1]
