"""One shard, one file, one commit: either all of its rows are in the table, or none.

    encode -> staging file -> read back its footer -> fsync -> link to the final name -> fsync

The link fails where the name is taken: then another run finished the shard first, which is as
good. A shard is done if its file is there and carries the right work key; nothing else remembers
it, so nothing else can disagree. `shards.upkeep` brings files of earlier revisions up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

import pyarrow as pa

from shards.errors import DamagedFileError, OutputError
from shards.footer import FooterInfo, read_footer
from shards.output import OutputTree, StagedFile, output_errors
from shards.place import Place
from shards.predictions import encode

__all__ = [
    "Outcome",
    "foreign_file",
    "is_done",
    "publish",
    "staged_rows",
    "write_run_record",
]


class Outcome(Enum):
    """How a shard came to be in the table."""

    PUBLISHED = auto()
    ALREADY_THERE = auto()
    OUTDATED = auto()
    """It did not: another run has changed what its rows should be."""


def is_done(tree: OutputTree, *, model_id: str, shard_id: str, work_key: str) -> FooterInfo | None:
    """Return the footer of the shard's finished file; None where the shard is to be computed.

    Reads the footer only.

    Raises:
        OutputError: The file is damaged, or Nightshift did not write it.
    """
    footer = read_footer(tree.shard_path(model_id, shard_id))
    return footer if footer is not None and footer.work_key == work_key else None


def publish(
    table: pa.Table, footer: FooterInfo, *, tree: OutputTree, model_id: str, shard_id: str
) -> Outcome:
    """Put a shard's rows into the table, unless they are there.

    When this returns, the rows survive a power cut. Readers see none of them or all at any moment,
    also when it raises.

    Raises:
        OutputError: The file system failed, or rows of other images or of another table version
            lie under the shard's name.
    """
    final = tree.shard_path(model_id, shard_id)
    with staged_rows(tree, final, table, footer) as staged:
        if tree.publish(staged, final):
            return Outcome.PUBLISHED
    present = read_footer(final)
    if present is None or present.work_key != footer.work_key:
        raise foreign_file(final)
    return Outcome.ALREADY_THERE


@contextmanager
def staged_rows(
    tree: OutputTree, final: Place, table: pa.Table, footer: FooterInfo
) -> Iterator[StagedFile]:
    """Write a shard's file in staging, read back, for the length of the block.

    Args:
        tree: The output.
        final: The name that it will have.
        table: Its rows.
        footer: What they are.

    Raises:
        OutputError: The file system failed.
    """
    with tree.stage(final.stem) as staged:
        with output_errors("write", final):
            staged.file.write(encode(table, footer))
            staged.file.flush()
        _check(staged.path, footer)
        yield staged


def foreign_file(path: Place) -> OutputError:
    """Return the error for a file of images that no plan has under its name."""
    return OutputError(
        f"{path} holds the rows of other images than the plan says: state/ and predictions/ "
        "are not of one output. Move the file away, or choose an empty --output."
    )


def write_run_record(tree: OutputTree, run_id: str, record: Mapping[str, Any]) -> Place:
    """Write `runs/<run_id>/run.json`, complete or not at all, and return its path.

    A run writes it last. Writing it again, as a retried task does, replaces it.

    Raises:
        OutputError: The file system failed.
    """
    final = tree.run_path(run_id) / "run.json"
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with tree.stage(f"run-{run_id}") as staged:
        with output_errors("write", final):
            staged.file.write(text.encode())
        tree.replace(staged, final)
    return final


def _check(path: Place, expected: FooterInfo) -> None:
    """See that the file that is about to be published reads back."""
    try:
        found = read_footer(path)
    except DamagedFileError:
        found = None
    if found is None or (found.work_key, found.rows) != (expected.work_key, expected.rows):
        raise OutputError(f"{path} does not read back as written: check the disk, then run again.")
