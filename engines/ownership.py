"""What one object owns, given back in the reverse order of its making."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, TypeVar

from engines.cuda import Stream, check
from engines.errors import CudaError

__all__ = ["Closeable", "Drained", "Resources", "close_after"]


class Closeable(Protocol):
    """Anything with an idempotent `close`."""

    def close(self) -> None:
        """Give everything back."""


Owned = TypeVar("Owned", bound=Closeable)


class Resources:
    """Closes all of its members, the youngest first, whatever some of them report.

    As a context manager it guards a constructor: members are closed if the block fails, and kept
    otherwise. The block's own error is the one that is seen.
    """

    def __init__(self) -> None:
        self._members: list[Closeable] = []

    def add(self, member: Owned) -> Owned:
        """Own a member from here on; returns it."""
        self._members.append(member)
        return member

    def close(self) -> None:
        """Close every member. Idempotent.

        Raises:
            CudaError: The first that a member reported, once all are closed.
        """
        first: Exception | None = None
        while self._members:
            try:
                self._members.pop().close()
            except Exception as error:  # whatever it is, the others are closed before it goes on
                first = first or error
        if first is not None:
            raise first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            close_after(exc, self)


class Drained:
    """Waits, when it is closed, for the streams' work: owned next after what that work uses."""

    def __init__(self, *streams: Stream) -> None:
        self._streams = streams

    def close(self) -> None:
        """Wait until the streams are idle.

        Raises:
            CudaError: The first that a stream reported.
        """
        first: CudaError | None = None
        for stream in self._streams:
            try:
                stream.synchronize()
            except CudaError as error:
                first = first or error
        if first is not None:
            if not first.sticky:
                # What is still in use must not be freed: wait once more, for the whole device.
                check("cudaDeviceSynchronize")
            raise first


def close_after(error: BaseException, resource: Closeable) -> None:
    """Close on the way out of an error; what that reports becomes a note on it."""
    try:
        resource.close()
    except Exception as another:
        error.add_note(f"and while giving everything back: {another}")
