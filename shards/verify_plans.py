"""The plan log, read whole: every list is what its header says, and no image stands in two.

Keys are compared by merging the plans, which are sorted: memory holds one shard's keys and a row
group of each plan, however many images there are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import lt
from threading import Lock

from shards.errors import OutputError
from shards.footer import WORK_SCHEMA
from shards.inputs import InputBatch, ShardInputs, keys_of
from shards.names import shown
from shards.output import OutputTree
from shards.plan import work_key
from shards.plan_file import PlanFile, digest_of
from shards.plan_index import PlanIndex
from shards.revision_file import present_rows
from shards.shard_ref import ShardRef
from shards.verify import Finding, Problem

__all__ = ["Planned", "check_plans"]

DAMAGE = (OutputError, ArithmeticError, LookupError, TypeError, ValueError)
"""What reading a plan leads to in which bits of a header flipped: it may name other columns."""

MAX_NAMED = 20
"""Images in two plans that are named: more of them tell nothing new."""


class Planned:
    """What the plans say of every shard, for several threads.

    Attributes:
        index: The plans that were there at the last `refresh`.
        unreadable: Why later plans could not be read; None where all could.
    """

    def __init__(self, tree: OutputTree) -> None:
        self.index = PlanIndex(tree)
        self.unreadable: Finding | None = None
        self._tree = tree
        self._lock = Lock()
        self.refresh()

    def refresh(self) -> bool:
        """Read plans that have come since; returns whether there are any."""
        with self._lock:
            before = self.index.last
            try:
                self.index.refresh()
            except DAMAGE as error:
                self.unreadable = _damaged(self._tree, self.index.last + 1, str(error))
            return self.index.last > before

    def versions(self, plan: int, ordinal: int, model_id: str) -> dict[str, ShardRef] | None:
        """Return work key to what plans said of a shard, the latest first; None for no such shard.

        Args:
            plan: Number of the plan that made the shard.
            ordinal: Its number in that plan.
            model_id: Of whose rows.
        """
        with self._lock:
            made = self.index.plans.get(plan)
            if made is None or ordinal >= len(made.header.digests):
                return None
            return {
                work_key(shard, model_id=model_id, schema_version=WORK_SCHEMA): shard
                for shard in self.index.history(plan, ordinal)
            }

    def inputs(self, shard: ShardRef) -> ShardInputs | None:
        """Return the images of a version of a shard; None where its plan is damaged."""
        with self._lock:
            root = self.index.plans[shard.plan].header.root
            try:
                rows = self.index.rows(shard)
            except DAMAGE:
                return None
        found = InputBatch.from_table(rows.filter(present_rows(rows)))
        return ShardInputs(
            shard, root, found.keys, found.sizes, found.mtimes_ns, found.offsets, found.extras
        )


def check_plans(tree: OutputTree, index: PlanIndex) -> Iterator[Finding]:
    """Read every plan.

    Args:
        tree: The output.
        index: Its plans, refreshed.

    Yields:
        What is wrong; nothing where all is right.
    """
    damaged: list[Finding] = []
    heads = [
        _Head(number, _keys(tree, number, plan, damaged)) for number, plan in index.plans.items()
    ]
    for first, second, key in islice(_twice(heads), MAX_NAMED):
        text = f"the image {shown(key)} stands in plan {first} as well: it has two rows"
        path = str(tree.plan_path(second))
        yield Finding(problem=Problem.DUPLICATE_IMAGE, path=path, text=text)
    for head in heads:
        head.exhaust()
    yield from damaged
    index.forget()
    yield from _check_revisions(tree, index)
    index.forget()


def _keys(
    tree: OutputTree, number: int, plan: PlanFile, damaged: list[Finding]
) -> Iterator[list[bytes]]:
    """Yield a plan's keys, shard by shard, up to where it is damaged."""
    header, last = plan.header, b""
    try:
        for ordinal, digest in enumerate(header.digests):
            rows = plan.read(header.shard_rows(ordinal))
            keys = keys_of(rows.column("key").combine_chunks())
            in_order = keys[0] > last and all(map(lt, keys, keys[1:]))
            if not in_order or digest_of(header.root, rows) != digest:
                damaged.append(_damaged(tree, number, f"the images of shard {ordinal} are altered"))
                return
            last = keys[-1]
            yield keys
    except DAMAGE as error:
        damaged.append(_damaged(tree, number, str(error)))


def _check_revisions(tree: OutputTree, index: PlanIndex) -> Iterator[Finding]:
    """See that revisions are as their headers say, of the very images of their shards."""
    for (number, ordinal), revisions in sorted(index.revisions.items()):
        plan = index.plans[number]
        for file, revision in revisions:
            try:
                rows, made = file.read(revision), plan.read(plan.header.shard_rows(ordinal))
                present = rows.filter(present_rows(rows))
                if (
                    not rows.column("key").equals(made.column("key"))
                    or digest_of(plan.header.root, present) != revision.digest
                ):
                    yield _damaged(tree, file.number, f"its list of shard {ordinal} is altered")
            except DAMAGE as error:
                yield _damaged(tree, file.number, str(error))


def _damaged(tree: OutputTree, number: int, text: str) -> Finding:
    return Finding(problem=Problem.DAMAGED_PLAN, path=str(tree.plan_path(number)), text=text)


class _Head:
    """Where the merge stands in one plan.

    Attributes:
        number: Of the plan.
        keys: The next ones, sorted; empty at the end.
    """

    def __init__(self, number: int, lists: Iterator[list[bytes]]) -> None:
        self.number = number
        self._lists = lists
        self.keys = next(lists, [])

    def take(self, cut: bytes) -> list[bytes]:
        """Take the keys up to `cut`."""
        stop = bisect_right(self.keys, cut)
        taken = self.keys[:stop]
        self.keys = self.keys[stop:] or next(self._lists, [])
        return taken

    def exhaust(self) -> None:
        """Read the plan to its end."""
        for _ in self._lists:
            pass


def _twice(heads: list[_Head]) -> Iterator[tuple[int, int, bytes]]:
    """Merge plans, and yield each key that is in two, with their numbers."""
    while len(live := [head for head in heads if head.keys]) > 1:
        cut = min(head.keys[-1] for head in live)
        parts = [(head.number, taken) for head in live if (taken := head.take(cut))]
        if len(set().union(*(keys for _, keys in parts))) < sum(len(keys) for _, keys in parts):
            seen: dict[bytes, int] = {}
            for number, keys in sorted(parts):
                for key in keys:
                    if seen.setdefault(key, number) != number:
                        yield seen[key], number, key
