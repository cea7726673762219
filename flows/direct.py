"""A run without Prefect: the steps of the flow as plain calls, for `--direct`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.retry import retried
from flows.roots import allowed_roots
from flows.session import Session
from tasks.device_process import Standby
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.finish import Summary

__all__ = ["run_directly"]


def run_directly(settings: Settings, session: Session) -> Summary:
    """Classify, with no server and no record but the run's own.

    The device process loads what it needs while this one prepares and plans. Under Prefect that
    would be in vain: its server starts slower than the device.
    """
    retries = settings.retries
    with session.standby or Standby() as standby:
        standby.load(settings)
        # Half a second of imports, beside those of the device process.
        from tasks.classify import classify
        from tasks.finish import finish
        from tasks.plan import plan
        from tasks.prepare import prepare
        from tasks.record import failures_recorded

        job = prepare(settings, allowed=allowed_roots())
        with failures_recorded(job) as known:
            known.plan = work = retried(retries, plan, job)
            outcome = retried(retries, classify, job, work, session.report, standby)
            return retried(retries, finish, job, work, outcome)
