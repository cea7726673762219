"""An S3 server on this machine: moto's, with requests that fail in the ways that S3's do.

moto looks at a condition and then stores, without a lock between; S3 does both in one step. So
writes go through it one at a time here. What a `Fault` says happens to the requests it matches, in
the order in which they come.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

__all__ = ["BUCKET", "Fault", "ObjectServer", "Request", "connected", "object_server"]

BUCKET = "bucket"

Kind = Literal[
    "conflict", "unavailable", "internal", "forbidden", "unknown_key", "expired", "redirected",
    "not_implemented", "lost_answer", "dropped", "ignore_conditions",
]  # fmt: skip

_ANSWERS: dict[str, tuple[str, str]] = {
    "conflict": ("409 Conflict", "ConditionalRequestConflict"),
    "unavailable": ("503 Slow Down", "SlowDown"),
    "internal": ("500 Internal Server Error", "InternalError"),
    "forbidden": ("403 Forbidden", "AccessDenied"),
    "unknown_key": ("403 Forbidden", "InvalidAccessKeyId"),
    "expired": ("400 Bad Request", "ExpiredToken"),
    "redirected": ("301 Moved Permanently", "PermanentRedirect"),
    "not_implemented": ("501 Not Implemented", "NotImplemented"),
}

_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


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
        kind: Of `_ANSWERS`: that is the answer, and nothing is done. `lost_answer`: it is done, and
            the connection ends without an answer. `dropped`: nothing is done, and the connection
            ends. `ignore_conditions`: it is done whatever it asks.
        matches: Which requests.
        times: How often.
    """

    kind: Kind
    matches: Callable[[Request], bool] = lambda request: request.method == "PUT"
    times: int = 1


@dataclass
class ObjectServer:
    """A server that runs.

    Attributes:
        url: Its endpoint.
        faults: What is still to go wrong.
        seen: Requests so far.
        delay_s: How long every answer takes, beside the work.
    """

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    delay_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _app: Any = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def __call__(self, environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        kind = self._fault(environ)
        time.sleep(self.delay_s)
        if kind in _ANSWERS:
            status, code = _ANSWERS[kind]
            _drain(environ)
            body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            respond(status, [("Content-Length", str(len(body)))])
            return [body]
        if kind == "ignore_conditions":
            for name in _CONDITIONS:
                environ.pop(name, None)
        if kind == "dropped":
            _drain(environ)
            return _hang_up(environ)
        if environ["REQUEST_METHOD"] in ("PUT", "DELETE", "POST"):
            with self._lock:
                answer = list(self._app(environ, respond))
        else:
            answer = self._app(environ, respond)
        if kind == "lost_answer":
            return _hang_up(environ)
        return answer

    def _fault(self, environ: WSGIEnvironment) -> str:
        with self._lock:
            number = len(self.seen) + 1
            request = Request(number, environ["REQUEST_METHOD"], environ["PATH_INFO"])
            self.seen.append(request)
            for fault in self.faults:
                if fault.times and fault.matches(request):
                    fault.times -= 1
                    return fault.kind
        return ""


def _hang_up(environ: WSGIEnvironment) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("by the test")


def _drain(environ: WSGIEnvironment) -> None:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


@contextmanager
def object_server(
    port: int = 0, around: Callable[[ObjectServer], WSGIApplication] = lambda server: server
) -> Iterator[ObjectServer]:
    """Run a server with one empty bucket, BUCKET, in a thread of this process.

    Args:
        port: 0 takes a free one.
        around: Puts something between the clients and the server.
    """
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    serving = ObjectServer(_app=DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", port, around(serving), threaded=True)
    serving.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = boto3.client(
        "s3",
        endpoint_url=serving.url,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    try:
        client.create_bucket(Bucket=BUCKET)
        serving.seen.clear()
        yield serving
    finally:
        server.shutdown()
        thread.join()
        from moto.backends import get_backend

        get_backend("s3").reset()


@contextmanager
def connected(environment: Mapping[str, str]) -> Iterator[None]:
    """Make this process a client of a server, whatever it was before, and an impatient one.

    Args:
        environment: As `ObjectServer.environment`.
    """
    from shards import bucket

    manners = bucket._manners

    def impatient(patience: bucket.Patience) -> dict[str, Any]:
        retry = {
            "retry_timeout": timedelta(seconds=min(0.3, patience.retry_s)),
            "backoff": {
                "init_backoff": timedelta(milliseconds=1),
                "max_backoff": timedelta(milliseconds=5),
                "base": 2,
            },
        }
        return {**manners(patience), "retry_config": retry}

    def forget() -> None:
        bucket._connected.cache_clear()
        bucket._aws_identity.cache_clear()

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(bucket, "_manners", impatient)
        forget()
        try:
            yield
        finally:
            forget()
