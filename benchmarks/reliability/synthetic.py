"""Outputs of any size, written by Nightshift's own writers, with made-up images and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shards.errors import ErrorKind
from shards.footer import WORK_SCHEMA, Provenance
from shards.inputs import InputBatch, ShardInputs
from shards.local_tree import LocalTree
from shards.output import OutputTree
from shards.plan import PlanLog, ShardRef, work_key
from shards.predictions import ShardResults, build_table, encode, footer_of
from shards.ranking import Ranking

__all__ = ["MODEL_ID", "write_output", "write_shards"]

MODEL_ID = "resnet50@0123456789ab"
CLASSES = 1000
TOP_K = 5
BATCH_ROWS = 65_536
ERROR_EVERY = 97
"""Among so many images, one has no label."""


def write_output(root: Path, *, images: int, shard_size: int) -> OutputTree:
    """Plan and write a whole table.

    Args:
        root: A directory to make.
        images: Rows.
        shard_size: Rows of a file.
    """
    tree = LocalTree.create(root)
    log = PlanLog(tree, tool_version="synthetic")
    update = log.extend(_images(images), root=b"/photos", shard_size=shard_size, run_id="run-1")
    write_shards(tree, log, update.shards, model_id=MODEL_ID)
    return tree


def write_shards(
    tree: OutputTree, log: PlanLog, shards: Sequence[ShardRef], *, model_id: str
) -> None:
    """Write rows for images that are planned.

    Args:
        tree: Where.
        log: Its plans.
        shards: Whose rows.
        model_id: The model that they shall be of.
    """
    labels = [f"label {number}" for number in range(CLASSES)]
    choose = np.random.default_rng(0)
    for shard in shards:
        inputs = log.read(shard)
        rows = build_table(
            inputs,
            _results(inputs, choose),
            labels=labels,
            ranking=Ranking(top_k=TOP_K),
            run_id="run-1",
            predicted_at=datetime.now(UTC),
        )
        key = work_key(shard, model_id=model_id, schema_version=WORK_SCHEMA)
        path = tree.shard_path(model_id, shard.id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode(rows, footer_of(rows, _provenance(model_id), work_key=key)))


def _images(count: int) -> Iterator[InputBatch]:
    for start in range(0, count, BATCH_ROWS):
        numbers = range(start, min(start + BATCH_ROWS, count))
        keys = [b"/photos/%05d/IMG_%08d.jpg" % (number // 1000, number) for number in numbers]
        sizes = np.arange(numbers.start, numbers.stop, dtype=np.int64) % 100_000 + 20_000
        yield InputBatch(keys, sizes, sizes * 1_000_003, np.zeros(len(keys), np.int64))


def _results(inputs: ShardInputs, choose: np.random.Generator) -> ShardResults:
    rows = len(inputs)
    scores = np.sort(choose.random((rows, TOP_K), np.float32), axis=1)[:, ::-1]
    failed = range(0, rows, ERROR_EVERY)
    return ShardResults(
        label_ids=choose.integers(0, CLASSES, (rows, TOP_K), np.int32),
        scores=np.ascontiguousarray(scores),
        widths=np.full(rows, 500, np.int32),
        heights=np.full(rows, 375, np.int32),
        errors=dict.fromkeys(failed, (ErrorKind.TRUNCATED, "ends after 1,024 bytes")),
    )


def _provenance(model_id: str) -> Provenance:
    return Provenance(
        tool_version="synthetic",
        run_id="run-1",
        model_id=model_id,
        model_digest="0" * 64,
        preprocess={},
        labels_digest="0" * 64,
        backend="onnxruntime",
        precision="fp32",
        device="none",
        versions={},
        engine_key=None,
        parameters={},
    )
