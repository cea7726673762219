"""An output in a bucket.

A file is written on the local disk, and put under its final key in one request that fails if the
key is taken (If-None-Match: *). A file that is rewritten is put on the condition that the very
version is there that it was made from (If-Match; Google's generation). An object is there whole or
not at all, and for every reader once the request has returned, so nothing else is needed: no
directories, no locks, no multipart upload. Stores that pass over the conditions are found out by
`create`, and refused.

A request may succeed although its answer is lost, and be sent again by the client. So each upload
has a number of its own among the object's metadata: who finds it there has won.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from shards.bucket import store_errors
from shards.errors import OutputError
from shards.object_path import ObjectPath, Version
from shards.output import Identity, OutputTree, StagedFile, output_errors
from shards.place import Place
from shards.staging import remove_abandoned, staged_in

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

__all__ = ["ObjectTree"]

ATTEMPT = "nightshift-attempt"
"""Of an object's metadata: which upload it is of."""

CONFLICT_WAITS_S = (0.05, 0.2, 0.8, 3.2, 12.8)
"""S3 answers 409 where another request for the key is under way, which may yet fail."""


@dataclass(frozen=True, slots=True)
class ObjectTree(OutputTree):
    """An output below a prefix.

    Attributes:
        prefix: OUT.
    """

    prefix: ObjectPath

    @classmethod
    def create(cls, prefix: ObjectPath) -> ObjectTree:
        """Prove that the store keeps to conditions, and make room for staging.

        Raises:
            OutputError: The bucket is not there or cannot be written, or its store lets two runs
                overwrite each other's files.
            StoreError: It cannot be reached as configured.
        """
        tree = cls(prefix)
        with output_errors("make room for files in the making in", tree.staging):
            _make_own(tree.staging)
            remove_abandoned(tree.staging)
        with output_errors("write below", prefix):
            try:
                _prove_conditions(prefix / "state" / "probes" / uuid4().hex)
            except FileNotFoundError as error:
                raise OutputError(f"there is no bucket {prefix.uri}. Create it first.") from error
        return tree

    @property
    def root(self) -> ObjectPath:
        """OUT."""
        return self.prefix

    @property
    def staging(self) -> Path:
        """This user's directory for temporary files."""
        return Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}"

    def stage(self, name: str) -> AbstractContextManager[StagedFile]:
        """Open a new file on the local disk."""
        return staged_in(self.staging, name)

    def publish(self, staged: StagedFile, final: Place) -> bool:
        """Put a complete staged file under its final key, unless that is taken."""
        attempt = uuid4().hex
        target = _object(final)
        with output_errors("write", final):
            for wait in (*CONFLICT_WAITS_S, None):
                try:
                    _put(staged, target, "create", attempt)
                    return True
                except OSError as error:
                    there = _attempt_at(target)
                    if there == attempt:
                        return True
                    if not isinstance(error, FileExistsError):
                        raise
                    if there is not None:
                        return False
                    if wait is None:
                        raise
                time.sleep(wait)
        raise AssertionError("the last wait is None")

    def identity(self, final: Place) -> Identity | None:
        """Tell which object has a key now, by ETag and version."""
        with output_errors("read", final):
            return _object(final).version()

    def swap(self, staged: StagedFile, final: Place, expected: Identity) -> bool:
        """Put a complete staged file in place of a certain version."""
        attempt = uuid4().hex
        target = _object(final)
        version = Version(*expected)  # type: ignore[arg-type]  # of `identity`
        with output_errors("write", final):
            try:
                _put(staged, target, _in_place_of(version), attempt)
            except OSError as error:
                if _attempt_at(target) == attempt:
                    return True
                if isinstance(error, FileExistsError | FileNotFoundError | BlockingIOError):
                    return False
                raise
        return True

    def replace(self, staged: StagedFile, final: Place) -> None:
        """Put a complete staged file under its final key, in place of what is there."""
        with output_errors("write", final):
            _put(staged, _object(final), "overwrite", uuid4().hex)

    def left_in_staging(self) -> Iterator[Path]:
        """Yield nothing: what is in the making lies on the machine that makes it."""
        return iter(())


def _object(final: Place) -> ObjectPath:
    """What the names of an output in a bucket are."""
    assert isinstance(final, ObjectPath)
    return final


def _put(staged: StagedFile, target: ObjectPath, mode: PutMode, attempt: str) -> None:
    """Upload a file in one request.

    Raises:
        FileExistsError: The key is taken, or may be soon.
        BlockingIOError: Another version is there.
        OSError: It failed, or its answer was lost.
    """
    staged.file.flush()
    with open(staged.path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        _put_bytes(data, target, mode, attempt)


def _put_bytes(data: bytes | mmap.mmap, target: ObjectPath, mode: PutMode, attempt: str) -> Version:
    import obstore

    with store_errors(str(target)):
        done = obstore.put(
            target.bucket.store,
            target.key,
            data,
            mode=mode,
            attributes={ATTEMPT: attempt},
            use_multipart=False,  # its last step knows no conditions
        )
    return Version(done["e_tag"], done["version"])


def _in_place_of(version: Version) -> UpdateVersion:
    """The condition that a version is there; obstore takes no None in it."""
    condition: UpdateVersion = {}
    if version.e_tag is not None:
        condition["e_tag"] = version.e_tag
    if version.version is not None:
        condition["version"] = version.version
    return condition


def _attempt_at(target: ObjectPath) -> str | None:
    """Return which upload an object is of; empty for one of others' making, None for no object.

    Raises:
        OSError: That cannot be told.
    """
    import obstore

    try:
        with store_errors(str(target)):
            found = obstore.get(target.bucket.store, target.key, options={"head": True})
    except FileNotFoundError:
        return None
    return str(found.attributes.get(ATTEMPT, ""))


def _prove_conditions(probe: ObjectPath) -> None:
    """See that a key can be taken once, and a version be replaced once.

    Raises:
        OutputError: The store passes over conditions.
        OSError: It cannot be written.
    """
    try:
        first = _put_bytes(b"1", probe, "create", "probe")
        with suppress(FileExistsError):
            _put_bytes(b"2", probe, "create", "probe")
            raise _unsafe(probe, "If-None-Match")
        update = _in_place_of(first)
        _put_bytes(b"3", probe, update, "probe")
        with suppress(BlockingIOError):
            _put_bytes(b"4", probe, update, "probe")
            raise _unsafe(probe, "If-Match")
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _unsafe(probe: ObjectPath, condition: str) -> OutputError:
    return OutputError(
        f"the store of {probe.uri} passes over conditions of requests ({condition}): two runs at "
        "once could overwrite each other's rows. Update it, or write to a local --output and copy "
        "the finished files from there."
    )


def _make_own(directory: Path) -> None:
    """Make a directory that no other user can put anything into."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.getuid():
        raise OutputError(
            f"{directory} belongs to another user: remove it, or set TMPDIR to a directory of "
            "your own."
        )
