"""The second step: list the images, give new ones a shard, and see which shards are still to do."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field

from shards.columns import recorded_columns
from shards.commit import is_done
from shards.errors import ArchiveError, NoImagesError
from shards.footer import WORK_SCHEMA, FooterInfo
from shards.kept import TARGET, wider
from shards.plan import PlanLog, ShardRef, work_key
from tasks.errors import SettingsError
from tasks.explain import explain
from tasks.job import Job, Plan
from tasks.sources import kept_names, sources_of
from tasks.version import tool_version

__all__ = ["plan"]

_log = logging.getLogger(__name__)


def plan(job: Job) -> Plan:
    """List every source, extend the plan log, and look at what is finished already.

    Raises:
        SourceError: A source cannot be read.
        ArchiveError: There is no image, and a damaged archive.
        NoImagesError: There is no image in any of them.
        OutputError: The plan log cannot be read or written.
    """
    _log.info("%s", explain(job.model))
    started = time.monotonic()
    found = _list(job)
    if job.settings.overwrite and found.absent:
        raise SettingsError(
            f"--overwrite: {found.absent:,} images have rows in the same files as those listed, and"
            " are not listed now (deleted, outside of these sources, or beyond --limit): their rows"
            " would be lost. Give all sources of the earlier runs, or another --output."
        )
    done: list[FooterInfo] = []
    todo: list[ShardRef] = []
    for shard in sorted(found.shards):
        footer = None if job.settings.overwrite else _finished(job, shard)
        if footer is None:
            todo.append(shard)
        else:
            done.append(footer)
    result = Plan(
        todo=tuple(todo),
        done=tuple(done),
        by_source=dict(found.listed),
        ignored=dict(found.ignored),
        damaged=tuple(found.damaged),
        kept=_in_order(found.kept, job),
        changed=found.changed,
        seconds=time.monotonic() - started,
    )
    _tell(result, overwrite=job.settings.overwrite)
    return result


@dataclass(slots=True)
class _Found:
    """What the sources hold.

    Attributes:
        shards: That hold the listed images.
        listed: Images, by kind of source.
        ignored: Things that are no images, by reason.
        damaged: Archives of which nothing was listed.
        changed: Images that changed since they were planned.
        kept: Columns that came with the images, and their kinds.
    """

    shards: set[ShardRef] = field(default_factory=set)
    listed: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    changed: int = 0
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def absent(self) -> int:
        """Images of these shards that were not listed."""
        return sum(shard.rows for shard in self.shards) - self.listed.total()


def _list(job: Job) -> _Found:
    """List every source, and plan what is new."""
    log = PlanLog(job.tree, tool_version=tool_version())
    settings = job.settings
    found = _Found()
    nothing: NoImagesError | ArchiveError | None = None
    for source in sources_of(job):
        left = None if settings.limit is None else settings.limit - found.listed.total()
        if left == 0:
            break
        try:
            update = log.extend(
                source.batches(left),
                root=source.root,
                shard_size=settings.shard_size,
                run_id=job.run_id,
            )
        except (NoImagesError, ArchiveError) as error:
            nothing = error if nothing is None or source.damaged else nothing
        else:
            found.shards.update(update.shards)
            found.changed += update.changed
            found.listed[source.kind] += update.inputs
        found.ignored.update(source.ignored)
        found.damaged += source.damaged
        for name, kind in source.kinds.items():
            found.kept[name] = wider(found.kept.get(name), kind) or kind
    if not found.listed and nothing is not None:
        raise nothing
    return found


def _in_order(kept: dict[str, str], job: Job) -> dict[str, str]:
    """What images show first, then in the order of the alphabet: no run depends on its sources'."""
    recorded = dict(recorded_columns(job.tree).kept)
    for name in kept_names(job.settings):
        if name not in kept:
            _log.warning("--keep-columns: no image came with %s", name)
            kept[name] = "string"
    for name, kind in kept.items():
        if name in recorded and wider(recorded[name], kind) != recorded[name]:
            _log.warning(
                "column %s is %s in the table, and %s in these inputs: values that do not fit are "
                "null",
                *(name, recorded[name], kind),
            )
    return dict(sorted(kept.items(), key=lambda item: (item[0] != TARGET, item)))


def _finished(job: Job, shard: ShardRef) -> FooterInfo | None:
    key = work_key(shard, model_id=job.model.model_id, schema_version=WORK_SCHEMA)
    return is_done(job.tree, model_id=job.model.model_id, shard_id=shard.id, work_key=key)


def _tell(result: Plan, *, overwrite: bool) -> None:
    _log.info(
        "%s images to do (shards: %d), %s done before (listed and planned in %.1f s)",
        f"{result.images_todo:,}",
        len(result.todo),
        f"{result.images_done:,}",
        result.seconds,
    )
    for text in result.damaged:
        _log.error("damaged, nothing of it is published: %s", text)
    if result.changed and not overwrite:
        _log.warning(
            "%s images changed since they were first listed, and rows that are there stay: unless "
            "a run with --overwrite came since, start one to classify them again.",
            f"{result.changed:,}",
        )
