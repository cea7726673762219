"""All plans of an output, opened: what they say of every shard, now and earlier."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from shards.errors import OutputError
from shards.output import OutputTree, output_errors
from shards.plan_file import PlanFile, plan_metadata
from shards.plan_header import damaged
from shards.revision_file import Revision, RevisionFile, is_revision
from shards.shard_ref import ShardRef

__all__ = ["PlanIndex"]


class PlanIndex:
    """The plans that were there at the last `refresh`. Not thread-safe.

    Attributes:
        last: Number of the last plan; 0 for none.
        plans: By number, those that made shards.
        revisions: By plan and ordinal, what later plans say of a shard, oldest first.
    """

    def __init__(self, tree: OutputTree) -> None:
        self._tree = tree
        self.last = 0
        self.plans: dict[int, PlanFile] = {}
        self.revisions: dict[tuple[int, int], list[tuple[RevisionFile, Revision]]] = {}

    def refresh(self) -> list[PlanFile]:
        """Open the plans that have come since; returns those that made shards.

        Raises:
            OutputError: One is damaged, or missing while later ones are there.
        """
        new: list[PlanFile] = []
        with output_errors("read", self._tree.plans):
            numbers = self._new_numbers()
            paths = [self._tree.plan_path(number) for number in numbers]
            for number, metadata in zip(
                numbers, self._tree.ahead(plan_metadata, paths), strict=True
            ):
                path = self._tree.plan_path(number)
                if is_revision(path, metadata):
                    self._add_revisions(RevisionFile(path, metadata, number=number))
                else:
                    self.plans[number] = PlanFile(path, metadata)
                    new.append(self.plans[number])
                self.last = number
        return new

    def latest(self, plan: int, ordinal: int) -> ShardRef:
        """Return a shard as the last plan that names it says."""
        return next(self.history(plan, ordinal))

    def history(self, plan: int, ordinal: int) -> Iterator[ShardRef]:
        """Yield all that plans have said of a shard, the latest first."""
        for file, revision in reversed(self.revisions.get((plan, ordinal), ())):
            yield file.ref(revision)
        header = self.plans[plan].header
        yield ShardRef(plan, ordinal, len(header.shard_rows(ordinal)), header.digests[ordinal])

    def shards(self) -> Iterator[ShardRef]:
        """Yield every shard as it is now, in order."""
        for number, plan in sorted(self.plans.items()):
            for ordinal in range(len(plan.header.digests)):
                yield self.latest(number, ordinal)

    def rows(self, shard: ShardRef) -> pa.Table:
        """Return all rows of a shard in INPUT_SCHEMA, those of images that are gone included.

        Raises:
            OutputError: A plan cannot be read.
        """
        if not shard.revision:
            plan = self.plans[shard.plan]
            return plan.read(plan.header.shard_rows(shard.ordinal))
        for file, revision in reversed(self.revisions.get((shard.plan, shard.ordinal), ())):
            if file.number == shard.revision:
                return file.read(revision)
        raise KeyError(f"plan {shard.revision} does not revise {shard.id}")

    def forget(self) -> None:
        """Free the rows that were read last."""
        for plan in self.plans.values():
            plan.forget()
        for revisions in self.revisions.values():
            for file, _ in revisions:
                file.forget()

    def _add_revisions(self, file: RevisionFile) -> None:
        for revision in file.revisions:
            plan, ordinal = revision.shard
            made = self.plans.get(plan)
            if made is None or ordinal >= len(made.header.digests):
                path = self._tree.plan_path(file.number)
                raise damaged(
                    path, f"it revises shard {ordinal} of plan {plan}, which is not there"
                )
            self.revisions.setdefault(revision.shard, []).append((file, revision))

    def _new_numbers(self) -> range:
        """Return the numbers of plans that have come since.

        Raises:
            OutputError: One is missing, and later ones are there.
        """
        while numbers := self._tree.plans_after(self.last):
            new = range(self.last + 1, self.last + 1 + len(numbers))
            if numbers == list(new):
                return new
            missing = self._tree.plan_path(min(set(new) - set(numbers)))
            if not missing.is_file():  # it may have come into being while others were listed
                raise OutputError(
                    f"the plan {missing} is missing, and {numbers[-1]:06d} is there. It says which "
                    "images have rows already: restore it, or use an empty --output."
                )
        return range(0)
