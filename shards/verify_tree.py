"""What lies in an output beside right rows: files that readers would take for rows, leftovers."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from shards.output import OutputTree, output_errors
from shards.place import Place
from shards.shard_ref import ShardRef
from shards.verify import Finding, Problem

__all__ = ["Leftovers", "TableFiles", "check_runs", "leftovers", "shard_number", "table_files"]

_SHARD = re.compile(r"p[0-9]{6,18}-[0-9]{5,18}\.parquet")
ANY = ShardRef(1, 0, 0, "").id

_COUNTS = ("images", "ok", "errors", "skipped", "rows_written")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFiles:
    """What lies below `predictions/`.

    Attributes:
        shards: Model to the ids of the shards that have a file.
        findings: Whatever else is there.
    """

    shards: dict[str, list[str]]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Files in staging: of runs at work, or of runs that were killed.

    Attributes:
        files: How many.
        bytes: Their sizes together.
        oldest_seconds: Since the oldest was written to.
    """

    files: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0


def table_files(tree: OutputTree) -> TableFiles:
    """List the table, and name what is no file of it.

    Raises:
        OutputError: A directory cannot be read.
    """
    shards: dict[str, list[str]] = {}
    findings: list[Finding] = []
    with output_errors("read", tree.predictions):
        for partition in sorted(tree.predictions.iterdir()):
            model_id = unquote(partition.name.removeprefix("model="))
            # As Nightshift writes it: another spelling would be a second file for the same rows.
            if not (partition.is_dir() and tree.shard_path(model_id, ANY).parent == partition):
                findings.append(_unknown(partition))
                continue
            shards[model_id] = []
            for path in sorted(partition.iterdir()):
                if path.is_file() and _is_shard(path.name):
                    shards[model_id].append(path.stem)
                else:
                    findings.append(_unknown(path))
    return TableFiles(shards=shards, findings=tuple(findings))


def shard_number(shard_id: str) -> tuple[int, int]:
    """Return plan and ordinal of a shard by its name."""
    plan, ordinal = shard_id.removeprefix("p").split("-")
    return int(plan), int(ordinal)


def leftovers(tree: OutputTree) -> Leftovers:
    """Count what lies in staging.

    Raises:
        OutputError: It cannot be read.
    """
    found = []
    with output_errors("read", tree.staging):
        for path in tree.left_in_staging():
            try:
                found.append(path.lstat())
            except FileNotFoundError:  # published or given up since
                continue
    if not found:
        return Leftovers()
    oldest = min(status.st_mtime for status in found)
    return Leftovers(
        files=len(found),
        bytes=sum(status.st_size for status in found),
        oldest_seconds=round(max(0.0, time.time() - oldest), 1),
    )


def check_runs(tree: OutputTree) -> tuple[int, list[Finding]]:
    """Read the records of runs; returns how many there are, and what is wrong with them.

    Raises:
        OutputError: The directory cannot be read.
    """
    findings: list[Finding] = []
    records = 0
    with output_errors("read", tree.runs):
        folders = tree.runs.iterdir() if tree.runs.is_dir() else ()  # records may be cleared away
        paths = sorted(folder / "run.json" for folder in folders)
        for found in tree.ahead(_check_run, paths):
            if found is not None:
                records += 1
                findings += found
    return records, findings


def _check_run(path: Place) -> list[Finding] | None:
    """See that a record's counts add up; None for no record."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        images, ok, errors, skipped, written = (int(record[name]) for name in _COUNTS)
        of_kinds = sum(record["errors_by_kind"].values())
        named = record["run_id"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"it cannot be read: {error!r}"
        return [Finding(problem=Problem.DAMAGED_RECORD, path=str(path), text=text)]
    wrong = []
    if not (images == ok + errors == skipped + written and of_kinds == errors):
        wrong.append(
            f"its counts do not add up: {images:,} images, {ok:,} ok, {errors:,} errors, of which "
            f"{of_kinds:,} by kind, {skipped:,} skipped, {written:,} rows written"
        )
    if named != path.parent.name:
        wrong.append(f"it is the record of the run {named}")
    return [Finding(problem=Problem.WRONG_RECORD, path=str(path), text=text) for text in wrong]


def _is_shard(name: str) -> bool:
    if not _SHARD.fullmatch(name):
        return False
    plan, ordinal = shard_number(name.removesuffix(".parquet"))
    return name == f"{ShardRef(plan, ordinal, 0, '').id}.parquet"


def _unknown(path: Place) -> Finding:
    text = (
        "readers of the table take it for rows, or stumble over it; Nightshift did not put it there"
    )
    return Finding(problem=Problem.UNKNOWN_FILE, path=str(path), text=text)
