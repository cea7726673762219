"""The long step: device processes are started, watched and replaced until all shards are done."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engines.check import Check
from shards.commit import Outcome as FileOutcome
from shards.errors import DamagedFileError, LockedError
from shards.shard_ref import ShardRef
from tasks.device_process import DeviceProcess, StalledError, Standby
from tasks.errors import WorkFailedError
from tasks.job import FIRST_RESULT, Job, Outcome, Plan
from tasks.messages import (
    Advanced,
    Failed,
    Notice,
    Published,
    Ready,
    SetAside,
    Started,
    WorkOrder,
)
from tasks.process_start import seconds_since_start
from tasks.progress import Progress, ProgressMeter
from tasks.settings import Settings

__all__ = ["classify"]

_log = logging.getLogger(__name__)

CLEAN_END = "ended with exit code 0"
BEFORE_FIRST = ""
"""Stands for a shard's id where a process died before it had opened one."""

ATTEMPTS_PER_SHARD = 2
"""A shard that was open in this many processes that died is set aside and reported."""

PATIENCE_START_S = 600.0
"""Before the first image a model of gigabytes is read and opened. An engine that has to be built
first may take hours, but says every half minute that it goes on (tasks.engine.BuildLog)."""

PATIENCE_BATCH_S = 300.0
"""A batch of photographs takes seconds; a device that is silent for this long hangs."""


def classify(
    job: Job,
    plan: Plan,
    report: Callable[[Progress], None],
    standby: Standby | None = None,
) -> Outcome:
    """Classify the shards that are still to do.

    A process that dies or hangs is replaced, and the shards that it had open are done again, each
    in a process of its own; a shard that fails twice, or whose file is damaged, is set aside while
    the others are finished.
    Out of device memory, the batch is halved.

    Args:
        job: The request.
        plan: Its shards.
        report: Called with the progress at most a few times a second.
        standby: The first process, where one was started before; else it is started here.

    Returns:
        What was published, by which backend, and which shards could not be done.

    Raises:
        WorkFailedError: None of the others could be done either; everything published stays.
    """
    work = _Work(
        job=job,
        kept=plan.kept,
        meter=ProgressMeter(plan.images_todo, report),
        standby=standby,
        partly=plan.partly if job.settings.overwrite else {},
    )
    todo = _for_devices(work, plan)
    groups = [todo] if todo else []
    while groups:
        groups = _run_one(work, groups.pop(0)) + groups
    for shard, reason in work.set_aside.items():
        _log.error("shard %s could not be done: %s", shard, reason)
    return Outcome(
        ready=work.ready,
        self_test=work.self_test,
        seconds=time.monotonic() - work.started,
        reached={stage: seconds_since_start(at) for stage, at in work.reached.items()},
        failed={shard.id: text for shard, text in plan.unreadable.items()} | work.set_aside,
    )


def _for_devices(work: _Work, plan: Plan) -> list[ShardRef]:
    """Do what needs no device, as rows that only have to leave; returns the other shards."""
    files = work.job.upkeep(work.partly)
    left: list[ShardRef] = []
    for shard, footer in files.footers(plan.todo):
        try:
            if isinstance(footer, DamagedFileError):
                raise footer
            if footer is None:
                left.append(shard)
            elif (missing := files.missing(shard)) is None:
                continue  # an earlier attempt of this run has done it
            elif len(missing.inputs) or files.complete(missing, None, None) is FileOutcome.OUTDATED:
                left.append(shard)
        except (DamagedFileError, LockedError) as error:
            work.set_aside[shard.id] = str(error)
    return left


@dataclass(slots=True, kw_only=True)
class _Work:
    """What is known across processes."""

    job: Job
    kept: Mapping[str, str]
    meter: ProgressMeter
    standby: Standby | None
    partly: Mapping[str, bytes]
    """As in Plan, where all that is listed is to be computed again."""
    started: float = field(default_factory=time.monotonic)
    reached: dict[str, float] = field(default_factory=dict)
    """When the first process that was ready had got how far, by `time.monotonic`."""
    published: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Rows and errors of every published shard."""
    ready: Ready | None = None
    self_test: tuple[Check, ...] | None = None
    """Of the first process: those after it do not test again."""
    batch_limit: int | None = None
    failures: Counter[str] = field(default_factory=Counter)
    set_aside: dict[str, str] = field(default_factory=dict)

    def new_process(self) -> DeviceProcess:
        """Start a process, or take the one that stands by; the caller closes it."""
        waiting = None if self.standby is None else self.standby.take()
        return DeviceProcess(self._settings()) if waiting is None else waiting

    def _settings(self) -> Settings:
        """What the first process chose for `auto` holds for the run: no table of two backends."""
        settings = self.job.settings
        if self.ready is None:
            return settings
        return settings.model_copy(update={"backend": self.ready.backend})


@dataclass(slots=True)
class _End:
    """How a process ended: its shards that were open, and why, if not because all was done."""

    open: list[str] = field(default_factory=list)
    reason: str | None = None
    failed: Failed | None = None
    in_vain: bool = False
    """Whether it published nothing."""


def _run_one(work: _Work, shards: list[ShardRef]) -> list[list[ShardRef]]:
    """Let one process work on `shards`; returns the groups that are left of them."""
    order = WorkOrder(
        run_id=work.job.run_id,
        model_id=work.job.model.model_id,
        shards=shards,
        batch_limit=work.batch_limit,
        kept=dict(work.kept),
        partly={s.id: work.partly[s.id].hex() for s in shards if s.id in work.partly},
        decision=None if work.ready is None else work.ready.decision,
    )
    with work.new_process() as process:
        process.send(order)
        end = _listen(work, process)
    ended = work.published.keys() | work.set_aside.keys()
    left = [shard for shard in shards if shard.id not in ended]
    if not left:
        if end.reason is not None:
            _log.warning("The device process had done all, but its end failed: %s", end.reason)
        return []
    end.in_vain = len(left) == len(shards)
    rows, errors = (sum(counts) for counts in zip((0, 0), *work.published.values(), strict=True))
    work.meter.rewind(done=rows, errors=errors)
    return _after_failure(work, end, left)


def _listen(work: _Work, process: DeviceProcess) -> _End:
    """Follow the messages of a process to its end."""
    end = _End()
    done = errors = 0
    patience = PATIENCE_START_S
    while True:
        try:
            message = process.next_message(patience)
        except StalledError as error:
            end.reason = str(error)
            return end
        match message:
            case None:
                if end.failed is None and (death := process.cause_of_death()) != CLEAN_END:
                    end.reason = death
                return end
            case Ready():
                if work.ready is None:
                    work.reached |= {"plan": work.started, **message.reached}
                    work.self_test = message.self_test
                work.ready = message
                work.meter.start()
                patience = PATIENCE_BATCH_S
            case Started(shard=shard):
                if shard not in end.open:  # one that has to be done again is open already
                    end.open.append(shard)
            case Advanced():
                work.reached.setdefault(FIRST_RESULT, time.monotonic())
                work.meter.add(message.done - done, message.errors - errors)
                done, errors = message.done, message.errors
            case Published(shard=shard):
                end.open.remove(shard)
                work.published[shard] = (message.rows, message.errors)
            case SetAside(shard=shard):
                end.open.remove(shard)
                work.set_aside[shard] = message.reason
            case Notice(level=level, text=text):
                _log.log(level, "%s", text)
            case Failed():
                end.failed = message
                end.reason = message.text


def _after_failure(work: _Work, end: _End, left: list[ShardRef]) -> list[list[ShardRef]]:
    """Decide what is done again, in which processes."""
    failed = end.failed
    if failed is not None and failed.out_of_memory and failed.batch_size > 1:
        work.batch_limit = failed.batch_size // 2
        _log.warning(
            f"Out of device memory with batches of {failed.batch_size}: going on with "
            f"{work.batch_limit} ({failed.text})"
        )
        return [left]
    if failed is not None and not failed.restart:
        raise WorkFailedError(failed.text, failed.exit_code, transient=failed.transient)
    reason = end.reason or "the process ended early"
    blamed = [shard for shard in left if shard.id in end.open]
    for name in [shard.id for shard in blamed] or [BEFORE_FIRST] * end.in_vain:
        work.failures[name] += 1
    if work.failures[BEFORE_FIRST] >= ATTEMPTS_PER_SHARD:
        raise WorkFailedError(f"the device process failed before its first image: {reason}")
    again = [[shard] for shard in blamed if work.failures[shard.id] < ATTEMPTS_PER_SHARD]
    work.set_aside |= {s.id: reason for s in blamed if work.failures[s.id] >= ATTEMPTS_PER_SHARD}
    rest = [shard for shard in left if shard not in blamed]
    groups = again + ([rest] if rest else [])
    _log.warning(
        "The device process failed (%s)%s", reason, ": starting another." if groups else "."
    )
    return groups
