"""One listing on its way into the plan log: what is new, what changed, what is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from shards.errors import OutputError, SourceError
from shards.inputs import InputBatch
from shards.names import shown
from shards.output import OutputTree, output_errors
from shards.plan_file import PlanFile, PlanWriter
from shards.plan_header import PlanHeader
from shards.plan_index import PlanIndex
from shards.plan_pass import Gone, Listed, PlanPass, Sink

__all__ = ["Planning", "Prune"]

# Each attempt that fails means that another run's plan succeeded: so many runs do not start within
# one planning unless something is wrong.
MAX_ATTEMPTS = 100

# Plans that may each keep the row group (1 to 2 MB) in which the last batch ended. With more, as
# after a year of nights, it is decoded again for the next batch.
MAX_PLANS_IN_MEMORY = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """How images that are not listed any more are taken out.

    Attributes:
        gone: Says which of some images that were not listed are no more.
        limit: The largest share of the images known below the root that may be, 0 to 1.
    """

    gone: Gone
    limit: float


@dataclass(slots=True, kw_only=True)
class Planning:
    """One listing on its way: what was asked, and what was found so far.

    Attributes:
        revise: Takes the shards that have changed.
        earlier: What other listings of the run have named: that is not pruned.
        found_work: Called, once or more often, where an image is new or has changed.
        covered: Images that plans hold.
        changed: As in PlanUpdate.
        pruned: As in PlanUpdate.
        listed: By plan and ordinal, as in `PlanPass.listed`.
    """

    tree: OutputTree
    index: PlanIndex
    revise: Sink
    tool_version: str
    root: bytes
    shard_size: int
    run_id: str
    prune: Prune | None
    found_work: Callable[[], None]
    earlier: Sequence[Listed] = ()
    covered: int = 0
    changed: int = 0
    pruned: int = 0
    listed: dict[tuple[int, int], bytes | None] = field(default_factory=dict)

    def add_plan(
        self, batches: Iterator[InputBatch], plans: list[PlanFile], *, attempt: int = 1
    ) -> PlanHeader | None:
        """Write the images that `plans` lack as the next plan; None for no image."""
        number = self.index.last + 1
        final = self.tree.plan_path(number)
        with (
            self.tree.stage(f"plan-{number:06d}") as staged,
            PlanWriter(staged.file, root=self.root, shard_size=self.shard_size) as writer,
        ):
            # The listing of a later attempt is what the first one left: no word on what is gone.
            self._pass(batches, plans, writer, self.prune if attempt == 1 else None)
            if writer.rows == 0:
                return None
            with output_errors("write", final):
                header = writer.finish(
                    plan=number,
                    run_id=self.run_id,
                    tool_version=self.tool_version,
                    created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                )
            if self.tree.publish(staged, final):
                self.listed |= {(number, o): None for o in range(len(header.digests))}
                return header
            if attempt == MAX_ATTEMPTS:
                raise OutputError(
                    f"{MAX_ATTEMPTS} other runs extended {self.tree.plans} first. "
                    "Run the same command again when fewer start at once."
                )
            # Another run took the number. What it did not take is listed in the staged file.
            left = PlanFile(staged.path).batches()
            return self.add_plan(left, self.index.refresh(), attempt=attempt + 1)

    def _pass(
        self,
        batches: Iterator[InputBatch],
        plans: list[PlanFile],
        writer: PlanWriter,
        prune: Prune | None,
    ) -> None:
        """Compare a listing with plans: new images go to the writer, changes to the revisions."""
        gone = None if prune is None else prune.gone
        passes = [
            PlanPass(plan, self.index, self.revise, root=self.root, gone=gone, earlier=self.earlier)
            for plan in plans
        ]
        for batch in batches:
            new = self._take_covered(batch, passes)
            with output_errors("write", self.tree.plans):
                writer.append(new)
        for plan, one in zip(plans, passes, strict=True):
            one.finish()
            self.changed += one.changed
            self.pruned += one.pruned
            self.listed |= {(plan.header.plan, o): bits for o, bits in one.listed.items()}
        known = sum(one.known for one in passes)
        if prune is not None and self.pruned > prune.limit * known:
            raise SourceError(
                f"--prune: {self.pruned:,} of the {known:,} images known below {shown(self.root)} "
                f"are gone, more than --prune-limit {prune.limit:g} allows. None was taken out. "
                "See whether the file system is mounted and complete; if they were deleted on "
                "purpose, give --prune-limit 1."
            )

    def _take_covered(self, batch: InputBatch, passes: list[PlanPass]) -> pa.Table:
        """Count the rows that plans hold, and return the others."""
        rows = batch.to_table()
        is_new = np.ones(len(batch), np.bool_)
        for one in passes:
            for matched in one.take(batch, rows):
                is_new[matched] = False
            if len(passes) > MAX_PLANS_IN_MEMORY:
                one.forget()
        new = int(np.count_nonzero(is_new))
        if new or any(one.changed for one in passes):
            self.found_work()
        self.covered += len(batch) - new
        return rows if new == len(batch) else rows.filter(pa.array(is_new))
