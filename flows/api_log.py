"""Our log records on Prefect's page of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from prefect.logging.handlers import APILogHandler

from flows.console import LOGGERS

__all__ = ["api_logging"]


@contextlib.contextmanager
def api_logging() -> Iterator[None]:
    """Send our loggers to the API of the current flow run.

    The modules that do the work know only the standard library's loggers; Prefect's own setting for
    this (PREFECT_LOGGING_EXTRA_LOGGERS) leaves their level at WARNING.
    """
    handler = APILogHandler()
    ours = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in ours]
    for logger in ours:
        logger.addHandler(handler)
        logger.setLevel(logger.level or logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(ours, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
