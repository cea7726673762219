"""What the table holds of a run's images, and what of it the run wrote: read from the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from shards.errors import DamagedFileError
from shards.footer import FooterInfo, Provenance
from shards.shard_ref import ShardRef
from shards.upkeep import Upkeep
from tasks.job import Job, Plan

__all__ = ["Counts", "count"]


@dataclass(slots=True)
class Counts:
    """Rows of the listed images, unless said otherwise.

    Attributes:
        images: All of them; those with a label and `errors_by_kind`.
        errors_by_kind: Those without a label, by error_kind.
        written: Those that this run computed.
        unlisted_written: Rows of other images that it computed, because they share a shard.
        changed: Rows that it replaced because the images changed.
        retried: Errors that it tried again.
        pruned: Rows that it removed because the images are gone.
        missing: Shards that have no file, or a damaged one, and their images.
        damaged: Those whose file is damaged, and what to do about it.
        made_by: What computed the last file.
    """

    images: int = 0
    errors_by_kind: Counter[str] = field(default_factory=Counter)
    written: int = 0
    unlisted_written: int = 0
    changed: int = 0
    retried: int = 0
    pruned: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    made_by: Provenance | None = None

    @property
    def errors(self) -> int:
        """Images without a label."""
        return self.errors_by_kind.total()


def count(job: Job, plan: Plan) -> Counts:
    """Count the rows of a plan's images.

    Raises:
        OutputError: A file of the table cannot be read.
    """
    counts = Counts()
    files = job.upkeep(plan.partly)
    whole = [s for s in plan.shards if s not in plan.done and s.id not in plan.partly]
    footers = {**plan.done, **dict(files.footers(whole))}
    for shard in plan.shards:
        try:
            footer = _add_file(counts, files, shard, footers, plan, job.run_id)
        except DamagedFileError as error:
            footer, counts.damaged[shard.id] = None, str(error)
        if footer is None:
            counts.missing[shard.id] = _listed(shard, plan)
            continue
        counts.made_by = footer.provenance
        if footer.rewrite is not None and footer.rewrite["run_id"] == job.run_id:
            counts.changed += footer.rewrite["changed"]
            counts.retried += footer.rewrite["retried"]
            counts.pruned += footer.rewrite["removed"]
    return counts


def _add_file(
    counts: Counts,
    files: Upkeep,
    shard: ShardRef,
    footers: Mapping[ShardRef, FooterInfo | DamagedFileError | None],
    plan: Plan,
    run_id: str,
) -> FooterInfo | None:
    """Count the listed rows of a file, which may have others; returns its footer."""
    if (bits := plan.partly.get(shard.id)) is None:
        footer = footers[shard]
        if isinstance(footer, DamagedFileError):
            raise footer
        if footer is not None:
            counts.images += footer.rows
            counts.errors_by_kind.update(footer.errors_by_kind)
            counts.written += _written(footer, run_id)
        return footer
    # Footer and rows of one file: a run may replace it at any moment.
    found = files.listed_rows(shard, bits, ["error_kind", "run_id"])
    if found is None:
        return None
    footer, rows = found
    written: int = rows.column("run_id").to_pylist().count(run_id)
    counts.images += len(rows)
    counts.errors_by_kind.update(rows.column("error_kind").drop_null().to_pylist())
    counts.written += written
    counts.unlisted_written += _written(footer, run_id) - written
    return footer


def _written(footer: FooterInfo, run_id: str) -> int:
    """Rows of a file that a run computed."""
    if footer.runs is None:  # of a version that rewrote files whole
        return footer.rows if footer.provenance.run_id == run_id else 0
    return footer.runs.get(run_id, 0)


def _listed(shard: ShardRef, plan: Plan) -> int:
    """Listed images of a shard."""
    bits = plan.partly.get(shard.id)
    return shard.rows if bits is None else int.from_bytes(bits).bit_count()
