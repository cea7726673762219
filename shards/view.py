"""A shard's file beside what the plan log says of it, and the file that follows from both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from shards.footer import FooterInfo
from shards.output import Identity
from shards.plan import ShardRef
from shards.row_masks import RowMask, equal_to, places_of

__all__ = ["View", "merged_rows", "rewrite_counts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A shard's file, and what the log says.

    Attributes:
        identity: Which file it is; None where there is none.
        footer: Its footer.
        latest: The log's latest word.
        before: Rows of the plan that the file has.
        there: Rows of the plan whose images are there.
        same: Those that have not changed since the file was written.
        kept: Those whose rows in the file stay.
    """

    identity: Identity | None
    footer: FooterInfo | None
    latest: ShardRef
    before: RowMask
    there: RowMask
    same: RowMask
    kept: RowMask

    @classmethod
    def of_no_file(cls, latest: ShardRef, there: RowMask) -> View:
        """A shard without a file: it has nothing to keep."""
        none = np.zeros_like(there)
        return cls(
            identity=None,
            footer=None,
            latest=latest,
            before=none,
            there=there,
            same=none,
            kept=none,
        )

    @property
    def needed(self) -> RowMask:
        """Rows that are to be computed."""
        return self.there & ~self.kept

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be computed, and nothing to leave."""
        return (
            self.footer is not None
            and bool((self.before == self.there).all())
            and not self.needed.any()
        )


def merged_rows(
    present: pa.Table | None, view: View, computed: RowMask, table: pa.Table | None
) -> pa.Table:
    """Return the rows of all images that are there, in the plan's order.

    Args:
        present: The file's rows; None for no file.
        view: Which of them stay.
        computed: Which rows of the plan were computed, at least those that are needed.
        table: What was computed, in this order; None for nothing.
    """
    if present is None:
        assert table is not None
        if (view.there == computed).all():
            return table
        return table.take(pa.array(places_of(computed)[view.there]))
    at = np.where(view.kept, places_of(view.before), len(present) + places_of(computed))
    both = present if table is None else pa.concat_tables([_as(present, table.schema), table])
    return both.take(pa.array(at[view.there])).replace_schema_metadata(None)


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give rows of an earlier version the form of today's."""
    return rows.select(schema.names).cast(schema)


def rewrite_counts(present: pa.Table, view: View) -> dict[str, int]:
    """Count what a new file has in common with the one that it replaces (FooterInfo.rewrite)."""
    failed = np.zeros_like(view.before)
    failed[view.before] = equal_to(present, "status", "error")
    masks = {
        "kept": view.kept,
        "changed": view.needed & view.before & ~view.same,
        "added": view.needed & ~view.before,
        "retried": view.needed & view.same & failed,
        "overwritten": view.needed & view.same & ~failed,
        "removed": view.before & ~view.there,
    }
    return {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
