"""A row's best labels: as one list of structs, or each in columns of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["ENTRY", "Ranking", "TopkFormat", "list_array", "topk_column", "wide_columns"]

TopkFormat = Literal["struct", "wide", "none"]

ENTRY = pa.struct([("label", pa.string()), ("label_id", pa.int32()), ("score", pa.float32())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Which of a row's best labels the table lists, besides the very best, and how.

    Attributes:
        top_k: Labels at most.
        form: 'struct' fills `topk`, 'wide' fills `label_2`, `label_id_2`, `score_2` and so on, and
            'none' lists nothing.
        threshold: Labels with a lower score are not listed; None lists whatever the score.
    """

    top_k: int
    form: TopkFormat = "struct"
    threshold: float | None = None

    @property
    def wide(self) -> int:
        """The last rank that has columns of its own; 1, of `label`, is the least."""
        return self.top_k if self.form == "wide" else 1

    def listed(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the scores [rows, k] are high enough."""
        if self.threshold is None:
            return np.ones(scores.shape, np.bool_)
        return scores >= np.float32(self.threshold)


def topk_column(
    names: pa.Array,
    label_ids: NDArray[np.int32],
    scores: NDArray[np.float32],
    failed: NDArray[np.bool_],
    ranking: Ranking,
) -> pa.Array:
    """Make `topk`: null for failed images, and for all where its form is another.

    Args:
        names: Label of each label_id.
        label_ids: int32 [rows, k], best first; not looked at where `failed`.
        scores: float32 [rows, k].
        failed: bool [rows].
        ranking: What is listed.
    """
    if ranking.form != "struct":
        return pa.nulls(len(failed), pa.list_(pa.field("element", ENTRY)))
    ids, scores = label_ids[:, : ranking.top_k], scores[:, : ranking.top_k]
    listed = ranking.listed(scores) & ~failed[:, None]
    flat = pa.array(ids[listed])
    entries = [names.take(flat), flat, pa.array(scores[listed])]
    values = pa.StructArray.from_arrays(entries, fields=list(ENTRY))
    return list_array(values, np.count_nonzero(listed, axis=1), failed)


def wide_columns(
    names: pa.Array,
    label_ids: NDArray[np.int32],
    scores: NDArray[np.float32],
    failed: NDArray[np.bool_],
    ranking: Ranking,
) -> dict[str, pa.Array]:
    """Make the columns of the ranks from 2 on, as `topk_column`; null where there is no such rank.

    A model with fewer classes than another fills fewer of the same columns.
    """
    columns: dict[str, pa.Array] = {}
    rows, k = label_ids.shape
    for rank in range(2, ranking.wide + 1):
        if rank <= k:
            # Contiguous: Arrow takes a strided view value by value.
            own = np.ascontiguousarray(scores[:, rank - 1])
            missing = failed | ~ranking.listed(own)
            ids = pa.array(np.ascontiguousarray(label_ids[:, rank - 1]), mask=missing)
            rank_columns = (names.take(ids), ids, pa.array(own, mask=missing))
        else:
            rank_columns = tuple(pa.nulls(rows, field.type) for field in ENTRY)
        columns |= {f"{field.name}_{rank}": c for field, c in zip(ENTRY, rank_columns, strict=True)}
    return columns


def list_array(
    values: pa.Array, lengths: NDArray[np.integer] | int, failed: NDArray[np.bool_]
) -> pa.Array:
    """Cut values into lists, one for each row that did not fail, and null for the others.

    Args:
        values: Of all rows that did not fail, one after another.
        lengths: int [rows] of each row's list, or of all of them; not looked at where `failed`.
        failed: bool [rows].

    Raises:
        ValueError: More values than the offsets of one file's lists can count.
    """
    offsets = np.concatenate([[0], np.cumsum(np.where(failed, 0, lengths), dtype=np.int64)])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"{offsets[-1]} list entries in one shard: choose a smaller shard_size")
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        values,
        type=pa.list_(pa.field("element", values.type)),
        mask=pa.array(failed),
    )
