"""An object of a bucket, or what begins with its key, with the manners of pathlib.Path."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from shards.bucket import Bucket, bucket_of, store_errors
from shards.object_reader import ObjectReader

__all__ = ["ObjectPath", "Version"]

READ_AHEAD_BYTES = 1 << 20


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
    """

    uri: str
    key: str = ""

    @classmethod
    def of(cls, uri: str) -> ObjectPath:
        """Parse `s3://bucket/some/key`, with or without a slash at its end."""
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        return cls(f"{scheme.lower()}://{bucket}", key.strip("/"))

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
        return self.version() is not None

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        return next(self.iterdir(), None) is not None

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yield the objects directly below it, and what holds others."""
        import obstore

        with store_errors(str(self)):
            found = obstore.list_with_delimiter(self.bucket.store, self.key or None)
        for prefix in found["common_prefixes"]:
            yield ObjectPath(self.uri, prefix.rstrip("/"))
        for meta in found["objects"]:
            yield ObjectPath(self.uri, meta["path"])

    def version(self) -> Version | None:
        """Tell which version of the object there is; None for no object."""
        import obstore

        try:
            with store_errors(str(self)):
                meta = obstore.head(self.bucket.store, self.key)
        except FileNotFoundError:
            return None
        return Version(meta["e_tag"], meta["version"])

    def read_bytes(self) -> bytes:
        """Return all of one version of the object."""
        import obstore

        with store_errors(str(self)):
            return bytes(obstore.get(self.bucket.store, self.key).bytes())

    def read_tail(self, size: int) -> bytes:
        """Return the last bytes of one version of the object."""
        import obstore

        with store_errors(str(self)):
            found = obstore.get(self.bucket.store, self.key, options={"range": {"suffix": size}})
            return bytes(found.bytes())

    def open_in_parts(self) -> pa.NativeFile:
        """Open the version that is there, to be read in several steps."""
        reader = ObjectReader(self.bucket.store, self.key, str(self))
        return pa.PythonFile(io.BufferedReader(reader, READ_AHEAD_BYTES), mode="r")

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        import obstore

        if not missing_ok and not self.is_file():
            raise FileNotFoundError(str(self))
        with store_errors(str(self)):
            obstore.delete(self.bucket.store, self.key)
