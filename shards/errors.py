"""What can go wrong with bytes at rest.

    ShardError             base; `exit_code` is what the command returns
    ├── SourceError        the inputs cannot be listed as given (2)
    ├── StoreError         an object store cannot be reached as configured (2)
    ├── NoImagesError      the inputs hold no image (4)
    ├── ArchiveError       an archive is damaged: nothing of it is published (1)
    ├── OutputError        the output cannot be written, or holds what it should not (1)
    │   ├── ColumnsError   its table has other columns than are asked for (2)
    │   ├── DamagedFileError  a file of the table is not what was written (1)
    │   └── LockedError    another run holds a lock, and does not go on (1)
    └── ImageError         one image cannot be classified: a row, never a crash

An ImageError never leaves a shard: it becomes the row's error_kind and error.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ArchiveError",
    "ColumnsError",
    "DamagedFileError",
    "ErrorKind",
    "ImageError",
    "LockedError",
    "NoImagesError",
    "OutputError",
    "ShardError",
    "SourceError",
    "StoreError",
]


class ErrorKind(StrEnum):
    """Why an image has no label; documented for analysts in docs/schema.md, and only added to."""

    NOT_FOUND = "not_found"
    PERMISSION_DENIED = "permission_denied"
    NOT_A_FILE = "not_a_file"
    READ_ERROR = "read_error"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    OUT_OF_MEMORY = "out_of_memory"
    DECODE_TIMEOUT = "decode_timeout"
    DECODE_CRASH = "decode_crash"
    INVALID_SCORES = "invalid_scores"


class ShardError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class SourceError(ShardError):
    """The inputs cannot be listed as given."""

    exit_code = 2


class StoreError(ShardError):
    """An object store cannot be reached as configured."""

    exit_code = 2


class NoImagesError(ShardError):
    """The inputs hold no image."""

    exit_code = 4


class ArchiveError(ShardError):
    """An archive is damaged, or may be: which, where, and why."""


class OutputError(ShardError):
    """The output cannot be written, or holds what Nightshift did not write."""


class ColumnsError(OutputError):
    """The table has other columns than are asked for."""

    exit_code = 2


class DamagedFileError(OutputError):
    """A file of the table is not what was written, or not Nightshift's; the others may be well."""


class LockedError(OutputError):
    """Another run holds a lock, and does not go on."""


class ImageError(ShardError):
    """One image cannot be classified.

    Attributes:
        kind: Which of the documented kinds.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
