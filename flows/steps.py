"""The steps of a flow as Prefect tasks: the plain functions of tasks/, retried and reported."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

import tasks.classify
import tasks.finish
import tasks.plan
import tasks.prepare
from flows.artifacts import progress_artifact, summary_artifact
from flows.retry import delays, retry_condition
from flows.roots import allowed_roots
from flows.session import Session
from tasks.finish import Summary
from tasks.job import Job, Outcome, Plan
from tasks.settings import Settings

__all__ = ["classify", "finish", "plan", "prepare"]

T = TypeVar("T")

# What is done is read from the table itself, so Prefect keeps no results and no cache. Were
# some kept by a user's settings, they would not be pickled, which is Prefect's default.
KEPT: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "result_serializer": "json",
}


def prepare(settings: Settings, session: Session) -> Job:
    """Check the request; what the command line has prepared already is not prepared twice."""
    return session.job or tasks.prepare.prepare(settings, allowed=allowed_roots())


def plan(job: Job) -> Plan:
    """List the images, and find the shards that are still to do."""
    return _plan.with_options(**_retries(job))(_whole(job))


def classify(job: Job, work: Plan, session: Session) -> Outcome:
    """Classify what is to do; this is the long one."""
    return _classify.with_options(**_retries(job))(_whole(job), _whole(work), _whole(session))


def finish(job: Job, work: Plan, outcome: Outcome, session: Session) -> Summary:
    """Count, and write the record of the run."""
    options = _retries(job)
    return _finish.with_options(**options)(
        _whole(job), _whole(work), _whole(outcome), _whole(session)
    )


@task(name="plan", **KEPT)
def _plan(job: Job) -> Plan:
    return tasks.plan.plan(job)


@task(name="classify", **KEPT)
def _classify(job: Job, work: Plan, session: Session) -> Outcome:
    with progress_artifact(session.report) as report:
        return tasks.classify.classify(job, work, report)


@task(name="finish", **KEPT)
def _finish(job: Job, work: Plan, outcome: Outcome, session: Session) -> Summary:
    session.summary = tasks.finish.finish(job, work, outcome)
    summary_artifact(session.summary)
    return session.summary


def _retries(job: Job) -> dict[str, Any]:
    """Prefect's options for the retry policy."""
    retries = job.settings.retries
    return {
        "retries": retries,
        "retry_delay_seconds": delays(retries),
        "retry_condition_fn": retry_condition,
    }


def _whole(value: T) -> T:
    """Hand a value to a task as it is: Prefect would walk through a plan of millions of images."""
    return cast(T, quote(value))
