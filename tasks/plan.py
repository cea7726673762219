"""The second step: list the images, give new ones a shard, and see which shards are still to do."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter

from shards.commit import is_done
from shards.errors import NoImagesError
from shards.footer import WORK_SCHEMA, FooterInfo
from shards.listing import list_directory
from shards.plan import PlanLog, ShardRef, work_key
from tasks.errors import SettingsError
from tasks.explain import explain
from tasks.job import Job, Plan
from tasks.version import tool_version

__all__ = ["plan"]

_log = logging.getLogger(__name__)


def plan(job: Job) -> Plan:
    """List every directory, extend the plan log, and look at what is finished already.

    Raises:
        SourceError: A directory cannot be read.
        NoImagesError: There is no image in any of them.
        OutputError: The plan log cannot be read or written.
    """
    _log.info("%s", explain(job.model))
    started = time.monotonic()
    shards, ignored, changed, absent = _list(job)
    if job.settings.overwrite and absent:
        raise SettingsError(
            f"--overwrite: {absent:,} images have rows in the same files as those listed, and are "
            "not listed now (deleted, outside of these directories, or beyond --limit): their rows "
            "would be lost. Give all directories of the earlier runs, or another --output."
        )
    done: list[FooterInfo] = []
    todo: list[ShardRef] = []
    for shard in shards:
        footer = None if job.settings.overwrite else _finished(job, shard)
        if footer is None:
            todo.append(shard)
        else:
            done.append(footer)
    result = Plan(
        todo=tuple(todo),
        done=tuple(done),
        ignored=dict(ignored),
        changed=changed,
        seconds=time.monotonic() - started,
    )
    _tell(result, overwrite=job.settings.overwrite)
    return result


def _list(job: Job) -> tuple[list[ShardRef], Counter[str], int, int]:
    """List and plan.

    Returns:
        The shards that hold the listed images; what was ignored, by reason; how many images
        changed since they were planned; how many in these shards were not listed.
    """
    log = PlanLog(job.tree, tool_version=tool_version())
    shards: set[ShardRef] = set()
    ignored: Counter[str] = Counter()
    changed = listed = 0
    nothing: NoImagesError | None = None
    for root in job.roots:
        limit = job.settings.limit
        listing = list_directory(
            root,
            extensions=job.settings.extensions,
            recursive=job.settings.recursive,
            limit=None if limit is None else limit - listed,
            exclude=os.fsencode(job.tree.root),
        )
        try:
            update = log.extend(
                listing, root=listing.root, shard_size=job.settings.shard_size, run_id=job.run_id
            )
        except NoImagesError as error:
            nothing = error
        else:
            shards.update(update.shards)
            changed += update.changed
            listed += update.inputs
        ignored.update({reason.value: count for reason, count in listing.ignored.items()})
        if limit is not None and listed >= limit:
            break
    if listed == 0 and nothing is not None:
        raise nothing
    absent = sum(shard.rows for shard in shards) - listed
    return sorted(shards), ignored, changed, absent


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
    if result.changed and not overwrite:
        _log.warning(
            "%s images changed since they were first listed, and rows that are there stay: unless "
            "a run with --overwrite came since, start one to classify them again.",
            f"{result.changed:,}",
        )
