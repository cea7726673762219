"""SIGINT and SIGTERM end a run in order; the second one kills it, and so does one before it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "interruptible", "kill_at_first"]

STOPS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run was asked to end; not an Exception, so that nothing on the way takes it for an error.

    Attributes:
        exit_code: 128 and the number of the signal, as shells report it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


def kill_at_first() -> None:
    """Have the first signal kill this process, until something is under way that must end in order.

    Imports take half a second, and a traceback through them is no answer to Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the main thread at the first signal; the second one kills at once."""
    before = {stop: signal.signal(stop, _interrupt) for stop in STOPS}
    try:
        yield
    finally:
        # Once interrupted, the next signal goes on killing while the process exits.
        if signal.getsignal(signal.SIGINT) is _interrupt:
            for stop, handler in before.items():
                signal.signal(stop, handler)


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    for stop in STOPS:
        signal.signal(stop, signal.SIG_DFL)
    raise Interrupted(signum)
