"""One shard, one file, one commit: either all of its rows are in the table, or none.

    encode -> staging file -> read back its footer -> fsync -> link to the final name -> fsync

The link fails where the name is taken: then another run finished the shard first, which is as
good. A shard is done if its file is there and carries the right work key; nothing else remembers
it, so nothing else can disagree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.errors import OutputError
from shards.footer import FooterInfo, read_footer
from shards.output import OutputTree, output_errors
from shards.predictions import encode

__all__ = ["Outcome", "is_done", "publish", "write_run_record"]


class Outcome(Enum):
    """How a shard came to be in the table."""

    PUBLISHED = auto()
    ALREADY_THERE = auto()


def is_done(tree: OutputTree, *, model_id: str, shard_id: str, work_key: str) -> FooterInfo | None:
    """Return the footer of the shard's finished file; None where the shard is to be computed.

    Reads the footer only.

    Raises:
        OutputError: The file is damaged, or Nightshift did not write it.
    """
    footer = read_footer(tree.shard_path(model_id, shard_id))
    return footer if footer is not None and footer.work_key == work_key else None


def publish(
    table: pa.Table,
    footer: FooterInfo,
    *,
    tree: OutputTree,
    model_id: str,
    shard_id: str,
    replace: bool = False,
) -> Outcome:
    """Put a shard's rows into the table, unless they are there.

    With `replace`, in place of what is there, by a rename: readers see the old rows or the new,
    and of two runs that replace at once, the rows of the later.

    When this returns, the rows survive a power cut. Readers see none of them or all at any moment,
    also when it raises.

    Raises:
        OutputError: The file system failed, or rows of other images or of another table version
            lie under the shard's name.
    """
    final = tree.shard_path(model_id, shard_id)
    with tree.stage(shard_id) as staged:
        with output_errors("write", final):
            staged.file.write(encode(table, footer))
            staged.file.flush()
        _check(staged.path, footer)
        if replace:
            tree.replace(staged, final)
            return Outcome.PUBLISHED
        if tree.publish(staged, final):
            return Outcome.PUBLISHED
    present = read_footer(final)
    if present is None or present.work_key != footer.work_key:
        raise OutputError(
            f"{final} holds the rows of other images than the plan says: state/ and predictions/ "
            "are not of one output. Move the file away, or choose an empty --output."
        )
    return Outcome.ALREADY_THERE


def write_run_record(tree: OutputTree, run_id: str, record: Mapping[str, Any]) -> Path:
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


def _check(path: Path, expected: FooterInfo) -> None:
    """See that the file that is about to be published reads back."""
    found = read_footer(path)
    if found is None or (found.work_key, found.rows) != (expected.work_key, expected.rows):
        raise OutputError(f"{path} does not read back as written: check the disk, then run again.")
