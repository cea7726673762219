"""Which errors may pass by themselves."""

from __future__ import annotations

import errno

__all__ = ["may_pass"]

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
        errno.EREMOTEIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What a network, its file systems and object stores get over; a full disk or no file stays."""


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
