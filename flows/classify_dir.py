"""Classify directories of images: a Prefect flow, and `python -m flows.classify_dir`."""

from __future__ import annotations

if __name__ == "__main__":
    # Read the command line first: importing Prefect takes longer than showing --help. And before
    # that, start what takes longest, where it is likely to be wanted soon.
    import gc
    import sys
    from contextlib import nullcontext

    from flows.interrupt import kill_at_first

    kill_at_first()

    from tasks.device_process import Standby
    from tasks.foresight import expects_work

    directly = "--direct" in sys.argv
    if directly:
        gc.disable()  # until all is imported: imports make no garbage, only much to look through
    with Standby(start=expects_work(sys.argv[1:])) if directly else nullcontext() as standby:
        from flows.classify_command import main

        raise SystemExit(main(standby=standby))

from dataclasses import asdict
from typing import Any

from prefect import State, flow
from prefect.states import Failed

from flows.api_log import api_logging
from flows.console import progress_lines
from flows.session import Session, current_session
from flows.signature import takes_settings
from flows.steps import classify, finish, plan, prepare
from flows.usage import checked
from tasks.record import failures_recorded
from tasks.settings import Settings

__all__ = ["classify_dir"]


@flow(name="classify_dir", persist_result=False, result_serializer="json")
@takes_settings(Settings)
def classify_dir(images: str | list[str], **options: object) -> dict[str, Any] | State[Any]:
    """Classify directories of images with one model: one row for each image, in Parquet."""
    session = current_session() or Session(show=progress_lines())
    with api_logging(), session.keeping_failure():
        settings = checked(Settings, {"images": images, **options})
        job = prepare(settings, session)
        with failures_recorded(job) as known:
            known.plan = work = plan(job)
            outcome = classify(job, work, session)
            finish(job, work, outcome, session)
    return verdict(session)


def verdict(session: Session) -> dict[str, Any] | State[Any]:
    """What the run is to Prefect: its summary, or a failed state that says why in words."""
    summary = session.summary
    if summary is None:
        return Failed(message=str(session.failure))
    if summary.exit_code != 0:
        return Failed(message=" ".join(summary.lines()))
    return asdict(summary)
