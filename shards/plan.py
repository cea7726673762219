"""The plan log: every image belongs to exactly one shard, whoever listed it, and for ever.

`OUT/state/plans/000001.parquet`, `000002.parquet`, ... are written once and never changed. A plan
holds either images that no earlier plan has, in new shards, or revisions: of shards that earlier
plans made, all images as they are now, some changed, some gone. The latest word on a shard counts.
An image never leaves its shard, not even when it is gone, so none can come to have two rows.

Plan n+1 comes into being complete, under a name that only one run can take. A run that finds the
name taken takes the winner's images out of its own plan, or puts its changes on top of the
winner's, and tries the next name. An image is its key (see shards.inputs): sources that overlap,
in one run or in several, share their images.

Planning is one pass over a sorted listing and the sorted plans, in batches: memory grows with the
number of shards and plans, not of images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from shards.errors import OutputError
from shards.extension import Extension, PlanUpdate
from shards.inputs import InputBatch, ShardInputs
from shards.output import OutputTree
from shards.plan_index import PlanIndex
from shards.planning import Prune
from shards.revision_file import present_rows
from shards.shard_ref import ShardRef

__all__ = ["PlanLog", "PlanUpdate", "Prune", "ShardRef", "work_key"]


class PlanLog:
    """The plans of one output tree. Not thread-safe; any number of processes may extend it."""

    def __init__(self, tree: OutputTree, *, tool_version: str) -> None:
        self._tree = tree
        self._tool_version = tool_version
        self._index = PlanIndex(tree)

    def extend(
        self,
        batches: Iterable[InputBatch],
        *,
        root: bytes,
        shard_size: int,
        run_id: str,
        prune: Prune | None = None,
        found_work: Callable[[], None] = lambda: None,
    ) -> PlanUpdate:
        """Add a plan for those images that no plan holds, and one for those that changed.

        Args:
            batches: As for `Extension.add`.
            root: As for `Extension.add`.
            shard_size: Rows of a new shard; the last may have fewer.
            run_id: Recorded in the plans.
            prune: As for `Extension.add`.
            found_work: Called as soon as an image is found that is new or has changed, once or
                more often.

        Raises:
            OutputError: The log cannot be read or written.
            SourceError: More images are gone than may be; no plan is added.
        """
        with self.extending(shard_size=shard_size, run_id=run_id, found_work=found_work) as one:
            one.add(batches, root=root, prune=prune)
            return one.publish()[0]

    def extending(
        self, *, shard_size: int, run_id: str, found_work: Callable[[], None] = lambda: None
    ) -> Extension:
        """Begin to add plans for several listings, whose changes count together or not at all.

        Args:
            shard_size: As for `extend`.
            run_id: As for `extend`.
            found_work: As for `extend`.

        Returns:
            To be closed, which gives up what was not published.

        Raises:
            OutputError: The log cannot be read.
        """
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, not {shard_size}")
        self._index.refresh()
        return Extension(
            self._tree,
            self._index,
            shard_size=shard_size,
            run_id=run_id,
            tool_version=self._tool_version,
            found_work=found_work,
        )

    def read(self, shard: ShardRef) -> ShardInputs:
        """Return the images of a shard; decodes some thousand rows of its plan, not all.

        Raises:
            OutputError: The plan cannot be read.
        """
        rows = self.rows(shard)
        return self.inputs(shard, rows.filter(present_rows(rows)))

    def rows(self, shard: ShardRef) -> pa.Table:
        """Return all rows of a shard in INPUT_SCHEMA, those of images that are gone included.

        Raises:
            OutputError: The plan cannot be read.
        """
        self._know(shard)
        return self._index.rows(shard)

    def inputs(self, shard: ShardRef, rows: pa.Table) -> ShardInputs:
        """Return some of a shard's rows as images."""
        self._know(shard)
        some = InputBatch.from_table(rows)
        root = self._index.plans[shard.plan].header.root
        return ShardInputs(
            shard, root, some.keys, some.sizes, some.mtimes_ns, some.offsets, some.extras
        )

    def latest(self, shard: ShardRef) -> ShardRef:
        """Return a shard as it is now; looks for plans that have come since.

        Raises:
            OutputError: The log cannot be read.
        """
        self._index.refresh()
        self._know(shard)
        return self._index.latest(shard.plan, shard.ordinal)

    def history(self, shard: ShardRef) -> Iterator[ShardRef]:
        """Yield all that plans have said of a shard, the latest first."""
        self._know(shard)
        return self._index.history(shard.plan, shard.ordinal)

    def shards(self) -> Iterator[ShardRef]:
        """Yield every shard of every plan as it is now, in order.

        Raises:
            OutputError: The log cannot be read.
        """
        self._index.refresh()
        return self._index.shards()

    def _know(self, shard: ShardRef) -> None:
        if max(shard.plan, shard.revision) > self._index.last:
            self._index.refresh()
        if shard.plan not in self._index.plans:
            raise OutputError(
                f"the plan {self._tree.plan_path(shard.plan)} is missing. It says which images "
                "have rows already: restore it, or use an empty --output."
            )


def work_key(shard: ShardRef, *, model_id: str, schema_version: str) -> str:
    """Return what a finished file must carry to count as done: SHA-256, hexadecimal.

    Other images, another model or another table make another key; another precision, backend or
    version does not.
    """
    text = f"nightshift work 1\n{shard.digest}\n{model_id}\n{schema_version}"
    return hashlib.sha256(text.encode()).hexdigest()
