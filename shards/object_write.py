"""Conditional uploads, each in one request, with a number by which it is known again.

A request may succeed although its answer is lost, and be sent again by the client, which is then
told that the condition does not hold. So each upload has a number of its own among the object's
metadata: who finds it there has won.
"""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from shards.bucket import FIRST, UPLOAD, Patience
from shards.object_path import ObjectPath, Version
from shards.store_request import asked

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion

__all__ = ["Data", "create", "overwrite", "update"]

Data = bytes | mmap.mmap
"""What is uploaded; it is not copied."""

ATTEMPT = "nightshift-attempt"
"""Of an object's metadata: which upload it is of."""

CONFLICT_WAITS_S = (0.05, 0.2, 0.8, 3.2, 12.8)
"""S3 answers 409 where another request for the key is under way, which may yet fail."""


def create(data: Data, target: ObjectPath, patience: Patience = UPLOAD) -> bool:
    """Put an object under a key; False where the key is taken.

    Raises:
        OSError: It failed. The object may be there, or may come to be yet.
    """
    return _put_once(data, target, None, patience)


def update(data: Data, target: ObjectPath, expected: Version, patience: Patience = UPLOAD) -> bool:
    """Put an object in place of a certain version; False where another is there, or none.

    Raises:
        OSError: It failed. The old object or the new one is there.
    """
    return _put_once(data, target, expected, patience)


def _put_once(data: Data, target: ObjectPath, expected: Version | None, patience: Patience) -> bool:
    """Put an object in place of a version, or of none; False where that is not what is there."""
    mode: PutMode = "create" if expected is None else _condition(expected)
    attempt = uuid4().hex
    for wait in (*CONFLICT_WAITS_S, None):
        try:
            _put(data, target, mode, attempt, patience)
            return True
        except OSError as error:
            there = _attempt_after(error, target, patience)
            if there == attempt:
                return True
            if isinstance(error, BlockingIOError | FileNotFoundError) and expected is not None:
                return False
            if not isinstance(error, FileExistsError):
                raise
            if there is not None and expected is None:
                return False
            # S3 answers so where the key is being written to by somebody else; that may yet fail.
            if wait is None:
                raise
        time.sleep(wait)
    raise AssertionError("the last wait is None")


def overwrite(data: Data, target: ObjectPath) -> None:
    """Put an object under a key, in place of what is there; raises OSError."""
    for wait in (*CONFLICT_WAITS_S, None):
        try:
            return _put(data, target, "overwrite", uuid4().hex, UPLOAD)
        except FileExistsError:
            if wait is None:
                raise
        time.sleep(wait)
    raise AssertionError("the last wait is None")


def _put(data: Data, target: ObjectPath, mode: PutMode, attempt: str, patience: Patience) -> None:
    """Upload.

    Raises:
        FileExistsError: The key is taken, or may be soon.
        BlockingIOError: Another version is there.
        FileNotFoundError: There is no bucket, or no object to replace.
        OSError: It failed, or its answer was lost.
    """
    import obstore

    store = target.bucket.store_with(patience)
    asked(
        str(target),
        lambda: obstore.put(
            store,
            target.key,
            data,
            mode=mode,
            attributes={ATTEMPT: attempt},
            use_multipart=False,  # its last step knows no conditions
        ),
    )


def _condition(version: Version) -> UpdateVersion:
    """That a version is there; obstore takes no None in it."""
    condition: UpdateVersion = {}
    if version.e_tag is not None:
        condition["e_tag"] = version.e_tag
    if version.version is not None:
        condition["version"] = version.version
    return condition


def _attempt_after(error: OSError, target: ObjectPath, patience: Patience) -> str | None:
    """Return which upload an object is of, after one that failed.

    Args:
        error: How it failed; raised where nothing else can be known.
        target: Its key.
        patience: It had; where a person waits, a store that does not answer is not asked twice.

    Returns:
        Empty for an object of others' making, None for no object.
    """
    import obstore

    if isinstance(error, PermissionError) or (
        patience is FIRST and not isinstance(error, FileExistsError | BlockingIOError)
    ):
        raise error
    # An upload's patience is for a body that takes long.
    store = target.bucket.store if patience is UPLOAD else target.bucket.store_with(patience)
    try:
        found = asked(str(target), lambda: obstore.get(store, target.key, options={"head": True}))
    except FileNotFoundError:
        return None
    except OSError:
        raise error from None
    return str(found.attributes.get(ATTEMPT, ""))
