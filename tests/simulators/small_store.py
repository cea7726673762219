"""A small, quick object server that knows as much of S3 and of Google's XML API as obstore asks.

Written from their references and from what obstore sends: conditions by ETag and by generation,
ranges, lists in one page. moto is five times as slow, and no emulator from PyPI knows Google's
conditions (gcp-storage-emulator has no HEAD, DELETE, list or ETag in its XML API).
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.simulators.faults import ANSWERS, Faulty, error_body
from tests.simulators.object_server import BUCKET

__all__ = ["SmallStore", "small_store"]

META = ("x-goog-meta-", "x-amz-meta-")


@dataclass(frozen=True, slots=True)
class Blob:
    """One generation of an object."""

    content: bytes
    generation: int
    meta: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{hashlib.md5(self.content).hexdigest()}"',
            "x-goog-generation": str(self.generation),
            "Last-Modified": formatdate(1.8e9, usegmt=True),
            **self.meta,
        }


@dataclass
class SmallStore(Faulty):
    """A server that runs, with one bucket, BUCKET.

    Attributes:
        url: Its address.
        blobs: By key.
    """

    url: str = ""
    blobs: dict[str, Blob] = field(default_factory=dict)
    _generation: int = 1_700_000_000_000_000
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        account = {
            "gcs_base_url": self.url,
            "disable_oauth": True,
            **dict.fromkeys(("client_email", "private_key", "private_key_id"), ""),
        }
        return {
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def put(self, key: str, content: bytes, headers: dict[str, str]) -> Blob | None:
        """Store a new generation; None where the condition does not hold."""
        with self._lock:
            if not self._holds(self.blobs.get(key), headers):
                return None
            self._generation += 1
            meta = {name: value for name, value in headers.items() if name.startswith(META)}
            self.blobs[key] = Blob(content, self._generation, meta)
            return self.blobs[key]

    def _holds(self, there: Blob | None, headers: dict[str, str]) -> bool:
        generation = headers.get("x-goog-if-generation-match")
        if generation is not None:
            return int(generation) == (there.generation if there else 0)
        if "if-match" in headers:
            return there is not None and there.headers["ETag"] == headers["if-match"]
        return there is None or "if-none-match" not in headers

    def listing(self, query: dict[str, list[str]]) -> str:
        """Answer list-type=2, in one page."""
        prefix, delimiter, after = (
            query.get(name, [""])[0] for name in ("prefix", "delimiter", "start-after")
        )
        keys = sorted(key for key in self.blobs if key.startswith(prefix) and key > after)
        cut = {
            key: prefix + key[len(prefix) :].partition(delimiter)[0] + delimiter
            for key in keys
            if delimiter and delimiter in key[len(prefix) :]
        }
        parts = [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.blobs[key].content)}</Size>"
            f"<LastModified>2027-01-15T08:00:00.000Z</LastModified>"
            f"<ETag>{escape(self.blobs[key].headers['ETag'])}</ETag></Contents>"
            for key in keys
            if key not in cut
        ]
        parts += [
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>"
            for one in sorted(set(cut.values()))
        ]
        return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True  # it would hold back a body for 40 ms
    store: SmallStore

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _key(self) -> str:
        path = unquote(urlsplit(self.path).path).removeprefix("/")
        bucket, _, key = path.partition("/")
        return key if bucket == BUCKET else ""

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, error_body(code))

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.store.fault_of(self.command, unquote(urlsplit(self.path).path))
        if kind in ANSWERS:
            return self._refuse(*ANSWERS[kind])
        if kind != "dropped":
            headers = {name.lower(): value for name, value in self.headers.items()}
            if kind == "ignore_conditions":
                headers = {n: v for n, v in headers.items() if "-match" not in n}
            if kind == "lost_answer":
                self._answer = lambda *_: None  # type: ignore[method-assign]
            if not urlsplit(self.path).path.startswith(f"/{BUCKET}"):
                self._refuse(404, "NoSuchBucket")
            else:
                getattr(self, f"_do_{self.command}")(headers, content)
        if kind in ("dropped", "lost_answer"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return None

    do_PUT = do_GET = do_HEAD = do_DELETE = _handle

    def _do_PUT(self, headers: dict[str, str], content: bytes) -> None:
        blob = self.store.put(self._key(), content, headers)
        if blob is None:
            return self._refuse(412, "PreconditionFailed")
        return self._answer(200, headers=blob.headers)

    def _do_GET(self, headers: dict[str, str], _content: bytes) -> None:
        url = urlsplit(self.path)
        if "list-type=2" in url.query:
            return self._answer(200, self.store.listing(parse_qs(url.query)).encode())
        blob = self.store.blobs.get(self._key())
        if blob is None:
            return self._refuse(404, "NoSuchKey")
        if headers.get("if-match", blob.headers["ETag"]) != blob.headers["ETag"]:
            return self._refuse(412, "PreconditionFailed")
        size = len(blob.content)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if not asked:
            return self._answer(200, blob.content, blob.headers | {"Content-Length": str(size)})
        first, last = asked.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= size:
            return self._refuse(416, "InvalidRange")
        part = blob.content[start:stop]
        return self._answer(
            206, part, blob.headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        )

    _do_HEAD = _do_GET

    def _do_DELETE(self, _headers: dict[str, str], _content: bytes) -> None:
        found = self.store.blobs.pop(self._key(), None)
        # S3 does not tell whether there was anything.
        google = "AWS4" not in self.headers.get("Authorization", "")
        return self._refuse(404, "NoSuchKey") if google and found is None else self._answer(204)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def small_store() -> Iterator[SmallStore]:
    """Run a server with its bucket empty, in a thread of this process."""
    store = SmallStore()
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
