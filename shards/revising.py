"""Changes to shards on their way into the plan log."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.closing import Closing
from shards.errors import OutputError
from shards.output import OutputTree, StagedFile, output_errors
from shards.plan_file import plan_metadata
from shards.plan_index import PlanIndex
from shards.revision_file import RevisionFile, RevisionWriter
from shards.shard_ref import ShardRef

__all__ = ["Revisions"]

# As in shards.planning: each attempt that fails means that another run's plan succeeded.
MAX_ATTEMPTS = 100


class Revisions(Closing):
    """Revisions of some shards: gathered in staging, then published as one plan.

    Where another run revised a shard meanwhile, what this one found is put on top of that; of an
    image that both found changed, the log's word stays (the next listing sees whether it holds).
    """

    def __init__(
        self, tree: OutputTree, index: PlanIndex, *, run_id: str, tool_version: str
    ) -> None:
        self._tree = tree
        self._index = index
        self._run_id = run_id
        self._tool_version = tool_version
        self._stack = ExitStack()
        self._draft: tuple[StagedFile, RevisionWriter] | None = None
        self._before: dict[tuple[int, int], ShardRef] = {}

    def __contains__(self, shard: ShardRef) -> bool:
        """Whether a revision of a shard was added."""
        return (shard.plan, shard.ordinal) in self._before

    def add(self, before: ShardRef, root: bytes, rows: pa.Table) -> None:
        """Revise a shard.

        Args:
            before: The shard as the index has it.
            root: Of the plan that made it.
            rows: All of its rows, as they are now.

        Raises:
            OutputError: The file cannot be written.
        """
        if self._draft is None:
            self._draft = self._begin()
        with output_errors("write", self._tree.plans):
            self._draft[1].append(before.plan, before.ordinal, root, rows)
        self._before[before.plan, before.ordinal] = before

    def publish(self) -> int | None:
        """Make what was added the next plan, and return its number; None where nothing is left.

        Raises:
            OutputError: The file system failed, or other runs were always first.
        """
        for _ in range(MAX_ATTEMPTS):
            self._index.refresh()
            if self._draft is None:
                return None
            staged, writer = self._draft
            number = self._index.last + 1
            final = self._tree.plan_path(number)
            with output_errors("write", final):
                writer.finish(
                    plan=number,
                    run_id=self._run_id,
                    tool_version=self._tool_version,
                    created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                )
            if self._is_current() and self._tree.publish(staged, final):
                self._index.refresh()
                return number
            staged.file.flush()
            self._rebase(RevisionFile(staged.path, plan_metadata(staged.path), number=number))
        raise OutputError(
            f"{MAX_ATTEMPTS} other runs extended {self._tree.plans} first. "
            "Run the same command again when fewer start at once."
        )

    def _is_current(self) -> bool:
        """Whether no plan that is known revises the same shards."""
        return all(self._index.latest(*shard) == before for shard, before in self._before.items())

    def _rebase(self, draft: RevisionFile) -> None:
        """Begin again, on top of what other runs have published."""
        self._index.refresh()
        befores, self._before, self._draft = self._before, {}, None
        for revision in draft.revisions:
            before = befores[revision.shard]
            latest = self._index.latest(*revision.shard)
            rows = draft.read(revision)
            if latest != before:
                theirs = self._index.rows(latest)
                rows = _merged(self._index.rows(before), rows, theirs)
                if not _differing(rows, theirs).any():
                    continue
            self.add(latest, self._index.plans[latest.plan].header.root, rows)

    def _begin(self) -> tuple[StagedFile, RevisionWriter]:
        staged = self._stack.enter_context(self._tree.stage("plan-revisions"))
        with output_errors("write", self._tree.plans):
            return staged, self._stack.enter_context(RevisionWriter(staged.file))

    def close(self) -> None:
        """Give up what was not published. Idempotent."""
        self._stack.close()


def _merged(before: pa.Table, mine: pa.Table, theirs: pa.Table) -> pa.Table:
    """Return their rows, with mine where I alone changed something."""
    import pyarrow.compute as pc

    take = pa.array(_differing(mine, before) & ~_differing(theirs, before))
    columns = [
        pc.if_else(take, mine.column(name), theirs.column(name)) for name in before.column_names
    ]
    return pa.Table.from_arrays(columns, schema=before.schema).combine_chunks()


def _differing(one: pa.Table, other: pa.Table) -> NDArray[np.bool_]:
    """Return which rows are not of the same state of an image."""
    different: NDArray[np.bool_] = np.zeros(len(one), np.bool_)
    for name in ("size", "mtime_ns", "offset"):
        different |= one.column(name).to_numpy() != other.column(name).to_numpy()
    return different
