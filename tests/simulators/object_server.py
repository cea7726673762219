"""An S3 server on this machine: moto's, with requests that fail in the ways that S3's do.

moto looks at a condition and then stores, without a lock between; S3 does both in one step. So
writes go through it one at a time here. What a `Fault` says happens to the requests it matches, in
the order in which they come.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.simulators.faults import ANSWERS, Fault, Faulty, Request, error_body

__all__ = ["BUCKET", "Fault", "ObjectServer", "Request", "connected", "object_server"]

BUCKET = "bucket"

_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


@dataclass
class ObjectServer(Faulty):
    """A server that runs.

    Attributes:
        url: Its endpoint.
    """

    url: str = ""
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
        kind = self.fault_of(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if kind in ANSWERS:
            status, code = ANSWERS[kind]
            _drain(environ)
            body = error_body(code)
            respond(f"{status} {code}", [("Content-Length", str(len(body)))])
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
