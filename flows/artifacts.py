"""What Prefect's page of a run shows: its progress, and its summary at the end.

All of it is sent from a thread and waited for only so long, because a server that does not answer
must not cost the run its night, let alone an image.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

if TYPE_CHECKING:
    from flows.report import Ending
    from tasks.progress import Progress

__all__ = ["progress_artifact", "summary_artifact"]

UPDATE_INTERVAL_S = 5.0
"""A person looks at the page no more often; each update costs the server some 20 ms."""

PATIENCE_S = 5.0
"""How long the end of a step waits for what is being sent."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def progress_artifact(report: Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Pass progress on to `report`, and show it on Prefect's page every few seconds."""
    sender = _ProgressSender()
    thread = _thread(sender.run)
    thread.start()

    def both(progress: Progress) -> None:
        sender.latest = progress
        report(progress)

    try:
        yield both
    finally:
        sender.over.set()
        thread.join(PATIENCE_S)


def summary_artifact(summary: Ending) -> None:
    """Put the summary on Prefect's page of the run."""
    text = "\n".join(f"- {line}" for line in summary.lines())
    thread = _thread(lambda: _send(lambda: _create_summary(text)))
    thread.start()
    thread.join(PATIENCE_S)


class _ProgressSender:
    """Sends the latest progress now and then; whoever sets it never waits.

    Attributes:
        latest: What to send next.
        over: Set when no more comes; what is latest by then is still sent.
    """

    def __init__(self) -> None:
        self.latest: Progress | None = None
        self.over = threading.Event()
        self._sent: Progress | None = None
        self._artifact: UUID | None = None

    def run(self) -> None:
        """Send until it is over."""
        while not self.over.wait(UPDATE_INTERVAL_S):
            self._send_latest()
        self._send_latest()

    def _send_latest(self) -> None:
        progress = self.latest
        if progress is not None and progress != self._sent:
            _send(lambda: self._update(progress))
            self._sent = progress

    def _update(self, progress: Progress) -> None:
        percent = 100 * progress.done / max(progress.total, 1)
        text = (
            f"{progress.done:,} of {progress.total:,} images, {progress.errors:,} without a label"
        )
        if self._artifact is not None:
            update_progress_artifact(self._artifact, percent, description=text)
            return
        artifact = create_progress_artifact(percent, key="nightshift-progress", description=text)
        assert isinstance(artifact, UUID)  # a coroutine only where an event loop runs
        self._artifact = artifact


def _create_summary(text: str) -> None:
    create_markdown_artifact(text, key="nightshift-summary")


def _send(request: Callable[[], None]) -> None:
    """Try; what Prefect does not hear is in the log and in the run's own record."""
    try:
        request()
    except Exception as error:
        logger.debug("Prefect was not told: %s", error)


def _thread(work: Callable[[], None]) -> threading.Thread:
    """Work in the context of the run, which is where artifacts find what they belong to.

    Daemonic, as a request to a server that is gone must not keep a finished process alive.
    """
    return threading.Thread(target=copy_context().run, args=(work,), daemon=True)
