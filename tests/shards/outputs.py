"""Whole outputs for tests: plans, files of several models, records; made without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from shards.commit import write_run_record
from shards.errors import ErrorKind
from shards.footer import WORK_SCHEMA
from shards.local_tree import LocalTree
from shards.output import OutputTree
from shards.plan import PlanLog, ShardRef, work_key
from shards.predictions import encode, footer_of
from tests.shards.factories import MODEL_ID, batches, provenance, results, table

OTHER_MODEL = "letters@ba9876543210"


def make_output(
    root: Path,
    nights: Sequence[Sequence[bytes]],
    *,
    models: Sequence[str] = (MODEL_ID,),
    shard_size: int = 4,
) -> OutputTree:
    """Plan and publish each night's images, the first image of each shard as an error."""
    tree = LocalTree.create(root)
    log = PlanLog(tree, tool_version="0.1.0")
    for number, names in enumerate(nights, 1):
        update = log.extend(
            batches(names), root=b"/data", shard_size=shard_size, run_id=f"run-{number}"
        )
        for model_id in models:
            for shard in update.shards:
                put_shard(tree, log, shard, model_id)
        put_record(tree, f"run-{number}", images=update.inputs, errors=len(update.shards))
    return tree


def put_shard(tree: OutputTree, log: PlanLog, shard: ShardRef, model_id: str = MODEL_ID) -> Path:
    """Write a shard's rows, in place of what is there; returns the file."""
    rows = shard_table(log, shard)
    key = work_key(shard, model_id=model_id, schema_version=WORK_SCHEMA)
    of_model = replace(provenance(), model_id=model_id)
    footer = footer_of(rows, of_model, work_key=key)
    path = tree.shard_path(model_id, shard.id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode(rows, footer))
    return path


def shard_table(log: PlanLog, shard: ShardRef) -> pa.Table:
    inputs = log.read(shard)
    errors = {0: (ErrorKind.EMPTY, "has no bytes")} if len(inputs) else {}
    return table(inputs, results(len(inputs), errors=errors))


def put_record(tree: OutputTree, run_id: str, *, images: int, errors: int) -> Path:
    record = {
        "run_id": run_id,
        "images": images,
        "ok": images - errors,
        "errors": errors,
        "errors_by_kind": {"empty": errors},
        "skipped": 0,
        "rows_written": images,
    }
    return write_run_record(tree, run_id, record)


def names(*numbers: int) -> list[bytes]:
    return [b"/data/%05d.jpg" % number for number in numbers]
