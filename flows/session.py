"""What a run shares with whoever started it, beside its parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.device_process import Standby
    from tasks.finish import Summary
    from tasks.job import Job
    from tasks.progress import Progress

__all__ = ["Session", "current_session", "exit_code_of", "joined"]


@dataclass(slots=True, kw_only=True)
class Session:
    """One run, seen from outside; a flow's parameters are JSON and its state may never be recorded.

    Attributes:
        show: Shows progress to whoever watches; must return at once.
        standby: A device process that was started already; whoever made the session closes it.
        job: Prepared before the flow, so that a user's mistake shows before a server is started.
        progress: The last that was reported.
        summary: Set when the run is complete, whether Prefect hears of it or not.
        failure: What ended the run instead, where it is an error that explains itself.
        stranded: Prefect's API went away, and threads of Prefect still wait for it.
    """

    show: Callable[[Progress], None] = lambda _progress: None
    standby: Standby | None = None
    job: Job | None = None
    progress: Progress | None = None
    summary: Summary | None = None
    failure: Exception | None = None
    stranded: bool = False

    def report(self, progress: Progress) -> None:
        """Keep and show a moment of the run."""
        self.progress = progress
        self.show(progress)

    @contextlib.contextmanager
    def keeping_failure(self) -> Iterator[None]:
        """End the block at an error that explains itself, and keep it; others go their way."""
        try:
            yield
        except Exception as error:
            if exit_code_of(error) is None:
                raise
            self.failure = error


def exit_code_of(error: BaseException) -> int | None:
    """The exit code of an error that is raised on purpose and explains itself, else None."""
    code = getattr(error, "exit_code", None)
    return code if isinstance(code, int) else None


_session: ContextVar[Session | None] = ContextVar("session", default=None)


def current_session() -> Session | None:
    """The session that the caller of this flow joined, or None where a worker runs it."""
    return _session.get()


@contextlib.contextmanager
def joined(session: Session) -> Iterator[None]:
    """Let flows that are called within find `session`."""
    token = _session.set(session)
    try:
        yield
    finally:
        _session.reset(token)
