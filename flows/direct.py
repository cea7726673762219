"""A run without Prefect: the steps of the flow as plain calls, for `--direct`."""

from __future__ import annotations

from flows.retry import retried
from flows.session import Session
from tasks.classify import classify
from tasks.finish import Summary, finish
from tasks.plan import plan
from tasks.prepare import prepare
from tasks.settings import Settings

__all__ = ["run_directly"]


def run_directly(settings: Settings, session: Session) -> Summary:
    """Classify, with no server and no record but the run's own."""
    retries = settings.retries
    job = prepare(settings)
    work = retried(retries, plan, job)
    outcome = retried(retries, classify, job, work, session.report)
    return retried(retries, finish, job, work, outcome)
