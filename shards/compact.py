"""The table in few large files, elsewhere.

Never in place: readers of a glob open one file after the other, and no file system exchanges many
for one in one step, so some reader would see rows twice or not at all. And shards stay as they are
because a shard is a unit of work: its file is rewritten whole when its images change.

    ELSEWHERE/model=<model_id>/part-00000.parquet

Each input is opened once and read to its end, so a run that replaces a shard meanwhile changes
nothing of it: of every shard there are all rows of one moment.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from shards.columns import recorded_columns
from shards.errors import OutputError
from shards.exclusive import sync_directory
from shards.footer import FOOTER_KEY, SCHEMA_VERSION, FooterInfo, read_footer
from shards.output import OutputTree, output_errors
from shards.place import Place, opened
from shards.predictions import ROW_GROUP_BYTES, ROW_GROUP_ROWS, open_writer, schema_v1
from shards.seal import is_intact, seal_file
from shards.verify_tree import table_files

__all__ = ["COMPACT_KEY", "Compacted", "compact", "parts_of"]

COMPACT_KEY = b"nightshift.compacted"
"""Of the footer's entry that says what the rows are of, as JSON."""

BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file to write.

    Attributes:
        model_id: Whose rows.
        number: From 0.
        shards: Ids of the shards in it, in order.
    """

    model_id: str
    number: int
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A file that was written.

    Attributes:
        model_id: Whose rows.
        shards: How many are in it.
        rows: Likewise.
    """

    model_id: str
    shards: int
    rows: int


def parts_of(tree: OutputTree, *, model_id: str | None, rows_per_file: int) -> list[Part]:
    """Divide the table's shards among files; a file has whole shards, and at least one.

    Args:
        tree: The output.
        model_id: Whose rows; None for all models.
        rows_per_file: Most rows of a file that has several shards.

    Raises:
        OutputError: The table has files that cannot be read, or that are not Nightshift's.
    """
    files = table_files(tree)
    if files.findings:
        raise OutputError(
            f"{files.findings[0].path} is no file of the table: see what flows.verify says of "
            f"{tree.root}, and move it out of predictions/."
        )
    parts: list[Part] = []
    for model, shards in files.shards.items():
        if model_id in (None, model):
            groups = _grouped(tree, model, shards, rows_per_file)
            parts += (
                Part(model_id=model, number=number, shards=tuple(group))
                for number, group in enumerate(groups)
            )
    return parts


def _grouped(
    tree: OutputTree, model_id: str, shards: Sequence[str], rows_per_file: int
) -> Iterator[list[str]]:
    group: list[str] = []
    rows = 0
    paths = [tree.shard_path(model_id, shard) for shard in shards]
    for shard, footer in zip(shards, tree.ahead(read_footer, paths), strict=True):
        if footer is None:  # removed since, to be computed again
            continue
        if group and rows + footer.rows > rows_per_file:
            yield group
            group, rows = [], 0
        group.append(shard)
        rows += footer.rows
    if group:
        yield group


def compact(
    tree: OutputTree, parts: Sequence[Part], target: Path, *, workers: int, tool_version: str
) -> list[Compacted]:
    """Write files beside `target`, check them, and give them that name in one step.

    Args:
        tree: The output; not changed.
        parts: As `parts_of` gives them.
        target: A directory that does not exist, or is empty, outside of the output.
        workers: Files written at once; each holds a row group of at most 128 MiB, and its
            encoding.
        tool_version: Recorded in the files.

    Raises:
        OutputError: An input is damaged or gone, or the file system failed. There is no `target`,
            or the empty one that was there.
    """
    schema = schema_v1(recorded_columns(tree))
    staging = target.with_name(f".{target.name}.{uuid4().hex}.inprogress")
    with output_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    try:
        written = _write_all(tree, parts, staging, schema, workers, tool_version)
        with output_errors("write", target):
            for directory in (*staging.iterdir(), staging):
                sync_directory(directory)
            staging.rename(target)  # takes the place of an empty directory, and of no other
            sync_directory(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return written


def _write_all(
    tree: OutputTree,
    parts: Sequence[Part],
    staging: Path,
    schema: pa.Schema,
    workers: int,
    tool_version: str,
) -> list[Compacted]:
    threads = ThreadPoolExecutor(workers, "compact")
    try:
        calls = [
            threads.submit(_write, tree, part, staging, schema, tool_version) for part in parts
        ]
        return [call.result() for call in calls]
    finally:  # what has not begun when one fails, or the user interrupts, never does
        threads.shutdown(cancel_futures=True)


def _write(
    tree: OutputTree, part: Part, staging: Path, schema: pa.Schema, tool_version: str
) -> Compacted:
    folder = staging / tree.shard_path(part.model_id, part.shards[0]).parent.name
    path = folder / f"part-{part.number:05d}.parquet"
    footers: dict[str, FooterInfo] = {}
    with output_errors("write", path):
        folder.mkdir(exist_ok=True)
        with path.open("x+b") as file:
            with open_writer(file, schema) as writer:
                for group in _row_groups(_rows(tree, part, schema, footers)):
                    writer.write_table(group, row_group_size=len(group))
                entry = _entry(part, footers, tool_version)
                writer.add_key_value_metadata({COMPACT_KEY: json.dumps(entry).encode()})
            seal_file(file)
            file.flush()
            os.fsync(file.fileno())
            _check(file, path, entry["rows"])
    return Compacted(model_id=part.model_id, shards=len(part.shards), rows=entry["rows"])


def _rows(
    tree: OutputTree, part: Part, schema: pa.Schema, footers: dict[str, FooterInfo]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all shards, and gather their footers."""
    for shard in part.shards:
        path = tree.shard_path(part.model_id, shard)
        with _input_errors(path), opened(path) as source:
            if is_intact(source) is False:
                raise ValueError("its bytes are not those that were written")
            source.seek(0)
            file = pq.ParquetFile(source, page_checksum_verification=True)
            footer = FooterInfo.from_json(file.metadata.metadata.get(FOOTER_KEY, b"null"))
            if not file.schema_arrow.equals(schema):
                raise ValueError("it has other columns than the table")
            footers[shard] = footer
            left = footer.rows
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                left -= len(batch)
                yield batch
            if left:
                raise ValueError(f"it has {footer.rows - left:,} rows instead of {footer.rows:,}")


@contextmanager
def _input_errors(path: Place) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise OutputError(
            f"cannot read {path}: {error}. See what flows.verify says of the output; nothing was "
            "written."
        ) from error


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Gather batches to tables of a row group's size."""
    gathered: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        gathered.append(batch)
        rows += len(batch)
        size += batch.nbytes
        if rows + BATCH_ROWS > ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(gathered).replace_schema_metadata()
            gathered, rows, size = [], 0, 0
    if gathered:
        yield pa.Table.from_batches(gathered).replace_schema_metadata()


def _entry(part: Part, footers: dict[str, FooterInfo], tool_version: str) -> dict[str, Any]:
    """What the rows are of: every input, and each way in which some were computed once."""
    ways: list[dict[str, Any]] = []
    files = []
    kinds: Counter[str] = Counter()
    for shard, footer in footers.items():
        way = asdict(footer.provenance)
        if way not in ways:
            ways.append(way)
        kinds.update(footer.errors_by_kind)
        files.append(
            {
                "shard": shard,
                "rows": footer.rows,
                "work_key": footer.work_key,
                "schema_version": footer.schema_version,
                "provenance": ways.index(way),
            }
        )
    rows = sum(footer.rows for footer in footers.values())
    return {
        "schema_version": SCHEMA_VERSION,
        "tool_version": tool_version,
        "compacted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_id": part.model_id,
        "rows": rows,
        "ok": rows - kinds.total(),
        "errors": kinds.total(),
        "errors_by_kind": dict(sorted(kinds.items())),
        "files": files,
        "provenance": ways,
    }


def _check(file: IO[bytes], path: Path, rows: int) -> None:
    """See that a file reads back with all rows."""
    file.seek(0)
    found = pq.read_metadata(file).num_rows
    if found != rows or not is_intact(file):
        raise OutputError(
            f"{path} does not read back as written, {found:,} of {rows:,} rows: check the disk, "
            "then run again."
        )
