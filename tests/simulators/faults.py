"""Requests that go wrong, in the ways that those of object stores do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ANSWERS", "Fault", "Faulty", "Kind", "Request", "error_body"]

Kind = Literal[
    "conflict", "unavailable", "internal", "forbidden", "unknown_key", "expired", "redirected",
    "not_implemented", "lost_answer", "dropped", "ignore_conditions",
]  # fmt: skip

ANSWERS: dict[str, tuple[int, str]] = {
    "conflict": (409, "ConditionalRequestConflict"),
    "unavailable": (503, "SlowDown"),
    "internal": (500, "InternalError"),
    "forbidden": (403, "AccessDenied"),
    "unknown_key": (403, "InvalidAccessKeyId"),
    "expired": (400, "ExpiredToken"),
    "redirected": (301, "PermanentRedirect"),
    "not_implemented": (501, "NotImplemented"),
}
"""Kinds of faults that are answers: status and code."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came in.

    Attributes:
        number: From 1.
        method: As PUT.
        path: As /bucket/key.
    """

    number: int
    method: str
    path: str


@dataclass(slots=True)
class Fault:
    """What happens to some requests.

    Attributes:
        kind: Of `ANSWERS`: that is the answer, and nothing is done. `lost_answer`: it is done, and
            the connection ends without an answer. `dropped`: nothing is done, and the connection
            ends. `ignore_conditions`: it is done whatever it asks.
        matches: Which requests.
        times: How often.
    """

    kind: Kind
    matches: Callable[[Request], bool] = lambda request: request.method == "PUT"
    times: int = 1


@dataclass
class Faulty:
    """A server some of whose requests go wrong.

    Attributes:
        faults: What is still to go wrong.
        seen: Requests so far.
        delay_s: How long every answer takes, beside the work.
    """

    faults: list[Fault] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    delay_s: float = 0.0
    _faults_lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, method: str, path: str) -> str:
        """Take note of a request, wait, and return what happens to it; empty for nothing."""
        with self._faults_lock:
            request = Request(len(self.seen) + 1, method, path)
            self.seen.append(request)
            kind = ""
            for fault in self.faults:
                if fault.times and fault.matches(request):
                    fault.times -= 1
                    kind = fault.kind
                    break
        time.sleep(self.delay_s)
        return kind


def error_body(code: str) -> bytes:
    """What S3 says of an error."""
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
