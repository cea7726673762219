"""Runs without a device, step by step: images are numbers, and a row tells which state it is of.

A world maps an image's key to its state: the time it was last changed, negative for a file that
cannot be decoded. A row's `width` is the state that was decoded, so a table can be held against
the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards.commit import Outcome
from shards.errors import ErrorKind
from shards.footer import WORK_SCHEMA, read_footer
from shards.inputs import InputBatch
from shards.output import OutputTree
from shards.place import opened
from shards.plan import PlanLog, PlanUpdate, Prune, work_key
from shards.predictions import build_table
from shards.ranking import Ranking
from shards.upkeep import Again, Missing, Upkeep
from tests.shards.factories import LABELS, WHEN, provenance, results

ROOT = b"/data"
World = dict[bytes, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What one run is asked to do."""

    run_id: str
    model_id: str = "m@1"
    shard_size: int = 3
    prune: float | None = None
    retry_errors: bool = False
    overwrite: bool = False


def listing(world: World) -> list[InputBatch]:
    keys = sorted(world)
    if not keys:
        return []
    times = np.array([abs(world[key]) for key in keys], np.int64)
    ones = np.ones(len(keys), np.int64)
    return [InputBatch(keys, ones, times, ones * 0)]


def extend(tree: OutputTree, night: Night, listed: World, world: Mapping[bytes, int]) -> PlanUpdate:
    def gone(keys):
        return [key not in world for key in keys]

    return PlanLog(tree, tool_version="0.1.0").extend(
        listing(listed),
        root=ROOT,
        shard_size=night.shard_size,
        run_id=night.run_id,
        prune=None if night.prune is None else Prune(gone=gone, limit=night.prune),
    )


def upkeep(tree: OutputTree, night: Night, update: PlanUpdate) -> Upkeep:
    return Upkeep(
        tree,
        PlanLog(tree, tool_version="0.1.0"),
        model_id=night.model_id,
        run_id=night.run_id,
        again=Again(errors=night.retry_errors, all_listed=night.overwrite, partly=update.partly),
    )


def computed(missing: Missing, night: Night, world: Mapping[bytes, int]) -> pa.Table | None:
    """Decode and infer what is missing, from what the files hold now."""
    if len(missing.inputs) == 0:
        return None
    states = [world.get(key, 0) for key in missing.inputs.keys]
    errors = {
        row: (ErrorKind.NOT_FOUND if state == 0 else ErrorKind.CORRUPT, "no image")
        for row, state in enumerate(states)
        if state <= 0
    }
    found = replace(results(len(states), errors=errors), widths=np.array(np.abs(states), np.int32))
    return build_table(
        missing.inputs,
        found,
        labels=LABELS,
        ranking=Ranking(top_k=3),
        run_id=night.run_id,
        predicted_at=WHEN,
    )


def steps(
    tree: OutputTree,
    night: Night,
    world: Mapping[bytes, int],
    tell: Callable[[int], None] = lambda images: None,
) -> Iterator[str]:
    """Do one run; other runs may do anything between two steps.

    Args:
        tree: The output.
        night: What is asked for.
        world: The files; they may change between two steps.
        tell: Called with the number of images of every inference.
    """
    listed = dict(world)
    yield "listed"
    update = extend(tree, night, listed, world)
    yield "planned"
    files = upkeep(tree, night, update)
    waiting = list(update.shards)
    for _ in range(50):
        again = []
        for shard in waiting:
            missing = files.missing(shard)
            yield f"opened {shard.id}"
            if missing is None:
                continue
            table = computed(missing, night, world)
            tell(len(missing.inputs))
            yield f"computed {shard.id}"
            made_by = replace(provenance(), run_id=night.run_id, model_id=night.model_id)
            if files.complete(missing, table, made_by) is Outcome.OUTDATED:
                again.append(shard)
            yield f"completed {shard.id}"
        waiting = again
        if not waiting:
            return
    raise AssertionError("the shards never came to rest")


def run(tree: OutputTree, night: Night, world: Mapping[bytes, int]) -> int:
    """Do a whole run; returns how many images it inferred."""
    inferred: list[int] = []
    for _ in steps(tree, night, world, inferred.append):
        pass
    return sum(inferred)


def rows(tree: OutputTree, model_id: str = "m@1") -> dict[bytes, dict[str, object]]:
    """Every row of one model by key; fails where an image has two."""
    found: dict[bytes, dict[str, object]] = {}
    directory = tree.shard_path(model_id, "p000001-00000").parent
    for path in sorted(path for path in tree.files() if path.parent == directory):
        table = pq.read_table(opened(path), page_checksum_verification=True)
        table.validate(full=True)
        for row in table.to_pylist():
            key = ROOT + b"/" + row["file_name"].encode()
            assert key not in found, f"{key!r} has two rows"
            found[key] = row
    return found


def states(tree: OutputTree, model_id: str = "m@1") -> World:
    """Every image in the table, with the state that its row is of; 0 for one that was not found."""
    return {
        key: (row["width"] or 0) * (-1 if row["status"] == "error" else 1)
        for key, row in rows(tree, model_id).items()
    }


def revisions(tree: OutputTree, model_id: str) -> dict[str, int]:
    """By shard, the number of the last plan that its file agrees with."""
    log = PlanLog(tree, tool_version="0.1.0")
    found = {}
    for shard in log.shards():
        footer = read_footer(tree.shard_path(model_id, shard.id))
        if footer is not None:
            found[shard.id] = next(
                revision.revision
                for revision in log.history(shard)
                if work_key(revision, model_id=model_id, schema_version=WORK_SCHEMA)
                == footer.work_key
            )
    return found
