"""A plan of revisions: what became of shards that earlier plans made.

It lists all images of each shard that it revises, in the shard's order: those that changed with
their new size and time, those that are gone with the size GONE. A shard's keys are the same in
every revision, so an image that comes back finds its place, and no image ever has two.

Row groups are whole shards. Its format is one that versions without revisions refuse to read.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import OutputError
from shards.inputs import GONE, INPUT_ENCODINGS, INPUT_SCHEMA
from shards.place import Place, opened_in_parts
from shards.plan_file import GROUP_ROWS, digest_of, plan_errors
from shards.plan_header import HEADER_KEY, damaged
from shards.shard_ref import ShardRef

__all__ = ["Revision", "RevisionFile", "RevisionWriter", "is_revision"]

FORMAT_VERSION = 3

REVISIONS_KEY = b"nightshift.revisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One shard in a plan of revisions.

    Attributes:
        plan: The plan that made the shard.
        ordinal: Its number in that plan.
        start: Its first row here.
        rows: Its rows here, those of images that are gone included.
        present: Images in it now.
        digest: SHA-256 of its root, and the keys, sizes and times of those present.
    """

    plan: int
    ordinal: int
    start: int
    rows: int
    present: int
    digest: str

    @property
    def shard(self) -> tuple[int, int]:
        """What names the shard: plan and ordinal."""
        return self.plan, self.ordinal


class RevisionWriter:
    """Writes a plan of revisions; holds one row group.

    Nothing is a plan before `finish` returned and the file was published.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.revisions: list[Revision] = []
        self._rows = 0
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._writer = pq.ParquetWriter(
            file,
            INPUT_SCHEMA,
            compression="zstd",
            use_dictionary=False,
            column_encoding=INPUT_ENCODINGS,
            write_page_checksum=True,
        )

    def append(self, plan: int, ordinal: int, root: bytes, rows: pa.Table) -> None:
        """Add a shard: all of its rows, in INPUT_SCHEMA."""
        present = rows.filter(present_rows(rows))
        revision = Revision(
            plan=plan,
            ordinal=ordinal,
            start=self._rows,
            rows=len(rows),
            present=len(present),
            digest=digest_of(root, present),
        )
        self.revisions.append(revision)
        self._rows += len(rows)
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows >= GROUP_ROWS:
            self._flush()

    def finish(self, *, plan: int, run_id: str, tool_version: str, created_at: str) -> None:
        """Write what is pending and the footer."""
        self._flush()
        header = {
            "plan": plan,
            "run_id": run_id,
            "tool_version": tool_version,
            "created_at": created_at,
            "rows": self._rows,
            "revisions": [asdict(revision) for revision in self.revisions],
        }
        self._writer.add_key_value_metadata(
            {
                HEADER_KEY: json.dumps({"format_version": FORMAT_VERSION}).encode(),
                REVISIONS_KEY: json.dumps(header).encode(),
            }
        )
        self._writer.close()

    def close(self) -> None:
        """Give up what is unfinished; the file is removed unread."""
        with suppress(OSError, pa.ArrowException):
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _flush(self) -> None:
        if self._pending:
            table = pa.concat_tables(self._pending)
            self._writer.write_table(table, row_group_size=len(table))
        self._pending, self._pending_rows = [], 0


class RevisionFile:
    """One finished plan of revisions, opened for reading; no file stays open between calls.

    Not thread-safe: it remembers the row group it read last.

    Attributes:
        number: Of the plan.
        revisions: The shards in it.
    """

    def __init__(self, path: Place, metadata: pq.FileMetaData, *, number: int) -> None:
        """Take what the footer says.

        Raises:
            OutputError: It is damaged, or another plan than its name says.
        """
        self.number = number
        self._path = path
        self._metadata = metadata
        try:
            header = json.loads(metadata.metadata[REVISIONS_KEY])
            self.revisions = tuple(Revision(**fields) for fields in header["revisions"])
            fits = (header["rows"], header["plan"]) == (metadata.num_rows, number)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, f"its header is not understood: {error}") from error
        if not fits:
            raise damaged(path, f"its header is of plan {header['plan']}, {header['rows']} rows")
        groups = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        self._starts = [0, *accumulate(groups)]
        self._loaded: tuple[int, pa.Table] | None = None

    def ref(self, revision: Revision) -> ShardRef:
        """Return the shard as it is from here on."""
        plan, ordinal = revision.shard
        return ShardRef(plan, ordinal, revision.present, revision.digest, self.number)

    def read(self, revision: Revision) -> pa.Table:
        """Return all rows of a shard, in INPUT_SCHEMA.

        Raises:
            OutputError: The file cannot be read.
        """
        group = bisect_right(self._starts, revision.start) - 1
        if self._loaded is None or self._loaded[0] != group:
            with plan_errors(self._path), opened_in_parts(self._path) as source:
                file = pq.ParquetFile(
                    source, metadata=self._metadata, page_checksum_verification=True
                )
                self._loaded = group, file.read_row_group(group).combine_chunks()
        return self._loaded[1].slice(revision.start - self._starts[group], revision.rows)

    def forget(self) -> None:
        """Free the row group that was read last."""
        self._loaded = None


def is_revision(path: Place, metadata: pq.FileMetaData) -> bool:
    """Whether an opened file is a plan of revisions.

    Raises:
        OutputError: It is one of a later format.
    """
    found = metadata.metadata or {}
    if REVISIONS_KEY not in found:
        return False
    try:
        version = json.loads(found[HEADER_KEY])["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"its header is not understood: {error}") from error
    if version != FORMAT_VERSION:
        raise OutputError(
            f"the plan {path} has format {version}, this Nightshift reads {FORMAT_VERSION}. "
            "Use the version that wrote it, or another --output."
        )
    return True


def present_rows(rows: pa.Table) -> pa.Array:
    """Return which rows are of images that are there: bool [rows]."""
    sizes = rows.column("size").to_numpy()
    return pa.array(np.not_equal(sizes, GONE))
