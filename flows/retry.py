"""Which errors are worth another try: the one policy of the flow and of `--direct`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from tasks.transient import may_pass

__all__ = ["delays", "retried", "retry_condition"]

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_DELAY_S = 60


class HasData(Protocol):
    """What is needed of Prefect's State, without importing Prefect."""

    @property
    def data(self) -> object:
        """The exception, where the state is a failure."""


logger = logging.getLogger(__name__)


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
