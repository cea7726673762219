"""The plan log: every image belongs to exactly one shard, whoever listed it, and for ever.

`OUT/state/plans/000001.parquet`, `000002.parquet`, ... are written once and never changed. Plan
n+1 holds only images that plans 1 to n do not, and comes into being complete, under a name that
only one run can take. A run that finds the name taken takes the winner's images out of its own
plan and tries the next name. An image is its key (see shards.inputs): sources that overlap, in one
run or in several, share their images.

Planning is one pass over a sorted listing and the sorted plans, in batches: memory grows with the
number of shards and plans, not of images.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import lt

import numpy as np
import pyarrow as pa

from shards.errors import OutputError
from shards.inputs import InputBatch, ShardInputs
from shards.output import OutputTree, output_errors
from shards.plan_file import PlanFile, PlanWriter
from shards.plan_header import PlanHeader
from shards.shard_ref import ShardRef

__all__ = ["PlanLog", "PlanUpdate", "ShardRef", "work_key"]

# Each attempt that fails means that another run's plan succeeded: so many runs do not start within
# one planning unless something is wrong.
MAX_ATTEMPTS = 100

# Plans that may each keep the row group (1 to 2 MB) in which the last batch ended. With more, as
# after a year of nights, it is decoded again for the next batch.
MAX_PLANS_IN_MEMORY = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanUpdate:
    """What one listing meant for the log.

    Attributes:
        new_plan: Number of the plan that was added; None where all was covered.
        new_inputs: Images in it.
        covered: Images that earlier plans hold.
        changed: Those of them whose size or time is not the planned one.
        shards: Every shard that holds at least one listed image, in order.
    """

    new_plan: int | None
    new_inputs: int
    covered: int
    changed: int
    shards: tuple[ShardRef, ...]

    @property
    def inputs(self) -> int:
        """Images listed."""
        return self.new_inputs + self.covered

    @property
    def absent(self) -> int:
        """Images in these shards that were not listed: vanished, or outside this listing."""
        return sum(shard.rows for shard in self.shards) - self.inputs


class PlanLog:
    """The plans of one output tree. Not thread-safe; any number of processes may extend it."""

    def __init__(self, tree: OutputTree, *, tool_version: str) -> None:
        self._tree = tree
        self._tool_version = tool_version
        self._last_read: PlanFile | None = None

    def extend(
        self, batches: Iterable[InputBatch], *, root: bytes, shard_size: int, run_id: str
    ) -> PlanUpdate:
        """Add a plan for those images that no plan holds.

        Args:
            batches: Sorted by key, within and across; consumed once. If it raises, no plan is
                added.
            root: Key of the directory that file names are relative to.
            shard_size: Rows of a new shard; the last may have fewer.
            run_id: Recorded in the plan.

        Raises:
            OutputError: The log cannot be read or written.
        """
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1, not {shard_size}")
        planning = _Planning(
            tree=self._tree,
            tool_version=self._tool_version,
            root=root,
            shard_size=shard_size,
            run_id=run_id,
        )
        header = planning.add_plan(_in_order(batches), known=0, attempts=MAX_ATTEMPTS)
        return PlanUpdate(
            new_plan=header.plan if header else None,
            new_inputs=header.rows if header else 0,
            covered=planning.covered,
            changed=planning.changed,
            shards=planning.shards(),
        )

    def read(self, shard: ShardRef) -> ShardInputs:
        """Return the images of a shard; decodes some thousand rows of its plan, not all.

        Raises:
            OutputError: The plan cannot be read.
        """
        if self._last_read is None or self._last_read.header.plan != shard.plan:
            self._last_read = PlanFile(self._tree.plan_path(shard.plan))
        header = self._last_read.header
        rows = self._last_read.read(header.shard_rows(shard.ordinal))
        return ShardInputs(
            shard, header.root, rows.keys, rows.sizes, rows.mtimes_ns, rows.offsets, rows.extras
        )


def work_key(shard: ShardRef, *, model_id: str, schema_version: str) -> str:
    """Return what a finished file must carry to count as done: SHA-256, hexadecimal.

    Other images, another model or another table make another key; another precision, backend or
    version does not.
    """
    text = f"nightshift work 1\n{shard.digest}\n{model_id}\n{schema_version}"
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True, kw_only=True)
class _Planning:
    """One `extend` under way: what it was asked, and what it found so far."""

    tree: OutputTree
    tool_version: str
    root: bytes
    shard_size: int
    run_id: str
    covered: int = 0
    changed: int = 0
    ordinals: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    headers: dict[int, PlanHeader] = field(default_factory=dict)

    def add_plan(
        self, batches: Iterator[InputBatch], *, known: int, attempts: int
    ) -> PlanHeader | None:
        """Write the images that plans after `known` lack as the next plan; None for no image."""
        plans = self._plans_after(known)
        number = known + len(plans) + 1
        final = self.tree.plan_path(number)
        with (
            self.tree.stage(f"plan-{number:06d}") as staged,
            PlanWriter(staged.file, root=self.root, shard_size=self.shard_size) as writer,
        ):
            for batch in batches:
                new = self._take_covered(batch, plans)
                with output_errors("write", final):
                    writer.append(new)
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
                self.headers[number] = header
                self.ordinals[number] = set(range(len(header.digests)))
                return header
            if attempts == 1:
                raise OutputError(
                    f"{MAX_ATTEMPTS} other runs extended {self.tree.plans} first. "
                    "Run the same command again when fewer start at once."
                )
            # Another run took the number. What it did not take is listed in the staged file.
            left = PlanFile(staged.path).batches()
            return self.add_plan(left, known=number - 1, attempts=attempts - 1)

    def shards(self) -> tuple[ShardRef, ...]:
        """Return every shard that holds a listed image."""
        return tuple(
            ShardRef(plan, ordinal, len(header.shard_rows(ordinal)), header.digests[ordinal])
            for plan, header in sorted(self.headers.items())
            for ordinal in sorted(self.ordinals[plan])
        )

    def _take_covered(self, batch: InputBatch, plans: list[PlanFile]) -> pa.Table:
        """Count the rows that the plans hold, and return the others."""
        rows = batch.to_table()
        keys = rows.column("key").chunk(0)
        is_new = np.ones(len(batch), np.bool_)
        for plan in plans:
            for match in plan.match(batch, keys):
                is_new[match.rows] = False
                self.changed += int(np.count_nonzero(match.changed))
                self.ordinals[plan.header.plan].update(np.unique(match.shards).tolist())
            if len(plans) > MAX_PLANS_IN_MEMORY:
                plan.forget()
        new = int(np.count_nonzero(is_new))
        self.covered += len(batch) - new
        return rows if new == len(batch) else rows.filter(pa.array(is_new))

    def _plans_after(self, known: int) -> list[PlanFile]:
        """Open the plans known+1, known+2, ...

        Raises:
            OutputError: One is damaged, or missing while later ones are there.
        """
        plans: list[PlanFile] = []
        with output_errors("read", self.tree.plans):
            while True:
                path = self.tree.plan_path(known + len(plans) + 1)
                if path.exists():
                    plans.append(PlanFile(path))
                    continue
                later = [name.stem for name in self.tree.plans.iterdir() if name.stem > path.stem]
                if not later or path.exists():  # a plan may have come into being since
                    break
                raise OutputError(
                    f"the plan {path} is missing, and {max(later)} is there. It says which "
                    "images have rows already: restore it, or use an empty --output."
                )
        self.headers |= {plan.header.plan: plan.header for plan in plans}
        return plans


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
