"""Build a TensorRT engine: `python -m flows.build_engine`, and a Prefect flow for schedules.

The command builds without Prefect: one engine has no steps to retry or to show. The flow is for a
deployment that has the engine ready before the night, after an update of driver or container.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Read the command line first: importing Prefect takes longer than showing --help.
    from flows.interrupt import kill_at_first

    kill_at_first()

    from flows.build_command import main

    raise SystemExit(main())

from dataclasses import asdict
from typing import Any

from prefect import State, flow
from prefect.states import Failed

import tasks.build_engine
from flows.api_log import api_logging
from flows.artifacts import summary_artifact
from flows.session import Session
from flows.signature import takes_settings
from flows.usage import checked
from tasks.settings import BuildSettings

__all__ = ["build_engine"]


@flow(name="build_engine", persist_result=False, result_serializer="json")
@takes_settings(BuildSettings)
def build_engine(model: str, **options: object) -> dict[str, Any] | State[Any]:
    """Build the TensorRT engine of a model on this machine's GPU, where the store lacks it."""
    session = Session()
    with api_logging(), session.keeping_failure():
        settings = checked(BuildSettings, {"model": model, **options})
        summary = tasks.build_engine.build_engine(settings)
        summary_artifact(summary)
        return asdict(summary)
    return Failed(message=str(session.failure))
