"""What a plan file says of itself, as JSON in its Parquet footer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from shards.errors import OutputError
from shards.names import key_of, uris_of
from shards.place import Place

__all__ = ["HEADER_KEY", "PlanHeader", "damaged", "header_json", "parse_header"]

FORMAT_VERSION = 2
"""1 had `path` for `key`, and neither `offset` nor `extra`."""

HEADER_KEY = b"nightshift.plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHeader:
    """What a plan file says of itself.

    Attributes:
        plan: Its number, from 1.
        root: Key of the directory that file names in the table are relative to.
        run_id: The run that made it.
        tool_version: The Nightshift that made it.
        created_at: ISO 8601, UTC.
        shard_size: Rows of each shard but the last.
        group_rows: Rows of each row group but the last.
        rows: Rows in all.
        digests: SHA-256 of each shard's root, keys, sizes and times.
    """

    plan: int
    root: bytes
    run_id: str
    tool_version: str
    created_at: str
    shard_size: int
    group_rows: int
    rows: int
    digests: tuple[str, ...]

    def shard_rows(self, ordinal: int) -> range:
        """Return the rows of one shard."""
        start = ordinal * self.shard_size
        return range(start, min(start + self.shard_size, self.rows))


def header_json(header: PlanHeader) -> bytes:
    """Return a header as it is stored."""
    fields = asdict(header)
    fields["root"] = uris_of([header.root])[0]
    fields["digests"] = "".join(header.digests)
    return json.dumps({"format_version": FORMAT_VERSION, **fields}).encode()


def parse_header(path: Place, metadata: pq.FileMetaData) -> PlanHeader:
    """Return the header of an opened file.

    Raises:
        OutputError: It is no plan, a damaged one, or one of another format.
    """
    text = (metadata.metadata or {}).get(HEADER_KEY)
    if text is None:
        raise damaged(path, "it is no plan")
    try:
        header = _header(path, json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"its header is not understood: {error}") from error
    if header.rows != metadata.num_rows:
        raise damaged(path, f"it has {metadata.num_rows} rows instead of {header.rows}")
    return header


def _header(path: Place, fields: dict[str, Any]) -> PlanHeader:
    if not 1 <= (version := fields.pop("format_version")) <= FORMAT_VERSION:
        raise OutputError(
            f"the plan {path} has format {version}, this Nightshift reads 1 to {FORMAT_VERSION}. "
            "Use the version that wrote it, or another --output."
        )
    digests = fields["digests"]
    fields["digests"] = tuple(digests[i : i + 64] for i in range(0, len(digests), 64))
    fields["root"] = key_of(fields["root"])
    return PlanHeader(**fields)


def damaged(path: Place, reason: str) -> OutputError:
    """Return the error for a plan that cannot be relied on."""
    return OutputError(
        f"cannot read the plan {path}: {reason}. It says which images have rows already: restore "
        "it from a backup, or start again with an empty --output."
    )
