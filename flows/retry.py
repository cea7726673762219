"""Which errors are worth another try: the one policy of the flow and of `--direct`."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

__all__ = ["delays", "may_pass", "retried", "retry_condition"]

P = ParamSpec("P")
R = TypeVar("R")

PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOBUFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What a network or a network file system gets over; a full disk or a missing file stays."""

LONGEST_DELAY_S = 60


class HasData(Protocol):
    """What is needed of Prefect's State, without importing Prefect."""

    @property
    def data(self) -> object:
        """The exception, where the state is a failure."""


logger = logging.getLogger(__name__)


def may_pass(error: BaseException | None) -> bool:
    """Whether the same call may succeed a little later.

    An error says so itself by an attribute `transient`; else it must be, or be caused by, an
    OSError of the kinds above. What the user has to mend (exit codes 2 and 4) never passes.
    """
    while error is not None:
        if getattr(error, "exit_code", 1) in (2, 4):
            return False
        if (transient := getattr(error, "transient", None)) is not None:
            return bool(transient)
        if isinstance(error, OSError) and error.errno in PASSING:
            return True
        error = error.__cause__
    return False


def delays(retries: int) -> list[float]:
    """Seconds to wait before each further try: 1, 2, 4, ... up to a minute."""
    return [float(min(2**attempt, LONGEST_DELAY_S)) for attempt in range(retries)]


def retried(retries: int, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `step`, and again after errors that may pass, as Prefect does for a task."""
    for delay in delays(retries):
        try:
            return step(*args, **kwargs)
        except Exception as error:
            if not may_pass(error):
                raise
            logger.warning("%s; trying again in %g s", error, delay)
        time.sleep(delay)
    return step(*args, **kwargs)


def retry_condition(_task: object, _run: object, state: HasData) -> bool:
    """Ask `may_pass` on behalf of Prefect, which hands over the failed state."""
    return may_pass(state.data if isinstance(state.data, BaseException) else None)
