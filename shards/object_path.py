"""An object of a bucket, or what begins with its key, with the manners of pathlib.Path."""

from __future__ import annotations

import errno
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from shards.bucket import Bucket, bucket_of
from shards.errors import StoreError
from shards.object_reader import ObjectReader
from shards.store_request import asked

if TYPE_CHECKING:
    from obstore import GetOptions

__all__ = ["NO_KEY", "ObjectPath", "Version"]

READ_AHEAD_BYTES = 1 << 20

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NO_KEY = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|(^|/)\.{0,2}(/|$)")
"""What clients, or the XML of a listing, do not carry: `a//b`, `..`, control characters; slashes at
either end obstore would change in silence."""

_NO_RANGE = r"^416|non-partial"
"""What is said where a part was asked for and there is none."""


class Version(NamedTuple):
    """Which version of an object; see obstore.UpdateVersion.

    Attributes:
        e_tag: Of what is in it; None where the store has none.
        version: The store's number, Google's generation; None where it has none.
    """

    e_tag: str | None
    version: str | None


@dataclass(frozen=True, slots=True, order=True)
class ObjectPath:
    """A key in a bucket.

    Attributes:
        uri: Of the bucket, as `s3://bucket`.
        key: Without a slash at either end; empty for the bucket itself.
        listed: What `iterdir` saw there, so that nobody has to ask again; None where it was not.
    """

    uri: str
    key: str = ""
    listed: Literal["object", "prefix"] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, uri: str) -> ObjectPath:
        """Parse `s3://bucket/some/key`, with or without a slash at its end.

        Raises:
            StoreError: It names no bucket, or a key that not every client can ask for.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        key = key.rstrip("/")
        if not _BUCKET.fullmatch(bucket):
            raise StoreError(
                f"{uri!r} names no bucket: expected {scheme.lower()}://bucket or "
                f"{scheme.lower()}://bucket/prefix."
            )
        if key and NO_KEY.search(key):
            raise StoreError(
                f"{uri!r} has an empty part, '.', '..' or a control character between its slashes: "
                f"expected {scheme.lower()}://bucket/prefix."
            )
        return cls(f"{scheme.lower()}://{bucket}", key)

    def __str__(self) -> str:
        """The URI."""
        return f"{self.uri}/{self.key}" if self.key else self.uri

    @property
    def bucket(self) -> Bucket:
        """The bucket, connected."""
        return bucket_of(self.uri)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        name = self.name
        return name.rpartition(".")[0] if "." in name.strip(".") else name

    @property
    def parent(self) -> ObjectPath:
        """What holds it; the bucket holds itself."""
        return ObjectPath(self.uri, self.key.rpartition("/")[0])

    def __truediv__(self, name: str) -> ObjectPath:
        """What it holds under a name."""
        return ObjectPath(self.uri, f"{self.key}/{name}" if self.key else name)

    def exists(self) -> bool:
        """Whether there is such an object, or one below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self.version() is not None if self.listed is None else self.listed == "object"

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        import obstore

        if self.listed is not None:
            return self.listed == "prefix"
        pages = obstore.list(self.bucket.store, self.key or None)
        return asked(str(self), lambda: next(pages, None)) is not None

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yield the objects directly below it, and what holds others."""
        import obstore

        store = self.bucket.store
        found = asked(str(self), lambda: obstore.list_with_delimiter(store, self.key or None))
        for prefix in found["common_prefixes"]:
            yield ObjectPath(self.uri, prefix.rstrip("/"), "prefix")
        for meta in found["objects"]:
            yield ObjectPath(self.uri, meta["path"], "object")

    def iterdir_after(self, name: str) -> Iterator[ObjectPath]:
        """Yield the objects below it that sort after a name, in order."""
        import obstore

        store = self.bucket.store
        pages = obstore.list(store, self.key or None, offset=(self / name).key)
        while (page := asked(str(self), lambda: next(pages, None))) is not None:
            yield from (ObjectPath(self.uri, meta["path"], "object") for meta in page)

    def version(self) -> Version | None:
        """Tell which version of the object there is; None for no object."""
        import obstore

        store = self.bucket.store
        try:
            meta = asked(str(self), lambda: obstore.head(store, self.key))
        except FileNotFoundError:
            return None
        return Version(meta["e_tag"], meta["version"])

    def read_bytes(self) -> bytes:
        """Return all of one version of the object."""
        import obstore

        store = self.bucket.store
        return asked(str(self), lambda: bytes(obstore.get(store, self.key).bytes()))

    def read_tail(self, size: int) -> bytes:
        """Return the last bytes of one version of the object."""
        import obstore

        store = self.bucket.store
        tail: GetOptions = {"range": {"suffix": size}}
        try:
            return asked(
                str(self), lambda: bytes(obstore.get(store, self.key, options=tail).bytes())
            )
        except OSError as error:
            # An empty object has no last byte.
            if error.errno != errno.EREMOTEIO or not re.search(_NO_RANGE, error.strerror or ""):
                raise
            return self.read_bytes()[-size:]

    def open_in_parts(self) -> pa.NativeFile:
        """Open the version that is there, to be read in several steps."""
        reader = ObjectReader(self.bucket.store, self.key, str(self))
        return pa.PythonFile(io.BufferedReader(reader, READ_AHEAD_BYTES), mode="r")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object; who finds none needs no permission to remove any."""
        import obstore

        if not self.is_file():
            if missing_ok:
                return
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        store = self.bucket.store
        asked(str(self), lambda: obstore.delete(store, self.key))
