"""Some listings on their way into the plan log together.

Plans for new images come into being listing by listing: they take nothing from anyone. What changed
or is gone is gathered, and becomes a plan only when all listings have been compared with the log,
and none was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import lt

import pyarrow as pa

from shards.closing import Closing
from shards.inputs import InputBatch
from shards.output import OutputTree
from shards.plan_header import PlanHeader
from shards.plan_index import PlanIndex
from shards.planning import Planning, Prune
from shards.revising import Revisions
from shards.shard_ref import ShardRef

__all__ = ["Extension", "PlanUpdate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanUpdate:
    """What one listing meant for the log.

    Attributes:
        new_plan: Number of the plan that was added for new images; None where all was covered.
        revision: Number of the last plan of changes that was added with it; None where nothing
            changed in any listing.
        new_inputs: Images that no plan had.
        covered: Images that earlier plans have.
        changed: Those of them whose size or time is not the planned one, or that are back.
        pruned: Images that earlier plans have, and that are gone.
        shards: Every shard that holds a listed image, or lost one below the root, in order.
        partly: By shard id, where not all images of a shard were listed: one bit for each row of
            the plan, set where it was (numpy.packbits).
    """

    new_plan: int | None
    revision: int | None
    new_inputs: int
    covered: int
    changed: int
    pruned: int
    shards: tuple[ShardRef, ...]
    partly: Mapping[str, bytes]

    @property
    def inputs(self) -> int:
        """Images listed."""
        return self.new_inputs + self.covered

    @property
    def absent(self) -> int:
        """Images in these shards that were not listed: vanished, or outside this listing."""
        return sum(shard.rows for shard in self.shards) - self.inputs


class Extension(Closing):
    """Listings that extend the plan log; nothing of what changed is a plan before `publish`."""

    def __init__(
        self,
        tree: OutputTree,
        index: PlanIndex,
        *,
        shard_size: int,
        run_id: str,
        tool_version: str,
        found_work: Callable[[], None],
    ) -> None:
        """Begin; see `PlanLog.extending`."""
        self._tree = tree
        self._index = index
        self._shard_size = shard_size
        self._run_id = run_id
        self._tool_version = tool_version
        self._found_work = found_work
        self._drafts: list[Revisions] = []
        self._added: list[tuple[Planning, PlanHeader | None]] = []

    def add(self, batches: Iterable[InputBatch], *, root: bytes, prune: Prune | None = None) -> int:
        """Compare a listing with the log, and add a plan for those images that no plan holds.

        Args:
            batches: Sorted by key, within and across; consumed once. If it raises, no plan is
                added.
            root: Key of the directory that file names are relative to.
            prune: How to take out what is known below the root and listed neither here nor by what
                was added before; None keeps it.

        Returns:
            Images listed.

        Raises:
            OutputError: The log cannot be read or written.
            SourceError: More images are gone than may be; no plan is added.
        """
        planning = Planning(
            tree=self._tree,
            index=self._index,
            revise=self._revise,
            tool_version=self._tool_version,
            root=root,
            shard_size=self._shard_size,
            run_id=self._run_id,
            prune=prune,
            earlier=[earlier.listed for earlier, _ in self._added],
            found_work=self._found_work,
        )
        header = planning.add_plan(_in_order(batches), list(self._index.plans.values()))
        self._index.forget()
        self._index.refresh()
        self._added.append((planning, header))
        return planning.covered + (header.rows if header else 0)

    def publish(self) -> list[PlanUpdate]:
        """Make what changed a plan; returns what every listing meant, in order.

        Raises:
            OutputError: The file system failed, or other runs were always first.
        """
        numbers = [draft.publish() for draft in self._drafts]
        self._index.forget()
        revision = max((number for number in numbers if number is not None), default=None)
        return [self._update(planning, header, revision) for planning, header in self._added]

    def close(self) -> None:
        """Give up what was not published. Idempotent."""
        for draft in self._drafts:
            draft.close()

    def _revise(self, before: ShardRef, root: bytes, rows: pa.Table) -> None:
        """Draft a change; a shard that another listing changed as well goes on top of that."""
        if not self._drafts or before in self._drafts[-1]:
            self._drafts.append(
                Revisions(
                    self._tree, self._index, run_id=self._run_id, tool_version=self._tool_version
                )
            )
        self._drafts[-1].add(before, root, rows)

    def _update(
        self, planning: Planning, header: PlanHeader | None, revision: int | None
    ) -> PlanUpdate:
        shards = {self._index.latest(*shard): bits for shard, bits in planning.listed.items()}
        return PlanUpdate(
            new_plan=header.plan if header else None,
            revision=revision,
            new_inputs=header.rows if header else 0,
            covered=planning.covered,
            changed=planning.changed,
            pruned=planning.pruned,
            shards=tuple(sorted(shards)),
            partly={shard.id: bits for shard, bits in shards.items() if bits is not None},
        )


def _in_order(batches: Iterable[InputBatch]) -> Iterator[InputBatch]:
    """Pass batches on, and see that they are what planning relies on."""
    last = b""
    for batch in batches:
        if not batch.keys:
            continue
        if not (batch.keys[0] > last and all(map(lt, batch.keys, batch.keys[1:]))):
            raise ValueError(f"keys are not in ascending byte order after {last!r}")
        last = batch.keys[-1]
        yield batch
