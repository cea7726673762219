"""A run without Prefect: the steps of the flow as plain calls, for `--direct`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from flows.retry import retried
from flows.roots import allowed_roots
from flows.session import Session
from tasks.device_process import Standby
from tasks.foresight import expects_work
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.finish import Summary

__all__ = ["run_directly"]


def run_directly(settings: Settings, session: Session) -> Summary:
    """Classify, with no server and no record but the run's own.

    The device process loads what it needs while this one prepares and plans, unless there seems to
    be no work; then it starts when planning finds some. Under Prefect that would be in vain: its
    server starts slower than the device.
    """
    retries = settings.retries
    with session.standby or _standby(settings) as standby:
        standby.load(settings)
        # Half a second of imports, beside those of the device process.
        from tasks.classify import classify
        from tasks.finish import finish
        from tasks.plan import plan
        from tasks.prepare import prepare
        from tasks.record import failures_recorded

        # What was imported stays: no collection, and not the one at the end, has to look at it.
        gc.freeze()
        gc.enable()
        job = prepare(settings, allowed=allowed_roots())
        with failures_recorded(job) as known:
            known.plan = work = retried(
                retries, plan, job, None if standby.is_started else standby.start
            )
            outcome = retried(retries, classify, job, work, session.report, standby)
            return retried(retries, finish, job, work, outcome)


def _standby(settings: Settings) -> Standby:
    """Start the device process only now: it could not be seen before that there is no Prefect."""
    words = ["--output", settings.output, settings.model, *settings.sources]
    return Standby(start=expects_work(words))
