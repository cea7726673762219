"""The second step: list the images, give new ones a shard, and see which shards are still to do."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from engines.labels import is_placeholder
from shards.columns import recorded_columns
from shards.errors import ArchiveError, DamagedFileError, NoImagesError
from shards.footer import FooterInfo
from shards.kept import TARGET, wider
from shards.plan import PlanLog, PlanUpdate, Prune
from shards.shard_ref import ShardRef
from shards.sources.source import Source
from tasks.explain import explain
from tasks.job import Job, Plan
from tasks.prune import prune_of
from tasks.settings import Settings
from tasks.sources import kept_names, sources_of
from tasks.version import tool_version

__all__ = ["plan"]

_log = logging.getLogger(__name__)


def plan(job: Job, found_work: Callable[[], None] | None = None) -> Plan:
    """List every source, extend the plan log, and look at what is finished already.

    Args:
        job: The request.
        found_work: Called as soon as it is known that there is something to do, once or more often;
            None where nobody waits for that.

    Raises:
        SourceError: A source cannot be read.
        ArchiveError: There is no image, and a damaged archive.
        NoImagesError: There is no image in any of them.
        OutputError: The plan log cannot be read or written.
    """
    _log.info("%s", explain(job.model))
    if is_placeholder(job.model.labels):
        _log.warning(
            "the classes have no names but %s: every row will be labelled so. Name them with"
            " --labels FILE, or put labels.txt beside the model.",
            ", ".join([*job.model.labels[:2], "..."]),
        )
    started = time.monotonic()
    log = PlanLog(job.tree, tool_version=tool_version())
    if found_work is not None and _is_unfinished(job, log):
        found_work()
    found = _list(job, log, found_work or (lambda: None))
    todo, done, unreadable = _sort_out(job, found)
    result = Plan(
        todo=todo,
        done=done,
        unreadable=unreadable,
        partly=found.partly,
        by_source=dict(found.listed),
        ignored=dict(found.ignored),
        damaged=tuple(found.damaged),
        kept=_in_order(found.kept, job),
        changed=found.changed,
        pruned=found.pruned,
        seconds=time.monotonic() - started,
    )
    _tell(result)
    return result


def _is_unfinished(job: Job, log: PlanLog) -> bool:
    """Tell from names alone, before anything is listed, whether there is work for sure."""
    settings = job.settings
    if settings.overwrite or settings.retry_errors:
        return True
    planned = {shard.id for shard in log.shards() if shard.rows}
    return not planned or not planned <= job.tree.shard_ids(job.model.model_id)


@dataclass(slots=True)
class _Found:
    """What the sources hold.

    Attributes:
        shards: By id, those that hold a listed image, or lost one.
        partly: As in Plan.
        listed: Images, by kind of source.
        ignored: Things that are no images, by reason.
        damaged: Archives of which nothing was listed.
        changed: Images that changed since they were planned.
        pruned: Images that were planned, and are gone.
        kept: Columns that came with the images, and their kinds.
    """

    shards: dict[str, ShardRef] = field(default_factory=dict)
    partly: dict[str, bytes] = field(default_factory=dict)
    listed: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    changed: int = 0
    pruned: int = 0
    kept: dict[str, str] = field(default_factory=dict)

    def add(self, update: PlanUpdate) -> None:
        """Take what one source meant for the plans."""
        for shard in update.shards:
            bits = update.partly.get(shard.id)
            if bits is not None and shard.id in self.shards:
                before = self.partly.get(shard.id)
                bits = None if before is None else _either(bits, before)
            self.shards[shard.id] = shard
            self.partly.pop(shard.id, None)
            if bits is not None:
                self.partly[shard.id] = bits
        self.changed += update.changed
        self.pruned += update.pruned


def _list(job: Job, log: PlanLog, found_work: Callable[[], None]) -> _Found:
    """List every source, and plan what is new."""
    settings = job.settings
    found = _Found()
    nothing: NoImagesError | ArchiveError | None = None
    with log.extending(
        shard_size=settings.shard_size, run_id=job.run_id, found_work=found_work
    ) as extension:
        for source, prune in _pruning_last(sources_of(job), settings):
            left = None if settings.limit is None else settings.limit - found.listed.total()
            if left == 0:
                break
            try:
                found.listed[source.kind] += extension.add(
                    source.batches(left), root=source.root, prune=prune
                )
            except (NoImagesError, ArchiveError) as error:
                nothing = error if nothing is None or source.damaged else nothing
                if not source.damaged:
                    # One of several: the others are classified, and this one is not passed over.
                    _log.warning("%s", error)
            found.ignored.update(source.ignored)
            found.damaged += source.damaged
            for name, kind in source.kinds.items():
                found.kept[name] = wider(found.kept.get(name), kind) or kind
        for update in extension.publish():
            found.add(update)
    if not found.listed and nothing is not None:
        raise nothing
    return found


def _pruning_last(sources: list[Source], settings: Settings) -> list[tuple[Source, Prune | None]]:
    """Order sources such that those which prune know what the others have named.

    A list may name a file that is gone: it has a row that says so, while the list names it.
    """
    pairs = [(source, prune_of(source, settings)) for source in sources]
    return sorted(pairs, key=lambda pair: pair[1] is not None)


def _sort_out(
    job: Job, found: _Found
) -> tuple[dict[ShardRef, int], dict[ShardRef, FooterInfo], dict[ShardRef, str]]:
    """Tell shards that are to be worked on, and how many of their images, from finished ones.

    The third are shards whose file is damaged, and what to do about it.
    """
    files = job.upkeep(found.partly)
    again = job.settings.overwrite or job.settings.retry_errors
    todo: dict[ShardRef, int] = {}
    done: dict[ShardRef, FooterInfo] = {}
    unreadable: dict[ShardRef, str] = {}
    for shard, footer in files.footers(sorted(found.shards.values())):
        try:
            if isinstance(footer, DamagedFileError):
                raise footer
            if footer is None:
                if shard.rows:
                    todo[shard] = shard.rows
            elif files.is_of(footer, shard) and not again:
                done[shard] = footer
            elif (missing := files.missing(shard)) is not None:
                todo[shard] = len(missing.inputs)
            else:
                done[shard] = footer
        except DamagedFileError as error:
            unreadable[shard] = str(error)
    return todo, done, unreadable


def _either(one: bytes, other: bytes) -> bytes:
    """Return the bits that are set in one of two."""
    bits = int.from_bytes(one) | int.from_bytes(other)
    return bits.to_bytes(len(one))


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


def _tell(result: Plan) -> None:
    _log.info(
        "%s images listed, %s to do (listed and planned in %.1f s; shards: %d to do, %d finished)",
        f"{sum(result.by_source.values()):,}",
        f"{result.images_todo:,}",
        result.seconds,
        len(result.todo),
        len(result.done),
    )
    for shard, text in result.unreadable.items():
        _log.error("shard %s is set aside, the others are done: %s", shard.id, text)
    for text in result.damaged:
        _log.error("damaged, nothing of it is published: %s", text)
    if result.changed or result.pruned:
        _log.info(
            "%s images changed since they were last listed, %s are gone",
            f"{result.changed:,}",
            f"{result.pruned:,}",
        )
