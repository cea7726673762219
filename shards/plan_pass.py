"""One plan beside a sorted listing: which of its images are listed, changed, or gone.

Both are passed once, in the order of keys, a row group of the plan at a time, in Arrow buffers: no
Python object per row that was there before. What later plans say of a shard stands for what its
own plan said.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shards.inputs import GONE, INPUT_SCHEMA, InputBatch
from shards.plan_file import PlanFile
from shards.plan_index import PlanIndex
from shards.row_masks import unpacked
from shards.shard_ref import ShardRef

__all__ = ["Gone", "Listed", "PlanPass", "Sink"]

Gone = Callable[[Sequence[bytes]], Sequence[bool]]
"""Says which of some images, which were not listed, are no more."""

Listed = Mapping[tuple[int, int], bytes | None]
"""By plan and ordinal, as in `PlanPass.listed`."""

Sink = Callable[[ShardRef, bytes, pa.Table], None]
"""Takes a shard as it was, its root, and all of its rows as they are now."""

# What is compared with a listing; the others are read where something changed.
_COMPARED = ["key", "size", "mtime_ns"]


@dataclass(slots=True)
class _Group:
    """The row group that is being passed."""

    rows: range
    listed: NDArray[np.bool_]
    table: pa.Table | None = None
    changes: list[tuple[NDArray[np.int64], pa.Table]] = field(default_factory=list)
    """Rows of the group, and what is listed for them."""


class PlanPass:
    """One pass of a listing over one plan.

    Attributes:
        listed: By ordinal, the shards that hold a listed image or lost one: one bit for each row
            that was listed; None where all images that are there were listed.
        changed: Images whose size or time differs from the plans'.
        known: Images below the root that were there; counted where `gone` is given.
        pruned: Those of them that are gone.
    """

    def __init__(
        self,
        plan: PlanFile,
        index: PlanIndex,
        sink: Sink,
        *,
        root: bytes,
        gone: Gone | None,
        earlier: Sequence[Listed] = (),
    ) -> None:
        """Begin a pass.

        Args:
            plan: Which plan.
            index: It and all later ones; not refreshed before the end of the pass.
            sink: Called for every shard that has changed.
            root: Key of the directory that is listed whole.
            gone: Asked about images below the root that are not listed; None to keep them all.
            earlier: What other listings of the run have named: that stays, gone or not.
        """
        self.listed: dict[int, bytes | None] = {}
        self.changed = self.known = self.pruned = 0
        self._plan = plan
        self._index = index
        self._sink = sink
        self._gone = gone
        self._earlier = earlier
        # A slash is followed by a zero in ASCII: the keys below the root are one range.
        self._below = root.rstrip(b"/") + b"/", root.rstrip(b"/") + b"0"
        self._number = 0
        self._group: _Group | None = None

    def take(self, batch: InputBatch, rows: pa.Table) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of those rows of a batch that the plan has, in ascending parts.

        Args:
            batch: Sorted by key, and after those before it.
            rows: The same in INPUT_SCHEMA.
        """
        while self._number < self._plan.groups:
            low, high = self._plan.bounds(self._number)
            if low > batch.keys[-1]:
                return
            if high >= batch.keys[0]:
                matched = self._match(batch, rows)
                if len(matched):
                    yield matched
            if high > batch.keys[-1]:
                return
            self._leave()

    def finish(self) -> None:
        """Pass what comes after the last batch."""
        while self._number < self._plan.groups:
            self._leave()
        self._add_emptied()

    def forget(self) -> None:
        """Free the rows of the plan; they are read again when they are needed."""
        if self._group is not None:
            self._group.table = None
        self._plan.forget()

    def _match(self, batch: InputBatch, rows: pa.Table) -> NDArray[np.int64]:
        group = self._enter()
        assert group.table is not None
        keys, planned = rows.column("key").chunk(0), _column(group.table, "key")
        # Both sides cut to their common range: what was listed before and has not changed since
        # is equal as a whole, and the comparison is one memcmp.
        start = bisect_left(batch.keys, planned[0].as_py())
        stop = bisect_right(batch.keys, planned[-1].as_py())
        first = bisect_left(planned, batch.keys[0], key=_to_bytes)
        last = bisect_right(planned, batch.keys[-1], key=_to_bytes)
        theirs, ours = keys[start:stop], planned[first:last]
        if theirs.equals(ours):
            matched, found = np.arange(start, stop), np.arange(first, last)
        else:
            # Takes 50 ms to import, and only a folder that has changed needs it.
            import pyarrow.compute as pc

            positions = pc.index_in(theirs, value_set=ours).fill_null(-1).to_numpy()
            matched = np.flatnonzero(positions >= 0)
            found = positions[matched] + first
            matched += start
        same_size = batch.sizes[matched] == _numbers(group.table, "size")[found]
        same_time = batch.mtimes_ns[matched] == _numbers(group.table, "mtime_ns")[found]
        group.listed[found] = True
        if not (same := same_size & same_time).all():
            self.changed += int(np.count_nonzero(~same))
            group.changes.append((found[~same], rows.take(pa.array(matched[~same]))))
        return matched

    def _enter(self) -> _Group:
        """Return the current row group, with its rows."""
        if self._group is None:
            header = self._plan.header
            first = self._number * header.group_rows
            rows = range(first, min(first + header.group_rows, header.rows))
            self._group = _Group(rows, np.zeros(len(rows), np.bool_))
        if self._group.table is None:
            self._group.table = self._load(self._group.rows)
        return self._group

    def _load(self, rows: range) -> pa.Table:
        """Read a row group as later plans have it."""
        number = self._plan.header.plan
        revised = [o for o in self._ordinals(rows) if (number, o) in self._index.revisions]
        if not revised:
            return self._plan.group(self._number, _COMPARED)
        parts = [self._index.rows(self._latest(ordinal)) for ordinal in self._ordinals(rows)]
        return pa.concat_tables(parts).select(_COMPARED).combine_chunks()

    def _leave(self) -> None:
        """Hand on what the row group has become, and go to the next."""
        if self._gone is not None and self._is_below(self._number):
            self._prune(self._enter(), self._gone)
        group, self._group = self._group, None
        self._number += 1
        if group is None:
            return
        changed = {row // self._shard_size for rows, _ in group.changes for row in rows.tolist()}
        for number, ordinal in enumerate(self._ordinals(group.rows)):
            mine = slice(number * self._shard_size, (number + 1) * self._shard_size)
            there = group.listed[mine]
            rows = self._changed(group, ordinal, mine) if number in changed else None
            if rows is None and not there.any():
                continue
            present = self._latest(ordinal).rows if rows is None else _present(rows)
            everything = np.count_nonzero(there) == present
            self.listed[ordinal] = None if everything else np.packbits(there).tobytes()

    def _changed(self, group: _Group, ordinal: int, mine: slice) -> pa.Table:
        """Return a shard's rows with all changes, and hand them on."""
        before = self._latest(ordinal)
        rows = self._index.rows(before)
        columns = {name: _numbers(rows, name).copy() for name in ("size", "mtime_ns", "offset")}
        extras = rows.column("extra").to_pylist()
        for positions, news in group.changes:
            own = (positions >= mine.start) & (positions < mine.stop)
            places = positions[own] - mine.start
            for name, values in columns.items():
                values[places] = _numbers(news, name)[own]
            if news.column("extra").null_count < len(news):
                texts = news.column("extra").to_pylist()
                for place, row in zip(places.tolist(), np.flatnonzero(own).tolist(), strict=True):
                    extras[place] = texts[row]
        changed = pa.table({**_arrays(rows), **columns, "extra": extras}, schema=INPUT_SCHEMA)
        self._sink(before, self._plan.header.root, changed)
        return changed

    def _prune(self, group: _Group, gone: Gone) -> None:
        assert group.table is not None
        keys = _column(group.table, "key")
        start, stop = (bisect_left(keys, end, key=_to_bytes) for end in self._below)
        there = _numbers(group.table, "size") != GONE
        self.known += int(np.count_nonzero(there[start:stop]))
        missing = start + np.flatnonzero(there[start:stop] & ~group.listed[start:stop])
        if len(missing) and self._earlier:
            missing = missing[~self._listed_earlier(group)[missing]]
        if len(missing) == 0:
            return
        names = keys.take(pa.array(missing)).to_pylist()
        lost = missing[np.asarray(gone(names), np.bool_)]
        if len(lost) == 0:
            return
        self.pruned += len(lost)
        nothing = InputBatch(
            [b""] * len(lost), np.full(len(lost), GONE), *np.zeros((2, len(lost)), np.int64)
        )
        group.changes.append((lost, nothing.to_table()))

    def _listed_earlier(self, group: _Group) -> NDArray[np.bool_]:
        """Return which rows of a group other listings of the run have named."""
        named = np.zeros(len(group.rows), np.bool_)
        for number, ordinal in enumerate(self._ordinals(group.rows)):
            mine = named[number * self._shard_size : (number + 1) * self._shard_size]
            shard = self._plan.header.plan, ordinal
            for listed in self._earlier:
                if shard in listed:
                    bits = listed[shard]
                    mine |= True if bits is None else unpacked(bits, mine)
        return named

    def _add_emptied(self) -> None:
        """Name the shards that lost images below the root before: their files may not know."""
        number, per_group = self._plan.header.plan, self._plan.header.group_rows
        for ordinal, digest in enumerate(self._plan.header.digests):
            if (number, ordinal) not in self._index.revisions or ordinal in self.listed:
                continue
            rows = self._plan.header.shard_rows(ordinal)
            latest = self._latest(ordinal)
            if latest.digest == digest or latest.rows == len(rows):
                continue
            if self._is_below(rows.start // per_group):
                self.listed[ordinal] = bytes((len(rows) + 7) // 8)

    def _is_below(self, number: int) -> bool:
        """Whether a row group may hold images below the root."""
        low, high = self._plan.bounds(number)
        return low < self._below[1] and high >= self._below[0]

    def _latest(self, ordinal: int) -> ShardRef:
        return self._index.latest(self._plan.header.plan, ordinal)

    def _ordinals(self, rows: range) -> range:
        return range(rows.start // self._shard_size, (rows.stop - 1) // self._shard_size + 1)

    @property
    def _shard_size(self) -> int:
        return self._plan.header.shard_size


def _column(table: pa.Table, name: str) -> pa.Array:
    """Return a column of a table whose chunks have been combined."""
    return table.column(name).chunk(0)


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    return table.column(name).to_numpy()  # type: ignore[no-any-return]


def _arrays(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _present(rows: pa.Table) -> int:
    return int(np.count_nonzero(_numbers(rows, "size") != GONE))


def _to_bytes(value: pa.Scalar) -> bytes:
    return value.as_py()  # type: ignore[no-any-return]
