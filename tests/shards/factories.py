"""Inputs, results and footers for tests of planning, the table and commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from shards.errors import ErrorKind
from shards.footer import FooterInfo, Provenance
from shards.inputs import InputBatch, ShardInputs
from shards.plan import PlanUpdate, ShardRef
from shards.predictions import ShardResults, build_table, footer_of
from shards.ranking import Ranking

MODEL_ID = "digits@0123456789ab"
LABELS = ("zero", "one", "two", "three", "four")
WHEN = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


def batches(
    paths: Iterable[bytes], *, rows: int = 1000, size: int = 1, mtime_ns: int = 1
) -> Iterator[InputBatch]:
    """Sort paths into batches of at most so many rows."""
    ordered = sorted(set(paths))
    for start in range(0, len(ordered), rows):
        part = ordered[start : start + rows]
        sizes, mtimes = (np.full(len(part), value, np.int64) for value in (size, mtime_ns))
        yield InputBatch(part, sizes, mtimes, np.zeros(len(part), np.int64))


def shard_inputs(paths: Sequence[bytes], root: bytes = b"/data") -> ShardInputs:
    zeros = np.zeros(len(paths), np.int64)
    ref = ShardRef(1, 0, len(paths), "d" * 64)
    return ShardInputs(ref, root, list(paths), zeros, zeros, zeros)


def results(
    rows: int,
    *,
    k: int = 3,
    errors: Mapping[int, tuple[ErrorKind, str]] | None = None,
    **fields: Any,
) -> ShardResults:
    """Results whose label_ids depend on the row."""
    ids = (np.arange(rows)[:, None] + np.arange(k)) % len(LABELS)
    scores = np.tile(np.linspace(0.6, 0.1, k, dtype=np.float32), (rows, 1))
    return ShardResults(
        label_ids=ids.astype(np.int32),
        scores=scores,
        widths=np.full(rows, 40, np.int32),
        heights=np.full(rows, 30, np.int32),
        errors=errors or {},
        **fields,
    )


def table(
    inputs: ShardInputs, found: ShardResults | None = None, *, top_k: int = 3, **ranking: Any
) -> pa.Table:
    return build_table(
        inputs,
        found or results(len(inputs)),
        labels=LABELS,
        ranking=Ranking(top_k=top_k, **ranking),
        run_id="run-1",
        predicted_at=WHEN,
    )


def provenance() -> Provenance:
    return Provenance(
        tool_version="0.1.0",
        run_id="run-1",
        model_id=MODEL_ID,
        model_digest="a" * 64,
        preprocess={"resize": [32, 32]},
        labels_digest="b" * 64,
        backend="onnxruntime",
        precision="fp32",
        requested_precision="auto",
        gate={"status": "reference", "why": "", "trials": []},
        device="a processor",
        versions={"onnxruntime": "1.32.0"},
        engine_key=None,
        parameters={"top_k": 3},
    )


def footer(rows: pa.Table, key: str = "w" * 64) -> FooterInfo:
    return footer_of(rows, provenance(), work_key=key)


def all_paths(updates: Iterable[PlanUpdate], log: Any) -> list[bytes]:
    """Every path of every shard that updates name, each shard once."""
    shards = sorted({shard for update in updates for shard in update.shards})
    return [path for shard in shards for path in log.read(shard).keys]
