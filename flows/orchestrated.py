"""A run under Prefect, from a command line: the environment, the API, and the flow's outcome."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from flows.roots import allowed_roots
from flows.server import ServerError, TemporaryServer
from flows.session import Session, joined
from tasks.job import Job
from tasks.prepare import prepare
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.finish import Summary

__all__ = ["run_under_prefect"]

DELIVERY_TIMEOUT_S = 3.0
"""For each of Prefect's two queues; a server that is well takes some milliseconds."""

TEMPORARY: dict[str, object] = {
    # Nobody watches a temporary server for lost heartbeats, and they cost a second at the end.
    "flows.heartbeat_frequency": None,
    # Our own child answers or is gone; five retries would hold up a finished run for a minute.
    "client.max_retries": 0,
}

logger = logging.getLogger(__name__)


def run_under_prefect(settings: Settings, session: Session) -> Summary:
    """Classify as a flow run, on the configured Prefect API or on a temporary server.

    Raises:
        ServerError: There is no API to record the run.
    """
    # Before anything slow is started, so that a mistake in the model or the output shows at once.
    session.job = prepare(settings, allowed=allowed_roots())
    home = _home(session.job)
    _set_defaults(home)
    with _api(home):
        try:
            _run_flow(settings, session)
        finally:
            session.stranded = not _deliver()
    assert session.summary is not None
    return session.summary


def _home(job: Job) -> Path:
    """Where Prefect keeps what it needs: in the output, or, of one in a bucket, on this machine."""
    if isinstance(job.tree.root, Path):
        return job.tree.root / "state" / "prefect"
    name = hashlib.sha256(job.settings.output.encode()).hexdigest()[:16]
    return user_state_path("nightshift") / "prefect" / name


def _set_defaults(home: Path) -> None:
    """Choose for a person who never configured Prefect; whatever is configured stays."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Prefect records the run's log; on stderr a person reads ours.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    profiles = os.path.expanduser("~/.prefect/profiles.toml")  # noqa: PTH111 - never raises
    if not Path(profiles).exists():
        defaults["PREFECT_HOME"] = str(home.absolute())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # Else logging handlers of libraries print tracebacks when a server has gone.
    logging.raiseExceptions = False


@contextlib.contextmanager
def _api(home: Path) -> Iterator[None]:
    """Have an API that answers: the configured one, or a temporary server's."""
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    if (configured := PREFECT_API_URL.value()) is not None:
        _check(configured)
        yield
        return
    _keep_from_proxies("127.0.0.1")
    home.mkdir(parents=True, exist_ok=True)
    environment = os.environ | get_current_settings().to_environment_variables(exclude_unset=True)
    with TemporaryServer(home, environment) as server:
        server.wait_until_ready()
        with temporary_settings({PREFECT_API_URL: server.api_url, **TEMPORARY}):
            yield


def _run_flow(settings: Settings, session: Session) -> None:
    """Run the flow; what the images became never depends on what Prefect recorded of it."""
    from flows.classify_dir import classify_dir

    try:
        with joined(session):
            state = classify_dir(**settings.model_dump(), return_state=True)
        if session.failure is not None:
            raise session.failure
        if session.summary is None:
            state.result()
    except Exception as error:
        if session.summary is None:
            raise
        logger.warning("the run is complete, but Prefect's record of it is not: %s", error)


def _check(api_url: str) -> None:
    """Refuse a configured API that cannot be reached, before it costs the run minutes."""
    from httpx import HTTPStatusError
    from prefect.client.orchestration import get_client

    error = get_client(sync_client=True).api_healthcheck()
    # Prefect Cloud may answer with a status of its own: it is there, and the flow will tell.
    if error is not None and not isinstance(error, HTTPStatusError):
        raise ServerError(
            f"the Prefect API at {api_url} (PREFECT_API_URL) cannot be reached: {error}. "
            "Start it, unset PREFECT_API_URL, or run with --direct."
        )


def _deliver() -> bool:
    """Hand over events and log records that wait in Prefect's threads, before a server is ended.

    Returns:
        Whether the API took them.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    late = 0
    for worker in (EventsWorker, APILogWorker):
        outcome = worker.drain_all(timeout=DELIVERY_TIMEOUT_S)
        assert isinstance(outcome, tuple)  # a coroutine only where an event loop runs
        late += len(outcome[1])
    return late == 0


def _keep_from_proxies(host: str) -> None:
    """Reach a local server directly, whatever proxy is set for the rest of the world."""
    exceptions = urllib.request.getproxies().get("no", "")
    os.environ["no_proxy"] = ",".join(filter(None, [exceptions, host]))
