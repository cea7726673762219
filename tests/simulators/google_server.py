"""A server that knows as much of Google's XML API as obstore asks of it, with generations.

Written from Google's reference of the XML API and from what obstore sends; no emulator from PyPI
knows the conditions (gcp-storage-emulator has no HEAD, DELETE or list in its XML API, nor ETags).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["BUCKET", "GoogleServer", "google_server"]

BUCKET = "bucket"
META = "x-goog-meta-"


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
class GoogleServer:
    """A server that runs.

    Attributes:
        url: Its address.
        keeps_conditions: Whether it looks at them.
        blobs: By key.
    """

    url: str = ""
    keeps_conditions: bool = True
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
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)}

    def put(self, key: str, content: bytes, headers: dict[str, str]) -> Blob | None:
        """Store a new generation; None where the condition does not hold."""
        with self._lock:
            there = self.blobs[key].generation if key in self.blobs else 0
            expected = headers.get("x-goog-if-generation-match")
            if self.keeps_conditions and expected is not None and int(expected) != there:
                return None
            self._generation += 1
            meta = {name: value for name, value in headers.items() if name.startswith(META)}
            self.blobs[key] = Blob(content, self._generation, meta)
            return self.blobs[key]

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
    wbufsize = -1  # head and body in one packet: the kernel would hold back the second
    google: GoogleServer

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
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        blob = self.google.put(self._key(), content, headers)
        if blob is None:
            return self._refuse(412, "PreconditionFailed")
        return self._answer(200, headers=blob.headers)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "list-type=2" in url.query:
            if not url.path.startswith(f"/{BUCKET}"):
                return self._refuse(404, "NoSuchBucket")
            return self._answer(200, self.google.listing(parse_qs(url.query)).encode())
        blob = self.google.blobs.get(self._key())
        if blob is None:
            return self._refuse(404, "NoSuchKey")
        if self.headers.get("If-Match", blob.headers["ETag"]) != blob.headers["ETag"]:
            return self._refuse(412, "PreconditionFailed")
        size = len(blob.content)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
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

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        found = self.google.blobs.pop(self._key(), None)
        return self._answer(204) if found else self._refuse(404, "NoSuchKey")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def google_server() -> Iterator[GoogleServer]:
    """Run a server with one empty bucket, BUCKET, in a thread of this process."""
    google = GoogleServer()
    handler = type("Handler", (_Handler,), {"google": google})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    google.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield google
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
